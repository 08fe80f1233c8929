import { invariant } from '../base/errors.ts';
import type { BlockCount, BlockNumber } from '../base/units.ts';
import { LEAF_BLOCKS, type LeafOwner, type LeafSlab } from './leaf-slab.ts';

/** The entry's content is not in a committed version yet. */
const DIRTY = 1;
/** Read since it was placed (or before, if it was written again since): reclaim moves such blocks on instead of dropping them. */
const VISITED = 2;

/**
 * Where the blocks of one volume lie in the cache log: 4 bytes per block (30 bits of place, two flags; 0 is "not here") in sparse
 * leaves of 512. Dirty entries stay until they are committed, overwritten or unmapped; clean ones may vanish at any allocation.
 */
export class BlockIndex implements LeafOwner {
  readonly #slab: LeafSlab;
  readonly #leaves = new Map<number, number>();
  #lastNo = -1;
  #lastLeaf = -1;
  #entries = 0;
  #dirty = 0;

  constructor(slab: LeafSlab) {
    this.#slab = slab;
  }

  get blocks(): BlockCount {
    return this.#entries;
  }

  get dirtyBlocks(): BlockCount {
    return this.#dirty;
  }

  /** First blocks of the leaves there are now, ascending: what a walk over the index begins with. */
  leafStarts(): Float64Array {
    return Float64Array.from(this.#leaves.keys(), (leafNo) => leafNo * LEAF_BLOCKS).sort();
  }

  /** The block's place, 0 when it is not here. */
  place(block: BlockNumber): number {
    return this.#entry(block) >>> 2;
  }

  has(block: BlockNumber): boolean {
    return this.#entry(block) !== 0;
  }

  isDirty(block: BlockNumber): boolean {
    return (this.#entry(block) & DIRTY) !== 0;
  }

  /** A clean block begins anew as one that nobody has read; one that is written stays what it was. */
  set(block: BlockNumber, place: number, dirty: boolean): void {
    invariant(place > 0 && place < 2 ** 30, 'a place has 30 bits and is not 0');
    const leafNo = Math.floor(block / LEAF_BLOCKS);
    const leaf = this.#leaf(leafNo) ?? this.#newLeaf(leafNo);
    const at = block & (LEAF_BLOCKS - 1);
    const flags = dirty ? DIRTY | (this.#slab.get(leaf, at) & VISITED) : 0;
    this.#replace(leaf, at, ((place << 2) | flags) >>> 0);
  }

  /** Whether the block was read since it was placed (see `set`). */
  isVisited(block: BlockNumber): boolean {
    return (this.#entry(block) & VISITED) !== 0;
  }

  /** Notes that the block was read. */
  visit(block: BlockNumber): void {
    const entry = this.#entry(block);
    if (entry === 0 || (entry & VISITED) !== 0) return;
    const leaf = this.#leaf(Math.floor(block / LEAF_BLOCKS));
    if (leaf !== undefined) this.#slab.set(leaf, block & (LEAF_BLOCKS - 1), (entry | VISITED) >>> 0);
  }

  /** The block is committed, if it still lies at `place`. */
  markClean(block: BlockNumber, place: number): void {
    const entry = this.#entry(block);
    if (entry >>> 2 !== place || (entry & DIRTY) === 0) return;
    const leaf = this.#leaf(Math.floor(block / LEAF_BLOCKS));
    if (leaf !== undefined) this.#replace(leaf, block & (LEAF_BLOCKS - 1), (entry & ~DIRTY) >>> 0);
  }

  clear(block: BlockNumber): void {
    const leafNo = Math.floor(block / LEAF_BLOCKS);
    const leaf = this.#leaf(leafNo);
    if (leaf === undefined) return;
    this.#replace(leaf, block & (LEAF_BLOCKS - 1), 0);
    if (this.#slab.used(leaf) === 0) this.#dropLeaf(leafNo, leaf);
  }

  /** Clears the entry if it still points to `place`; answers whether it did. */
  clearIfAt(block: BlockNumber, place: number): boolean {
    if (this.place(block) !== place) return false;
    this.clear(block);
    return true;
  }

  clearRange(first: BlockNumber, count: BlockCount): void {
    const end = first + count;
    const firstLeaf = Math.floor(first / LEAF_BLOCKS);
    const lastLeaf = Math.floor((end - 1) / LEAF_BLOCKS);
    if (lastLeaf - firstLeaf < this.#leaves.size) {
      for (let leafNo = firstLeaf; leafNo <= lastLeaf; leafNo++) this.#clearInLeaf(leafNo, first, end);
      return;
    }
    for (const leafNo of [...this.#leaves.keys()])
      if (leafNo >= firstLeaf && leafNo <= lastLeaf) this.#clearInLeaf(leafNo, first, end);
  }

  /** Clears every entry that points into [firstPlace, endPlace): the slow way, for a chunk whose table cannot be read. */
  clearPlaces(firstPlace: number, endPlace: number): void {
    for (const [leafNo, leaf] of [...this.#leaves]) {
      for (let at = 0; at < LEAF_BLOCKS; at++) {
        const place = this.#slab.get(leaf, at) >>> 2;
        if (place >= firstPlace && place < endPlace) this.#replace(leaf, at, 0);
      }
      if (this.#slab.used(leaf) === 0) this.#dropLeaf(leafNo, leaf);
    }
  }

  clearAll(): void {
    for (const leaf of this.#leaves.values()) this.#slab.release(leaf);
    this.#leaves.clear();
    this.#entries = 0;
    this.#dirty = 0;
    this.#lastNo = -1;
  }

  leafEvicted(leafNo: number, entries: number): void {
    this.#leaves.delete(leafNo);
    this.#entries -= entries;
    if (this.#lastNo === leafNo) this.#lastNo = -1;
  }

  #entry(block: BlockNumber): number {
    const leaf = this.#leaf(Math.floor(block / LEAF_BLOCKS));
    return leaf === undefined ? 0 : this.#slab.get(leaf, block & (LEAF_BLOCKS - 1));
  }

  #leaf(leafNo: number): number | undefined {
    if (leafNo === this.#lastNo) return this.#lastLeaf;
    const leaf = this.#leaves.get(leafNo);
    if (leaf === undefined) return undefined;
    this.#lastNo = leafNo;
    this.#lastLeaf = leaf;
    return leaf;
  }

  #newLeaf(leafNo: number): number {
    const leaf = this.#slab.allocate(this, leafNo);
    this.#leaves.set(leafNo, leaf);
    this.#lastNo = leafNo;
    this.#lastLeaf = leaf;
    return leaf;
  }

  #dropLeaf(leafNo: number, leaf: number): void {
    this.#slab.release(leaf);
    this.#leaves.delete(leafNo);
    if (this.#lastNo === leafNo) this.#lastNo = -1;
  }

  #clearInLeaf(leafNo: number, first: BlockNumber, end: BlockNumber): void {
    const leaf = this.#leaf(leafNo);
    if (leaf === undefined) return;
    const base = leafNo * LEAF_BLOCKS;
    const from = Math.max(0, first - base);
    const to = Math.min(LEAF_BLOCKS, end - base);
    for (let at = from; at < to; at++) this.#replace(leaf, at, 0);
    if (this.#slab.used(leaf) === 0) this.#dropLeaf(leafNo, leaf);
  }

  #replace(leaf: number, at: number, value: number): void {
    const old = this.#slab.set(leaf, at, value);
    this.#entries += (value === 0 ? 0 : 1) - (old === 0 ? 0 : 1);
    this.#dirty += (value & DIRTY) - (old & DIRTY);
  }
}
