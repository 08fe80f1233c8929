import { isDeepStrictEqual } from 'node:util';
import { credentialsOf } from './credentials.ts';
import type { AccessDocument, Chap, LunMap, VolumePart } from './document.ts';

/** A map that another one of an earlier volume stands in the way of; it counts again when that one is gone. */
export interface Shadowed {
  readonly part: VolumePart;
  readonly map: LunMap;
  /** Name of the volume that has the LUN. */
  readonly by: string;
}

/** Every map that counts, and those that do not: of two volumes with one LUN for one initiator at one target, the first has it. */
export function effectiveMaps(document: AccessDocument): {
  readonly maps: readonly { readonly part: VolumePart; readonly map: LunMap }[];
  readonly shadowed: readonly Shadowed[];
} {
  const holders = new Map<string, string>();
  const maps: { part: VolumePart; map: LunMap }[] = [];
  const shadowed: Shadowed[] = [];
  for (const part of document.volumes) {
    if (part.mode === 'open') continue;
    for (const map of part.maps) {
      const key = `${map.initiator}\n${map.target}\n${map.lun}`;
      const by = holders.get(key);
      if (by !== undefined) {
        shadowed.push({ part, map, by });
        continue;
      }
      holders.set(key, part.name);
      maps.push({ part, map });
    }
  }
  return { maps, shadowed };
}

/**
 * Of maps of open volumes, those that do not count because another volume, which was here before, asks for another credential of the same
 * initiator at the same target: a login proves one.
 */
export function contestedMaps(
  document: AccessDocument,
  maps: readonly { readonly part: VolumePart; readonly map: LunMap }[],
): readonly Shadowed[] {
  const first = new Map<string, { readonly by: string; readonly chap: ReturnType<typeof chapFor> }>();
  const contested: Shadowed[] = [];
  for (const { part, map } of maps) {
    const key = `${map.initiator}\n${map.target}`;
    const chap = chapFor(document, map.initiator, map.target, part);
    const there = first.get(key);
    if (there === undefined) first.set(key, { by: part.name, chap });
    else if (!isDeepStrictEqual(there.chap, chap)) contested.push({ part, map, by: there.by });
  }
  return contested;
}

/** The credential this initiator needs to reach the volume at the target: the target's own, or else its general one. */
export function chapFor(
  document: AccessDocument,
  initiator: string,
  target: string,
  part: VolumePart,
): { readonly chap: Chap; readonly boundTo: string } | undefined {
  const entry = credentialsOf(document, part, initiator);
  const own = entry?.targets.find((each) => each.target === target);
  if (own !== undefined) return { chap: own.chap, boundTo: target };
  return entry?.chap === undefined ? undefined : { chap: entry.chap, boundTo: ANY_TARGET };
}

/** What a credential for every target is bound to (SecretUse.target). */
export const ANY_TARGET = '*';
/** What a credential for discovery sessions is bound to. */
export const DISCOVERY = 'discovery';
/** The initiator in the binding of a discovery credential for all. */
export const ANY_INITIATOR = '*';

/** Whether nothing changed that anybody is let in or kept out by: unit states change often, and concern nobody's access. */
export function isSameAccess(a: AccessDocument, b: AccessDocument): boolean {
  return (
    a.targets === b.targets &&
    a.initiators === b.initiators &&
    a.discovery === b.discovery &&
    a.volumes.length === b.volumes.length &&
    a.volumes.every((part, index) => {
      const other = b.volumes[index];
      return (
        part.volume === other?.volume &&
        part.target === other.target &&
        part.mode === other.mode &&
        part.maps === other.maps &&
        part.own === other.own
      );
    })
  );
}

/** Whether anybody has to prove anything, to a target or for discovery. */
export function hasCredentials({ initiators, discovery, volumes }: AccessDocument): boolean {
  const all = [...initiators, ...volumes.flatMap((part) => part.own?.initiators ?? [])];
  return discovery.length > 0 || all.some(({ chap, targets }) => chap !== undefined || targets.length > 0);
}
