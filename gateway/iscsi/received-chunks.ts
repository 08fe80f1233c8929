import type { BudgetShare } from './budget.ts';

/** Beyond this share of the budget everything is copied: memory to spare is spent on leaving data where it came, and no window narrows for it. */
const MAX_SHARE = 0.25;

/**
 * Chunks as the socket gave them, in which the data of writes lies that are in a device. A chunk stays in memory as a
 * whole as long as one of them does, however small, so all of it is accounted for beside the data.
 */
export class ReceivedChunks {
  readonly #budget: BudgetShare;
  readonly #holders = new Map<ArrayBufferLike, number>();

  constructor(budget: BudgetShare) {
    this.#budget = budget;
  }

  /** Whether `data` may stay where it is until `release`; false: there is no room for what it keeps in memory. */
  hold(data: Buffer): boolean {
    const memory = data.buffer;
    if (memory.byteLength === data.length) return true;
    const holders = this.#holders.get(memory) ?? 0;
    if (holders === 0 && !this.#budget.takeSpare(memory.byteLength, MAX_SHARE)) return false;
    this.#holders.set(memory, holders + 1);
    return true;
  }

  /** For data that `hold` has let stay. */
  release(data: Buffer): void {
    const memory = data.buffer;
    const holders = this.#holders.get(memory);
    if (holders === undefined) return;
    if (holders > 1) {
      this.#holders.set(memory, holders - 1);
      return;
    }
    this.#holders.delete(memory);
    this.#budget.release(memory.byteLength);
  }
}

/** A copy in memory of its own: what Node copies small buffers into is shared, and as long-lived as the last of them. */
export function copyOf(data: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(data.length);
  data.copy(copy);
  return copy;
}
