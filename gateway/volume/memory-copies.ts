import { BLOCK_SIZE, type BlockCount, type BlockNumber, type ByteCount } from '../base/units.ts';
import type { BlockState } from './block-state.ts';

/** Longer reads are answered by pieces. */
const MAX_BLOCKS: BlockCount = 128;

/** In place of a slot of the RAM tier: the block is in flight. */
const STAGED = -2;

/** Reads whose blocks are all in memory, copied to where they are sent from: neighbours that lie one behind the other with one copy. */
export class MemoryCopies {
  readonly #state: BlockState;
  /** The slot of the RAM tier that each block of the present read is in. */
  readonly #slots = new Int32Array(MAX_BLOCKS);

  constructor(state: BlockState) {
    this.#state = state;
  }

  /** Bytes [from, to) of the volume to `at` of `into`; of how many blocks. 0: they are not all in memory, and nothing was done. */
  copy(from: ByteCount, to: ByteCount, into: Buffer, at: number): BlockCount {
    const first = Math.floor(from / BLOCK_SIZE);
    const count = Math.ceil(to / BLOCK_SIZE) - first;
    if (!this.#findAll(first, count)) return 0; // before anything counts as a hit
    const { ram } = this.#state.cache;
    let done = at;
    for (let index = 0; index < count;) {
      const start = (first + index) * BLOCK_SIZE;
      const slot = this.#slots[index] ?? STAGED;
      const run = slot === STAGED ? 1 : ram.runOf(this.#slots, index, count);
      const head = Math.max(from - start, 0);
      const tail = Math.min(to - start, run * BLOCK_SIZE);
      if (slot === STAGED) done += this.#copyStaged(first + index, into, done, head, tail);
      else done += ram.copyOut(slot, run, head, tail, into, done);
      index += run;
    }
    return count;
  }

  #findAll(first: BlockNumber, count: BlockCount): boolean {
    const { cache, log } = this.#state;
    if (count > MAX_BLOCKS) return false;
    for (let index = 0; index < count; index++) {
      const op = this.#state.stagedFor(first + index);
      const slot = op === undefined ? cache.ram.slotOf(log.number, first + index) : op.failed ? -1 : STAGED;
      if (slot === -1) return false;
      this.#slots[index] = slot;
    }
    return true;
  }

  #copyStaged(block: BlockNumber, into: Buffer, at: number, head: ByteCount, tail: ByteCount): ByteCount {
    const op = this.#state.stagedFor(block);
    return op === undefined ? 0 : op.dataAt(block - op.block).copy(into, at, head, tail);
  }
}
