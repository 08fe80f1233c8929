import type { InitiatorPort } from '../logical-unit.ts';
import type { Registration, Registry } from './registry.ts';
import type { ReserveOut } from './requests.ts';

/**
 * What an initiator that may only read asks for, as far as it may decide it: while others are registered, whether reservations outlive a
 * power loss stays what they have said. SPC-4 5.13.5 has the last APTPL bit count, of whomever it is.
 */
export function asReader(request: ReserveOut, registry: Registry, reader: InitiatorPort): ReserveOut {
  if (!('persists' in request) || !registry.registrations.some((each) => isOther(each, reader))) return request;
  return { ...request, persists: registry.persists };
}

/**
 * Whether a change that an initiator made which may only read takes something from others: a registration, or a reservation that it does
 * not hold alone. It may come and go itself.
 */
export function disturbsOthers(before: Registry, after: Registry, reader: InitiatorPort): boolean {
  return changesOthers(before, after, reader) || takesReservation(before, after, reader);
}

/** Registrations are never changed in place: those of the others must be the very same. */
function changesOthers(before: Registry, after: Registry, reader: InitiatorPort): boolean {
  const had = before.registrations.filter((each) => isOther(each, reader));
  const has = after.registrations.filter((each) => isOther(each, reader));
  return had.length !== has.length || had.some((each, index) => has[index] !== each);
}

function takesReservation(before: Registry, after: Registry, reader: InitiatorPort): boolean {
  const { reservation } = before;
  if (reservation === after.reservation) return false;
  if (reservation === undefined || after.reservation !== undefined) return true;
  return reservation.holder === undefined
    ? before.registrations.some((each) => isOther(each, reader))
    : reservation.holder.initiator.name !== reader.name;
}

/** By name: what the reader does through one of its ports it may do to the others. */
function isOther(registration: Registration, reader: InitiatorPort): boolean {
  return registration.initiator.name !== reader.name;
}
