import type { Disk } from '../../base/disk.ts';
import { describeError, FarshoreError, isKind } from '../../base/errors.ts';
import type { ImageFile, ImageStore } from '../../base/image.ts';
import type { Log } from '../../base/log.ts';
import type { ByteCount, WriteSeq } from '../../base/units.ts';
import type { VolumeRef } from '../../cloud/version-log.ts';
import type { CacheLog } from '../../cache/cache-log.ts';
import type { OpenedRemote } from '../../replication/remote-volume.ts';
import type { LocalLog } from '../open-volume.ts';
import { Image, isSameMark } from './image.ts';
import { Changes } from './changes.ts';
import {
  loadStoredState,
  removeGenerations,
  removeStoredState,
  saveStoredState,
  type ChangedSince,
  type StoredState,
} from './stored-state.ts';

export interface ImageDeps {
  readonly disk: Disk;
  readonly log: Log;
  readonly cache: CacheLog;
  /** undefined where no volume can have an image. */
  readonly images?: ImageStore | undefined;
}

/** The image of a volume before anybody knows whether it still is the volume's. */
export interface FoundImage {
  readonly image: Image;
  readonly state: StoredState;
}

/** An image that is the volume's, and what it has. */
export interface BoundImage {
  readonly image: Image;
  readonly state: StoredState;
  /** What no version has. */
  readonly changes: Changes | undefined;
}

/**
 * Opens the image of a volume that has one, before the volume is taken over. Rejects with `retry` when it is not there (a disk that is not
 * mounted yet) or in use, `stopped` when it can't be the volume's; `takeover` gives such an image up: then what is known of it is the answer, or
 * nothing, as for a volume that has none.
 */
export async function findImage(
  deps: ImageDeps,
  ref: VolumeRef,
  takeover: boolean,
): Promise<FoundImage | { readonly givenUp: StoredState } | undefined> {
  let state: StoredState | undefined;
  try {
    state = await loadStoredState(deps.disk, ref);
  } catch (error) {
    if (!takeover || !isKind(error, 'damaged')) throw error;
    deps.log.warn({ volume: ref.volume, reason: describeError(error) }, 'the damaged record of the image is given up');
    await removeStoredState(deps.disk, ref);
  }
  if (state === undefined) return undefined;
  try {
    return await openImage(deps, ref, state);
  } catch (error) {
    if (!takeover) throw error;
    const reason = describeError(error);
    deps.log.warn({ volume: ref.volume, reason }, 'the image cannot be had');
    return { givenUp: state };
  }
}

async function openImage({ images }: ImageDeps, ref: VolumeRef, state: StoredState): Promise<FoundImage> {
  if (images === undefined) throw new FarshoreError('bug', 'a volume with an image needs a place to look for it');
  let file: ImageFile;
  try {
    file = await images.open(state.path);
  } catch (error) {
    if (!isKind(error, 'not-found', 'in-use', 'input', 'stopped')) throw error;
    const what = `the image of volume ${ref.volume} cannot be opened: ${error.message}`;
    throw new FarshoreError(
      isKind(error, 'not-found', 'in-use') ? 'retry' : 'stopped',
      `${what}. Make it accessible (it is tried again), or go on from the cache and the cloud without it: farshore restore NAME --takeover`,
      { cause: error },
    );
  }
  try {
    const size = await file.size();
    // One that was being made smaller may be so already; what the volume is, its versions say.
    const least = Math.min(state.bytes, state.resizeTo ?? state.bytes);
    if (size < least) throw tooShort(ref, state.path, size, least);
    const image = new Image(file, state.path, state.clean?.bytes ?? state.bytes);
    if (state.clean !== undefined && !isSameMark(await image.mark(), state.clean)) {
      throw new FarshoreError(
        'stopped',
        `the image ${state.path} was changed while no gateway had it, so it is not what volume ${ref.volume} was; ${remedyOf(state)}`,
      );
    }
    return { image, state };
  } catch (error) {
    await file.close();
    throw error;
  }
}

function tooShort({ volume }: VolumeRef, path: string, size: ByteCount, least: ByteCount): FarshoreError {
  return new FarshoreError(
    'stopped',
    `the image ${path} has ${size} bytes, less than the ${least} of volume ${volume}; put the right one there and restart, or go on without it: farshore restore NAME --takeover`,
  );
}

