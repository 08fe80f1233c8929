import { isDeepStrictEqual } from 'node:util';
import type {
  AccessBody,
  AccessDocument,
  Chap,
  DiscoveryEntry,
  InitiatorEntry,
  OwnCredentials,
  VolumePart,
} from './document.ts';
import { MAX_TARGETS } from './limits.ts';

/**
 * Credentials are given to initiators, for all volumes of a gateway, and travel with each volume in its own form. A volume that comes with
 * others than the gateway has keeps them as its own (`own` of its part) wherever another volume depends on the gateway's: neither decides about
 * the other until an administrator does. No clock is asked: what the newer form of a volume does not have any more is gone for that volume.
 */

/** What an initiator has to prove to reach this volume: what came with the volume, or else what the gateway has. */
export function credentialsOf(
  document: AccessDocument,
  part: VolumePart,
  initiator: string,
): InitiatorEntry | undefined {
  return ownOf(part, initiator) ?? document.initiators.find((each) => each.name === initiator);
}

/** Those of discovery sessions, as the volume's form has them. */
export function discoveryOf(document: AccessDocument, part: VolumePart): readonly DiscoveryEntry[] {
  if (part.maps.length === 0) return [];
  const entries = part.own?.discovery ?? document.discovery;
  return entries.filter((entry) => entry.initiator === undefined || isMapped(part, entry.initiator));
}

export interface ImportedCredentials {
  readonly initiators: readonly InitiatorEntry[];
  readonly discovery: readonly DiscoveryEntry[];
  readonly own: OwnCredentials | undefined;
}

/**
 * What becomes of the gateway's credentials when a newer form of a volume takes the place of `local`. What the gateway had for that volume's
 * sake alone follows the form; what other volumes (`others`) depend on, or was prepared here for none yet, stays, and the volume has its own.
 */
export function importCredentials(
  document: AccessDocument,
  others: readonly VolumePart[],
  local: VolumePart | undefined,
  body: AccessBody,
): ImportedCredentials {
  const initiators = new Map(document.initiators.map((each) => [each.name, each]));
  const own: InitiatorEntry[] = [];
  const gone = new Set<string>();
  for (const theirs of body.initiators) {
    const { entry, isWhole } = merge(initiators.get(theirs.name), theirs, others, local, body);
    initiators.set(theirs.name, entry);
    if (!isWhole) own.push(theirs);
  }
  // What only the former form needed goes with it: its credential may have been taken away there before.
  for (const name of new Set(local?.maps.map((map) => map.initiator))) {
    const mine = initiators.get(name);
    const isNeeded = isMapped(body, name) || others.some((part) => isMapped(part, name) || ownOf(part, name));
    if (mine === undefined || isNeeded) continue;
    const { chap: _general, ...rest } = mine;
    const targets = mine.targets.filter((each) => local === undefined || !isMapped(local, name, each.target));
    gone.add(name);
    if (targets.length === 0) initiators.delete(name);
    else initiators.set(name, { ...rest, targets });
  }
  const present = document.discovery.filter((entry) => entry.initiator === undefined || !gone.has(entry.initiator));
  const discovery = mergeDiscovery(present, others, local, body);
  return {
    initiators: [...initiators.values()],
    discovery: discovery ?? present,
    own:
      own.length === 0 && discovery !== undefined
        ? undefined
        : { initiators: own, ...(discovery === undefined ? { discovery: body.discovery } : {}) },
  };
}

/** The gateway's entry, with what was this volume's alone as its form has it now. `isWhole`: nothing of the form had to be left out. */
function merge(
  mine: InitiatorEntry | undefined,
  theirs: InitiatorEntry,
  others: readonly VolumePart[],
  local: VolumePart | undefined,
  body: AccessBody,
): { readonly entry: InitiatorEntry; readonly isWhole: boolean } {
  if (mine === undefined) return { entry: theirs, isWhole: true };
  const { name } = theirs;
  const sharers = others.filter((part) => isMapped(part, name) && ownOf(part, name) === undefined);
  const ours = local !== undefined && ownOf(local, name) === undefined ? local.maps : [];
  const isFree = (target: string | undefined, before: Chap | undefined): boolean =>
    !sharers.some((part) => isMapped(part, name, target)) &&
    (before === undefined || isMapped({ maps: ours }, name, target));
  let isWhole = true;
  /** What becomes of one credential of the gateway's. */
  const decide = (target: string | undefined, before: Chap | undefined, after: Chap | undefined): Chap | undefined => {
    if (isDeepStrictEqual(before, after) || isFree(target, before)) return after;
    // Where the volume is not mapped any more, its form has nothing to say.
    isWhole &&= !isMapped(body, name, target);
    return before;
  };
  const { chap: _general, targets: before, ...rest } = mine;
  const chap = decide(undefined, mine.chap, theirs.chap);
  const mapped = [...body.maps, ...ours].filter((map) => map.initiator === name).map((map) => map.target);
  const targets = new Map(before.map((each) => [each.target, each.chap]));
  for (const target of new Set(mapped)) {
    const decided = decide(target, targets.get(target), chapAt(theirs, target));
    if (decided === undefined) targets.delete(target);
    else targets.set(target, decided);
  }
  const entry = {
    ...rest,
    ...(chap === undefined ? {} : { chap }),
    targets: [...targets].map(([target, each]) => ({ target, chap: each })),
  };
  return { entry, isWhole };
}

