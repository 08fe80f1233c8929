import type { BlockCount, BlockNumber } from '../../base/units.ts';

/** Blocks of one page: 4 KiB of bits. */
export const PAGE_BLOCKS: BlockCount = 32_768;
const PAGE_WORDS = PAGE_BLOCKS / 32;

/** Stands for every page without a gap, so that a bitmap with all bits set takes no memory. */
const FULL = new Uint32Array(PAGE_WORDS).fill(0xffff_ffff);

/** A set of blocks, one bit each, in pages that exist only where there is something. */
export class BlockBits {
  readonly #pages = new Map<number, Uint32Array>();
  readonly #counts = new Map<number, number>();
  /** Ascending; undefined when it has to be made anew. */
  #order: number[] | undefined = [];
  #size: BlockCount = 0;

  get size(): BlockCount {
    return this.#size;
  }

  has(block: BlockNumber): boolean {
    const page = this.#pages.get(Math.floor(block / PAGE_BLOCKS));
    if (page === undefined) return false;
    const at = block % PAGE_BLOCKS;
    return ((page[at >>> 5] ?? 0) & (1 << (at & 31))) !== 0;
  }

  add(first: BlockNumber, count: BlockCount): void {
    this.#eachPage(first, count, (number, from, to) => {
      if (from === 0 && to === PAGE_BLOCKS) {
        this.#put(number, FULL, PAGE_BLOCKS);
        return;
      }
      const page = this.#own(number);
      let added = 0;
      for (let at = from; at < to; at++) {
        const bit = 1 << (at & 31);
        const word = page[at >>> 5] ?? 0;
        if ((word & bit) !== 0) continue;
        page[at >>> 5] = word | bit;
        added++;
      }
      this.#put(number, page, (this.#counts.get(number) ?? 0) + added);
    });
  }

  remove(first: BlockNumber, count: BlockCount): void {
    this.#eachPage(first, count, (number, from, to) => {
      if (!this.#pages.has(number)) return;
      let left = this.#counts.get(number) ?? 0;
      if (from > 0 || to < PAGE_BLOCKS) {
        const page = this.#own(number);
        for (let at = from; at < to; at++) {
          const bit = 1 << (at & 31);
          const word = page[at >>> 5] ?? 0;
          if ((word & bit) === 0) continue;
          page[at >>> 5] = word & ~bit;
          left--;
        }
        this.#put(number, page, left);
      } else left = 0;
      if (left > 0) return;
      this.#put(number, FULL, 0);
      this.#pages.delete(number);
      this.#counts.delete(number);
      this.#order = undefined;
    });
  }

  /** Pages in which there is something. */
  pages(): Iterable<number> {
    return this.#pages.keys();
  }

  /** The bits of a page, to be read at once; undefined when none is set. */
  page(number: number): Readonly<Uint32Array> | undefined {
    return this.#pages.get(number);
  }

  /** Sets the bits of `words` too. */
  addPage(number: number, words: Readonly<Uint32Array>): void {
    let added = 0;
    const page = this.#own(number);
    for (let at = 0; at < PAGE_WORDS; at++) {
      const before = page[at] ?? 0;
      const after = before | (words[at] ?? 0);
      if (after === before) continue;
      added += ones(after) - ones(before);
      page[at] = after;
    }
    if (added > 0) this.#put(number, page, (this.#counts.get(number) ?? 0) + added);
  }

  /** The first block of the set from `from` on; undefined when there is none. */
  next(from: BlockNumber): BlockNumber | undefined {
    const first = Math.floor(from / PAGE_BLOCKS);
    this.#order ??= [...this.#pages.keys()].sort((a, b) => a - b);
    for (let index = lowerBound(this.#order, first); index < this.#order.length; index++) {
      const number = this.#order[index] ?? 0;
      const page = this.#pages.get(number) ?? FULL;
      let at = number === first ? from % PAGE_BLOCKS : 0;
      let word = (page[at >>> 5] ?? 0) & (0xffff_ffff << (at & 31));
      for (let index32 = at >>> 5; index32 < PAGE_WORDS; word = page[++index32] ?? 0) {
        if (word === 0) continue;
        at = index32 * 32 + (31 - Math.clz32(word & -word));
        return number * PAGE_BLOCKS + at;
      }
    }
    return undefined;
  }

  /** How many blocks from `block`, which is in the set, follow one another in it; at most `most`. */
  run(block: BlockNumber, most: BlockCount): BlockCount {
    let count = 1;
    while (count < most && this.has(block + count)) count++;
    return count;
  }

  #eachPage(first: BlockNumber, count: BlockCount, visit: (page: number, from: number, to: number) => void): void {
    const end = first + count;
    for (let at = first; at < end;) {
      const page = Math.floor(at / PAGE_BLOCKS);
      const base = page * PAGE_BLOCKS;
      const to = Math.min(end, base + PAGE_BLOCKS);
      visit(page, at - base, to - base);
      at = to;
    }
  }

  /** A page that may be written to. */
  #own(number: number): Uint32Array {
    const page = this.#pages.get(number);
    if (page !== undefined && page !== FULL) return page;
    const own = page === undefined ? new Uint32Array(PAGE_WORDS) : FULL.slice();
    if (page !== undefined) this.#pages.set(number, own);
    return own;
  }

  #put(number: number, page: Uint32Array, count: number): void {
    const before = this.#counts.get(number) ?? 0;
    this.#size += count - before;
    this.#pages.set(number, page);
    this.#counts.set(number, count);
    if (before === 0) this.#order = undefined;
  }
}

/** How many bits are set. */
function ones(word: number): number {
  let count = 0;
  for (let rest = word; rest !== 0; rest &= rest - 1) count++;
  return count;
}

/** Index of the first value that is not below `value`. */
function lowerBound(values: readonly number[], value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] ?? 0) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
