import type { CancelTimer, Clock } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { ByteCount } from '../base/units.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { VersionLog } from '../cloud/version-log.ts';

/** What may go out at once after a pause: as much as the rate brings in this time. */
const BURST_MS = 250;
/** So that a slow line is not cut into crumbs. */
const LEAST_BURST_BYTES = 64 * 1024;
/** Uploads waiting; whoever asks bounds his own, so more than this is a mistake. */
const MAX_WAITING = 4096;
/** Timers take no longer delays for granted; then it is looked at again. */
const LONGEST_PAUSE_MS = 60_000;

/** Bytes per second; undefined: no limit; 0: nothing goes out until that is changed. */
export type UploadRate = number | undefined;

export interface UploadState {
  /** Uploads that wait for their turn. */
  readonly waiting: number;
}

/** Segments and maps are large; inline versions are small and must not stand behind megabytes of them. */
export type UploadLane = 'objects' | 'versions';

interface Waiting {
  readonly bytes: ByteCount;
  readonly resolve: () => void;
  readonly reject: (error: FarshoreError) => void;
}

/**
 * A token bucket over everything that a gateway uploads. An upload may begin when the bucket is not in debt, and takes all its bytes at
 * once, so that the large ones are not starved by the small: in any time t at most rate × t + burst + one upload go out, and over a long
 * time exactly the rate, however large the uploads. Those of a lane go in the order they came; two lanes that both wait take turns.
 */
export class UploadThrottle {
  readonly #clock: Clock;
  #rate: UploadRate;
  /** Negative: in debt. */
  #tokens = 0;
  #filledAt: number;
  readonly #lanes: Readonly<Record<UploadLane, Waiting[]>> = { objects: [], versions: [] };
  #turn: UploadLane = 'versions';
  #cancelTimer: CancelTimer | undefined;
  #closed: FarshoreError | undefined;

  constructor(clock: Clock, rate: UploadRate) {
    this.#clock = clock;
    this.#rate = rate;
    this.#filledAt = clock.monotonicMs();
    this.#tokens = this.#burst();
  }

  get rate(): UploadRate {
    return this.#rate;
  }

  /** Uploads that wait for their turn. */
  get waiting(): number {
    return this.#lanes.objects.length + this.#lanes.versions.length;
  }

  /** From now on; what waits goes by the new rate. A debt of the old one is kept, since those bytes are on the line. */
  setRate(rate: UploadRate): void {
    this.#fill();
    if (this.#rate === undefined) this.#tokens = Infinity;
    this.#rate = rate;
    this.#tokens = Math.min(this.#tokens, this.#burst());
    this.#release();
  }

  /** Resolves when so many bytes may be sent. Rejects with `stopped` after the end, `busy` beyond MAX_WAITING. */
  async take(bytes: ByteCount, lane: UploadLane): Promise<void> {
    if (this.#closed !== undefined) throw this.#closed;
    if (this.#rate === undefined) return;
    if (this.waiting >= MAX_WAITING)
      throw new FarshoreError('busy', `${MAX_WAITING} uploads wait for the upload limit`);
    await new Promise<void>((resolve, reject) => {
      this.#lanes[lane].push({ bytes, resolve, reject });
      this.#release();
    });
  }

  /** What waits rejects with `stopped`. Idempotent. */
  close(): void {
    this.#closed ??= new FarshoreError('stopped', 'uploads have been stopped');
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    for (const lane of [this.#lanes.versions, this.#lanes.objects])
      for (const { reject } of lane.splice(0)) reject(this.#closed);
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
      const next = this.#next();
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

  #next(): Waiting | undefined {
    const other = this.#turn === 'versions' ? 'objects' : 'versions';
    const lane = this.#lanes[this.#turn].length > 0 ? this.#turn : other;
    this.#turn = lane === 'versions' ? 'objects' : 'versions';
    return this.#lanes[lane].shift();
  }
}

/** `store`, but an upload waits for the throttle first, each attempt again: one that is repeated is on the line twice. */
export function throttledObjectStore(store: ObjectStore, throttle: UploadThrottle): ObjectStore {
  return {
    put: async (key, body, crc32) => {
      let bytes = 0;
      for (const piece of body) bytes += piece.length;
      await throttle.take(bytes, 'objects');
      return store.put(key, body, crc32);
    },
    get: (key, range) => store.get(key, range),
    head: (key) => store.head(key),
    list: (prefix, limit, startAfter) => store.list(prefix, limit, startAfter),
    delete: (keys) => store.delete(keys),
  };
}

/**
 * `putVersion`, but versions that carry data wait for the throttle. Those that don't, like everything else that decides about ownership,
 * never do: a full line must not cost a gateway its volumes.
 */
export function throttledPutVersion(log: VersionLog, throttle: UploadThrottle): VersionLog['putVersion'] {
  return async (volume, item, previousEpoch) => {
    if (item.inline.length > 0) await throttle.take(item.inline.length, 'versions');
    return log.putVersion(volume, item, previousEpoch);
  };
}