/** The same for discovery sessions, which are asked for what the gateway has. */
function mergeDiscovery(
  present: readonly DiscoveryEntry[],
  others: readonly VolumePart[],
  local: VolumePart | undefined,
  body: AccessBody,
): readonly DiscoveryEntry[] | undefined {
  if (body.maps.length === 0) return present;
  const merged = new Map(present.map((entry) => [entry.initiator, entry]));
  for (const scope of [undefined, ...new Set(body.maps.map((map) => map.initiator))]) {
    const theirs = body.discovery.find((entry) => entry.initiator === scope);
    const mine = merged.get(scope);
    if (isDeepStrictEqual(mine?.chap, theirs?.chap)) continue;
    const concerns = (part: VolumePart): boolean =>
      part.own?.discovery === undefined && (scope === undefined ? part.maps.length > 0 : isMapped(part, scope));
    const isOurs = local !== undefined && concerns(local);
    if (others.some(concerns) || (mine !== undefined && !isOurs)) return undefined;
    if (theirs === undefined) merged.delete(scope);
    else merged.set(scope, theirs);
  }
  return [...merged.values()];
}

/** Without the credentials of volumes that are the gateway's again. */
export function consolidated(document: AccessDocument): AccessDocument {
  if (document.volumes.every((part) => part.own === undefined)) return document;
  return { ...document, volumes: document.volumes.map((part) => withOwn(part, differing(document, part))) };
}

function differing(document: AccessDocument, part: VolumePart): OwnCredentials | undefined {
  if (part.own === undefined) return undefined;
  const initiators = part.own.initiators.filter((own) => {
    const shared = document.initiators.find((each) => each.name === own.name);
    // Somebody who is not known any more gets a new credential when made known again.
    if (shared === undefined) return false;
    const targets = [
      ...part.maps.filter((map) => map.initiator === own.name).map((map) => map.target),
      ...own.targets.map((each) => each.target),
    ];
    return (
      !isDeepStrictEqual(own.chap, shared.chap) ||
      targets.some((target) => !isDeepStrictEqual(chapAt(own, target), chapAt(shared, target)))
    );
  });
  const { own: _own, ...asShared } = part;
  const isSameDiscovery = isDeepStrictEqual(
    byInitiator(discoveryOf(document, part)),
    byInitiator(discoveryOf(document, asShared)),
  );
  const { discovery } = part.own;
  if (initiators.length === part.own.initiators.length && (discovery === undefined || !isSameDiscovery))
    return part.own;
  if (initiators.length === 0 && (discovery === undefined || isSameDiscovery)) return undefined;
  return { initiators, ...(discovery === undefined || isSameDiscovery ? {} : { discovery }) };
}

/**
 * The part after its last map of this initiator was taken away: whoever maps it anew grants what this gateway asks for, wherever the volume asked
 * for nothing. What it did ask for stays, for it may have replaced a stolen one that this gateway still has.
 */
export function withoutGrant(document: AccessDocument, part: VolumePart, initiator: string): VolumePart {
  const own = ownOf(part, initiator);
  const shared = document.initiators.find((each) => each.name === initiator);
  if (part.own === undefined || own === undefined || shared === undefined) return part;
  if (own.chap !== undefined || isMapped(part, initiator)) return part;
  const missing = shared.targets.filter((each) => chapAt(own, each.target) === undefined);
  const filled = {
    ...own,
    ...(shared.chap === undefined ? {} : { chap: shared.chap }),
    targets: [...own.targets, ...missing],
  };
  const others = part.own.initiators.filter((each) => each !== own);
  // More than an entry can have: this gateway's alone, rather than one that leaves a target open.
  const initiators = filled.targets.length > MAX_TARGETS ? others : [...others, filled];
  return withOwn(part, { ...part.own, initiators });
}

/** What an administrator changes about an initiator concerns every volume here, also those with credentials of their own. */
export function changeOwn(
  document: AccessDocument,
  initiator: string,
  change: (entry: InitiatorEntry) => InitiatorEntry,
): AccessDocument {
  const volumes = document.volumes.map((part) => {
    if (part.own === undefined || ownOf(part, initiator) === undefined) return part;
    const initiators = part.own.initiators.map((each) => (each.name === initiator ? change(each) : each));
    return withOwn(part, { ...part.own, initiators });
  });
  return { ...document, volumes };
}

