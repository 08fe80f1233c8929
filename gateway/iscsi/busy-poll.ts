import type { Clock } from '../base/clock.ts';
import { usableProcessors } from '../base/processors.ts';

/** Longest time that is waited awake. */
const MOST_MS = 0.2;
/** With so little the thread may as well sleep. */
const LEAST_MS = 0.02;

/** A clock that stands still must not keep the thread awake for ever. */
const MOST_TURNS = 1000;

/**
 * Stays awake for a moment after something was received, because an initiator that waits for each answer sends its next command within some ten microseconds, and
 * waking a thread that sleeps takes longer than serving it: the event loop goes around without waiting until the moment is over. How long that is adapts, as
 * the guest halt polling of KVM does: it doubles when the next chunk comes within MOST_MS, and halves, down to not at all, when it does
 * not; so a gateway with little to do sleeps. On a single processor it always does.
 */
export class BusyPoll {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #afterTurn: (then: () => void) => void;
  readonly #mostMs: number;
  #windowMs = 0;
  #stirredMs = -Infinity;
  #isPolling = false;
  /** Turns since the last chunk. */
  #turns = 0;
  readonly #poll = (): void => {
    this.#turns += 1;
    this.#isPolling = this.#turns < MOST_TURNS && this.#clock.monotonicMs() - this.#stirredMs < this.#windowMs;
    if (this.#isPolling) this.#afterTurn(this.#poll);
  };

  /** `afterTurn` calls back when the event loop has looked for what has arrived, without waiting for anything. */
  constructor(
    clock: Pick<Clock, 'monotonicMs'>,
    afterTurn: (then: () => void) => void,
    mostMs = usableProcessors() > 1 ? MOST_MS : 0,
  ) {
    this.#clock = clock;
    this.#afterTurn = afterTurn;
    this.#mostMs = mostMs;
  }

  /** Something was received. */
  stir(): void {
    const nowMs = this.#clock.monotonicMs();
    const isSoon = nowMs - this.#stirredMs <= this.#mostMs;
    this.#stirredMs = nowMs;
    this.#turns = 0;
    if (isSoon) this.#windowMs = Math.min(this.#mostMs, Math.max(LEAST_MS, this.#windowMs * 2));
    else if (this.#windowMs > LEAST_MS) this.#windowMs /= 2;
    else this.#windowMs = 0;
    if (this.#windowMs === 0 || this.#isPolling) return;
    this.#isPolling = true;
    this.#afterTurn(this.#poll);
  }
}
