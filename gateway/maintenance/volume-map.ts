import { invariant } from '../base/errors.ts';
import type { BlockCount, BlockNumber, ByteCount, VersionNumber } from '../base/units.ts';
import { entrySegment } from '../format/map-entry.ts';
import { SHARD_BLOCKS } from '../format/run.ts';
import { ChangeMap, UNCHANGED } from './change-map.ts';
import { isInline } from './inline-images.ts';
import { ByteLru } from './lru.ts';
import type { CheckpointMap } from './map-reader.ts';
import { lowest, SHARD_WORDS } from './map-reader.ts';
import type { RunReader } from './run-reader.ts';

/** Memory of one shard's map. */
const SHARD_BYTES = SHARD_WORDS * 4;

/** What lies between the checkpoint and the changes in memory: only after a rollback, whose manifest stays in S3. */
type Layer =
  | { readonly kind: 'changes'; readonly changes: ChangeMap }
  | { readonly kind: 'manifest'; readonly n: VersionNumber; readonly run: RunReader };

/** Everything below the newest changes. Replaced as a whole, never altered, so that loads under way can tell. */
interface Base {
  readonly map: CheckpointMap;
  /** Oldest first. */
  readonly layers: readonly Layer[];
}

/**
 * The map of a volume as of the last committed version: the changes since the checkpoint over the checkpoint. Shards of the
 * checkpoint are loaded on demand and kept, merged, in a least-recently-used cache.
 */
export class VolumeMap {
  #base: Base;
  #changes = new ChangeMap();
  /** The last version whose changes were entered, or that the checkpoint held at the start. */
  #enteredThrough: VersionNumber;
  readonly #shards: ByteLru<number, Uint32Array>;
  readonly #loading = new Map<number, Promise<Uint32Array>>();

  constructor(map: CheckpointMap, shardCacheBytes: ByteCount) {
    this.#base = { map, layers: [] };
    this.#enteredThrough = map.n;
    this.#shards = new ByteLru(shardCacheBytes);
  }

  get checkpoint(): CheckpointMap {
    return this.#base.map;
  }

  /** Blocks and ranges changed since the checkpoint. */
  get overlayEntries(): number {
    return this.changeMaps.reduce((sum, changes) => sum + changes.size + changes.rangeCount, 0);
  }

