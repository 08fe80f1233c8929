import { FarshoreError, isKind } from '../base/errors.ts';
import type { ByteCount, Epoch, VersionNumber, WallMillis } from '../base/units.ts';
import type { VolumeItem } from '../cloud/version-log.ts';
import type { Checkpoint } from '../format/checkpoint.ts';
import { checkpointKey, parseKey } from '../format/keys.ts';
import { chainAfter, EMPTY_CHAIN } from '../format/version-record.ts';
import { relocateInline, type NumbersOwner } from './fold-inline.ts';
import { InlineImages } from './inline-images.ts';
import { loadMap } from './load-map.ts';
import type { MaintenanceDeps } from './maintenance-deps.ts';
import type { MapSource } from './map-reader.ts';
import { CheckpointMap, loadCheckpointAt } from './map-reader.ts';
import type { VolumeMap } from './volume-map.ts';
import { tailRecord, WALK_PAGE } from './walk.ts';
import type { TailRecord } from './walk.ts';

const LIST_PAGE = 1000;
/** Checkpoint objects that may be listed; a fold makes one, so this is 256 TiB of writes. */
const MAX_CHECKPOINTS = 131_072;
const PAST_SHARD_CACHE_BYTES = 2 ** 20;

export interface PastMap {
  readonly map: VolumeMap;
  readonly images: InlineImages;
  /** The versions between the checkpoint it stands on and n. */
  readonly records: readonly TailRecord[];
  /** The chain before the first of them. */
  readonly baseChain: Buffer;
  /** Size of the volume then. */
  readonly volumeBytes: ByteCount;
  /** What the log says of version n; undefined before the first version. */
  readonly end: PastEnd | undefined;
}

/** A version as what follows it has to know it. */
export interface PastEnd {
  readonly epoch: Epoch;
  readonly chain: Buffer;
  readonly newestWriteAt: WallMillis;
  readonly sealedAt: WallMillis;
  /** Origin of the newest data through it. */
  readonly lastData: Checkpoint['lastData'];
}

/**
 * The map of a volume as of version n, which is known to be committed: the newest checkpoint at or below n, then the log up to n. Rejects
 * with `input` when the log no longer reaches back to n.
 */
export async function loadPastMap(deps: MaintenanceDeps, item: VolumeItem, n: VersionNumber): Promise<PastMap> {
  const source: MapSource = {
    store: deps.store,
    compression: deps.compression,
    ref: { lineage: item.lineage, volume: item.volume },
  };
  const checkpoint = await checkpointAtOrBelow(deps, source, item, n);
  const baseChain = checkpoint?.chain ?? EMPTY_CHAIN;
  const records = await historyUpTo(deps, source, checkpoint, n);
  const images = new InlineImages();
  const base = new CheckpointMap(source, checkpoint);
  const map = await loadMap(source, base, records, images, PAST_SHARD_CACHE_BYTES);
  const volumeBytes = records.at(-1)?.record.volumeBytes ?? checkpoint?.bytes ?? item.bytes;
  return { map, images, records, baseChain, volumeBytes, end: endOf(checkpoint, records) };
}

function endOf(checkpoint: Checkpoint | undefined, records: readonly TailRecord[]): PastEnd | undefined {
  const last = records.at(-1);
  if (last === undefined) return checkpoint;
  const { epoch, newestWriteAt, sealedAt } = last.record;
  const data = records.findLast(({ record }) => record.kind === 'write' || record.kind === 'restore')?.record;
  const lastData =
    data === undefined ? checkpoint?.lastData : { epoch: data.epoch, logId: data.logId, throughSeq: data.throughSeq };
  return { epoch, chain: last.item.chain, newestWriteAt, sealedAt, lastData };
}

/** Moves what lies inline in the map as of then into segments, because what is made of the map can only point into those. */
export async function relocatePast(
  deps: MaintenanceDeps,
  past: PastMap,
  { owner, volume, signal }: { readonly owner: NumbersOwner; readonly volume: string; readonly signal: AbortSignal },
): Promise<void> {
  const { map, images, records, baseChain } = past;
  const at = records.findLastIndex(({ record }) => record.payload.kind === 'inline');
  const record = records[at]?.record;
  if (record === undefined) return;
  const { n, epoch, logId, throughSeq, newestWriteAt, sealedAt, volumeBytes } = record;
  const identity = {
    lineage: owner.lineage,
    volume,
    n,
    epoch,
    kind: 'moved' as const,
    previousChain: records[at - 1]?.item.chain ?? baseChain,
    logId,
    firstSeq: throughSeq,
    throughSeq,
    newestWriteAt,
    sealedAt,
    volumeBytes,
  };
  const last = records.at(-1)?.record.n ?? n;
  for (const changes of map.changeMaps) {
    const moved = await relocateInline(deps, owner, identity, changes, images, signal);
    for (const [block, [high, low]] of moved) changes.set(block, high, low, last);
  }
}