/** The same for the credentials of discovery sessions. */
export function changeOwnDiscovery(
  document: AccessDocument,
  change: (entries: readonly DiscoveryEntry[]) => readonly DiscoveryEntry[],
): AccessDocument {
  const volumes = document.volumes.map((part) =>
    part.own?.discovery === undefined
      ? part
      : withOwn(part, { ...part.own, discovery: [...change(part.own.discovery)] }),
  );
  return { ...document, volumes };
}

/** Sentences for status and doctor: where a volume asks for other credentials than the gateway would, and how to end that. */
export function credentialProblems(document: AccessDocument): readonly string[] {
  return document.volumes.flatMap((part) => {
    const { own } = part;
    if (own === undefined) return [];
    const initiators = own.initiators
      .filter(({ name }) => isMapped(part, name))
      .map((entry) => {
        const { name } = entry;
        return isLaxer(document, part, entry)
          ? `volume ${part.name} asks ${name} for no CHAP credential, as where it came from, though this gateway has one: whoever takes that name gets in; to have one for all: farshore initiator chap ${name} --user USER --generate (and the same with --target, where it is of one target)`
          : `volume ${part.name} came here with a CHAP credential of ${name} that is not the one this gateway has, so each asks for its own; to have one for all: farshore initiator chap ${name} --user USER --generate, or --clear (and the same with --target, where it is of one target)`;
      });
    const hasDiscovery = own.discovery !== undefined && part.maps.length > 0;
    return hasDiscovery
      ? [
          ...initiators,
          `volume ${part.name} came here with other credentials of discovery sessions than this gateway asks for; its own go on with it: to have the same for all, farshore access discovery-chap (with --initiator, where it is of one)`,
        ]
      : initiators;
  });
}

/** Whether the volume lets the initiator in without proof at a target where this gateway's credentials would ask for one. */
function isLaxer(document: AccessDocument, part: VolumePart, own: InitiatorEntry): boolean {
  const shared = document.initiators.find((each) => each.name === own.name);
  if (shared === undefined || own.chap !== undefined) return false;
  return part.maps.some(
    ({ initiator, target }) =>
      initiator === own.name &&
      chapAt(own, target) === undefined &&
      (chapAt(shared, target) ?? shared.chap) !== undefined,
  );
}

/** What differs between the credentials of two forms of a volume, in words of the audit log; never the secrets. */
export function credentialChanges(
  before: AccessBody | undefined,
  after: AccessBody,
): readonly { readonly initiator: string; readonly target: string; readonly user: string | null }[] {
  const [old, now] = [flat(before), flat(after)];
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((key) => !isDeepStrictEqual(old.get(key)?.chap, now.get(key)?.chap))
    .flatMap((key) => {
      const entry = now.get(key) ?? old.get(key);
      if (entry === undefined) return [];
      const { initiator, target } = entry;
      return [{ initiator, target, user: now.get(key)?.chap.user ?? null }];
    });
}

interface FlatCredential {
  readonly initiator: string;
  readonly target: string;
  readonly chap: Chap;
}

function flat(body: AccessBody | undefined): ReadonlyMap<string, FlatCredential> {
  const all = new Map<string, FlatCredential>();
  const add = (initiator: string, target: string, chap: Chap | undefined): void => {
    if (chap !== undefined) all.set(`${initiator}\n${target}`, { initiator, target, chap });
  };
  for (const { name, chap, targets } of body?.initiators ?? []) {
    add(name, '*', chap);
    for (const each of targets) add(name, each.target, each.chap);
  }
  for (const { initiator, chap } of body?.discovery ?? []) add(initiator ?? '*', 'discovery', chap);
  return all;
}

export function withOwn(part: VolumePart, own: OwnCredentials | undefined): VolumePart {
  if (part.own === own) return part;
  const { own: _before, ...rest } = part;
  return own === undefined ? rest : { ...rest, own };
}

function ownOf(part: VolumePart, initiator: string): InitiatorEntry | undefined {
  return part.own?.initiators.find((each) => each.name === initiator);
}

function isMapped({ maps }: Pick<VolumePart, 'maps'>, initiator: string, target?: string): boolean {
  return maps.some((map) => map.initiator === initiator && (target === undefined || map.target === target));
}

function chapAt({ targets }: InitiatorEntry, target: string): Chap | undefined {
  return targets.find((each) => each.target === target)?.chap;
}

function byInitiator(entries: readonly DiscoveryEntry[]): ReadonlyMap<string | undefined, Chap> {
  return new Map(entries.map((entry) => [entry.initiator, entry.chap]));
}
