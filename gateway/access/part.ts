import { describeError, FarshoreError } from '../base/errors.ts';
import type { Epoch } from '../base/units.ts';
import { consolidated, credentialsOf, discoveryOf, importCredentials, withOwn } from './credentials.ts';
import { withoutSection } from '../scsi/unit-document.ts';
import { bodySchema, type AccessBody, type AccessDocument, type Stamp, type VolumePart } from './document.ts';
import { MAX_INITIATORS, MAX_TARGETS, MAX_VOLUMES } from './limits.ts';

/** The volume's part as it is written to the table: with the initiators, credentials and targets its maps need, and no others. */
export function bodyOf(document: AccessDocument, part: VolumePart): AccessBody {
  const initiators = new Set(part.maps.map((map) => map.initiator));
  const targets = new Set(part.maps.map((map) => map.target));
  const { mode, maps, unitState, stamp } = part;
  return {
    format: 1,
    mode,
    maps,
    ...(unitState === undefined ? {} : { unitState }),
    stamp,
    targets: document.targets.filter((target) => targets.has(target.name)),
    initiators: document.initiators
      .filter((initiator) => initiators.has(initiator.name))
      .map((shared) => {
        const initiator = credentialsOf(document, part, shared.name) ?? shared;
        return { ...initiator, targets: initiator.targets.filter((each) => targets.has(each.target)) };
      }),
    discovery: [...discoveryOf(document, part)],
  };
}

export function encodeBody(body: AccessBody): Buffer {
  return Buffer.from(JSON.stringify(body));
}

/** `damaged` when it is not what this Farshore writes. */
export function decodeBody(bytes: Buffer, volume: string): AccessBody {
  try {
    return bodySchema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw new FarshoreError(
      'damaged',
      `the access control of volume ${volume} in the table cannot be understood (${describeError(error).split('\n')[0] ?? ''})`,
      { cause: error },
    );
  }
}

/** Above 0 when `a` is the newer one. */
export function compareStamps(a: Stamp, b: Stamp): number {
  return a.epoch === b.epoch ? a.revision - b.revision : a.epoch - b.epoch;
}

/**
 * Gives the part of every volume whose body differs from what it was a new stamp: the count rises, and the epoch is the one this gateway
 * holds the volume under (never below the one it had).
 */
export function restamp(
  before: AccessDocument,
  after: AccessDocument,
  epochOf: (volume: string) => number | undefined,
): AccessDocument {
  if (before === after) return after;
  const old = new Map(before.volumes.map((part) => [part.volume, fingerprint(before, part)]));
  const volumes = after.volumes.map((part) => {
    const known = old.get(part.volume);
    if (known === undefined || known === fingerprint(after, part)) return part;
    const epoch = Math.max(part.stamp.epoch, epochOf(part.volume) ?? 0);
    return { ...part, stamp: { epoch, revision: part.stamp.revision + 1 } };
  });
  return { ...after, volumes };
}

function fingerprint(document: AccessDocument, part: VolumePart): string {
  return JSON.stringify({ ...bodyOf(document, part), stamp: undefined });
}

/** The volume as the table knows it. */
export interface AdoptedVolume {
  readonly volume: string;
  readonly name: string;
  /** Its default target, normalised. */
  readonly target: string;
}

export interface Adoption {
  readonly document: AccessDocument;
  /** `kept`: the mirror here is the newest there is; `imported`: the table's is; `new`: there was neither. */
  readonly outcome: 'kept' | 'imported' | 'new';
  readonly part: VolumePart;
}

/**
 * Takes a volume's part into the gateway's document, when it is opened here. The newer of the two forms wins as a whole: merging maps one by
 * one would bring back what was taken away. The credentials are part of it, as far as no other volume here needs its initiators to have others
 * (credentials.ts). What the logical unit keeps goes with the data: where another gateway has held the volume since, it is that one's.
 * `body` undefined: the table holds none; `heldUnder`: the epoch it was last written under, which every holder does.
 */
