import type { BlockCount, BlockNumber } from '../base/units.ts';

/** A set of blocks as disjoint ascending ranges that do not touch. */
export class BlockSet {
  readonly #starts: BlockNumber[] = [];
  readonly #ends: BlockNumber[] = [];

  /** Ranges. */
  get size(): number {
    return this.#starts.length;
  }

  add(block: BlockNumber, count: BlockCount): void {
    let start = block;
    let end = block + count;
    const from = this.#firstEndingAt(start);
    let to = from;
    for (; to < this.#starts.length && (this.#starts[to] ?? 0) <= end; to++) {
      start = Math.min(start, this.#starts[to] ?? start);
      end = Math.max(end, this.#ends[to] ?? end);
    }
    this.#starts.splice(from, to - from, start);
    this.#ends.splice(from, to - from, end);
  }

  remove(block: BlockNumber, count: BlockCount): void {
    if (this.#starts.length === 0) return;
    const end = block + count;
    const from = this.#firstEndingAt(block + 1);
    const starts: number[] = [];
    const ends: number[] = [];
    let to = from;
    for (; to < this.#starts.length && (this.#starts[to] ?? 0) < end; to++) {
      const oldStart = this.#starts[to] ?? 0;
      const oldEnd = this.#ends[to] ?? 0;
      if (oldStart < block) {
        starts.push(oldStart);
        ends.push(block);
      }
      if (oldEnd > end) {
        starts.push(end);
        ends.push(oldEnd);
      }
    }
    if (to === from) return;
    this.#starts.splice(from, to - from, ...starts);
    this.#ends.splice(from, to - from, ...ends);
  }

  has(block: BlockNumber): boolean {
    const at = this.#firstEndingAt(block + 1);
    return at < this.#starts.length && (this.#starts[at] ?? 0) <= block;
  }

  /** first, count, first, count, … */
  pairs(): Float64Array {
    const pairs = new Float64Array(this.#starts.length * 2);
    this.#starts.forEach((start, at) => {
      pairs[2 * at] = start;
      pairs[2 * at + 1] = (this.#ends[at] ?? 0) - start;
    });
    return pairs;
  }

  /** Index of the first range whose end is at or beyond `block`. */
  #firstEndingAt(block: BlockNumber): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] ?? 0) >= block) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
