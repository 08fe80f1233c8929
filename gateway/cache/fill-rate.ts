import type { Clock } from '../base/clock.ts';

/** The rate is that of the last minute. */
const WINDOW_MS = 60_000;
/** Samples are so far apart at least. */
const SPACING_MS = 1_000;
const MAX_SAMPLES = WINDOW_MS / SPACING_MS + 2;

/** How fast the cache fills with what the cloud does not have: net, so 0 when as much is committed as is written. */
export class FillRate {
  readonly #clock: Clock;
  readonly #samples: { readonly atMs: number; readonly share: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** So much of the cache, 0 to 1, is used up now. Called when that changes, or is looked at. */
  note(share: number): void {
    const atMs = this.#clock.monotonicMs();
    const newest = this.#samples.at(-1);
    if (newest !== undefined && atMs - newest.atMs < SPACING_MS) return;
    this.#samples.push({ atMs, share });
    // One that is older than the window stays: where the window begins.
    while (this.#samples.length > MAX_SAMPLES || (this.#samples[1]?.atMs ?? atMs) < atMs - WINDOW_MS)
      this.#samples.shift();
  }

  /** Time until all of it is used up, if it goes on like this; 0 when it is, undefined when it does not fill. */
  secondsUntilFull(share: number): number | undefined {
    if (share >= 1) return 0;
    const [oldest] = this.#samples;
    if (oldest === undefined) return undefined;
    const seconds = (this.#clock.monotonicMs() - oldest.atMs) / 1000;
    const perSecond = seconds > 0 ? (share - oldest.share) / seconds : 0;
    return perSecond > 0 ? (1 - share) / perSecond : undefined;
  }
}
