import { sleep, type Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { PoolState } from './pool-state.ts';
import type { VolumeLog } from './volume-log.ts';

/** Between two savings at least; so much later than a sync its saving begins at most. */
const SPACING_MS = 1_000;

/**
 * Sees to it that how far the log was synced is itself on stable storage soon after each round of syncs: without it a start could not tell
 * damage in the last records from an end that a power cut has torn. Nobody waits for it. The first round after a pause is saved at once,
 * those of the next second together, and where nothing is synced nothing is saved. After a failure the next round tries again; until then
 * what the records themselves claim is known.
 */
export class SyncMarks {
  readonly #clock: Clock;
  readonly #diary: Log;
  readonly #state: PoolState;
  readonly #volumes: ReadonlyMap<number, VolumeLog>;
  readonly #closing = new AbortController();
  #savedAtMs = -Infinity;
  #isDue = false;
  #running: Promise<void> | undefined;

  /** `volumes`: attached ones, by number. */
  constructor(clock: Clock, diary: Log, state: PoolState, volumes: ReadonlyMap<number, VolumeLog>) {
    this.#clock = clock;
    this.#diary = diary;
    this.#state = state;
    this.#volumes = volumes;
  }

  /** Marks of volumes may have risen. */
  readonly note = (): void => {
    if (this.#isDue || this.#closing.signal.aborted) return;
    this.#isDue = true;
    this.#running ??= this.#run();
  };

  /** Saves no more; resolves when nothing is under way. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (this.#isDue) {
      const waitMs = this.#savedAtMs + SPACING_MS - this.#clock.monotonicMs();
      if (waitMs > 0) await sleep(this.#clock, waitMs, signal);
      if (signal.aborted) return;
      this.#isDue = false;
      this.#savedAtMs = this.#clock.monotonicMs();
      try {
        const marks = [...this.#volumes.values()].map(
          ({ number, syncedThrough }) => [number, { syncedThrough }] as const,
        );
        await this.#state.raiseMarks(marks, 'once');
      } catch (error) {
        this.#diary.warn({ reason: describeError(error) }, 'how far the cache log is synced could not be saved');
      }
    }
    this.#running = undefined;
  }
}
