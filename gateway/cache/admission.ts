import type { CancelTimer, Clock } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { MaybePromise } from '../base/block-device.ts';

/** Slots admitted and not yet placed (64 MiB of data in the callers' hands). */
const MAX_STAGED_SLOTS = 16_384;

/** Beyond it a write is told `busy` at once. */
const MAX_WAITERS = 4096;

interface Waiter {
  readonly slots: number;
  readonly admit: () => void;
  readonly refuse: (error: FarshoreError) => void;
  readonly cancelTimer: CancelTimer;
}

export interface AdmissionHooks {
  /** Slots that could be placed now, reserved ones included. */
  space(): number;
  /** Something has to wait: make room. */
  pressed(): void;
}

/**
 * Back-pressure. A write reserves its slots before it gets a sequence, so that whatever is staged can be placed; when the log is full
 * of dirty blocks writes wait here in order, and are told `busy` after a bounded time.
 */
export class Admission {
  readonly #clock: Clock;
  readonly #maxWaitMs: number;
  readonly #hooks: AdmissionHooks;
  readonly #waiters: Waiter[] = [];
  #reserved = 0;
  #stopped: FarshoreError | undefined;

  constructor(clock: Clock, maxWaitMs: number, hooks: AdmissionHooks) {
    this.#clock = clock;
    this.#maxWaitMs = maxWaitMs;
    this.#hooks = hooks;
  }

  get reserved(): number {
    return this.#reserved;
  }

  get waiting(): number {
    return this.#waiters.length;
  }

  /** undefined when the slots are reserved at once; rejects with `busy` or `stopped`. */
  reserve(slots: number): MaybePromise<void> {
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped);
    if (this.#waiters.length === 0 && this.#fits(slots)) {
      this.#reserved += slots;
      return undefined;
    }
    if (this.#waiters.length >= MAX_WAITERS) return Promise.reject(this.#busy());
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        slots,
        admit: resolve,
        refuse: reject,
        cancelTimer: this.#clock.startTimer(this.#maxWaitMs, () => {
          this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
          reject(this.#busy());
          this.poke();
        }),
      };
      this.#waiters.push(waiter);
      this.#hooks.pressed();
    });
  }

  /** The slots were placed, or are not needed after all. */
  release(slots: number): void {
    this.#reserved -= slots;
    this.poke();
  }

  /** Admits who fits, in order. Called when there may be more room. */
  poke(): void {
    while (this.#waiters.length > 0) {
      const first = this.#waiters[0];
      if (first === undefined || !this.#fits(first.slots)) {
        this.#hooks.pressed();
        return;
      }
      this.#waiters.shift();
      first.cancelTimer();
      this.#reserved += first.slots;
      first.admit();
    }
  }

  /** Refuses everybody from now on. */
  stop(error: FarshoreError): void {
    this.#stopped ??= error;
    for (const waiter of this.#waiters.splice(0)) {
      waiter.cancelTimer();
      waiter.refuse(error);
    }
  }

  #fits(slots: number): boolean {
    return this.#reserved + slots <= Math.min(this.#hooks.space(), MAX_STAGED_SLOTS);
  }

  #busy(): FarshoreError {
    return new FarshoreError(
      'busy',
      'the cache is full of blocks that wait to be replicated; writes go on as the cloud takes them',
    );
  }
}
