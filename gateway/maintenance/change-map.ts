import { invariant } from '../base/errors.ts';
import type { BlockCount, BlockNumber, ByteCount, VersionNumber } from '../base/units.ts';
import { SHARD_BLOCKS } from '../format/run.ts';
import { IntervalList } from './interval-list.ts';

/** What `ChangeMap.find` answers when the map says nothing about a block: look below. */
export const UNCHANGED = -1;
/** What `ChangeMap.find` answers for a block inside an unmapped range: it reads zeros. */
export const UNMAPPED = -2;

/** An unmap of at most this many blocks is kept block by block, a longer one as a range. */
export const SHORT_UNMAP_BLOCKS = 64;

const FIRST_CAPACITY = 1024;
const BYTES_PER_SLOT = 24;
const BYTES_PER_RANGE = 64;
const EMPTY = -1;

/** One block's change: `high` and `low` are a packed map entry; both 0 = unmapped. */
export type ChangeVisitor = (block: BlockNumber, high: number, low: number, n: VersionNumber) => void;

/**
 * The map changes of a stretch of the log: for every block the newest entry and the version it came with, and ranges that
 * were unmapped. Open addressing over typed arrays, no object per block. Changes must be made in the order of the log.
 */
export class ChangeMap {
  #capacity = FIRST_CAPACITY;
  #keys = new Float64Array(FIRST_CAPACITY).fill(EMPTY);
  #entries = new Uint32Array(2 * FIRST_CAPACITY);
  #versions = new Float64Array(FIRST_CAPACITY);
  #size = 0;
  #newest: VersionNumber = 0;
  readonly #ranges = new IntervalList();
  readonly #shards = new Set<number>();
  #sortedShards: readonly number[] | undefined;

  /** Blocks with an entry of their own. */
  get size(): number {
    return this.#size;
  }

  get rangeCount(): number {
    return this.#ranges.length;
  }

  get bytes(): ByteCount {
    return this.#capacity * BYTES_PER_SLOT + this.#ranges.length * BYTES_PER_RANGE;
  }

  get isEmpty(): boolean {
    return this.#size === 0 && this.#ranges.length === 0;
  }

