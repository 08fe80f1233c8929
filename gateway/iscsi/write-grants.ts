import type { ByteCount } from '../base/units.ts';
import type { BudgetShare, BudgetWaiter } from './budget.ts';
import type { Outbox } from './outbox.ts';
import type { Task } from './task.ts';

export interface WriteGrantsDeps {
  readonly budget: BudgetShare;
  /** Most write data the session may have announced, been asked for, or in the device. */
  readonly sessionBytes: ByteCount;
  readonly maxBurstBytes: ByteCount;
  readonly outbox: Outbox;
  /** Something was put into the outbox outside the turn of a received chunk. */
  sendSoon(): void;
}

/** Tags wrap long before the reserved one; so many are never outstanding at once. */
const LAST_TAG = 0xffff_fff0;

/**
 * Memory for the write data of one session: initiators are asked for data (R2T) only when there is room for it. A write
 * gets room for all that is missing at once, and is never held up half-way; where only unsolicited data is held, by
 * writes that all wait for the rest, the first of them goes on whatever the limits say.
 */
export class WriteGrants implements BudgetWaiter {
  readonly #deps: WriteGrantsDeps;
  /** In the order of their arrival. */
  readonly #waiting = new Set<Task>();
  #heldBytes: ByteCount = 0;
  /** Have all their data, and must not run before others have ended, which may be waiting here. */
  readonly #suspended = new Set<Task>();
  /** Held by the writes that wait, and by the suspended ones. */
  #parkedBytes: ByteCount = 0;
  #nextTag = 1;

  constructor(deps: WriteGrantsDeps) {
    this.#deps = deps;
  }

  /** Room for data that comes without being asked for; false when there is none. */
  reserve(task: Task, bytes: ByteCount): boolean {
    if (!this.#deps.budget.take(bytes)) return false;
    this.#hold(task, bytes);
    return true;
  }

  /** The write needs an R2T as soon as there is room. */
  ask(task: Task): void {
    this.#waiting.add(task);
    this.#park(task.writeReserved);
    this.#grant();
  }

  /** The task has its data, but must not run yet: what it holds must not keep those from going on that it waits for. */
  suspend(task: Task): void {
    if (task.writeReserved === 0) return;
    this.#suspended.add(task);
    this.#park(task.writeReserved);
    this.#grant();
  }

  /** The task needs nothing more, and runs or ends. */
  withdraw(task: Task): void {
    if (this.#waiting.delete(task) || this.#suspended.delete(task)) this.#park(0 - task.writeReserved);
  }

  /** The task is over. */
  release(task: Task): void {
    this.withdraw(task); // it may have failed while it waited
    const bytes = task.writeReserved;
    if (bytes > 0) {
      task.writeReserved = 0;
      this.#heldBytes -= bytes;
      this.#deps.budget.release(bytes);
    }
    if (this.#waiting.size > 0) this.#grant();
    else this.#deps.budget.forget(this);
  }

  retryBudget(): boolean {
    const satisfied = this.#grant();
    this.#deps.sendSoon();
    return satisfied;
  }

  /** The session is over. */
  end(): void {
    for (const task of [...this.#waiting, ...this.#suspended]) this.withdraw(task);
    this.#deps.budget.forget(this);
  }

  /** Sends R2Ts while there is room; false when everybody's budget is what is missing. */
  #grant(): boolean {
    const { budget, sessionBytes, maxBurstBytes, outbox } = this.#deps;
    for (const task of this.#waiting) {
      const { transfer, lun, initiatorTaskTag } = task;
      if (transfer === undefined) continue;
      const bytes = Math.max(transfer.wantedBytes - task.writeReserved, 0);
      if (bytes > 0) {
        // The session's own writes have to end first: `release` comes back here.
        if (this.#heldBytes > this.#parkedBytes && this.#heldBytes + bytes > sessionBytes) return true;
        if (!budget.takeRest(bytes)) {
          budget.wait(this);
          return false;
        }
      }
      this.withdraw(task);
      this.#hold(task, bytes);
      const targetTransferTag = this.#takeTag();
      const r2t = transfer.openSolicited(targetTransferTag, maxBurstBytes);
      outbox.readyToTransfer({ lun, initiatorTaskTag, targetTransferTag, ...r2t });
    }
    return true;
  }

  #hold(task: Task, bytes: ByteCount): void {
    task.writeReserved += bytes;
    this.#heldBytes += bytes;
  }

  #park(bytes: ByteCount): void {
    this.#parkedBytes += bytes;
    this.#deps.budget.park(bytes);
  }

  #takeTag(): number {
    const tag = this.#nextTag;
    this.#nextTag = tag >= LAST_TAG ? 1 : tag + 1;
    return tag;
  }
}
