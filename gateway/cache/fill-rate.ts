import type { Clock } from '../base/clock.ts';
import { SampleWindow } from '../base/sample-window.ts';

/** The rate is that of the last minute. */
const WINDOW_MS = 60_000;
/** Samples are so far apart at least. */
const SPACING_MS = 1_000;

/** How fast the cache fills with what the cloud does not have: net, so 0 when as much is committed as is written. */
export class FillRate {
  readonly #clock: Clock;
  readonly #shares: SampleWindow<number>;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#shares = new SampleWindow(clock, WINDOW_MS, SPACING_MS);
  }

  /** So much of the cache, 0 to 1, is used up now. Called when that changes, or is looked at. */
  note(share: number): void {
    this.#shares.note(share);
  }

  /** Time until all of it is used up, if it goes on like this; 0 when it is, undefined when it does not fill. */
  secondsUntilFull(share: number): number | undefined {
    if (share >= 1) return 0;
    const { oldest } = this.#shares;
    if (oldest === undefined) return undefined;
    const seconds = (this.#clock.monotonicMs() - oldest.atMs) / 1000;
    const perSecond = seconds > 0 ? (share - oldest.value) / seconds : 0;
    return perSecond > 0 ? (1 - share) / perSecond : undefined;
  }
}
