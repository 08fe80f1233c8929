import { invariant } from '../base/errors.ts';
import { BLOCK_SIZE, MIB, type BlockCount, type BlockNumber, type ByteCount } from '../base/units.ts';

const SLAB_BYTES = 64 * MIB;
const SLAB_BLOCKS = SLAB_BYTES / BLOCK_SIZE;
const TWO_32 = 0x1_0000_0000;

/** What became of a block since it was put: nobody read it, or somebody did. */
const UNUSED = 0;
const USED = 1;
/** Came along with what somebody wanted, or was read ahead: its first reader is what brings others in, and does not make it a block that is used again. */
export const CAME_ALONG = 2;
export const READ_AHEAD = 3;

/**
 * Copies of recently used blocks. No object per block: slabs of 4 KiB slots (made when first needed), an open-addressing hash over
 * typed arrays, CLOCK for eviction. What it holds is the block's newest logged content; blocks in flight are the volume's to know.
 */
export class RamTier {
  readonly #slots: number;
  readonly #slabs: Buffer[] = [];
  /** Key of each slot: low 32 bits of the block, and volume number × 256 + high bits. */
  readonly #keyLow: Uint32Array;
  readonly #keyHigh: Uint32Array;
  readonly #visited: Uint8Array;
  /** Slot + 1 by hash, linear probing; 0 is empty. */
  readonly #table: Int32Array;
  readonly #mask: number;
  readonly #free: Int32Array;
  #freeCount = 0;
  #used = 0;
  #hand = 0;
  readonly #noteUsed: (volume: number, block: BlockNumber) => void;
  hits = 0;
  /** Blocks read ahead: how many met a reader, and how many went without. */
  aheadUsed = 0;
  aheadWasted = 0;

