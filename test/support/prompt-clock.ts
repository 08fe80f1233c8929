import type { Clock } from '../../gateway/base/clock.ts';

interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly fire: () => void;
  cancelled: boolean;
}

/** 2026-01-01T00:00:00Z. */
const START = 1_767_225_600_000;

/**
 * A clock for tests in which nobody waits: whenever the event loop has nothing else to do, time leaps to the earliest timer
 * and fires it.
 */
export class PromptClock implements Clock {
  #nowMs = 0;
  #order = 0;
  #timers: Timer[] = [];
  #pumping = false;

  now(): number {
    return START + Math.floor(this.#nowMs);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  startTimer(delayMs: number, fire: () => void): () => void {
    const timer: Timer = {
      atMs: this.#nowMs + Math.max(0, delayMs),
      order: (this.#order += 1),
      fire,
      cancelled: false,
    };
    this.#timers.push(timer);
    this.#pump();
    return () => {
      timer.cancelled = true;
    };
  }

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      this.#timers = this.#timers.filter((timer) => !timer.cancelled);
      this.#timers.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
      const next = this.#timers.shift();
      if (next === undefined) return;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.fire();
      if (this.#timers.length > 0) this.#pump();
    });
  }
}
