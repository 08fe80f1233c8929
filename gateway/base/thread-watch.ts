import type { CancelTimer, Clock } from './clock.ts';

/** How often a thread is asked whether it is there, unless it has not answered yet: it never finds more than one question waiting. */
export const BEAT_MS = 1_000;
/** A thread that has not answered for so long does not come back: neither garbage collection nor any piece of work takes this time. */
export const HUNG_AFTER_MS = 30_000;
/** The most that counts of the time between two beats of the watch itself. */
const MOST_A_BEAT_MS = 2 * BEAT_MS;

export interface ThreadWatchDeps {
  readonly clock: Clock;
  /** Asks the thread; resolves when it has answered. Rejects when it is gone, which others find out. */
  readonly ask: () => Promise<unknown>;
  /** Called once. */
  readonly onHung: () => void;
}

/**
 * Notices that another thread has stopped turning its loop. Time counts only as far as the thread that watches has seen it pass, beat by beat: when the
 * whole process stood still (SIGSTOP, a suspended machine, a paused VM) the beats stood still with it, and the first one afterwards counts as one.
 */
export class ThreadWatch {
  readonly #deps: ThreadWatchDeps;
  #silentMs = 0;
  #isAsked = false;
  #lastBeatMs: number;
  #cancel: CancelTimer;

  /** Begins at once; `close` ends it. */
  constructor(deps: ThreadWatchDeps) {
    this.#deps = deps;
    this.#lastBeatMs = deps.clock.monotonicMs();
    this.#cancel = deps.clock.startTimer(BEAT_MS, () => {
      this.#beat();
    });
    this.#ask();
  }

  /** How long it has not answered; 0: no longer than an answer takes. */
  get silentMs(): number {
    return this.#silentMs;
  }

  close(): void {
    this.#cancel();
  }

  #beat(): void {
    const { clock, onHung } = this.#deps;
    const now = clock.monotonicMs();
    const passed = Math.min(now - this.#lastBeatMs, MOST_A_BEAT_MS);
    this.#lastBeatMs = now;
    if (this.#isAsked) this.#silentMs += passed;
    else this.#ask();
    if (this.#silentMs >= HUNG_AFTER_MS) {
      onHung();
      return;
    }
    this.#cancel = clock.startTimer(BEAT_MS, () => {
      this.#beat();
    });
  }

  #ask(): void {
    this.#isAsked = true;
    const answered = (): void => {
      this.#isAsked = false;
      this.#silentMs = 0;
    };
    this.#deps.ask().then(answered, answered);
  }
}
