import { RESERVATION_TYPE, isHolderRegistration } from './registry.ts';
import type { ItNexus, Registry } from './registry.ts';

/** The initiator port and target port of one side of a reservation. */
export interface ReservationPort {
  readonly initiator: string;
  readonly isid: string;
  /** undefined: through any target. */
  readonly target: string | undefined;
}

/** The reservations of a logical unit as people see them. */
export interface ReservationReport {
  /** False: what was kept cannot be understood, and bars everybody from the medium. */
  readonly readable: boolean;
  /** Whether the persistent ones outlive a power loss (APTPL). */
  readonly persists: boolean;
  /** Of the persistent reservation; undefined: there is none. */
  readonly type: string | undefined;
  readonly registrations: readonly (ReservationPort & { readonly key: string; readonly holds: boolean })[];
  /** Who has the unit by RESERVE (SPC-2). */
  readonly reservedBy: ReservationPort | undefined;
}

const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [RESERVATION_TYPE.writeExclusive, 'write exclusive'],
  [RESERVATION_TYPE.exclusiveAccess, 'exclusive access'],
  [RESERVATION_TYPE.writeExclusiveRegistrantsOnly, 'write exclusive, registrants only'],
  [RESERVATION_TYPE.exclusiveAccessRegistrantsOnly, 'exclusive access, registrants only'],
  [RESERVATION_TYPE.writeExclusiveAllRegistrants, 'write exclusive, all registrants'],
  [RESERVATION_TYPE.exclusiveAccessAllRegistrants, 'exclusive access, all registrants'],
]);

export function reportOf(registry: Registry, legacyHolder: ItNexus | undefined, readable: boolean): ReservationReport {
  const { persists, reservation, registrations } = registry;
  return {
    readable,
    persists,
    type: reservation && TYPE_NAMES.get(reservation.type),
    registrations: registrations.map((each) => ({
      initiator: each.initiator.name,
      isid: each.initiator.isid,
      target: each.target,
      key: `0x${each.key.toString(16)}`,
      holds: isHolderRegistration(registry, each),
    })),
    reservedBy: legacyHolder && {
      initiator: legacyHolder.initiator.name,
      isid: legacyHolder.initiator.isid,
      target: legacyHolder.target,
    },
  };
}
