import type { Clock } from '../base/clock.ts';
import type { ByteCount } from '../base/units.ts';
import { Urgency, type UrgencyLane } from '../base/urgency.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import { Throttle, type LineRate } from './throttle.ts';

/**
 * Of so many bytes one belongs to the background while initiators take all there is: hydration, read-ahead and scrubs may wait, but a fold that never
 * comes to its end would stop replication at last.
 */
const BACKGROUND_PART = 8;
/** Taken for a whole object before its length is known: a shard is seldom longer. */
const UNKNOWN_LENGTH_BYTES = 65_536;
/** What the background may save up of that: it has no claim to the time before it asked. */
const MOST_SAVED_BYTES = 1_048_576;

/**
 * Over everything that is fetched from the store. What an initiator waits for goes before what nobody waits for, which keeps a part of the line; what
 * was begun in the background changes its lane when somebody comes to wait for it.
 */
export class DownloadThrottle extends Throttle<UrgencyLane> {
  /** What the background may take before the foreground is through. */
  #saved: ByteCount = 0;

  constructor(clock: Clock, rate: LineRate) {
    super(clock, rate, { foreground: [], background: [] }, 'downloads');
  }

  /** As `take`, in the lane that the urgency has at the time. */
  async takeBy(bytes: ByteCount, urgency: Urgency): Promise<void> {
    const queued = this.enqueue(bytes, urgency.lane);
    if (queued === undefined) return;
    const { waiting, done } = queued;
    const forget = urgency.whenHurried(() => {
      const { background, foreground } = this.lanes;
      const at = background.indexOf(waiting);
      if (at === -1) return;
      background.splice(at, 1);
      foreground.push(waiting);
    });
    try {
      await done;
    } finally {
      forget();
    }
  }

  protected choose(): UrgencyLane {
    const [urgent] = this.lanes.foreground;
    const [patient] = this.lanes.background;
    if (urgent === undefined || patient === undefined) {
      this.#saved = 0;
      return urgent === undefined ? 'background' : 'foreground';
    }
    if (this.#saved >= patient.bytes) {
      this.#saved -= patient.bytes;
      return 'background';
    }
    // Not less than one transfer: it would never have its turn.
    const most = Math.max(MOST_SAVED_BYTES, patient.bytes);
    this.#saved = Math.min(most, this.#saved + urgent.bytes / (BACKGROUND_PART - 1));
    return 'foreground';
  }
}

/**
 * `store`, but what is fetched waits for the throttle first, each attempt again; without an urgency somebody waits for it. Of a whole object nobody knows the
 * length before it is there: what was taken too little is a debt which those after it wait for.
 */
export function downloadingWithin(throttle: DownloadThrottle, store: ObjectStore): ObjectStore {
  return {
    put: (key, body, crc32) => store.put(key, body, crc32),
    get: async (key, range, urgency = new Urgency('foreground')) => {
      const expected = range?.length ?? UNKNOWN_LENGTH_BYTES;
      await throttle.takeBy(expected, urgency);
      const content = await store.get(key, range, urgency);
      throttle.settle((content?.length ?? 0) - expected);
      return content;
    },
    head: (key) => store.head(key),
    list: (prefix, limit, startAfter) => store.list(prefix, limit, startAfter),
    delete: (keys) => store.delete(keys),
  };
}

/** `store` for whoever can wait: what is fetched through it is of the background unless it says otherwise. */
export function inBackground(store: ObjectStore): ObjectStore {
  return {
    put: (key, body, crc32) => store.put(key, body, crc32),
    get: (key, range, urgency = new Urgency('background')) => store.get(key, range, urgency),
    head: (key) => store.head(key),
    list: (prefix, limit, startAfter) => store.list(prefix, limit, startAfter),
    delete: (keys) => store.delete(keys),
  };
}
