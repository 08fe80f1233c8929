import type { Clock } from './clock.ts';

export interface Sample<T> {
  /** By the clock's monotonic time. */
  readonly atMs: number;
  readonly value: T;
}

/** What something was during the last while, in samples so far apart that there are never more than `windowMs / spacingMs + 2`. */
export class SampleWindow<T> {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #windowMs: number;
  readonly #spacingMs: number;
  readonly #samples: Sample<T>[] = [];

  constructor(clock: Pick<Clock, 'monotonicMs'>, windowMs: number, spacingMs: number) {
    this.#clock = clock;
    this.#windowMs = windowMs;
    this.#spacingMs = spacingMs;
  }

  note(value: T): void {
    const atMs = this.#clock.monotonicMs();
    const newest = this.#samples.at(-1);
    if (newest !== undefined && atMs - newest.atMs < this.#spacingMs) return;
    this.#samples.push({ atMs, value });
    const most = this.#windowMs / this.#spacingMs + 2;
    // One that is older than the window stays: where the window begins.
    while (this.#samples.length > most || (this.#samples[1]?.atMs ?? atMs) < atMs - this.#windowMs)
      this.#samples.shift();
  }

  /** Where the window begins; undefined before the first sample. */
  get oldest(): Sample<T> | undefined {
    return this.#samples[0];
  }
}
