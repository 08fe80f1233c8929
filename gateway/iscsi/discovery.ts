import { PORTAL_GROUP_TAG } from './constants.ts';
import { isLoopbackAddress, isWildcardAddress } from './target-registry.ts';
import type { IscsiTarget } from './target-registry.ts';
import type { KeyValue } from './text.ts';

/** An address initiators may log in at. */
export interface PortalAddress {
  readonly host: string;
  readonly port: number;
}

export interface DiscoveryScope {
  /** What the initiator may see where it asks. */
  readonly targets: Iterable<IscsiTarget>;
  /** What the gateway listens on or, where configured, what it is known as outside. */
  readonly portals: readonly PortalAddress[];
  /** The local end of the connection that asks. */
  readonly local: PortalAddress;
}

/**
 * SendTargets (RFC 7143 appendix C): `All` lists every target the initiator may use, a name that one. Targets are
 * followed by the addresses they can be reached at; loopback addresses are told to loopback peers only.
 */
export function sendTargets(request: string, scope: DiscoveryScope): KeyValue[] {
  const pairs: KeyValue[] = [];
  for (const target of scope.targets) {
    if (request !== 'All' && target.name !== request) continue;
    pairs.push(['TargetName', target.name]);
    for (const portal of reachable(scope.portals, scope.local))
      pairs.push(['TargetAddress', `${bracketed(portal.host)}:${portal.port},${PORTAL_GROUP_TAG}`]);
  }
  return pairs;
}

/** The portals as this peer can use them: a wildcard is the address it has reached us at. */
function reachable(portals: readonly PortalAddress[], local: PortalAddress): PortalAddress[] {
  const seen = new Map<string, PortalAddress>();
  for (const portal of portals) {
    const host = isWildcardAddress(portal.host) ? local.host : portal.host;
    if (isLoopbackAddress(host) && !isLoopbackAddress(local.host)) continue;
    seen.set(`${host} ${portal.port}`, { host, port: portal.port });
  }
  return [...seen.values()];
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
