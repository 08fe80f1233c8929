import type { InitiatorPort } from '../logical-unit.ts';
import { SENSE } from '../sense.ts';
import type { Sense } from '../sense.ts';
import { RELATIVE_TARGET_PORT } from '../constants.ts';
import {
  MAX_REGISTRATIONS,
  MAX_REGISTRATIONS_OF_INITIATOR,
  covers,
  isAllRegistrants,
  isHolder,
  isHolderRegistration,
  isSamePort,
  registrationOf,
  reservationType,
  sparesRegistrants,
} from './registry.ts';
import type { ItNexus, PersistentReservation, Registration, Registry, ReservationType } from './registry.ts';
import type { ReserveOut, ScopeAndType } from './requests.ts';

/** A unit attention for every nexus of a registration but the one that did it. */
export interface Notice {
  readonly to: Registration;
  readonly sense: Sense;
}

export type Transition =
  | { readonly kind: 'conflict' }
  | { readonly kind: 'refused'; readonly sense: Sense }
  | {
      readonly kind: 'done';
      readonly registry: Registry;
      readonly notices: readonly Notice[];
      /** PREEMPT AND ABORT: the registrations whose commands are to be aborted. */
      readonly aborts: readonly Registration[];
    };

const CONFLICT: Transition = { kind: 'conflict' };

/** LU_SCOPE (SPC-4 6.15.3.3); there is no other. */
const LU_SCOPE = 0;

/** What one PERSISTENT RESERVE OUT through `nexus` makes of the registry (SPC-4 5.13.7 to 5.13.11). Pure. */
export function transition(registry: Registry, nexus: ItNexus, request: ReserveOut): Transition {
  switch (request.action) {
    case 'register':
      return register(registry, nexus, request);
    case 'register-and-ignore':
      return registerAndIgnore(registry, nexus, request);
    default:
      break;
  }
  const own = registrationOf(registry, nexus);
  if (own?.key !== request.key) return CONFLICT;
  switch (request.action) {
    case 'reserve':
      return reserve(registry, nexus, request);
    case 'release':
      return release(registry, nexus, request);
    case 'clear':
      return clear(registry);
    case 'preempt':
    case 'preempt-and-abort':
      return preempt(registry, nexus, own, request);
    case 'register-and-move':
      return registerAndMove(registry, nexus, own, request);
  }
}

/** REGISTER (SPC-4 5.13.7, table 67). */
function register(registry: Registry, nexus: ItNexus, request: ReserveOut & { action: 'register' }): Transition {
  const { key, newKey, others, allTargetPorts, persists } = request;
  const own = registrationOf(registry, nexus);
  if ((own?.key ?? 0n) !== key) return CONFLICT;
  // As if it had come through each target port: what is registered through another one must have the same key.
  if (allTargetPorts && registry.registrations.some((other) => isOf(other, nexus) && other.key !== key))
    return CONFLICT;
  if (newKey === 0n) {
    if (own !== undefined) {
      if (others !== undefined) return refused(SENSE.invalidFieldInParameters);
      return unregister(registry, nexus, own, allTargetPorts, persists);
    }
    return nothingToDo(registry);
  }
  if (others === undefined) return setKey(registry, nexus, newKey, allTargetPorts, persists);
  if (own !== undefined) return refused(SENSE.invalidFieldInParameters);
  return registerSeveral(registry, nexus, others, request);
}

/** With SPEC_I_PT: all of them or none (SPC-4 6.16.3). */
function registerSeveral(
  registry: Registry,
  nexus: ItNexus,
  others: readonly InitiatorPort[],
  request: ReserveOut & { action: 'register' },
): Transition {
  const target = request.allTargetPorts ? undefined : nexus.target;
  const added: Registration[] = [{ initiator: nexus.initiator, target, key: request.newKey }];
  for (const initiator of others) {
    if (added.some((other) => isSamePort(other.initiator, initiator))) continue;
    const registered = registry.registrations.some(
      (other) =>
        isSamePort(other.initiator, initiator) && (target === undefined || covers(other, { initiator, target })),
    );
    if (registered) return refused(SENSE.invalidFieldInParameters);
    added.push({ initiator, target, key: request.newKey });
  }
  return registered(registry, [...registry.registrations, ...added], request.persists);
}

/** REGISTER AND IGNORE EXISTING KEY (SPC-4 5.13.7, table 68). */
function registerAndIgnore(
  registry: Registry,
  nexus: ItNexus,
  request: ReserveOut & { action: 'register-and-ignore' },
): Transition {
  const { newKey, allTargetPorts, persists } = request;
  if (newKey !== 0n) return setKey(registry, nexus, newKey, allTargetPorts, persists);
  const own =
    registrationOf(registry, nexus) ??
    (allTargetPorts ? registry.registrations.find((other) => isOf(other, nexus)) : undefined);
  return own === undefined ? nothingToDo(registry) : unregister(registry, nexus, own, allTargetPorts, persists);
}