  /** Maps `block` to the packed entry (0, 0 unmaps it) as of version n. */
  set(block: BlockNumber, high: number, low: number, n: VersionNumber): void {
    this.#advance(n);
    if ((this.#size + 1) * 10 > this.#capacity * 7) this.#grow();
    const slot = this.#slotOf(block);
    if (this.#keys[slot] === EMPTY) {
      this.#keys[slot] = block;
      this.#size += 1;
      const shard = Math.floor(block / SHARD_BLOCKS);
      if (!this.#shards.has(shard)) {
        this.#shards.add(shard);
        this.#sortedShards = undefined;
      }
    }
    this.#entries[2 * slot] = high;
    this.#entries[2 * slot + 1] = low;
    this.#versions[slot] = n;
  }

  /** The range reads zeros from version n on. */
  unmap(block: BlockNumber, count: BlockCount, n: VersionNumber): void {
    this.#advance(n);
    if (count > SHORT_UNMAP_BLOCKS) {
      this.#ranges.add(block, block + count, n);
      return;
    }
    for (let at = block; at < block + count; at += 1) this.set(at, 0, 0, n);
  }

  /** UNCHANGED, UNMAPPED, or a slot to be given to `high` and `low` before the next change. */
  find(block: BlockNumber): number {
    const slot = this.#slotOf(block);
    const present = this.#keys[slot] === block;
    if (this.#ranges.length > 0) {
      const rangeVersion = this.#ranges.valueAt(block);
      if (rangeVersion !== undefined && (!present || rangeVersion > (this.#versions[slot] ?? 0))) return UNMAPPED;
    }
    return present ? slot : UNCHANGED;
  }

  high(slot: number): number {
    return this.#entries[2 * slot] ?? 0;
  }

  low(slot: number): number {
    return this.#entries[2 * slot + 1] ?? 0;
  }

  /** Shards in which a block has an entry of its own, ascending (ranges not counted). */
  shards(): readonly number[] {
    this.#sortedShards ??= [...this.#shards].sort((a, b) => a - b);
    return this.#sortedShards;
  }

  /** The ranges as (first, end exclusive, n), ascending and disjoint. Newer entries inside them are in `forEach`. */
  ranges(): readonly { readonly start: BlockNumber; readonly end: BlockNumber; readonly n: VersionNumber }[] {
    return this.#ranges.toArray();
  }

  /** Every block whose own entry counts (not those hidden by a newer range), ascending. */
  forEachSorted(visit: ChangeVisitor): void {
    const blocks = new Float64Array(this.#size);
    let count = 0;
    for (const key of this.#keys) {
      if (key !== EMPTY) blocks[count++] = key;
    }
    blocks.sort();
    for (const block of blocks) {
      const slot = this.find(block);
      if (slot >= 0) visit(block, this.high(slot), this.low(slot), this.#versions[slot] ?? 0);
    }
  }

  /** Writes this map's changes over `entries`, the 16,384 packed entries of a shard. */
  applyToShard(shard: number, entries: Uint32Array): void {
    const first = shard * SHARD_BLOCKS;
    this.#ranges.forEachIn(first, first + SHARD_BLOCKS, (start, end) => {
      entries.fill(0, 2 * (start - first), 2 * (end - first));
    });
    if (!this.#shards.has(shard)) return;
    // Whichever takes fewer steps: over what the map holds, or over the shard's blocks.
    if (this.#capacity < SHARD_BLOCKS) {
      for (const block of this.#keys)
        if (block >= first && block < first + SHARD_BLOCKS) this.#applyBlock(block, first, entries);
    } else {
      for (let block = first; block < first + SHARD_BLOCKS; block += 1) this.#applyBlock(block, first, entries);
    }
  }

  /** True when something in the shard is changed here. */
  touchesShard(shard: number): boolean {
    if (this.#shards.has(shard)) return true;
    return this.#ranges.touches(shard * SHARD_BLOCKS, (shard + 1) * SHARD_BLOCKS);
  }

  /** The changes newer than version n, as a new map; this one stays as it is for readers that hold it. */
  after(n: VersionNumber): ChangeMap {
    const rest = new ChangeMap();
    for (const range of this.#ranges.toArray()) {
      if (range.n > n) rest.#ranges.add(range.start, range.end, range.n);
    }
    for (let slot = 0; slot < this.#capacity; slot += 1) {
      const version = this.#versions[slot] ?? 0;
      const key = this.#keys[slot] ?? EMPTY;
      // The order among what is kept does not matter: each block appears once.
      if (key === EMPTY || version <= n) continue;
      rest.set(key, this.high(slot), this.low(slot), rest.#newest);
      rest.#versions[rest.#slotOf(key)] = version;
    }
    rest.#newest = this.#newest;
    return rest;
  }

  #applyBlock(block: BlockNumber, first: BlockNumber, entries: Uint32Array): void {
    const slot = this.find(block);
    if (slot < 0) return;
    entries[2 * (block - first)] = this.high(slot);
    entries[2 * (block - first) + 1] = this.low(slot);
  }

  #advance(n: VersionNumber): void {
    invariant(n >= this.#newest, `changes of version ${n} after those of ${this.#newest}`);
    this.#newest = n;
  }

  #slotOf(block: BlockNumber): number {
    const mask = this.#capacity - 1;
    let slot = hash(block) & mask;
    while (this.#keys[slot] !== EMPTY && this.#keys[slot] !== block) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const keys = this.#keys;
    const entries = this.#entries;
    const versions = this.#versions;
    this.#capacity *= 2;
    this.#keys = new Float64Array(this.#capacity).fill(EMPTY);
    this.#entries = new Uint32Array(2 * this.#capacity);
    this.#versions = new Float64Array(this.#capacity);
    for (let old = 0; old < keys.length; old += 1) {
      const key = keys[old] ?? EMPTY;
      if (key === EMPTY) continue;
      const slot = this.#slotOf(key);
      this.#keys[slot] = key;
      this.#entries[2 * slot] = entries[2 * old] ?? 0;
      this.#entries[2 * slot + 1] = entries[2 * old + 1] ?? 0;
      this.#versions[slot] = versions[old] ?? 0;
    }
  }
}

/** Block numbers have up to 34 bits; neighbours must not pile up. */
function hash(block: BlockNumber): number {
  let mixed = (block >>> 0) ^ Math.imul(Math.floor(block / 2 ** 32) + 1, 0x9e3779b1);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
