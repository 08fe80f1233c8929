import { FarshoreError } from '../base/errors.ts';
import { requireName } from '../iscsi/names.ts';
import { parseAddressRange } from './address.ts';
import { changeOwn, changeOwnDiscovery, consolidated, withOwn, withoutGrant } from './credentials.ts';
import type { AccessDocument, Chap, DiscoveryEntry, InitiatorEntry, LunMap, VolumePart } from './document.ts';
import { MAX_ADDRESSES, MAX_INITIATORS, MAX_LUN, MAX_MAPS, MAX_TARGETS, MAX_UNIT_STATE_BYTES } from './limits.ts';

/**
 * What an administrator can do to access control, each a pure function from one document to the next. They throw `input` (mend it),
 * `not-found` (what is named does not exist) or `in-use` (something else is in the way), and change nothing then.
 */

/** When it was granted, and by whom. */
export interface Grant {
  readonly since: number;
  readonly by: string;
}

export interface MapRequest {
  /** Name of the volume. */
  readonly volume: string;
  readonly initiator: string;
  /** undefined: the volume's default target. */
  readonly target: string | undefined;
  /** undefined: what it has already, or else the lowest that is free. */
  readonly lun: number | undefined;
  readonly readOnly: boolean;
  readonly addresses: readonly string[];
}

/** Normalised (RFC 7143 4.2.7, RFC 3722). */
export function parseIscsiName(text: string, what: string): string {
  return requireName(text, what);
}

/** A full name as it is, a short one behind the gateway's. */
export function parseTargetName(text: string, gatewayName: string): string {
  return /^(iqn|eui|naa)\./i.test(text)
    ? parseIscsiName(text, 'the target')
    : parseIscsiName(`${gatewayName}:${text}`, 'the target');
}

export function createTarget(document: AccessDocument, name: string, grant: Grant): AccessDocument {
  const owner = document.volumes.find((part) => part.target === name);
  if (owner !== undefined) {
    throw new FarshoreError('in-use', `${name} is the default target of volume ${owner.name}; choose another name`);
  }
  if (document.targets.some((target) => target.name === name)) {
    throw new FarshoreError('in-use', `there is a target ${name} already`);
  }
  if (document.targets.length >= MAX_TARGETS) {
    throw new FarshoreError('input', `a gateway has at most ${MAX_TARGETS} targets of its own; delete one first`);
  }
  return { ...document, targets: [...document.targets, { name, ...grant }] };
}

export function deleteTarget(document: AccessDocument, name: string): AccessDocument {
  const owner = document.volumes.find((part) => part.target === name);
  if (owner !== undefined) {
    throw new FarshoreError('input', `${name} is the default target of volume ${owner.name} and stays with it`);
  }
  if (!document.targets.some((target) => target.name === name)) throw noTarget(name);
  for (const part of document.volumes) {
    const map = part.maps.find((each) => each.target === name);
    if (map !== undefined) {
      throw new FarshoreError(
        'in-use',
        `volume ${part.name} is mapped there for ${map.initiator}; first: farshore unmap ${part.name} --initiator ${map.initiator} --target ${name}`,
      );
    }
  }
  const without = (initiator: InitiatorEntry): InitiatorEntry => ({
    ...initiator,
    targets: initiator.targets.filter((each) => each.target !== name),
  });
  let after = document;
  for (const initiator of document.initiators) after = changeOwn(after, initiator.name, without);
  return consolidated({
    ...after,
    targets: document.targets.filter((target) => target.name !== name),
    initiators: document.initiators.map(without),
  });
}

export function addInitiator(document: AccessDocument, name: string, grant: Grant): AccessDocument {
  if (document.initiators.some((initiator) => initiator.name === name)) {
    throw new FarshoreError('in-use', `there is an initiator ${name} already`);
  }
  if (document.initiators.length >= MAX_INITIATORS) {
    throw new FarshoreError('input', `a gateway knows at most ${MAX_INITIATORS} initiators; remove one first`);
  }
  return { ...document, initiators: [...document.initiators, { name, ...grant, targets: [] }] };
}

export function removeInitiator(document: AccessDocument, name: string): AccessDocument {
  if (!document.initiators.some((initiator) => initiator.name === name)) {
    throw new FarshoreError(
      'not-found',
      `there is no initiator ${name}; farshore initiator list shows those there are`,
    );
  }
  const part = document.volumes.find((each) => each.maps.some((map) => map.initiator === name));
  if (part !== undefined) {
    throw new FarshoreError(
      'in-use',
      `volume ${part.name} is mapped for ${name}; first: farshore unmap ${part.name} --initiator ${name}`,
    );
  }
  const without = (entries: readonly DiscoveryEntry[]): DiscoveryEntry[] =>
    entries.filter((entry) => entry.initiator !== name);
  return consolidated({
    ...changeOwnDiscovery(document, without),
    initiators: document.initiators.filter((initiator) => initiator.name !== name),
    discovery: without(document.discovery),
  });
}