  /** All changes in memory, oldest first: since the checkpoint, with a cut at each manifest that is newer than it. */
  get changeMaps(): readonly ChangeMap[] {
    const below = this.#base.layers.flatMap((layer) => (layer.kind === 'changes' ? [layer.changes] : []));
    return [...below, this.#changes];
  }

  /** Ranges unmapped since the checkpoint. */
  get overlayRanges(): number {
    return this.changeMaps.reduce((sum, changes) => sum + changes.rangeCount, 0);
  }

  get overlayBytes(): ByteCount {
    return this.changeMaps.reduce((sum, changes) => sum + changes.bytes, 0);
  }

  setShardCache(bytes: ByteCount): void {
    this.#shards.setBudget(bytes);
  }

  /**
   * Version n is committed: `apply` enters its changes. Versions must come in order; one that the checkpoint
   * holds already is passed over.
   */
  commit(n: VersionNumber, apply: (changes: ChangeMap) => void): void {
    if (n <= this.#base.map.n) return;
    apply(this.#changes);
    this.#enteredThrough = n;
  }

  /** Version n is a manifest: it goes over everything so far and under everything that follows. */
  commitManifest(n: VersionNumber, run: RunReader): void {
    if (n <= this.#base.map.n) return;
    const below: Layer[] = this.#changes.isEmpty ? [] : [{ kind: 'changes', changes: this.#changes }];
    this.#replaceBase({ map: this.#base.map, layers: [...this.#base.layers, ...below, { kind: 'manifest', n, run }] });
    this.#changes = new ChangeMap();
    this.#enteredThrough = n;
  }

  /**
   * A newer checkpoint was published: what it holds is dropped from memory. Nothing changes for readers, unless it is ahead of what was
   * entered here: versions are in the table, and folded, before their writer hears that they are. Then nothing cached is as new as it.
   */
  adopt(map: CheckpointMap): void {
    invariant(map.n > this.#base.map.n, 'checkpoints only move forward');
    if (this.#enteredThrough < map.n) {
      this.#replaceBase({ map, layers: this.#layersAfter(map.n) });
      this.#enteredThrough = map.n;
    } else if (this.#base.layers.length === 0) {
      this.#carryOver();
      this.#base = { map, layers: [] };
      this.#loading.clear();
    } else {
      this.#replaceBase({ map, layers: this.#layersAfter(map.n) });
    }
    this.#changes = this.#changes.after(map.n);
  }

  #layersAfter(n: VersionNumber): Layer[] {
    const layers: Layer[] = [];
    for (const layer of this.#base.layers) {
      if (layer.kind === 'changes') {
        const rest = layer.changes.after(n);
        if (!rest.isEmpty) layers.push({ kind: 'changes', changes: rest });
      } else if (layer.n > n) layers.push(layer);
    }
    return layers;
  }

  /** The packed entries (two words each) of `count` blocks from `block` on. */
  async entries(block: BlockNumber, count: BlockCount): Promise<Uint32Array> {
    const result = new Uint32Array(2 * count);
    const base = this.#base;
    let below: Map<number, number[]> | undefined;
    for (let at = 0; at < count; at += 1) {
      const slot = this.#changes.find(block + at);
      if (slot >= 0) {
        result[2 * at] = this.#changes.high(slot);
        result[2 * at + 1] = this.#changes.low(slot);
      } else if (slot === UNCHANGED) {
        below ??= new Map();
        const shard = Math.floor((block + at) / SHARD_BLOCKS);
        const waiting = below.get(shard);
        if (waiting === undefined) below.set(shard, [at]);
        else waiting.push(at);
      }
    }
    // From here on the changes may move on; what was looked up above and `base` belong together.
    for (const [shard, places] of below ?? []) {
      const map = await this.#baseShard(base, shard);
      for (const at of places) {
        const index = block + at - shard * SHARD_BLOCKS;
        result[2 * at] = map[2 * index] ?? 0;
        result[2 * at + 1] = map[2 * index + 1] ?? 0;
      }
    }
    return result;
  }

  /** The 32,768 words of a shard's map, a fresh array. */
  async shardEntries(shard: number): Promise<Uint32Array> {
    const base = this.#base;
    const changes = this.#changes;
    const entries = (await this.#baseShard(base, shard)).slice();
    // The changes may have been thinned for a new checkpoint meanwhile; then they no longer fit this base.
    if (changes !== this.#changes) return this.shardEntries(shard);
    changes.applyToShard(shard, entries);
    return entries;
  }

  /** How many blocks of the shard are mapped, when it is as its object in S3 says; undefined: something has changed in it. */
  async mappedAsWritten(shard: number): Promise<BlockCount | undefined> {
    const { map, layers } = this.#base;
    if (layers.length > 0 || this.#changes.touchesShard(shard)) return undefined;
    const base = map.baseOf(shard);
    if (base === undefined) return undefined;
    for (const run of map.runs) if (run.place.throughN > base.n && (await run.touchesShard(shard))) return undefined;
    // What was committed while the runs were read is newer than the answer.
    return base.mapped;
  }

  /** The first shard ≥ `from` that may hold a mapped block. */
  async nextShard(from: number): Promise<number | undefined> {
    const { map, layers } = this.#base;
    let next = lowest(await map.nextShard(from), nextOf(this.#changes.shards(), from));
    for (const layer of layers) {
      const found = layer.kind === 'changes' ? nextOf(layer.changes.shards(), from) : await layer.run.nextShard(from);
      next = lowest(next, found);
    }
    return next;
  }

  /** What `base` says of a shard; shared, not to be altered. */
  #baseShard(base: Base, shard: number): Promise<Uint32Array> {
    if (base !== this.#base) return loadBaseShard(base, shard);
    const cached = this.#shards.get(shard);
    if (cached !== undefined) return Promise.resolve(cached);
    const underWay = this.#loading.get(shard);
    if (underWay !== undefined) return underWay;
    const loading = this.#loadIntoCache(base, shard);
    this.#loading.set(shard, loading);
    return loading;
  }

  async #loadIntoCache(base: Base, shard: number): Promise<Uint32Array> {
    try {
      const entries = await loadBaseShard(base, shard);
      if (base === this.#base) this.#shards.set(shard, entries, SHARD_BYTES);
      return entries;
    } finally {
      if (base === this.#base) this.#loading.delete(shard);
    }
  }

  /**
   * Brings cached shards up to date instead of loading them anew. That they may get ahead of the new checkpoint does no harm: what
   * is newer than it stays in the changes in memory, which cover them with the same entries or newer ones. What was inline has moved into a
   * segment, which only the checkpoint knows.
   */
  #carryOver(): void {
    for (const [shard, { value }] of [...this.#shards.entries()]) {
      if (!this.#changes.touchesShard(shard)) continue;
      // Readers may hold the array: never alter it in place.
      const moved = value.slice();
      this.#changes.applyToShard(shard, moved);
      if (hasInline(moved)) this.#shards.delete(shard);
      else this.#shards.set(shard, moved, SHARD_BYTES);
    }
  }

  #replaceBase(base: Base): void {
    this.#base = base;
    this.#shards.clear();
    this.#loading.clear();
  }
}

function hasInline(entries: Uint32Array): boolean {
  for (let at = 0; at < entries.length; at += 2)
    if (isInline(entrySegment(entries[at] ?? 0, entries[at + 1] ?? 0))) return true;
  return false;
}

async function loadBaseShard({ map, layers }: Base, shard: number): Promise<Uint32Array> {
  const entries = await map.loadShard(shard);
  for (const layer of layers) {
    if (layer.kind === 'changes') layer.changes.applyToShard(shard, entries);
    else await layer.run.applyToShard(shard, entries);
  }
  return entries;
}

/** The first of the ascending numbers that is ≥ `from`. */
function nextOf(shards: readonly number[], from: number): number | undefined {
  let low = 0;
  let high = shards.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((shards[middle] ?? Infinity) >= from) high = middle;
    else low = middle + 1;
  }
  return shards[low];
}
