import type { InitiatorPort } from '../logical-unit.ts';

/** Persistent reservation types (SPC-4 6.15.3.4). */
export const RESERVATION_TYPE = {
  writeExclusive: 0x1,
  exclusiveAccess: 0x3,
  writeExclusiveRegistrantsOnly: 0x5,
  exclusiveAccessRegistrantsOnly: 0x6,
  writeExclusiveAllRegistrants: 0x7,
  exclusiveAccessAllRegistrants: 0x8,
} as const;

export type ReservationType = (typeof RESERVATION_TYPE)[keyof typeof RESERVATION_TYPE];

interface TypeTraits {
  /** Others may not even read. */
  readonly exclusive: boolean;
  /** Whom it leaves alone besides its holder. */
  readonly for: 'holder' | 'registrants-only' | 'all-registrants';
}

const TRAITS: ReadonlyMap<number, TypeTraits & { readonly type: ReservationType }> = new Map(
  (
    [
      [RESERVATION_TYPE.writeExclusive, false, 'holder'],
      [RESERVATION_TYPE.exclusiveAccess, true, 'holder'],
      [RESERVATION_TYPE.writeExclusiveRegistrantsOnly, false, 'registrants-only'],
      [RESERVATION_TYPE.exclusiveAccessRegistrantsOnly, true, 'registrants-only'],
      [RESERVATION_TYPE.writeExclusiveAllRegistrants, false, 'all-registrants'],
      [RESERVATION_TYPE.exclusiveAccessAllRegistrants, true, 'all-registrants'],
    ] as const
  ).map(([type, exclusive, scope]) => [type, { type, exclusive, for: scope }]),
);

/** The type a TYPE field names; undefined for reserved and obsolete values. */
export function reservationType(code: unknown): ReservationType | undefined {
  return typeof code === 'number' ? TRAITS.get(code)?.type : undefined;
}

function traits(type: ReservationType): TypeTraits {
  const found = TRAITS.get(type);
  if (found === undefined) throw new Error(`no such reservation type: ${String(type)}`);
  return found;
}

/** Every registrant holds it. */
export function isAllRegistrants(type: ReservationType): boolean {
  return traits(type).for === 'all-registrants';
}

/** Registrants only or all registrants: it leaves registrants alone. */
export function sparesRegistrants(type: ReservationType): boolean {
  return traits(type).for !== 'holder';
}

/** Exclusive access rather than write exclusive. */
export function isExclusiveAccess(type: ReservationType): boolean {
  return traits(type).exclusive;
}

/** An I_T nexus by its lasting names: initiator port and target port. It outlives sessions. */
export interface ItNexus {
  readonly initiator: InitiatorPort;
  /** Name of the target; it has one port. */
  readonly target: string;
}

/** A reservation key of an I_T nexus (SPC-4 5.13.7). */
export interface Registration {
  readonly initiator: InitiatorPort;
  /**
   * Undefined: every target port (ALL_TG_PT), those that come later too; it is then one registration, which a command
   * through any of them changes or removes as a whole. An initiator port has either one of these or some with a target.
   */
  readonly target: string | undefined;
  /** Not zero. */
  readonly key: bigint;
}

export interface PersistentReservation {
  readonly type: ReservationType;
  /** Undefined for the all registrants types: any registrant is (SPC-4 5.13.10). */
  readonly holder: ItNexus | undefined;
}

/** Everything PERSISTENT RESERVE IN can tell of a logical unit. Never changed in place. */
export interface Registry {
  /** PRGENERATION (SPC-4 6.15.2): 32 bits, 0 at power on. */
  readonly generation: number;
  /** The last APTPL bit: whether this outlives a power loss (SPC-4 5.13.5). */
  readonly persists: boolean;
  readonly registrations: readonly Registration[];
  readonly reservation: PersistentReservation | undefined;
}

export const EMPTY_REGISTRY: Registry = { generation: 0, persists: false, registrations: [], reservation: undefined };

/** More are refused with INSUFFICIENT REGISTRATION RESOURCES. */
export const MAX_REGISTRATIONS = 256;
/** So many of them may be of one initiator name: through its ports and targets it must not take the places of all the others. */
export const MAX_REGISTRATIONS_OF_INITIATOR = 32;

export function isSamePort(a: InitiatorPort, b: InitiatorPort): boolean {
  return a.isid === b.isid && a.name === b.name;
}

export function isSameNexus(a: ItNexus, b: ItNexus): boolean {
  return a.target === b.target && isSamePort(a.initiator, b.initiator);
}

/** Whether the registration is one of this I_T nexus. */
export function covers(registration: Registration, nexus: ItNexus): boolean {
  const { target } = registration;
  return (target === undefined || target === nexus.target) && isSamePort(registration.initiator, nexus.initiator);
}

export function registrationOf(registry: Registry, nexus: ItNexus): Registration | undefined {
  return registry.registrations.find((registration) => covers(registration, nexus));
}

/** Whether the nexus holds the reservation there is (SPC-4 5.13.10). */
export function isHolder(registry: Registry, nexus: ItNexus): boolean {
  const { reservation } = registry;
  if (reservation === undefined) return false;
  return reservation.holder === undefined
    ? registrationOf(registry, nexus) !== undefined
    : isSameNexus(reservation.holder, nexus);
}

/** Whether the registration is that of a holder, for READ FULL STATUS and preemption. */
export function isHolderRegistration(registry: Registry, registration: Registration): boolean {
  const { reservation } = registry;
  if (reservation === undefined) return false;
  return reservation.holder === undefined || covers(registration, reservation.holder);
}
