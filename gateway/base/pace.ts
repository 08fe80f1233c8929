import type { Clock } from './clock.ts';
import type { ByteCount } from './units.ts';

/** Waited so long in excess, calls are not made in the turn any more. */
const MOST_DEBT_MS = 10;
/** From here on they are again. */
const SETTLED_DEBT_MS = 5;
/** Forgiven with time: so large a share of a thread's time may go to waiting for a slow disk. */
const FORGIVEN_SHARE = 0.1;
/** One bad call is held against the disk for 20 s at most. */
const MAX_DEBT_MS = 2000;

/** What a call may take: `ms` and, for each MiB, `msPerMib`. */
export interface UsualCost {
  readonly ms: number;
  readonly msPerMib: number;
}

/**
 * Whether a kind of disk call (reads, or writes, of one file system) is quick enough to be made in the turn instead of in the thread pool.
 * What a call takes beyond the usual is a debt; a large debt sends calls to the pool until time has paid for it. So a disk that keeps up is
 * used in the turn always, one that never does costs the thread a tenth of its time at most, and a single long stall is followed by
 * a long pause. Pure: the clock is injected.
 */
export class Pace {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #usual: UsualCost;
  #debtMs = 0;
  #atMs = 0;
  #resting = false;

  constructor(clock: Pick<Clock, 'monotonicMs'>, usual: UsualCost) {
    this.#clock = clock;
    this.#usual = usual;
  }

  /** Whether the next call may be made in the turn. */
  get allows(): boolean {
    if (!this.#resting) return true;
    this.#forgive();
    this.#resting = this.#debtMs > SETTLED_DEBT_MS;
    return !this.#resting;
  }

  /** A call of so many bytes was made in the turn and took so long. */
  took(ms: number, bytes: ByteCount): void {
    const excess = ms - this.#usual.ms - (this.#usual.msPerMib * bytes) / 1_048_576;
    if (excess <= 0) return;
    this.#forgive();
    this.#debtMs = Math.min(this.#debtMs + excess, MAX_DEBT_MS);
    if (this.#debtMs > MOST_DEBT_MS) this.#resting = true;
  }

  #forgive(): void {
    const now = this.#clock.monotonicMs();
    this.#debtMs = Math.max(0, this.#debtMs - (now - this.#atMs) * FORGIVEN_SHARE);
    this.#atMs = now;
  }
}

/** Time that disk calls may take in one turn of the event loop; the ones after that go to the pool, so that others have their turn. */
const MOST_PER_TURN_MS = 4;
/** From here on it is worth knowing when the turn ends. */
const NOTICED_MS = 1;

/**
 * Somebody who goes on as soon as he is answered, and is answered in the turn, would never let the event loop go on. This sees to it.
 */
export class TurnBudget {
  readonly #afterTurn: (then: () => void) => void;
  readonly #renew = (): void => {
    this.#spentMs = 0;
    this.#isArmed = false;
  };
  #spentMs = 0;
  #isArmed = false;

  /** `afterTurn` calls back when the event loop has gone on. */
  constructor(afterTurn: (then: () => void) => void) {
    this.#afterTurn = afterTurn;
  }

  get isSpent(): boolean {
    return this.#spentMs >= MOST_PER_TURN_MS;
  }

  spend(ms: number): void {
    this.#spentMs += ms;
    if (this.#isArmed || this.#spentMs < NOTICED_MS) return;
    this.#isArmed = true;
    this.#afterTurn(this.#renew);
  }
}
