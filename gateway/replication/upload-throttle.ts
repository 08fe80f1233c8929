import type { Clock } from '../base/clock.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { VersionLog } from '../cloud/version-log.ts';
import { Throttle, type LineRate } from './throttle.ts';

/** Segments and maps are large; inline versions are small and must not stand behind megabytes of them. */
export type UploadLane = 'objects' | 'versions';

/** Over everything that is uploaded: two lanes that both wait take turns. */
export class UploadThrottle extends Throttle<UploadLane> {
  #turn: UploadLane = 'versions';

  constructor(clock: Clock, rate: LineRate) {
    super(clock, rate, { versions: [], objects: [] }, 'uploads');
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
