import type { Clock } from '../base/clock.ts';
import type { WallMillis } from '../base/units.ts';

/** Trouble that is younger than this mostly passes; after it an operator is told. */
const ALARM_AFTER_MS = 120_000;

/** Something that is tried again and again, and has failed for some time. */
export class Trouble {
  readonly #clock: Clock;
  #since: { readonly ms: number; readonly at: WallMillis } | undefined;
  #reason = '';

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  failed(reason: string): void {
    this.#since ??= { ms: this.#clock.monotonicMs(), at: this.#clock.now() };
    this.#reason = reason;
  }

  passed(): void {
    this.#since = undefined;
  }

  /** What an operator is told: since when, and the last reason. undefined while there is nothing to tell. */
  get alarm(): string | undefined {
    if (this.#since === undefined || this.#clock.monotonicMs() - this.#since.ms < ALARM_AFTER_MS) return undefined;
    return `since ${new Date(this.#since.at).toISOString()}: ${this.#reason}`;
  }
}
