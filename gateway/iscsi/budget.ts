import type { ByteCount } from '../base/units.ts';

/** Somebody who could not take what it wanted, and is called when there is room again. */
export interface BudgetWaiter {
  /** Takes what it can; true when it wants no more for now. */
  retryBudget(): boolean;
}

/**
 * Bytes shared by all sessions (write data in flight, read data not yet sent). Waiters are served in turn. Bytes that
 * are parked belong to somebody who waits for more; when all are, nobody would ever give any back, so that the next
 * who asks is let through: at most one request beyond the limit.
 */
export class ByteBudget {
  readonly #limit: ByteCount;
  #used = 0;
  #parked = 0;
  readonly #waiters = new Set<BudgetWaiter>();
  #serving = false;

  constructor(limit: ByteCount) {
    this.#limit = limit;
  }

  get usedBytes(): ByteCount {
    return this.#used;
  }

  /** How full, 0 to 1 and above. */
  get fraction(): number {
    return this.#used / this.#limit;
  }

  take(bytes: ByteCount): boolean {
    if (this.#used > this.#parked && this.#used + bytes > this.#limit) return false;
    this.#used += bytes;
    return true;
  }

  /** For what can be done without: only while no more than `share` of the limit is in use with it. */
  takeSpare(bytes: ByteCount, share: number): boolean {
    if (this.#used + bytes > this.#limit * share) return false;
    this.#used += bytes;
    return true;
  }

  release(bytes: ByteCount): void {
    this.#used -= bytes;
    this.#serve();
  }

  /** Bytes taken before cannot come back until their holder has got more; negative: they can again. */
  park(bytes: ByteCount): void {
    this.#parked += bytes;
    // It may have been the last that could come back: then somebody who waits already has to be let through.
    if (bytes > 0 && this.#used <= this.#parked) this.#serve();
  }

  wait(waiter: BudgetWaiter): void {
    this.#waiters.add(waiter);
  }

  forget(waiter: BudgetWaiter): void {
    this.#waiters.delete(waiter);
  }

  /** Each waiter once, in turn, until one is left wanting. */
  #serve(): void {
    if (this.#serving || this.#waiters.size === 0) return;
    this.#serving = true;
    for (const waiter of [...this.#waiters]) {
      this.#waiters.delete(waiter);
      if (!waiter.retryBudget()) {
        this.#waiters.add(waiter);
        break;
      }
    }
    this.#serving = false;
  }
}