function remedyOf({ changes }: StoredState): string {
  return changes === undefined
    ? 'to go on from the cache and the cloud without it: farshore restore NAME --takeover'
    : 'and the cloud did not have all of it yet. To keep what is in the image now: delete the volume, and create one from it with --seed; to go back to the last version without the image: farshore restore NAME --takeover';
}

/**
 * Settles whether the image belongs to the log that the volume goes on with, and says so durably before anything is written to either. An
 * image that belongs to another log is let go, and one that never belonged to any once the volume (`opened`) has been written elsewhere: undefined.
 */
export async function bindImage(
  deps: ImageDeps,
  ref: VolumeRef,
  found: FoundImage,
  local: LocalLog,
  opened: OpenedRemote,
): Promise<BoundImage | undefined> {
  const { image, state: before } = found;
  const { number, firstSeq, lastSeq, versionThrough } = local;
  const { bytes } = opened.item;
  const pool = deps.cache.poolId;
  const isFirstStart = before.number === undefined;
  // A log that was begun anew has something else in it: what others wrote, an older version, or nothing. A new cache directory counts from 1 again.
  const isOurs = isFirstStart ? opened.lastData === undefined : before.number === number && before.pool === pool;
  if (!isOurs || (bytes !== before.bytes && bytes !== before.resizeTo)) {
    await image.close();
    await letImageGo(deps, ref, before);
    return undefined;
  }
  const size = await image.size();
  if (size < bytes) throw tooShort(ref, before.path, size, bytes);
  image.bytes = bytes;
  // Either size may be the one it has; the other one is what was to become of it, or was there before.
  const resizeTo = before.resizeTo === undefined || bytes === before.bytes ? before.resizeTo : before.bytes;
  // What the log has dropped was in the image before.
  const destagedThrough = isFirstStart
    ? lastSeq
    : Math.max(before.destagedThrough, deps.cache.reclaimedThrough(number));
  const record = changesOf(before, isFirstStart ? firstSeq - 1 : versionThrough, isFirstStart);
  const lastGeneration = Math.max(before.lastGeneration, record?.generation ?? 0);
  const state = {
    ...before,
    ...{ bytes, resizeTo, pool, number, destagedThrough, lastGeneration, changes: record, clean: undefined },
  };
  const changes = record && (await Changes.load(deps.disk, ref, record, image, opened.epoch));
  if (changes?.problem !== undefined) deps.log.warn({ volume: ref.volume }, changes.problem);
  try {
    await saveStoredState(deps.disk, ref, state);
    await removeGenerations(deps.disk, ref, record?.generation);
  } catch (error) {
    await changes?.close();
    throw error;
  }
  // Not before the clean mark is gone: it changes the image.
  const isWhole = resizeTo === undefined || (await cutOff(deps, ref, image));
  return { image, state: isWhole ? { ...state, resizeTo: undefined } : state, changes };
}

/** A resize did not get to its end: cuts off what the volume does not have. Answers whether that is done. */
async function cutOff({ log }: ImageDeps, ref: VolumeRef, image: Image): Promise<boolean> {
  try {
    await image.cutOff();
    return true;
  } catch (error) {
    if (!isKind(error, 'busy', 'stopped')) throw error;
    log.warn({ volume: ref.volume, reason: describeError(error) }, 'the image stays longer than its volume for now');
    return false;
  }
}

/** Versions are committed in order: one that reaches as far as the marked blocks has them all. The image of a seed counts as the write before the first. */
function changesOf({ changes }: StoredState, through: WriteSeq, isFirstStart: boolean): ChangedSince | undefined {
  if (changes === undefined) return undefined;
  if (isFirstStart) return { ...changes, through };
  return through >= changes.through ? undefined : changes;
}

/** The file stays as it is; the volume has no image here any more. */
export async function letImageGo(deps: ImageDeps, ref: VolumeRef, state: StoredState): Promise<void> {
  deps.log.warn(
    { volume: ref.volume, image: state.path },
    'the image is not what the volume is any more, so it is served from the cache and the cloud; the image is left as it is',
  );
  await removeStoredState(deps.disk, ref);
}
