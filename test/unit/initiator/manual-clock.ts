import type { CancelTimer, Clock } from '../../../gateway/base/clock.ts';

/** Time passes only when a test says so. */
export class ManualClock implements Clock {
  private time = 0;
  private readonly timers = new Set<{ readonly due: number; readonly fire: () => void }>();

  now(): number {
    return 1_700_000_000_000 + this.time;
  }

  monotonicMs(): number {
    return this.time;
  }

  startTimer(delayMs: number, fire: () => void): CancelTimer {
    const timer = { due: this.time + delayMs, fire };
    this.timers.add(timer);
    return () => {
      this.timers.delete(timer);
    };
  }

  pending(): number {
    return this.timers.size;
  }

  /** Fires what is due on the way, in order. */
  advance(ms: number): void {
    const until = this.time + ms;
    for (;;) {
      const next = [...this.timers].filter(({ due }) => due <= until).sort((a, b) => a.due - b.due)[0];
      if (next === undefined) break;
      this.timers.delete(next);
      this.time = next.due;
      next.fire();
    }
    this.time = until;
  }
}
