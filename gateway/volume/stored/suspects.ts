import type { BlockNumber } from '../../base/units.ts';
import { BlockSet } from '../block-set.ts';
import { BlockBits } from './block-bits.ts';

/**
 * Blocks of the image of which a read proves nothing: they were written, by this process or the last one, and no sync has succeeded since. After a
 * failed sync the page cache has what the disk may have never taken, and calls it clean.
 */
export class Suspects {
  readonly #written = new BlockBits();
  readonly #zeroed = new BlockSet();

  get isEmpty(): boolean {
    return this.#written.size === 0 && this.#zeroed.size === 0;
  }

  has(block: BlockNumber): boolean {
    return this.#written.has(block) || this.#zeroed.has(block);
  }

  add(block: BlockNumber): void {
    this.#written.add(block, 1);
  }

  addAll(writes: BlockBits, unmaps: BlockSet): void {
    for (let at = writes.next(0); at !== undefined; at = writes.next(at + 1)) this.#written.add(at, 1);
    const pairs = unmaps.pairs();
    for (let at = 0; at < pairs.length; at += 2) this.#zeroed.add(pairs[at] ?? 0, pairs[at + 1] ?? 0);
  }
}