/** Registers the nexus, or changes its key. */
function setKey(
  registry: Registry,
  nexus: ItNexus,
  key: bigint,
  allTargetPorts: boolean,
  persists: boolean,
): Transition {
  const { initiator } = nexus;
  const own = registrationOf(registry, nexus);
  if (!allTargetPorts) {
    const registrations =
      own === undefined
        ? [...registry.registrations, { initiator, target: nexus.target, key }]
        : registry.registrations.map((other) => (other === own ? { ...own, key } : other));
    return registered(registry, registrations, persists);
  }
  const everywhere: Registration = { initiator, target: undefined, key };
  const first = registry.registrations.findIndex((other) => isOf(other, nexus));
  const registrations = registry.registrations.filter((other) => !isOf(other, nexus));
  registrations.splice(first < 0 ? registrations.length : first, 0, everywhere);
  return registered(registry, registrations, persists);
}

function registered(registry: Registry, registrations: readonly Registration[], persists: boolean): Transition {
  if (isFull(registry, registrations)) return refused(SENSE.insufficientRegistrationResources);
  return done({ ...registry, generation: next(registry), persists, registrations });
}

/** Whether there is no room for what is to be registered; whoever has too many from another time may still change their keys. */
function isFull(before: Registry, registrations: readonly Registration[]): boolean {
  if (registrations.length > MAX_REGISTRATIONS) return true;
  const counts = countByName(registrations);
  const former = countByName(before.registrations);
  return [...counts].some(([name, count]) => count > MAX_REGISTRATIONS_OF_INITIATOR && count > (former.get(name) ?? 0));
}

function countByName(registrations: readonly Registration[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { initiator } of registrations) counts.set(initiator.name, (counts.get(initiator.name) ?? 0) + 1);
  return counts;
}

/** SPC-4 5.13.11.2.3. */
function unregister(
  registry: Registry,
  nexus: ItNexus,
  own: Registration,
  allTargetPorts: boolean,
  persists: boolean,
): Transition {
  const gone = (other: Registration): boolean => other === own || (allTargetPorts && isOf(other, nexus));
  const registrations = registry.registrations.filter((other) => !gone(other));
  const reservation = survivor(registry, registrations);
  const released = registry.reservation !== undefined && reservation === undefined;
  const told = released && sparesRegistrants(registry.reservation.type) ? registrations : [];
  return done(
    { generation: next(registry), persists, registrations, reservation },
    told.map((to) => ({ to, sense: SENSE.reservationsReleased })),
  );
}

/** The reservation that is left when only these are registered (SPC-4 5.13.11.2.1, table 71). */
function survivor(registry: Registry, registrations: readonly Registration[]): PersistentReservation | undefined {
  const { reservation } = registry;
  if (reservation === undefined || registrations.length === 0) return undefined;
  const { holder } = reservation;
  if (holder === undefined) return reservation;
  return registrations.some((registration) => covers(registration, holder)) ? reservation : undefined;
}

/** RESERVE (SPC-4 5.13.9). */
function reserve(registry: Registry, nexus: ItNexus, request: ScopeAndType): Transition {
  const type = typeOf(request);
  if (type === undefined) return refused(BAD_SCOPE_OR_TYPE);
  const { reservation } = registry;
  if (reservation === undefined) return done({ ...registry, reservation: reservationOf(type, nexus) });
  return isHolder(registry, nexus) && reservation.type === type ? nothingToDo(registry) : CONFLICT;
}

/** RELEASE (SPC-4 5.13.11.2.2). */
function release(registry: Registry, nexus: ItNexus, request: ScopeAndType): Transition {
  const { reservation } = registry;
  if (reservation === undefined || !isHolder(registry, nexus)) return nothingToDo(registry);
  if (request.scope !== LU_SCOPE || request.type !== reservation.type) return refused(SENSE.invalidRelease);
  const told = sparesRegistrants(reservation.type) ? registry.registrations : [];
  return done(
    { ...registry, reservation: undefined },
    told.map((to) => ({ to, sense: SENSE.reservationsReleased })),
  );
}

/** CLEAR (SPC-4 5.13.11.2.7). */
function clear(registry: Registry): Transition {
  return done(
    { ...registry, generation: next(registry), registrations: [], reservation: undefined },
    registry.registrations.map((to) => ({ to, sense: SENSE.reservationsPreempted })),
  );
}