/** `chap` undefined clears it. `target` undefined: for every target that has no credential of its own. Concerns every volume here. */
export function setChap(
  document: AccessDocument,
  name: string,
  target: string | undefined,
  chap: Chap | undefined,
): AccessDocument {
  const initiator = requireInitiator(document, name);
  const known = document.volumes.flatMap((part) => part.own?.initiators.filter((each) => each.name === name) ?? []);
  const has = ({ chap: general, targets }: InitiatorEntry): boolean =>
    target === undefined ? general !== undefined : targets.some((each) => each.target === target);
  if (chap === undefined && ![initiator, ...known].some(has)) {
    throw new FarshoreError(
      'not-found',
      `${name} has no CHAP credential${target === undefined ? '' : ` for ${target}`}`,
    );
  }
  if (target !== undefined && chap !== undefined) {
    requireTarget(document, target);
    if ([initiator, ...known].some((each) => !has(each) && each.targets.length >= MAX_TARGETS)) {
      throw new FarshoreError(
        'input',
        `an initiator has credentials of its own for at most ${MAX_TARGETS} targets; clear one first, or give it one for all`,
      );
    }
  }
  const change = (entry: InitiatorEntry): InitiatorEntry => withChap(entry, target, chap);
  const initiators = document.initiators.map((each) => (each.name === name ? change(each) : each));
  return consolidated({ ...changeOwn(document, name, change), initiators });
}

function withChap(entry: InitiatorEntry, target: string | undefined, chap: Chap | undefined): InitiatorEntry {
  if (target === undefined) {
    const { chap: _before, ...rest } = entry;
    return { ...rest, ...(chap === undefined ? {} : { chap }) };
  }
  const others = entry.targets.filter((each) => each.target !== target);
  return { ...entry, targets: chap === undefined ? others : [...others, { target, chap }] };
}

/** Credentials of discovery sessions, for one initiator or (undefined) for all that have none of their own. */
export function setDiscoveryChap(
  document: AccessDocument,
  initiator: string | undefined,
  chap: Chap | undefined,
): AccessDocument {
  if (initiator !== undefined) requireInitiator(document, initiator);
  const known = [...document.discovery, ...document.volumes.flatMap((part) => part.own?.discovery ?? [])];
  if (chap === undefined && !known.some((entry) => entry.initiator === initiator)) {
    throw new FarshoreError('not-found', `there is no discovery credential for ${initiator ?? 'all initiators'}`);
  }
  const change = (entries: readonly DiscoveryEntry[]): DiscoveryEntry[] => {
    const others = entries.filter((entry) => entry.initiator !== initiator);
    return chap === undefined ? others : [...others, { ...(initiator === undefined ? {} : { initiator }), chap }];
  };
  return consolidated({ ...changeOwnDiscovery(document, change), discovery: change(document.discovery) });
}

/** Maps a volume, or changes the map there is for the same initiator at the same target; the same document when it is as it shall be. */
export function mapVolume(
  document: AccessDocument,
  request: MapRequest,
  grant: Grant,
): { readonly document: AccessDocument; readonly map: LunMap } {
  const part = requireVolume(document, request.volume);
  requireInitiator(document, request.initiator);
  const target = request.target ?? part.target;
  requireTarget(document, target);
  if (request.addresses.length > MAX_ADDRESSES) {
    throw new FarshoreError('input', `a map has at most ${MAX_ADDRESSES} addresses; use networks like 10.1.2.0/24`);
  }
  const isSame = (map: LunMap): boolean => map.initiator === request.initiator && map.target === target;
  const before = part.maps.find(isSame);
  if (before === undefined && part.maps.length >= MAX_MAPS) {
    throw new FarshoreError('input', `a volume has at most ${MAX_MAPS} maps; unmap one first`);
  }
  const taken = takenLuns(document, part, request.initiator, target);
  const lun = request.lun ?? before?.lun ?? lowestFree(taken, request.initiator, target);
  if (!Number.isInteger(lun) || lun < 0 || lun > MAX_LUN) {
    throw new FarshoreError('input', `${lun} is no LUN; it is a number from 0 to ${MAX_LUN}`);
  }
  const holder = taken.get(lun);
  if (holder !== undefined) {
    throw new FarshoreError(
      'in-use',
      `LUN ${lun} of ${target} is volume ${holder} for ${request.initiator} already; choose another with --lun`,
    );
  }
  const addresses = [...new Set(request.addresses.map(parseAddressRange))];
  // Given once more it is the same right, which there has been since it was given first.
  if (before?.lun === lun && before.readOnly === request.readOnly && isSameSet(before.addresses, addresses)) {
    return { document, map: before };
  }
  const map: LunMap = { initiator: request.initiator, target, lun, readOnly: request.readOnly, addresses, ...grant };
  const next: VolumePart = {
    ...(before === undefined ? withTargetOf(document, part, request.initiator, target) : part),
    mode: 'mapped',
    maps: [...part.maps.filter((each) => !isSame(each)), map],
  };
  return { document: consolidated(withPart(document, next)), map };
}

