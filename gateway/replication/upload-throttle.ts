import type { Clock } from '../base/clock.ts';
import type { ByteCount } from '../base/units.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { VersionLog } from '../cloud/version-log.ts';
import { Throttle, type LineRate } from './throttle.ts';

/** Segments and maps are large; inline versions are small and must not stand behind megabytes of them. */
export type UploadLane = 'objects' | 'versions';

/** What of the line inline versions get at once, whatever large objects have been let onto it before them. */
const VERSIONS_SHARE = 0.5;
/** What they may have saved up. */
const VERSIONS_BURST_MS = 500;

/**
 * Over everything that is uploaded: two lanes that both wait take turns. An inline version is what somebody waits for, and does not wait for the megabytes that went
 * before it to be through, as long as versions take no more than half of the line: their bytes are a debt that the objects pay.
 */
export class UploadThrottle extends Throttle<UploadLane> {
  readonly #timer: Clock;
  #turn: UploadLane = 'versions';
  /** Bytes that versions may take at once. */
  #ownBytes = 0;
  #ownFilledAt: number;

  constructor(clock: Clock, rate: LineRate) {
    super(clock, rate, { versions: [], objects: [] }, 'uploads');
    this.#timer = clock;
    this.#ownFilledAt = clock.monotonicMs() - VERSIONS_BURST_MS;
  }

  override async take(bytes: ByteCount, lane: UploadLane): Promise<void> {
    if (lane === 'versions' && this.#takesAtOnce(bytes)) this.settle(bytes);
    else await super.take(bytes, lane);
  }

  #takesAtOnce(bytes: ByteCount): boolean {
    const { rate } = this;
    if (rate === undefined || rate === 0 || this.isClosed) return false;
    const now = this.#timer.monotonicMs();
    const most = (rate * VERSIONS_SHARE * VERSIONS_BURST_MS) / 1000;
    this.#ownBytes = Math.min(most, this.#ownBytes + ((now - this.#ownFilledAt) * rate * VERSIONS_SHARE) / 1000);
    this.#ownFilledAt = now;
    if (this.#ownBytes < bytes) return false;
    this.#ownBytes -= bytes;
    return true;
  }

  protected choose(): UploadLane {
    const other = this.#turn === 'versions' ? 'objects' : 'versions';
    const lane = this.lanes[this.#turn].length > 0 ? this.#turn : other;
    this.#turn = lane === 'versions' ? 'objects' : 'versions';
    return lane;
  }
}

/** `store`, but an upload waits for the throttle first, each attempt again: one that is repeated is on the line twice. */
export function uploadingWithin(throttle: UploadThrottle, store: ObjectStore): ObjectStore {
  return {
    put: async (key, body, crc32) => {
      let bytes = 0;
      for (const piece of body) bytes += piece.length;
      await throttle.take(bytes, 'objects');
      return store.put(key, body, crc32);
    },
    get: (key, range, urgency) => store.get(key, range, urgency),
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
