import type { BlockCount } from '../base/units.ts';

/** Blocks read ahead and under way for all volumes of a gateway thread (16 MiB). */
const MAX_UNDER_WAY: BlockCount = 4096;

/** What the volumes of a gateway thread may read ahead together. */
export class ReadAheadBudget {
  #underWay: BlockCount = 0;
  /** Blocks asked for since the start. */
  fetched: BlockCount = 0;

  get underWay(): BlockCount {
    return this.#underWay;
  }

  take(count: BlockCount): boolean {
    if (this.#underWay + count > MAX_UNDER_WAY) return false;
    this.#underWay += count;
    this.fetched += count;
    return true;
  }

  give(count: BlockCount): void {
    this.#underWay -= count;
  }
}
