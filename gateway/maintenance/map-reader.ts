import { FarshoreError } from '../base/errors.ts';
import type { VersionNumber } from '../base/units.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { CheckpointPointer, VolumeRef } from '../cloud/version-log.ts';
import type { Checkpoint, CheckpointRun, CheckpointShard } from '../format/checkpoint.ts';
import { decodeCheckpoint } from '../format/checkpoint.ts';
import type { Compression } from '../format/compression.ts';
import { checkpointKey, runKey, shardKey } from '../format/keys.ts';
import { SHARD_BLOCKS } from '../format/run.ts';
import { decodeShard } from '../format/shard.ts';
import type { Shard } from '../format/shard.ts';
import { firstAtOrAfter, RunReader } from './run-reader.ts';
import type { ShardChanges } from './run-reader.ts';

export const SHARD_WORDS = 2 * SHARD_BLOCKS;

export interface MapSource {
  readonly store: ObjectStore;
  readonly compression: Compression;
  readonly ref: VolumeRef;
}

/**
 * The map of a volume as of a checkpoint: shard objects, and over each the runs that end after it. All loading is on demand.
 * Rejects with `not-found` (an object is missing), `damaged`, `retry`.
 */
export class CheckpointMap {
  /** undefined: nothing folded yet, everything is unmapped. */
  readonly checkpoint: Checkpoint | undefined;
  /** In the order of the checkpoint. */
  readonly runs: readonly RunReader[];
  readonly #source: MapSource;

  constructor(source: MapSource, checkpoint: Checkpoint | undefined, wholeRunBytes?: number) {
    this.#source = source;
    this.checkpoint = checkpoint;
    const runs = checkpoint?.runs ?? [];
    this.runs = runs.map((run) => runReaderOf(source, run, wholeRunBytes));
  }

  /** Reads the checkpoint that the volume item points to. */
  static async load(source: MapSource, pointer: CheckpointPointer | undefined): Promise<CheckpointMap> {
    return new CheckpointMap(source, pointer === undefined ? undefined : await loadCheckpoint(source, pointer));
  }

  /** The map is that of this version; 0 before any. */
  get n(): VersionNumber {
    return this.checkpoint?.n ?? 0;
  }

  /** The 32,768 words of the shard's map, a fresh array. */
  async loadShard(shard: number): Promise<Uint32Array> {
    const base = this.baseOf(shard);
    const entries =
      base === undefined ? new Uint32Array(SHARD_WORDS) : (await loadShard(this.#source, base)).entries.slice();
    for (const run of this.runs) {
      if (run.place.throughN > (base?.n ?? 0)) await run.applyToShard(shard, entries);
    }
    return entries;
  }

  baseOf(shard: number): CheckpointShard | undefined {
    const shards = this.checkpoint?.shards ?? [];
    const found = shards[firstAtOrAfter(shards, shard)];
    return found?.shard === shard ? found : undefined;
  }

  /** The first shard ≥ `from` that may hold a mapped block. */
  async nextShard(from: number): Promise<number | undefined> {
    const shards = this.checkpoint?.shards ?? [];
    return lowest(shards[firstAtOrAfter(shards, from)]?.shard, await nextShardOf(this.runs, from));
  }
}

/** The lowest of what the layers answer. */
export async function nextShardOf(layers: readonly ShardChanges[], from: number): Promise<number | undefined> {
  let next: number | undefined;
  for (const layer of layers) next = lowest(next, await layer.nextShard(from));
  return next;
}

export function lowest(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined) return b;
  return b === undefined ? a : Math.min(a, b);
}

function runReaderOf({ store, compression, ref }: MapSource, run: CheckpointRun, wholeBytes?: number): RunReader {
  const key = runKey(ref.lineage, ref.volume, run.sequence, run.maintenanceEpoch);
  const { throughN, headerBytes, objectBytes } = run;
  return new RunReader(store, compression, { key, ...ref, throughN, headerBytes, objectBytes }, wholeBytes);
}

/** The checkpoint object behind a pointer, checked against it. */
export async function loadCheckpoint(source: MapSource, pointer: CheckpointPointer): Promise<Checkpoint> {
  const { lineage, volume } = source.ref;
  const key = checkpointKey(lineage, volume, pointer.sequence, pointer.maintenanceEpoch);
  const checkpoint = await loadCheckpointAt(source, key);
  const fits =
    checkpoint.sequence === pointer.sequence &&
    checkpoint.maintenanceEpoch === pointer.maintenanceEpoch &&
    checkpoint.n === pointer.n &&
    checkpoint.epoch === pointer.epoch &&
    checkpoint.chain.equals(pointer.chain);
  if (!fits) throw new FarshoreError('damaged', `object ${key} is not the checkpoint that the volume item names`);
  return checkpoint;
}

/** Whatever checkpoint of the volume lies at `key`. */
export async function loadCheckpointAt({ store, compression, ref }: MapSource, key: string): Promise<Checkpoint> {
  const bytes = await store.get(key);
  if (bytes === undefined) throw new FarshoreError('not-found', `object ${key} is missing`);
  const checkpoint = explain(key, () => decodeCheckpoint(bytes, compression));
  if (checkpoint.lineage !== ref.lineage || checkpoint.volume !== ref.volume) {
    throw new FarshoreError('damaged', `object ${key} is a checkpoint of volume ${checkpoint.volume}`);
  }
  return checkpoint;
}

/** A shard object, checked against what the checkpoint says of it. */
export async function loadShard({ store, compression, ref }: MapSource, place: CheckpointShard): Promise<Shard> {
  const key = shardKey(ref.lineage, ref.volume, place.shard, place.sequence, place.maintenanceEpoch);
  const bytes = await store.get(key);
  if (bytes === undefined) throw new FarshoreError('not-found', `object ${key} is missing`);
  const shard = explain(key, () => decodeShard(bytes, compression));
  const { lineage, volume } = ref;
  const fits =
    shard.lineage === lineage && shard.volume === volume && shard.shard === place.shard && shard.n === place.n;
  if (!fits) throw new FarshoreError('damaged', `object ${key} is not the shard that the checkpoint names`);
  return shard;
}

function explain<Result>(key: string, decode: () => Result): Result {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof FarshoreError)) throw error;
    throw new FarshoreError(error.kind, `object ${key}: ${error.message}`, { cause: error });
  }
}