/** Checkpoints rise with their keys, so the place is found by halving; damaged ones and those that are not of this history are passed over. */
async function checkpointAtOrBelow(
  deps: MaintenanceDeps,
  source: MapSource,
  item: VolumeItem,
  n: VersionNumber,
): Promise<Checkpoint | undefined> {
  const keys = await checkpointKeys(deps, source);
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const checkpoint = await readable(deps, source, keys[middle]);
    // What cannot be read is treated as too new; the walk back below passes over it again.
    if (checkpoint !== undefined && checkpoint.n <= n) low = middle + 1;
    else high = middle;
  }
  for (let at = low - 1; at >= 0; at -= 1) {
    const checkpoint = await readable(deps, source, keys[at]);
    if (checkpoint !== undefined && checkpoint.n <= n && (await isHistory(deps, item, checkpoint))) return checkpoint;
  }
  return undefined;
}

async function checkpointKeys(deps: MaintenanceDeps, { ref }: MapSource): Promise<string[]> {
  const first = checkpointKey(ref.lineage, ref.volume, 0, 0);
  const prefix = first.slice(0, first.lastIndexOf('/') + 1);
  const keys: string[] = [];
  let after: string | undefined;
  do {
    const page = await deps.store.list(prefix, LIST_PAGE, after);
    for (const { key } of page.objects) if (parseKey(key)?.kind === 'checkpoint') keys.push(key);
    after = page.next;
  } while (after !== undefined && keys.length < MAX_CHECKPOINTS);
  return keys;
}

async function readable(
  deps: MaintenanceDeps,
  source: MapSource,
  key: string | undefined,
): Promise<Checkpoint | undefined> {
  if (key === undefined) return undefined;
  try {
    return await loadCheckpointAt(source, key);
  } catch (error) {
    if (!isKind(error, 'damaged', 'not-found')) throw error;
    deps.log.warn({ err: error, key }, 'a checkpoint cannot be used');
    return undefined;
  }
}

/** A checkpoint object may have been made and never published; it counts only when the log still vouches for it. */
async function isHistory(deps: MaintenanceDeps, item: VolumeItem, checkpoint: Checkpoint): Promise<boolean> {
  const pointer = item.checkpoint;
  if (pointer?.sequence === checkpoint.sequence && pointer.maintenanceEpoch === checkpoint.maintenanceEpoch)
    return true;
  const there = await deps.versions.getVersion(item.volume, checkpoint.n);
  if (there !== undefined) return there.epoch === checkpoint.epoch && there.chain.equals(checkpoint.chain);
  // The log of a clone begins behind its first checkpoint, and says what it follows.
  const next = await deps.versions.getVersion(item.volume, checkpoint.n + 1);
  return next !== undefined && chainAfter(checkpoint.chain, next.record).equals(next.chain);
}

async function historyUpTo(
  deps: MaintenanceDeps,
  { ref }: MapSource,
  checkpoint: Checkpoint | undefined,
  n: VersionNumber,
): Promise<TailRecord[]> {
  const records: TailRecord[] = [];
  let chain = checkpoint?.chain ?? EMPTY_CHAIN;
  let at = (checkpoint?.n ?? 0) + 1;
  while (at <= n) {
    const page = await deps.versions.listVersions(ref.volume, at, Math.min(WALK_PAGE, n - at + 1));
    if (page.length === 0) throw unreachable(ref.volume, n, at);
    for (const item of page) {
      if (item.n !== at || !chainAfter(chain, item.record).equals(item.chain)) throw unreachable(ref.volume, n, at);
      records.push(tailRecord(ref, item));
      chain = item.chain;
      at += 1;
    }
  }
  return records;
}

function unreachable(volume: string, n: VersionNumber, at: VersionNumber): FarshoreError {
  return new FarshoreError(
    'input',
    `version ${n} of volume ${volume} can no longer be restored: version ${at}, which it builds on, is not in the log any more.`,
  );
}