  /** `bytes` rounded down to whole blocks; 0 switches the tier off. `noteUsed` hears of blocks whose use the tier forgets. */
  constructor(bytes: ByteCount, noteUsed: (volume: number, block: BlockNumber) => void = () => undefined) {
    this.#noteUsed = noteUsed;
    this.#slots = Math.floor(bytes / BLOCK_SIZE);
    let table = 16;
    while (table < this.#slots * 2) table *= 2;
    this.#table = new Int32Array(table);
    this.#mask = table - 1;
    this.#keyLow = new Uint32Array(this.#slots);
    this.#keyHigh = new Uint32Array(this.#slots);
    this.#visited = new Uint8Array(this.#slots);
    this.#free = new Int32Array(this.#slots);
  }

  get blocks(): BlockCount {
    return this.#used - this.#freeCount;
  }

  /** A view of the block's 4096 bytes, good until the tier is next written to; undefined when it is not here. */
  get(volume: number, block: BlockNumber): Buffer | undefined {
    const at = this.#find(block % TWO_32, volume * 256 + Math.floor(block / TWO_32));
    if (at < 0) return undefined;
    const slot = (this.#table[at] ?? 0) - 1;
    if ((this.#visited[slot] ?? 0) >= CAME_ALONG) {
      if (this.#visited[slot] === READ_AHEAD) this.aheadUsed++;
      this.#visited[slot] = UNUSED;
    } else this.#visited[slot] = USED;
    this.hits++;
    return this.#view(slot);
  }

  /** Whether the block is here and was read since it came. */
  isVisited(volume: number, block: BlockNumber): boolean {
    const at = this.#find(block % TWO_32, volume * 256 + Math.floor(block / TWO_32));
    return at >= 0 && this.#visited[(this.#table[at] ?? 0) - 1] === USED;
  }

  has(volume: number, block: BlockNumber): boolean {
    return this.#find(block % TWO_32, volume * 256 + Math.floor(block / TWO_32)) >= 0;
  }

  /** Copies the block in, replacing what was there. `why`: CAME_ALONG and READ_AHEAD when nobody has asked for it yet. */
  put(volume: number, block: BlockNumber, data: Buffer, why = UNUSED): void {
    if (this.#slots === 0) return;
    const low = block % TWO_32;
    const high = volume * 256 + Math.floor(block / TWO_32);
    const found = this.#find(low, high);
    let slot: number;
    if (found >= 0) {
      slot = (this.#table[found] ?? 0) - 1;
      if (why === UNUSED && (this.#visited[slot] ?? 0) >= CAME_ALONG) this.#visited[slot] = UNUSED;
    } else {
      slot = this.#takeSlot();
      this.#keyLow[slot] = low;
      this.#keyHigh[slot] = high;
      this.#visited[slot] = why;
      this.#insert(slot);
    }
    const slab = this.#slabOf(slot);
    data.copy(slab, (slot % SLAB_BLOCKS) * BLOCK_SIZE, 0, BLOCK_SIZE);
  }

  remove(volume: number, block: BlockNumber): void {
    const at = this.#find(block % TWO_32, volume * 256 + Math.floor(block / TWO_32));
    if (at >= 0) this.#removeAt(at);
  }

  /** Cheap for short ranges; walks the whole tier for long ones. */
  removeRange(volume: number, first: BlockNumber, count: BlockCount): void {
    if (count <= this.#slots) {
      for (let block = first; block < first + count; block++) this.remove(volume, block);
      return;
    }
    this.#removeWhere((owner, block) => owner === volume && block >= first && block < first + count);
  }

  removeVolume(volume: number): void {
    this.#removeWhere((owner) => owner === volume);
  }

  #removeWhere(gone: (volume: number, block: BlockNumber) => boolean): void {
    const doomed: [number, BlockNumber][] = [];
    for (const entry of this.#table) {
      if (entry === 0) continue;
      const high = this.#keyHigh[entry - 1] ?? 0;
      const volume = Math.floor(high / 256);
      const block = (high % 256) * TWO_32 + (this.#keyLow[entry - 1] ?? 0);
      if (gone(volume, block)) doomed.push([volume, block]);
    }
    for (const [volume, block] of doomed) this.remove(volume, block);
  }

  #view(slot: number): Buffer {
    const from = (slot % SLAB_BLOCKS) * BLOCK_SIZE;
    return this.#slabOf(slot).subarray(from, from + BLOCK_SIZE);
  }

  #slabOf(slot: number): Buffer {
    const number = Math.floor(slot / SLAB_BLOCKS);
    let slab = this.#slabs[number];
    if (slab === undefined) {
      slab = Buffer.alloc(Math.min(SLAB_BLOCKS, this.#slots - number * SLAB_BLOCKS) * BLOCK_SIZE);
      this.#slabs[number] = slab;
    }
    return slab;
  }

  #takeSlot(): number {
    if (this.#freeCount > 0) return this.#free[--this.#freeCount] ?? 0;
    if (this.#used < this.#slots) return this.#used++;
    for (;;) {
      const slot = this.#hand;
      this.#hand = slot + 1 === this.#slots ? 0 : slot + 1;
      if (this.#visited[slot] === USED) {
        this.#visited[slot] = UNUSED;
        const high = this.#keyHigh[slot] ?? 0;
        this.#noteUsed(Math.floor(high / 256), (high % 256) * TWO_32 + (this.#keyLow[slot] ?? 0));
        continue;
      }
      if (this.#visited[slot] === READ_AHEAD) this.aheadWasted++;
      const at = this.#find(this.#keyLow[slot] ?? 0, this.#keyHigh[slot] ?? 0);
      invariant(at >= 0, 'a used slot of the RAM tier is in its table');
      this.#removeAt(at);
      return this.#free[--this.#freeCount] ?? 0;
    }
  }

  #home(low: number, high: number): number {
    let hash = Math.imul(low, 0x9e3779b1) ^ Math.imul(high, 0x85ebca6b);
    hash ^= hash >>> 15;
    return hash & this.#mask;
  }

  /** Index in the table, or -1. */
  #find(low: number, high: number): number {
    let at = this.#home(low, high);
    for (;;) {
      const entry = this.#table[at] ?? 0;
      if (entry === 0) return -1;
      if (this.#keyLow[entry - 1] === low && this.#keyHigh[entry - 1] === high) return at;
      at = (at + 1) & this.#mask;
    }
  }

  #insert(slot: number): void {
    let at = this.#home(this.#keyLow[slot] ?? 0, this.#keyHigh[slot] ?? 0);
    while (this.#table[at] !== 0) at = (at + 1) & this.#mask;
    this.#table[at] = slot + 1;
  }

  /** Frees the slot and closes the gap, moving later entries of the probe chain back (Knuth 6.4 R). */
  #removeAt(at: number): void {
    this.#free[this.#freeCount++] = (this.#table[at] ?? 0) - 1;
    let gap = at;
    let next = at;
    for (;;) {
      next = (next + 1) & this.#mask;
      const entry = this.#table[next] ?? 0;
      if (entry === 0) break;
      const home = this.#home(this.#keyLow[entry - 1] ?? 0, this.#keyHigh[entry - 1] ?? 0);
      if (((next - home) & this.#mask) < ((next - gap) & this.#mask)) continue;
      this.#table[gap] = entry;
      gap = next;
    }
    this.#table[gap] = 0;
  }
}
