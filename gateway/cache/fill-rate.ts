import type { Clock } from '../base/clock.ts';

/** The rate is that of the last minute. */
const WINDOW_MS = 60_000;
/** Samples are so far apart at least. */
const SPACING_MS = 1_000;
const MAX_SAMPLES = WINDOW_MS / SPACING_MS + 2;

/** How fast the cache fills with what the cloud does not have: net, so 0 when as much is committed as is written. */
export class FillRate {
  readonly #clock: Clock;
  readonly #samples: { readonly atMs: number; readonly used: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `used` slots hold what is dirty now. Called when that changes. */
  note(used: number): void {
    const atMs = this.#clock.monotonicMs();
    const newest = this.#samples.at(-1);
    if (newest !== undefined && atMs - newest.atMs < SPACING_MS) return;
    this.#samples.push({ atMs, used });
    // One that is older than the window stays: where the window begins.
    while (this.#samples.length > MAX_SAMPLES || (this.#samples[1]?.atMs ?? atMs) < atMs - WINDOW_MS)
      this.#samples.shift();
  }

  /** Time until `room` more slots are used, if it goes on like this; undefined when it does not fill. */
  secondsUntil(room: number, used: number): number | undefined {
    const [oldest] = this.#samples;
    if (oldest === undefined) return undefined;
    const seconds = (this.#clock.monotonicMs() - oldest.atMs) / 1000;
    const perSecond = seconds > 0 ? (used - oldest.used) / seconds : 0;
    return perSecond > 0 ? Math.max(0, room) / perSecond : undefined;
  }
}
