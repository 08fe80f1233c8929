import type { BlockDevice } from '../base/block-device.ts';

/** One target and what is mapped to its LUNs. `luns` may change while sessions are logged in. */
export interface IscsiTarget {
  /** Normalised iSCSI name (normalizeName). */
  readonly name: string;
  readonly luns: ReadonlyMap<number, BlockDevice>;
  /** Whether this initiator may use the target through the portal at this local address. Both are normalised. */
  allow(initiatorName: string, portalAddress: string): boolean;
}

/** The targets there are at this moment; looked at for every login and discovery. */
export interface TargetRegistry {
  find(name: string): IscsiTarget | undefined;
  list(): Iterable<IscsiTarget>;
}

/** The address of a socket as it is compared and advertised: IPv4 in IPv6 notation is IPv4, zones are cut off. */
export function normalizeAddress(address: string): string {
  const withoutZone = address.replace(/%.*$/, '').toLowerCase();
  return withoutZone.startsWith('::ffff:') && withoutZone.includes('.') ? withoutZone.slice(7) : withoutZone;
}

/** Loopback portals are open to any initiator as long as no access is configured; others are not. */
export function isLoopbackAddress(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
}

/** Not an address a peer could connect to. */
export function isWildcardAddress(address: string): boolean {
  return address === '0.0.0.0' || address === '::' || address === '';
}