/** PREEMPT and PREEMPT AND ABORT (SPC-4 5.13.11.2.4 to 5.13.11.2.6, table 72). */
function preempt(
  registry: Registry,
  nexus: ItNexus,
  own: Registration,
  request: ReserveOut & { action: 'preempt' | 'preempt-and-abort' },
): Transition {
  const { victimKey, action } = request;
  const { reservation } = registry;
  const ofAll = reservation !== undefined && isAllRegistrants(reservation.type);
  if (victimKey === 0n && !ofAll) return refused(SENSE.invalidFieldInParameters);
  const victims =
    victimKey === 0n ? registry.registrations : registry.registrations.filter(({ key }) => key === victimKey);
  if (victims.length === 0) return CONFLICT;
  const aborts = action === 'preempt-and-abort' ? victims : [];
  const takesOver =
    reservation !== undefined &&
    (ofAll ? victimKey === 0n : victims.some((one) => isHolderRegistration(registry, one)));
  if (!takesOver) {
    const registrations = registry.registrations.filter((one) => !victims.includes(one));
    const left = { ...registry, generation: next(registry), registrations };
    return done({ ...left, reservation: survivor(registry, registrations) }, preempted(victims), aborts);
  }
  const type = typeOf(request);
  if (type === undefined) return refused(BAD_SCOPE_OR_TYPE);
  const removed = victims.filter((one) => one !== own);
  const registrations = registry.registrations.filter((one) => !removed.includes(one));
  const changed = type !== reservation.type ? registrations : [];
  return done(
    { ...registry, generation: next(registry), registrations, reservation: reservationOf(type, nexus) },
    [...preempted(removed), ...changed.map((to) => ({ to, sense: SENSE.reservationsReleased }))],
    aborts,
  );
}

function preempted(registrations: readonly Registration[]): Notice[] {
  return registrations.map((to) => ({ to, sense: SENSE.registrationsPreempted }));
}

/** REGISTER AND MOVE (SPC-4 5.13.8, table 70). */
function registerAndMove(
  registry: Registry,
  nexus: ItNexus,
  own: Registration,
  request: ReserveOut & { action: 'register-and-move' },
): Transition {
  const { reservation } = registry;
  if (reservation === undefined)
    return refused({ ...SENSE.invalidFieldInCdb, field: { inCdb: true, byte: 1, bit: 4 } });
  if (isAllRegistrants(reservation.type) || !isHolder(registry, nexus)) return CONFLICT;
  const { name, isid } = request.destination;
  if (request.newKey === 0n || isid === undefined || request.relativeTargetPort !== RELATIVE_TARGET_PORT)
    return refused(SENSE.invalidFieldInParameters);
  const initiator: InitiatorPort = { name, isid };
  if (isSamePort(initiator, nexus.initiator)) return refused(SENSE.invalidFieldInParameters);
  const destination: ItNexus = { initiator, target: nexus.target };
  const known = registrationOf(registry, destination);
  const moved: Registration = {
    initiator,
    target: known === undefined ? nexus.target : known.target,
    key: request.newKey,
  };
  const kept = registry.registrations.filter((one) => one !== known && !(request.unregister && one === own));
  const registrations = [...kept, moved];
  if (isFull(registry, registrations)) return refused(SENSE.insufficientRegistrationResources);
  const generation = next(registry);
  const held = { type: reservation.type, holder: destination };
  return done({ generation, persists: request.persists, registrations, reservation: held });
}

const BAD_SCOPE_OR_TYPE: Sense = { ...SENSE.invalidFieldInCdb, field: { inCdb: true, byte: 2, bit: 7 } };

function typeOf({ scope, type }: ScopeAndType): ReservationType | undefined {
  return scope === LU_SCOPE ? reservationType(type) : undefined;
}

function reservationOf(type: ReservationType, nexus: ItNexus): PersistentReservation {
  const holder = isAllRegistrants(type) ? undefined : { initiator: nexus.initiator, target: nexus.target };
  return { type, holder };
}

function isOf(registration: Registration, { initiator }: ItNexus): boolean {
  return isSamePort(registration.initiator, initiator);
}

function next({ generation }: Registry): number {
  return (generation + 1) % 2 ** 32;
}

function nothingToDo(registry: Registry): Transition {
  return done(registry);
}

function refused(sense: Sense): Transition {
  return { kind: 'refused', sense };
}

function done(registry: Registry, notices: readonly Notice[] = [], aborts: readonly Registration[] = []): Transition {
  return { kind: 'done', registry, notices, aborts };
}
