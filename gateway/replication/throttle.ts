import type { CancelTimer, Clock } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { ByteCount } from '../base/units.ts';

/** What may go at once after a pause: as much as the rate brings in this time. */
const BURST_MS = 250;
/** So that a slow line is not cut into crumbs. */
const LEAST_BURST_BYTES = 64 * 1024;
/** Transfers waiting; whoever asks bounds his own, so more than this is a mistake. */
const MAX_WAITING = 4096;
/** Timers take no longer delays for granted; then it is looked at again. */
const LONGEST_PAUSE_MS = 60_000;

/** The two directions of the line. */
export type Direction = 'upload' | 'download';
export const DIRECTIONS: readonly Direction[] = ['upload', 'download'];

/** Bytes per second; undefined: no limit; 0: nothing goes until that is changed. */
export type LineRate = number | undefined;

/** A transfer that waits for its turn. */
export interface Waiting {
  readonly bytes: ByteCount;
  readonly resolve: () => void;
  readonly reject: (error: FarshoreError) => void;
}

/**
 * A token bucket over everything that a gateway sends, or fetches. A transfer may begin when the bucket is not in debt, and takes all its bytes at
 * once, so that the large ones are not starved by the small: in any time t at most rate × t + burst + one transfer go, and over a long
 * time exactly the rate, however large they are. Those of a lane go in the order they came; which lane goes next when several wait is decided
 * by who extends this.
 */
export abstract class Throttle<Lane extends string> {
  protected readonly lanes: Readonly<Record<Lane, Waiting[]>>;
  readonly #clock: Clock;
  readonly #what: string;
  #rate: LineRate;
  /** Negative: in debt. */
  #tokens = 0;
  #filledAt: number;
  #cancelTimer: CancelTimer | undefined;
  #closed: FarshoreError | undefined;

  /** `what` names the transfers in errors: `uploads`. */
  protected constructor(clock: Clock, rate: LineRate, lanes: Readonly<Record<Lane, Waiting[]>>, what: string) {
    this.#clock = clock;
    this.lanes = lanes;
    this.#what = what;
    this.#rate = rate;
    this.#filledAt = clock.monotonicMs();
    this.#tokens = this.#burst();
  }

  /** The lane that goes next; one that is empty is not it while another is not. */
  protected abstract choose(): Lane;

  get rate(): LineRate {
    return this.#rate;
  }

  protected get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /** Transfers that wait for their turn. */
  get waiting(): number {
    let count = 0;
    for (const lane of this.#all()) count += lane.length;
    return count;
  }

  /** From now on; what waits goes by the new rate. A debt of the old one is kept, since those bytes are on the line. */
  setRate(rate: LineRate): void {
    this.#fill();
    if (this.#rate === undefined) this.#tokens = Infinity;
    this.#rate = rate;
    this.#tokens = Math.min(this.#tokens, this.#burst());
    this.#release();
  }

  /** Resolves when so many bytes may go. Rejects with `stopped` after the end, `busy` beyond MAX_WAITING. */
  async take(bytes: ByteCount, lane: Lane): Promise<void> {
    await this.enqueue(bytes, lane)?.done;
  }

  /** What turned out to be so many bytes more than were taken, or fewer. */
  settle(bytes: ByteCount): void {
    if (this.#rate === undefined) return;
    this.#fill();
    this.#tokens = Math.min(this.#burst(), this.#tokens - bytes);
    if (bytes < 0) this.#release();
  }

  /** What waits rejects with `stopped`. Idempotent. */
  close(): void {
    this.#closed ??= new FarshoreError('stopped', `${this.#what} have been stopped`);
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    for (const lane of this.#all()) for (const { reject } of lane.splice(0)) reject(this.#closed);
  }

  /** undefined: it may go at once, and is not counted. Throws as `take` rejects. */
  protected enqueue(
    bytes: ByteCount,
    lane: Lane,
  ): { readonly waiting: Waiting; readonly done: Promise<void> } | undefined {
    if (this.#closed !== undefined) throw this.#closed;
    if (this.#rate === undefined) return undefined;
    if (this.waiting >= MAX_WAITING)
      throw new FarshoreError('busy', `${MAX_WAITING} ${this.#what} wait for their limit`);
    const { promise: done, resolve, reject } = promiseWithResolvers();
    const waiting = { bytes, resolve, reject };
    this.lanes[lane].push(waiting);
    this.#release();
    return { waiting, done };
  }

  #all(): Waiting[][] {
    return Object.values(this.lanes);
  }

  #burst(): ByteCount {
    return this.#rate === undefined ? 0 : Math.max(LEAST_BURST_BYTES, (this.#rate * BURST_MS) / 1000);
  }

  #fill(): void {
    const now = this.#clock.monotonicMs();
    this.#tokens = Math.min(this.#burst(), this.#tokens + ((this.#rate ?? 0) * (now - this.#filledAt)) / 1000);
    this.#filledAt = now;
  }

  #release(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#fill();
    const rate = this.#rate;
    while (this.waiting > 0 && (rate === undefined || (rate > 0 && this.#tokens >= 0))) {
      const next = this.lanes[this.choose()].shift();
      if (next === undefined) return;
      if (rate !== undefined) this.#tokens -= next.bytes;
      next.resolve();
    }
    if (this.waiting === 0 || rate === undefined || rate === 0) return;
    const pause = Math.min(LONGEST_PAUSE_MS, Math.ceil((-this.#tokens * 1000) / rate));
    this.#cancelTimer = this.#clock.startTimer(pause, () => {
      this.#release();
    });
  }
}

function promiseWithResolvers(): {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: FarshoreError) => void;
} {
  let resolve: () => void = () => undefined;
  let reject: (error: FarshoreError) => void = () => undefined;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
