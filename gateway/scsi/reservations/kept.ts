import type { InitiatorPort } from '../logical-unit.ts';
import {
  EMPTY_REGISTRY,
  MAX_REGISTRATIONS,
  covers,
  isAllRegistrants,
  isSameNexus,
  isSamePort,
  reservationType,
} from './registry.ts';
import type { ItNexus, PersistentReservation, Registration, Registry } from './registry.ts';

/**
 * The most that registrations may take of the unit's document, which is bounded too (docs/FORMAT.md): the reservation and
 * other sections have room beside them.
 */
const MAX_KEPT_BYTES = 60_000;

/** Whether registrations are too many, with too long names, to be kept over a power loss. */
export function isTooLarge({ persists, registrations }: Registry): boolean {
  if (!persists) return false;
  const kept = encodeRegistry({ ...EMPTY_REGISTRY, persists, registrations });
  return Buffer.byteLength(JSON.stringify(kept)) > MAX_KEPT_BYTES;
}

/** A registry as JSON for the unit's document; undefined when a power loss ends it all (SPC-4 5.13.5). */
export function encodeRegistry(registry: Registry): unknown {
  if (!registry.persists) return undefined;
  const { reservation } = registry;
  return {
    registrations: registry.registrations.map(({ initiator, target, key }) => ({
      ...initiator,
      target: target ?? null,
      key: key.toString(16).padStart(16, '0'),
    })),
    reservation:
      reservation === undefined ? null : { type: reservation.type, holder: encodeHolder(reservation.holder) },
  };
}

function encodeHolder(holder: ItNexus | undefined): unknown {
  return holder === undefined ? null : { ...holder.initiator, target: holder.target };
}

/**
 * What was kept, with PRGENERATION 0 as after every power on (SPC-4 6.15.2). Undefined when it cannot have been
 * written by `encodeRegistry`: then nobody knows who may write, and nobody must.
 */
export function decodeRegistry(kept: unknown): Registry | undefined {
  if (kept === undefined) return EMPTY_REGISTRY;
  if (!isRecord(kept) || !Array.isArray(kept['registrations'])) return undefined;
  const registrations: Registration[] = [];
  for (const item of kept['registrations'] as unknown[]) {
    const registration = decodeRegistration(item);
    if (registration === undefined || registrations.some((other) => overlap(other, registration))) return undefined;
    registrations.push(registration);
  }
  if (registrations.length > MAX_REGISTRATIONS) return undefined;
  const reservation = kept['reservation'] === null ? undefined : decodeReservation(kept['reservation'], registrations);
  if (reservation === undefined && kept['reservation'] !== null) return undefined;
  return { ...EMPTY_REGISTRY, persists: true, registrations, reservation };
}

function overlap(a: Registration, b: Registration): boolean {
  if (!isSamePort(a.initiator, b.initiator)) return false;
  return (
    a.target === undefined ||
    b.target === undefined ||
    isSameNexus({ ...a, target: a.target }, { ...b, target: b.target })
  );
}

function decodeRegistration(item: unknown): Registration | undefined {
  const initiator = decodePort(item);
  if (initiator === undefined || !isRecord(item)) return undefined;
  const { target, key } = item;
  if (target !== null && typeof target !== 'string') return undefined;
  if (typeof key !== 'string' || !/^[0-9a-f]{16}$/.test(key) || /^0*$/.test(key)) return undefined;
  return { initiator, target: target ?? undefined, key: BigInt(`0x${key}`) };
}

function decodeReservation(item: unknown, registrations: readonly Registration[]): PersistentReservation | undefined {
  if (!isRecord(item) || registrations.length === 0) return undefined;
  const type = reservationType(item['type']);
  if (type === undefined) return undefined;
  if (isAllRegistrants(type)) return item['holder'] === null ? { type, holder: undefined } : undefined;
  const initiator = decodePort(item['holder']);
  const target = isRecord(item['holder']) ? item['holder']['target'] : undefined;
  if (initiator === undefined || typeof target !== 'string') return undefined;
  const holder = { initiator, target };
  return registrations.some((registration) => covers(registration, holder)) ? { type, holder } : undefined;
}

function decodePort(item: unknown): InitiatorPort | undefined {
  if (!isRecord(item)) return undefined;
  const { name, isid } = item;
  if (typeof name !== 'string' || typeof isid !== 'string' || !/^[0-9a-f]{12}$/.test(isid)) return undefined;
  return { name, isid };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
