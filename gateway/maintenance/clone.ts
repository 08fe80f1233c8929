import { FarshoreError } from '../base/errors.ts';
import type { VersionNumber } from '../base/units.ts';
import { putOnce } from '../cloud/put-once.ts';
import type { VolumeItem } from '../cloud/version-log.ts';
import type { Checkpoint, CheckpointShard } from '../format/checkpoint.ts';
import { encodeCheckpoint } from '../format/checkpoint.ts';
import { checkpointKey, shardKey } from '../format/keys.ts';
import { entrySegment } from '../format/map-entry.ts';
import { encodeShard } from '../format/shard.ts';
import { PARALLEL_SHARDS, pointerOf } from './fold-round.ts';
import { isInline } from './inline-images.ts';
import type { MaintenanceDeps } from './maintenance-deps.ts';
import { mapParallel } from './parallel.ts';
import { loadPastMap, relocatePast, type PastMap } from './past-map.ts';
import { withRetries, MAINTENANCE_ATTEMPTS } from './retry.ts';

/** What the maker of a clone decides; the rest of its item comes from the version that is cloned. */
export type CloneIdentity = Pick<
  VolumeItem,
  'volume' | 'name' | 'targetName' | 'naa' | 'createdAt' | 'deletedAt' | 'owner'
>;

export interface CloneRequest {
  readonly source: VolumeItem;
  /** A committed version of it. */
  readonly n: VersionNumber;
  readonly clone: CloneIdentity;
  /** Above that of every earlier attempt to make this clone: what those left behind is another's object. From 1. */
  readonly attempt: number;
  readonly signal: AbortSignal;
  /** Told of shards written so far. */
  readonly onProgress?: (shards: number) => void;
}

/**
 * Makes a volume of the same lineage that is what `source` was as of version n. Its data stays in the segments it is in; what is written is one
 * object per shard of the map, and a checkpoint at exactly n, whose chain the clone's own log goes on from. The item comes last, so that a clone is
 * whole as soon as it is there, and is valid only if the source still keeps version n when it is read after that (see purgeVolume).
 * Answers the item as it was written. Rejects with `input` (the version is not kept any more), `in-use` (the source is being purged), `retry`.
 */
export async function cloneVolume(deps: MaintenanceDeps, request: CloneRequest): Promise<VolumeItem> {
  const { source, n, attempt, signal } = request;
  const retrying = <Result>(work: () => Promise<Result>): Promise<Result> =>
    withRetries(deps, { attempts: MAINTENANCE_ATTEMPTS, signal, passing: ['retry'] }, work);
  if (n < source.retainedFrom) throw expired(source, n);
  const past = await retrying(() => loadPastMap(deps, source, n));
  if (past.end === undefined) throw expired(source, n);
  const { volume } = request.clone;
  const owner = { lineage: source.lineage, volume, epoch: past.end.epoch };
  await retrying(() => relocatePast(deps, past, { owner, volume, signal }));
  const shards = await writeShards(deps, request, past, retrying);
  const checkpoint: Checkpoint = {
    ...{ lineage: source.lineage, volume, sequence: 1, maintenanceEpoch: attempt, n },
    ...{ ...past.end, bytes: past.volumeBytes, runs: [], shards },
  };
  const { bytes, crc32 } = encodeCheckpoint(checkpoint, deps.compression);
  await putOnce(deps.store, checkpointKey(source.lineage, volume, 1, attempt), [bytes], crc32, deps, signal);
  const item: VolumeItem = {
    ...cloned(source),
    ...request.clone,
    bytes: past.volumeBytes,
    epoch: past.end.epoch,
    floor: n,
    checkpoint: pointerOf(checkpoint),
    maintenanceEpoch: attempt,
    retainedFrom: n,
  };
  const outcome = await retrying(() => deps.versions.createVolume(item));
  const there = outcome === 'ok' ? item : await retrying(() => deps.versions.getVolume(item));
  // What is there may be from an earlier attempt: that one was whole as well.
  if (there === undefined) throw new FarshoreError('retry', `volume ${item.name} could not be made; try again`);
  await requireKept(deps, { source, n, made: outcome === 'ok' ? item : undefined }, retrying);
  return there;
}

/** What a clone has in common with its source for good. */
function cloned({ lineage, sectorSize, physicalSize, removable, replication, onRemoteLoss }: VolumeItem) {
  return {
    ...{ lineage, sectorSize, replication },
    ...(physicalSize === undefined ? {} : { physicalSize }),
    ...(removable === undefined ? {} : { removable }),
    ...(onRemoteLoss === undefined ? {} : { onRemoteLoss }),
  };
}

type Retrying = <Result>(work: () => Promise<Result>) => Promise<Result>;

async function writeShards(
  deps: MaintenanceDeps,
  { source, n, clone, attempt, signal, onProgress }: CloneRequest,
  { map }: PastMap,
  retrying: Retrying,
): Promise<CheckpointShard[]> {
  const written: CheckpointShard[] = [];
  const place = { lineage: source.lineage, volume: clone.volume, n };
  for (let from = 0; ;) {
    const next: number[] = [];
    while (next.length < PARALLEL_SHARDS) {
      const shard = await retrying(() => map.nextShard(from));
      if (shard === undefined) break;
      next.push(shard);
      from = shard + 1;
    }
    if (next.length === 0) return written;
    const made = await mapParallel(next, PARALLEL_SHARDS, async (shard): Promise<CheckpointShard> => {
      const entries = await retrying(() => map.shardEntries(shard));
      for (let at = 0; at < entries.length; at += 2)
        if (isInline(entrySegment(entries[at] ?? 0, entries[at + 1] ?? 0)))
          throw new FarshoreError('bug', 'an inline payload was not moved into a segment');
      const { bytes, crc32, mapped } = encodeShard({ ...place, shard, entries }, deps.compression);
      const key = shardKey(place.lineage, place.volume, shard, 1, attempt);
      await putOnce(deps.store, key, [bytes], crc32, deps, signal);
      return { shard, sequence: 1, maintenanceEpoch: attempt, n, mapped, objectBytes: bytes.length, crc32 };
    });
    written.push(...made);
    onProgress?.(written.length);
  }
}

/**
 * After the clone's item is there: a purge that began before has not seen it, and takes the segments away. `made`: by this very call; one that was
 * there already may have been seen by the purge, and so be whole.
 */
async function requireKept(
  { versions }: MaintenanceDeps,
  { source, n, made }: Pick<CloneRequest, 'source' | 'n'> & { readonly made: VolumeItem | undefined },
  retrying: Retrying,
): Promise<void> {
  const now = await retrying(() => versions.getVolume(source));
  if (now !== undefined && now.retainedFrom <= n) return;
  if (made !== undefined) {
    // Nobody has opened it: of its first epoch, and marked as deleted, it goes at once.
    await retrying(() => versions.changeVolume(made, made.epoch, { deletedAt: made.createdAt }));
    await retrying(() => versions.removeVolume(made, made.epoch));
  }
  throw new FarshoreError('in-use', `volume ${source.name} is being removed for ever, and cannot be cloned any more`);
}

function expired({ name }: VolumeItem, n: VersionNumber): FarshoreError {
  return new FarshoreError('input', `version ${n} of volume ${name} is not kept any more`);
}
