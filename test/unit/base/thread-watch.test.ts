import { describe, expect, it } from 'vitest';
import type { Clock } from '../../../gateway/base/clock.ts';
import { BEAT_MS, HUNG_AFTER_MS, ThreadWatch } from '../../../gateway/base/thread-watch.ts';

/** Beats come when the test lets them: time may pass between two of them, as it does for a process that stands still. */
class BeatClock implements Clock {
  #nowMs = 0;
  #due: (() => void) | undefined;

  now(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  startTimer(_delayMs: number, fire: () => void): () => void {
    this.#due = fire;
    return () => {
      this.#due = undefined;
    };
  }

  /** So much later, the next beat; what was answered by then is heard before it. */
  async beat(afterMs = BEAT_MS): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#nowMs += afterMs;
    const due = this.#due;
    this.#due = undefined;
    due?.();
  }
}

function watched() {
  const clock = new BeatClock();
  const waiting: (() => void)[] = [];
  let hung = 0;
  const watch = new ThreadWatch({
    clock,
    ask: () => new Promise<void>((resolve) => waiting.push(resolve)),
    onHung: () => {
      hung += 1;
    },
  });
  return {
    clock,
    watch,
    waiting,
    answer: () => {
      for (const resolve of waiting.splice(0)) resolve();
    },
    hung: () => hung,
  };
}

describe('the watch over a thread', () => {
  it('says once that it hangs when it has not answered for the time it takes, and asks no second question meanwhile', async () => {
    const { clock, watch, waiting, hung } = watched();
    for (let beat = 1; beat < HUNG_AFTER_MS / BEAT_MS; beat += 1) await clock.beat();
    expect([hung(), watch.silentMs, waiting.length]).toEqual([0, HUNG_AFTER_MS - BEAT_MS, 1]);
    await clock.beat();
    await clock.beat();
    expect([hung(), waiting.length]).toEqual([1, 1]);
  });

  it('leaves a thread alone that answers in between, however late', async () => {
    const { clock, watch, answer, hung } = watched();
    for (let round = 0; round < 3; round += 1) {
      for (let beat = 2; beat < HUNG_AFTER_MS / BEAT_MS; beat += 1) await clock.beat();
      answer();
      await clock.beat();
      expect(watch.silentMs).toBe(0);
    }
    expect(hung()).toBe(0);
  });

  it('does not take a process that was stopped, or a machine that slept, for a thread that hangs', async () => {
    const { clock, watch, answer, hung } = watched();
    for (let stop = 0; stop < 5; stop += 1) {
      // The beat after it comes before any answer can be heard.
      await clock.beat(3_600_000);
      expect(watch.silentMs).toBeLessThanOrEqual((stop + 1) * 2 * BEAT_MS);
    }
    answer();
    await clock.beat();
    expect([hung(), watch.silentMs]).toEqual([0, 0]);
  });

  it('counts slowly for a watch that hardly gets to run itself: the machine is busy, and the thread no worse off', async () => {
    const { clock, hung } = watched();
    for (let beat = 0; beat < 10; beat += 1) await clock.beat(15_000);
    expect(hung()).toBe(0);
  });
});