export function adoptVolume(
  document: AccessDocument,
  volume: AdoptedVolume,
  body: AccessBody | undefined,
  heldUnder: Epoch = 0,
): Adoption {
  const local = document.volumes.find((part) => part.volume === volume.volume);
  const others = document.volumes.filter((part) => part.volume !== volume.volume);
  const order = local === undefined || body === undefined ? 0 : compareStamps(local.stamp, body.stamp);
  if (body === undefined || (local !== undefined && order >= 0)) {
    const blank = { mode: 'open' as const, maps: [], stamp: { epoch: 0, revision: 0 } };
    const kept: VolumePart = { ...(local ?? blank), ...volume };
    const isOvertaken = body !== undefined && order > 0 && heldUnder > kept.stamp.epoch;
    const part = isOvertaken ? withUnitState(kept, body.unitState) : kept;
    const outcome = local === undefined ? 'new' : 'kept';
    const isSame =
      local !== undefined &&
      local.name === volume.name &&
      local.target === volume.target &&
      local.unitState === part.unitState;
    return { document: isSame ? document : withVolume(document, others, part, local), outcome, part };
  }
  const { mode, maps, unitState, stamp } = body;
  const { initiators, discovery, own } = importCredentials(document, others, local, body);
  const state = unitState === undefined ? {} : { unitState };
  const part = withOwn({ ...volume, mode, maps, ...state, stamp }, own);
  const merged: AccessDocument = {
    ...document,
    targets: [...document.targets, ...missing(document.targets, body.targets)],
    initiators: [...initiators],
    discovery: [...discovery],
  };
  if (
    merged.initiators.length > MAX_INITIATORS ||
    merged.targets.length > MAX_TARGETS ||
    merged.initiators.some((initiator) => initiator.targets.length > MAX_TARGETS)
  ) {
    throw new FarshoreError(
      'input',
      `the initiators or targets of volume ${volume.name} are too many beside those here (at most ${MAX_INITIATORS} and ${MAX_TARGETS}); remove some with farshore initiator remove or farshore target delete`,
    );
  }
  return { document: consolidated(withVolume(merged, others, part, local)), outcome: 'imported', part };
}

/** `after`, with what the logical unit of a volume keeps as it was in `before`. */
export function withUnitStateOf(before: AccessDocument, after: AccessDocument, volume: string): AccessDocument {
  const unitState = before.volumes.find((part) => part.volume === volume)?.unitState;
  return changePart(after, volume, (part) => withUnitState(part, unitState));
}

/** Ends a SANITIZE that was under way, or has failed. */
export function withoutSanitize(document: AccessDocument, volume: string): AccessDocument {
  return changePart(document, volume, (part) =>
    withUnitState(part, part.unitState === undefined ? undefined : withoutSection(part.unitState, 'sanitize')),
  );
}

function changePart(
  document: AccessDocument,
  volume: string,
  change: (part: VolumePart) => VolumePart,
): AccessDocument {
  const volumes = document.volumes.map((part) => (part.volume === volume ? change(part) : part));
  return volumes.every((part, index) => part === document.volumes[index]) ? document : { ...document, volumes };
}

function withUnitState(part: VolumePart, unitState: string | undefined): VolumePart {
  if (part.unitState === unitState) return part;
  const { unitState: _before, ...rest } = part;
  return unitState === undefined ? rest : { ...rest, unitState };
}

/** In its old place: where two volumes want one LUN, the one that came first has it. */
function withVolume(
  document: AccessDocument,
  others: readonly VolumePart[],
  part: VolumePart,
  local: VolumePart | undefined,
): AccessDocument {
  if (local === undefined && others.length >= MAX_VOLUMES) {
    throw new FarshoreError(
      'input',
      `a gateway keeps the access control of at most ${MAX_VOLUMES} volumes; delete or forget some first`,
    );
  }
  const volumes =
    local === undefined ? [...others, part] : document.volumes.map((each) => (each === local ? part : each));
  return { ...document, volumes };
}

function missing<T extends { readonly name: string }>(present: readonly T[], offered: readonly T[]): readonly T[] {
  return offered.filter((each) => !present.some((one) => one.name === each.name));
}
