import type { Clock } from '../base/clock.ts';
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

/** Key of a slot that holds no block: free, in limbo, or being read into. */
const NO_KEY = 0xffff_ffff;

/** How long a view that was given out keeps its slot unchanged, at least; twice as long at most, and never less than the turn it was given out in. */
const LENT_MS = 1;

/**
 * Copies of recently used blocks. No object per block: slabs of 4 KiB slots (made when first needed), an open-addressing hash over
 * typed arrays, CLOCK for eviction. What it holds is the block's newest logged content; blocks in flight are the volume's to know.
 *
 * Reads answer with views, and writes are logged in the same turn, before the views have been sent: so a slot that was lent is not written to before
 * a later turn. A block that changes moves to another slot, and the old one waits in limbo.
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
  readonly #clock: Pick<Clock, 'startTimer'>;
  /** When each slot was lent last, by the count of `#term`. */
  readonly #lentIn: Uint32Array;
  #term = 2;
  #isLending = false;
  #isCounting = false;
  readonly #limbo: number[] = [];
  /** Slots that are being read into. */
  #borrowed = 0;
  hits = 0;
  /** Blocks read ahead: how many met a reader, and how many went without. */
  aheadUsed = 0;
  aheadWasted = 0;

  /** `bytes` rounded down to whole blocks; 0 switches the tier off. `noteUsed` hears of blocks whose use the tier forgets. */
  constructor(
    bytes: ByteCount,
    clock: Pick<Clock, 'startTimer'>,
    noteUsed: (volume: number, block: BlockNumber) => void = () => undefined,
  ) {
    this.#clock = clock;
    this.#noteUsed = noteUsed;
    this.#slots = Math.floor(bytes / BLOCK_SIZE);
    let table = 16;
    while (table < this.#slots * 2) table *= 2;
    this.#table = new Int32Array(table);
    this.#mask = table - 1;
    this.#keyLow = new Uint32Array(this.#slots);
    this.#keyHigh = new Uint32Array(this.#slots).fill(NO_KEY);
    this.#visited = new Uint8Array(this.#slots);
    this.#lentIn = new Uint32Array(this.#slots);
    this.#free = new Int32Array(this.#slots);
  }

  /** Blocks it has room for. */
  get capacity(): BlockCount {
    return this.#slots;
  }

  get blocks(): BlockCount {
    return this.#used - this.#freeCount - this.#limbo.length - this.#borrowed;
  }

  /** A view of the block's 4096 bytes, unchanged until the next turn at least; undefined when it is not here. */
  get(volume: number, block: BlockNumber): Buffer | undefined {
    const slot = this.slotOf(volume, block);
    if (slot < 0) return undefined;
    this.#use(slot);
    this.#lend(slot);
    return this.viewOf(slot);
  }

  /** Where the block is, for `copyOut` before anything changes here; -1 when it is not. Not counted as a use. */
  slotOf(volume: number, block: BlockNumber): number {
    const at = this.#find(block % TWO_32, volume * 256 + Math.floor(block / TWO_32));
    return at < 0 ? -1 : (this.#table[at] ?? 0) - 1;
  }

  /** How many of these slots (one for each block of a read), from `at` on, lie one behind the other: they can be copied together. */
  runOf(slots: Int32Array, at: number, end: number): number {
    const first = slots[at] ?? 0;
    const most = Math.min(end - at, SLAB_BLOCKS - (first % SLAB_BLOCKS));
    let run = 1;
    while (run < most && slots[at + run] === first + run) run++;
    return run;
  }

  /** Bytes [from, to) of the `count` slots from `slot` on, which lie in one run, to `at` of `into`; how many those are. Their blocks count as read. */
  copyOut(slot: number, count: BlockCount, from: ByteCount, to: ByteCount, into: Buffer, at: number): ByteCount {
    for (let each = slot; each < slot + count; each++) this.#use(each);
    const start = (slot % SLAB_BLOCKS) * BLOCK_SIZE;
    return this.#slabOf(slot).copy(into, at, start + from, start + to);
  }

  /** Somebody reads it. */
  #use(slot: number): void {
    if ((this.#visited[slot] ?? 0) >= CAME_ALONG) {
      if (this.#visited[slot] === READ_AHEAD) this.aheadUsed++;
      this.#visited[slot] = UNUSED;
    } else this.#visited[slot] = USED;
    this.hits++;
  }

  /** As `get`, for who only copies it elsewhere in this turn: it does not count as used. */
  peek(volume: number, block: BlockNumber): Buffer | undefined {
    const at = this.#find(block % TWO_32, volume * 256 + Math.floor(block / TWO_32));
    return at < 0 ? undefined : this.viewOf((this.#table[at] ?? 0) - 1);
  }

  /** Whether the block is here and was read since it came. */
  isVisited(volume: number, block: BlockNumber): boolean {
    const slot = this.slotOf(volume, block);
    return slot >= 0 && this.#visited[slot] === USED;
  }

  has(volume: number, block: BlockNumber): boolean {
    return this.slotOf(volume, block) >= 0;
  }

  /**
   * Copies the block in, replacing what was there: its 4096 bytes from `from` on of the pieces, one behind the other. `why`: CAME_ALONG and READ_AHEAD
   * when nobody has asked for it yet.
   */
  put(volume: number, block: BlockNumber, pieces: readonly Buffer[], from: ByteCount, why = UNUSED): void {
    const slot = this.#slotFor(volume, block, why);
    if (slot < 0) return;
    const slab = this.#slabOf(slot);
    let to = (slot % SLAB_BLOCKS) * BLOCK_SIZE;
    const end = to + BLOCK_SIZE;
    let skip = from;
    for (const piece of pieces) {
      if (skip >= piece.length) {
        skip -= piece.length;
        continue;
      }
      to += piece.copy(slab, to, skip, Math.min(piece.length, skip + end - to));
      if (to === end) return;
      skip = 0;
    }
    invariant(false, 'the pieces have the whole block');
  }

  /** As `put`, `count` blocks that lie in `data` from `from` on: those that get neighbouring slots with one copy. */
  putRun(volume: number, block: BlockNumber, count: BlockCount, data: Buffer, from: ByteCount): void {
    let first = -1;
    let run = 0;
    for (let done = 0; done < count; done++) {
      const slot = this.#slotFor(volume, block + done, UNUSED);
      if (run > 0 && slot === first + run && slot % SLAB_BLOCKS !== 0) {
        run++;
        continue;
      }
      // Before the next run: its slots may be some of these again, which a small tier has just taken away from them.
      this.#copyIn(first, run, data, from + (done - run) * BLOCK_SIZE);
      first = slot;
      run = slot < 0 ? 0 : 1;
    }
    this.#copyIn(first, run, data, from + (count - run) * BLOCK_SIZE);
  }

  #copyIn(slot: number, count: BlockCount, data: Buffer, from: ByteCount): void {
    if (count === 0) return;
    data.copy(this.#slabOf(slot), (slot % SLAB_BLOCKS) * BLOCK_SIZE, from, from + count * BLOCK_SIZE);
  }

  /** The block's own slot if it may be written to, or another that is the block's from now on; -1 when there is none. */
  #slotFor(volume: number, block: BlockNumber, why: number): number {
    const low = block % TWO_32;
    const high = volume * 256 + Math.floor(block / TWO_32);
    const found = this.#find(low, high);
    if (found >= 0) {
      const slot = (this.#table[found] ?? 0) - 1;
      if (why === UNUSED && (this.#visited[slot] ?? 0) >= CAME_ALONG) this.#visited[slot] = UNUSED;
      if (!this.#isLent(slot)) return slot;
      why = this.#visited[slot] ?? UNUSED;
      this.#removeAt(found);
    }
    const slot = this.#takeSlot();
    if (slot >= 0) this.#give(slot, low, high, why);
    return slot;
  }

  #give(slot: number, low: number, high: number, why: number): void {
    this.#keyLow[slot] = low;
    this.#keyHigh[slot] = high;
    this.#visited[slot] = why;
    this.#insert(slot);
  }

  /** A slot to read a block into (`viewOf`), which is nobody's until it is entered or given back; -1 when there is none. */
  borrow(): number {
    const slot = this.#takeSlot();
    if (slot >= 0) this.#borrowed++;
    return slot;
  }

  /** The borrowed slot holds this block now, and its view has been given out. */
  enter(slot: number, volume: number, block: BlockNumber): void {
    const low = block % TWO_32;
    const high = volume * 256 + Math.floor(block / TWO_32);
    const found = this.#find(low, high);
    if (found >= 0) this.#removeAt(found);
    this.#borrowed--;
    this.#give(slot, low, high, UNUSED);
    this.#lend(slot);
  }

  giveBack(slot: number): void {
    this.#borrowed--;
    this.#release(slot);
  }

  #lend(slot: number): void {
    this.#lentIn[slot] = this.#term;
    this.#isLending = true;
    if (!this.#isCounting) this.#count();
  }

  /** In the present term or the one before: a term may end in the very turn in which something was lent. */
  #isLent(slot: number): boolean {
    return (this.#term - (this.#lentIn[slot] ?? 0)) >>> 0 <= 1;
  }

  /** Counts terms as long as something is lent. */
  #count(): void {
    this.#isCounting = true;
    this.#isLending = false;
    this.#clock.startTimer(LENT_MS, () => {
      this.#term = (this.#term + 1) >>> 0;
      const waiting = this.#limbo.splice(0);
      for (const slot of waiting) this.#release(slot);
      if (this.#isLending || this.#limbo.length > 0) this.#count();
      else this.#isCounting = false;
    });
  }

  #release(slot: number): void {
    this.#keyHigh[slot] = NO_KEY;
    if (this.#isLent(slot)) this.#limbo.push(slot);
    else this.#free[this.#freeCount++] = slot;
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

  /** The 4096 bytes of a slot. */
  viewOf(slot: number): Buffer {
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

  /** A slot that holds nothing; -1 when all are lent. */
  #takeSlot(): number {
    if (this.#freeCount > 0) return this.#free[--this.#freeCount] ?? 0;
    if (this.#used < this.#slots) return this.#used++;
    // The first round takes their second chance from all.
    for (let steps = 0; steps < 2 * this.#slots; steps++) {
      const slot = this.#hand;
      this.#hand = slot + 1 === this.#slots ? 0 : slot + 1;
      if (this.#keyHigh[slot] === NO_KEY || this.#isLent(slot)) continue;
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
    return -1;
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
    const freed = (this.#table[at] ?? 0) - 1;
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
    this.#release(freed);
  }
}
