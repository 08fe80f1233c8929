import { isLoopbackAddress, type AccessEvent, type MappedLun } from '../iscsi/target-registry.ts';
import { addressMatcher } from './address.ts';
import type { AccessDocument, VolumePart } from './document.ts';
import type { AdoptedVolume } from './part.ts';
import { contestedMaps, effectiveMaps, type Shadowed } from './resolve.ts';

/** An open volume, with the objects that stay the same as long as it is open. */
export interface Offer {
  readonly volume: AdoptedVolume;
  /** undefined: in this one. */
  readonly thread: number | undefined;
  /** undefined: its device is in another thread. */
  readonly luns: { readonly writable: MappedLun; readonly readOnly: MappedLun } | undefined;
}

interface ResolvedMap {
  readonly lun: number;
  /** undefined: what is mapped is in another thread. */
  readonly mapped: MappedLun | undefined;
  readonly part: VolumePart;
  readonly matches: (address: string) => boolean;
}

export interface ResolvedTarget {
  /** The thread of all its LUNs; undefined: this one. */
  readonly thread: number | undefined;
  /** LUN 0 for everybody at loopback portals. */
  readonly open: Offer | undefined;
  readonly byInitiator: ReadonlyMap<string, readonly ResolvedMap[]>;
}

/** A target while it is worked out. */
interface Building extends ResolvedTarget {
  open: Offer | undefined;
  readonly byInitiator: Map<string, ResolvedMap[]>;
  /** The volume that it was made for first. */
  readonly host: VolumePart;
}

/**
 * Who sees what, by target, of the volumes that are offered (by identifier). Every thread works it out from the same document and the same offers,
 * so that all of them agree on whose a target is: the first volume's in the document, open ones before those that are mapped. `apart`: maps that do
 * not count, because the target is another thread's.
 */
export function resolveTargets(
  document: AccessDocument,
  offers: ReadonlyMap<string, Offer>,
): {
  readonly targets: ReadonlyMap<string, ResolvedTarget>;
  readonly contested: readonly Shadowed[];
  readonly apart: readonly Shadowed[];
} {
  const targets = new Map<string, Building>();
  const targetOf = (name: string, host: VolumePart, { thread }: Offer): Building => {
    const target = targets.get(name) ?? { thread, host, open: undefined, byInitiator: new Map() };
    targets.set(name, target);
    return target;
  };
  for (const part of document.volumes) {
    const offer = offers.get(part.volume);
    if (offer !== undefined && part.mode === 'open') targetOf(part.target, part, offer).open = offer;
  }
  const offered = effectiveMaps(document).maps.filter(({ part }) => offers.has(part.volume));
  const contested = contestedMaps(document, offered);
  const apart: Shadowed[] = [];
  for (const { part, map } of offered) {
    const offer = offers.get(part.volume);
    if (offer === undefined || contested.some((each) => each.map === map)) continue;
    const target = targetOf(map.target, part, offer);
    if (target.thread !== offer.thread) {
      apart.push({ part, map, by: target.host.name });
      continue;
    }
    const maps = target.byInitiator.get(map.initiator) ?? [];
    maps.push({
      lun: map.lun,
      mapped: map.readOnly ? offer.luns?.readOnly : offer.luns?.writable,
      part,
      matches: addressMatcher(map.addresses),
    });
    target.byInitiator.set(map.initiator, maps);
  }
  return { targets, contested, apart };
}

/** Why a login was refused, for the auditor; the peer is never told. */
export function whyRefused(
  { volumes, targets }: AccessDocument,
  resolved: ReadonlyMap<string, ResolvedTarget>,
  { initiator, target, portal }: AccessEvent,
): string | undefined {
  if (target === undefined || initiator.name === undefined) return undefined;
  const hosts = volumes.filter((part) => part.target === target || part.maps.some((map) => map.target === target));
  if (hosts.length === 0) {
    return targets.some((each) => each.name === target)
      ? 'nothing is mapped at this target'
      : 'there is no such target';
  }
  const mine = hosts.flatMap((part) =>
    part.maps.filter((map) => map.target === target && map.initiator === initiator.name),
  );
  if (mine.length > 0) {
    if (!mine.some((map) => addressMatcher(map.addresses)(initiator.address)))
      return 'its maps are for other addresses';
    return (resolved.get(target)?.byInitiator.get(initiator.name)?.length ?? 0) === 0
      ? 'no volume mapped there is open'
      : undefined;
  }
  return hosts.some((part) => part.mode === 'open' && part.target === target)
    ? isLoopbackAddress(portal)
      ? 'the volume is not open'
      : 'nothing is mapped for it, and an open volume is seen at loopback portals only'
    : 'nothing is mapped for it';
}
