import type { ByteCount } from '../base/units.ts';
import { worksInPieces } from '../scsi/traits.ts';
import type { BudgetShare, BudgetWaiter } from './budget.ts';
import type { Task } from './task.ts';

export interface ReadRoomDeps {
  readonly budget: BudgetShare;
  /** Most read data the session may have in the device and unsent. */
  readonly sessionBytes: ByteCount;
  /** Runs a read that had to wait. */
  run(task: Task): void;
  /** Something was put into the outbox outside the turn of a received chunk. */
  sendSoon(): void;
}

/** The share of a session's room for commands that work in pieces: they take long, and its reads must not wait for them. */
const SHARE_IN_PIECES = 0.5;

/** Memory for the read data of one session, from the device until the kernel has taken it. */
export class ReadRoom implements BudgetWaiter {
  readonly #deps: ReadRoomDeps;
  /** Reads that wait for room, in the order of their arrival, and how much they want. */
  readonly #waiting = new Map<Task, ByteCount>();
  /** Commands that work in pieces: those that may run, or wait for room like a read, and those that wait for these. */
  readonly #inPieces = new Map<Task, ByteCount>();
  readonly #heldBack = new Map<Task, ByteCount>();
  #inDevice: ByteCount = 0;
  #unsent: ByteCount = 0;

  constructor(deps: ReadRoomDeps) {
    this.#deps = deps;
  }

  /** Takes room for a read of `bytes`; false: it waits, and is run when its turn has come. */
  enter(task: Task, bytes: ByteCount): boolean {
    if (worksInPieces(task.command)) {
      if (this.#heldBack.size > 0 || !this.#fitsShare(bytes)) {
        this.#heldBack.set(task, bytes);
        return false;
      }
      this.#inPieces.set(task, bytes);
    }
    return this.#enterLine(task, bytes);
  }

  #enterLine(task: Task, bytes: ByteCount): boolean {
    const mayTake = this.#waiting.size === 0 || this.#deps.budget.alwaysFits(bytes);
    if (mayTake && this.#take(task, bytes)) return true;
    this.#waiting.set(task, bytes);
    return false;
  }

  /** Takes room for a read whose data is there already, and about to be sent; false: it has to `enter` like any other. */
  takeUnsent(bytes: ByteCount): boolean {
    if (this.#waiting.size > 0 || this.#heldBack.size > 0) return false;
    if (!this.#fitsSession(bytes) || !this.#deps.budget.take(bytes)) return false;
    this.#unsent += bytes;
    return true;
  }

  /** It is not about to be sent after all. */
  giveBackUnsent(bytes: ByteCount): void {
    this.#unsent -= bytes;
    this.#deps.budget.release(bytes);
  }

  /** The read has been answered: its data stays accounted for until it has been sent. */
  answered(task: Task): void {
    this.#inDevice -= task.readReserved;
    this.#unsent += task.readReserved;
    task.readReserved = 0;
  }

  /** The task will not run; its `release` lets on those that have waited behind it. */
  withdraw(task: Task): void {
    this.#heldBack.delete(task);
    if (this.#waiting.delete(task) && this.#waiting.size === 0) this.#deps.budget.forget(this);
  }

  /** The task is over. What it holds still was for an answer that there was none of. */
  release(task: Task): void {
    const bytes = task.readReserved;
    if (bytes > 0) {
      task.readReserved = 0;
      this.#inDevice -= bytes;
      this.#deps.budget.release(bytes);
    }
    if (this.#waiting.size > 0) this.#admit();
    if (this.#inPieces.delete(task) || this.#heldBack.size > 0) this.#letOn();
  }

  /** Those that were held back go on as far as their share allows. */
  #letOn(): void {
    for (const [task, bytes] of this.#heldBack) {
      if (!this.#fitsShare(bytes)) return;
      this.#heldBack.delete(task);
      this.#inPieces.set(task, bytes);
      if (this.#enterLine(task, bytes)) this.#deps.run(task);
    }
  }

  /** The kernel has taken everything that was to be sent. */
  sent(): void {
    const bytes = this.#unsent;
    if (bytes === 0) return;
    this.#unsent = 0;
    this.#deps.budget.release(bytes);
    this.#admit();
  }

  retryBudget(): boolean {
    const satisfied = this.#admit();
    this.#deps.sendSoon();
    return satisfied;
  }

  /** The session is over: what is still in the device is released by its tasks. */
  end(): void {
    this.#waiting.clear();
    this.#heldBack.clear();
    this.#deps.budget.forget(this);
    this.sent();
  }

  /**
   * Runs waiting reads while there is room; false when everybody's budget is what is missing. Behind a large one for which
   * there is none small ones go on, one at a time.
   */
  #admit(): boolean {
    let blocked = false;
    for (const [task, bytes] of this.#waiting) {
      if (blocked && !this.#deps.budget.alwaysFits(bytes)) continue;
      if (this.#take(task, bytes)) {
        this.#waiting.delete(task);
        this.#deps.run(task);
        if (blocked) break;
      } else if (this.#fitsSession(bytes)) {
        blocked = true;
      } else {
        return !blocked; // the session's own reads have to be sent first
      }
    }
    return !blocked;
  }

  #take(task: Task, bytes: ByteCount): boolean {
    if (!this.#fitsSession(bytes)) return false;
    if (!this.#deps.budget.take(bytes)) {
      this.#deps.budget.wait(this);
      return false;
    }
    task.readReserved = bytes;
    this.#inDevice += bytes;
    return true;
  }

  /** One of them always fits, too. */
  #fitsShare(bytes: ByteCount): boolean {
    let held = 0;
    for (const taken of this.#inPieces.values()) held += taken;
    return held === 0 || held + bytes <= this.#deps.sessionBytes * SHARE_IN_PIECES;
  }

  /** One read always fits, however large. */
  #fitsSession(bytes: ByteCount): boolean {
    const held = this.#inDevice + this.#unsent;
    return held === 0 || held + bytes <= this.#deps.sessionBytes;
  }
}
