import type { BlockCount, BlockNumber, WriteSeq } from '../base/units.ts';

/**
 * Ranges that were unmapped and whose unmap is in no committed version yet: disjoint, ascending, each with the sequence that unmapped it
 * last. A block in one of them that is neither in flight nor in the index reads zeros.
 */
export class PendingUnmaps {
  #starts: BlockNumber[] = [];
  #ends: BlockNumber[] = [];
  #seqs: WriteSeq[] = [];

  get size(): number {
    return this.#starts.length;
  }

  /** The newest unmap wins where it overlaps older ones. */
  add(block: BlockNumber, count: BlockCount, seq: WriteSeq): void {
    const end = block + count;
    const from = this.#firstEndingAfter(block);
    const starts: number[] = [];
    const ends: number[] = [];
    const seqs: number[] = [];
    const keep = (start: number, stop: number, at: number): void => {
      starts.push(start);
      ends.push(stop);
      seqs.push(this.#seqs[at] ?? 0);
    };
    let to = from;
    const firstStart = this.#starts[from];
    if (firstStart !== undefined && firstStart < block) keep(firstStart, block, from);
    starts.push(block);
    ends.push(end);
    seqs.push(seq);
    for (; to < this.#starts.length && (this.#starts[to] ?? 0) < end; to++) {
      const oldEnd = this.#ends[to] ?? 0;
      if (oldEnd > end) keep(end, oldEnd, to);
    }
    this.#starts.splice(from, to - from, ...starts);
    this.#ends.splice(from, to - from, ...ends);
    this.#seqs.splice(from, to - from, ...seqs);
  }

  covers(block: BlockNumber): boolean {
    if (this.#starts.length === 0) return false;
    const at = this.#firstEndingAfter(block);
    return at < this.#starts.length && (this.#starts[at] ?? 0) <= block;
  }

  /** The end of the range that covers the block, or the start of the next one (Infinity when there is none). */
  boundaryAfter(block: BlockNumber): BlockNumber {
    const at = this.#firstEndingAfter(block);
    const start = this.#starts[at] ?? Infinity;
    return start <= block ? (this.#ends[at] ?? Infinity) : start;
  }

  /** Forgets what is committed. */
  dropThrough(seq: WriteSeq): void {
    if (this.#starts.length === 0) return;
    const kept = [...this.#seqs.keys()].filter((at) => (this.#seqs[at] ?? 0) > seq);
    if (kept.length === this.#seqs.length) return;
    this.#starts = kept.map((at) => this.#starts[at] ?? 0);
    this.#ends = kept.map((at) => this.#ends[at] ?? 0);
    this.#seqs = kept.map((at) => this.#seqs[at] ?? 0);
  }

  #firstEndingAfter(block: BlockNumber): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] ?? 0) > block) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
