import { PORTAL_GROUP_TAG } from './constants.ts';
import { isLoopbackAddress, isWildcardAddress, normalizeAddress } from './target-registry.ts';
import type { IscsiTarget, OpenPortal, PortalAddress } from './target-registry.ts';
import type { KeyValue } from './text.ts';

export interface DiscoveryScope {
  /** What the initiator may see where it asks. */
  readonly targets: Iterable<IscsiTarget>;
  /** Where the gateway listens and, where configured, as what that is known outside. */
  readonly portals: readonly OpenPortal[];
  /** The local end of the connection that asks. */
  readonly local: PortalAddress;
  /** Whether the initiator may use the target through the portal with this (normalised) address. */
  readonly mayUse: MayUse;
}

export type MayUse = (target: IscsiTarget, portalAddress: string) => boolean;

/**
 * SendTargets (RFC 7143 appendix C): `All` lists every target the initiator may see, a name that one. Targets are
 * followed by the addresses this initiator can reach and use them at.
 */
export function sendTargets(request: string, scope: DiscoveryScope): KeyValue[] {
  const pairs: KeyValue[] = [];
  for (const target of scope.targets) {
    if (request !== 'All' && target.name !== request) continue;
    pairs.push(['TargetName', target.name]);
    for (const address of addressesOf(target, scope.portals, scope.local, scope.mayUse))
      pairs.push(['TargetAddress', `${address},${PORTAL_GROUP_TAG}`]);
  }
  return pairs;
}

/** Where one that came by `local` can log in to the target, as host:port; each once. `portals` are those of this server. */
export function addressesOf(
  target: IscsiTarget,
  portals: readonly OpenPortal[],
  local: PortalAddress,
  mayUse: MayUse,
): ReadonlySet<string> {
  const addresses = new Set<string>();
  for (const portal of target.portals ?? portals) {
    const host = hostFor(portal.host, local.host);
    if (host === undefined || !mayUse(target, normalizeAddress(host))) continue;
    for (const address of portal.advertise ?? [{ host, port: portal.port }])
      addresses.add(`${bracketed(address.host)}:${address.port}`);
  }
  return addresses;
}

/**
 * The portal's address as a peer that came by `local` can use it: a wildcard is the address it has reached us at.
 * Undefined: it cannot. Loopback and link-local addresses are of use only to those who came by one.
 */
function hostFor(listening: string, local: string): string | undefined {
  if (isWildcardAddress(listening)) return listening === '0.0.0.0' && local.includes(':') ? undefined : local;
  const host = normalizeAddress(listening);
  if (isLoopbackAddress(host) || host === 'localhost') return isLoopbackAddress(local) ? host : undefined;
  return isLinkLocal(host) && host !== local ? undefined : host;
}

/** fe80::/10: another machine needs a zone of its own to reach it. */
function isLinkLocal(address: string): boolean {
  return /^fe[89ab][0-9a-f]:/.test(address);
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