/** A volume with credentials of its own takes the gateway's where it has not been before. */
function withTargetOf(document: AccessDocument, part: VolumePart, initiator: string, target: string): VolumePart {
  const shared = document.initiators.find((each) => each.name === initiator)?.targets;
  const there = shared?.find((each) => each.target === target);
  const mine = part.own?.initiators.find((each) => each.name === initiator);
  if (part.own === undefined || mine === undefined || there === undefined || target === part.target) return part;
  if (mine.targets.length >= MAX_TARGETS || mine.targets.some((each) => each.target === target)) return part;
  const initiators = part.own.initiators.map((each) =>
    each === mine ? { ...mine, targets: [...mine.targets, there] } : each,
  );
  return withOwn(part, { ...part.own, initiators });
}

function isSameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((each) => b.includes(each));
}

/** Takes the maps of an initiator away: all of the volume, or those at one target. The volume stays `mapped`. */
export function unmapVolume(
  document: AccessDocument,
  request: { readonly volume: string; readonly initiator: string; readonly target: string | undefined },
): { readonly document: AccessDocument; readonly maps: readonly LunMap[] } {
  const part = requireVolume(document, request.volume);
  const { initiator, target } = request;
  const gone = part.maps.filter(
    (map) => map.initiator === initiator && (target === undefined || map.target === target),
  );
  if (gone.length === 0) {
    throw new FarshoreError(
      'not-found',
      `volume ${part.name} is not mapped for ${initiator}${target === undefined ? '' : ` at ${target}`}; farshore access report --volume ${part.name} shows who may use it`,
    );
  }
  const next = { ...part, maps: part.maps.filter((map) => !gone.includes(map)) };
  return { document: consolidated(withPart(document, withoutGrant(document, next, initiator))), maps: gone };
}

/** What the volume's logical unit keeps; '' clears it. `volume` is its identifier. */
export function setUnitState(document: AccessDocument, volume: string, state: string): AccessDocument {
  if (Buffer.byteLength(state) > MAX_UNIT_STATE_BYTES) {
    throw new FarshoreError('busy', `a logical unit keeps at most ${MAX_UNIT_STATE_BYTES} bytes over a power loss`);
  }
  const part = document.volumes.find((each) => each.volume === volume);
  if (part === undefined) throw new FarshoreError('stopped', `volume ${volume} is not served here any more`);
  const { unitState, ...rest } = part;
  if (state === (unitState ?? '')) return document;
  return withPart(document, state === '' ? rest : { ...rest, unitState: state });
}

/** Forgets what is kept of a volume, by its identifier; initiators and targets stay. */
export function dropVolume(document: AccessDocument, volume: string): AccessDocument {
  return { ...document, volumes: document.volumes.filter((part) => part.volume !== volume) };
}

function withPart(document: AccessDocument, part: VolumePart): AccessDocument {
  return { ...document, volumes: document.volumes.map((each) => (each.volume === part.volume ? part : each)) };
}

/** LUNs this initiator has at the target from other volumes, with the names of those. */
function takenLuns(
  document: AccessDocument,
  except: VolumePart,
  initiator: string,
  target: string,
): ReadonlyMap<number, string> {
  const taken = new Map<number, string>();
  for (const part of document.volumes) {
    if (part.volume === except.volume) continue;
    if (part.mode === 'open' && part.target === target) taken.set(0, part.name);
    for (const map of part.maps) {
      if (map.initiator === initiator && map.target === target) taken.set(map.lun, part.name);
    }
  }
  return taken;
}

function lowestFree(taken: ReadonlyMap<number, string>, initiator: string, target: string): number {
  for (let lun = 0; lun <= MAX_LUN; lun++) if (!taken.has(lun)) return lun;
  throw new FarshoreError('in-use', `${initiator} has every LUN of ${target} already; map it at another --target`);
}

function requireInitiator(document: AccessDocument, name: string): InitiatorEntry {
  const found = document.initiators.find((initiator) => initiator.name === name);
  if (found !== undefined) return found;
  throw new FarshoreError(
    'not-found',
    `there is no initiator ${name}; make it known first: farshore initiator add ${name}`,
  );
}

function requireTarget(document: AccessDocument, name: string): void {
  const exists =
    document.targets.some((target) => target.name === name) || document.volumes.some((part) => part.target === name);
  if (!exists) throw noTarget(name);
}

function noTarget(name: string): FarshoreError {
  return new FarshoreError(
    'not-found',
    `there is no target ${name}; farshore target list shows them, farshore target create makes one`,
  );
}

function requireVolume(document: AccessDocument, name: string): VolumePart {
  const found = document.volumes.find((part) => part.name === name);
  if (found !== undefined) return found;
  throw new FarshoreError(
    'not-found',
    `volume ${name} is not served by this gateway, or was not open here yet; farshore status shows which are`,
  );
}
