import { FarshoreError, isKind } from '../base/errors.ts';
import type { ByteCount, SegmentNumber } from '../base/units.ts';
import { KIB, MIB } from '../base/units.ts';
import { Urgency } from '../base/urgency.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { Compression } from '../format/compression.ts';
import type { FramePlace } from '../format/frame.ts';
import { decodeFrame, frameBlocks, isLostFrame } from '../format/frame.ts';
import { segmentKey } from '../format/keys.ts';
import { UNIT_BYTES } from '../format/map-entry.ts';
import { ByteLru } from './lru.ts';
import { mapParallel } from './parallel.ts';

/** Longest stretch of a segment fetched by one request. */
export const MAX_GET_BYTES = MIB;
/** Bytes nobody asked for that are fetched along rather than paying for another request. */
export const MAX_GAP_BYTES = 16 * KIB;
/** Requests under way for one read. */
export const PARALLEL_GETS = 8;
/** A frame that arrives damaged is fetched this many times in all: a ranged answer carries no checksum of its own. */
const FETCH_ATTEMPTS = 2;

/** A frame to read: offset and length in units of 256 bytes, and the blocks it is claimed to hold. */
export interface WantedFrame {
  readonly segment: SegmentNumber;
  readonly offset: number;
  readonly length: number;
  readonly places: readonly FramePlace[];
}

interface Frame {
  /** undefined when its block is lost. */
  readonly raw: Buffer | undefined;
  readonly blocks: Float64Array;
}

interface UnderWay {
  readonly frames: Promise<Map<number, Frame>>;
  readonly urgency: Urgency;
}

interface Stretch {
  readonly segment: SegmentNumber;
  readonly offset: number;
  end: number;
  readonly wanted: WantedFrame[];
}

/**
 * Reads frames of one lineage from the store: neighbours in one ranged request, concurrent readers of a frame share one, the
 * last ones stay in memory. Rejects with `not-found` when the segment is not there, `damaged` when a frame is not what
 * its entry says, `retry` from the store.
 */
export class FrameReader {
  readonly #store: ObjectStore;
  readonly #compression: Compression;
  readonly #lineage: string;
  readonly #frames: ByteLru<number, Frame>;
  readonly #underWay = new Map<number, UnderWay>();

  constructor(store: ObjectStore, compression: Compression, lineage: string, cacheBytes: ByteCount) {
    this.#store = store;
    this.#compression = compression;
    this.#lineage = lineage;
    this.#frames = new ByteLru(cacheBytes);
  }

  /**
   * The raw blocks of each wanted frame, in order, undefined for a lost one. The buffers are shared: copy out of them. Without an urgency somebody
   * waits for them; what was begun in the background and is shared becomes as urgent.
   */
  async read(
    wanted: readonly WantedFrame[],
    urgency: Urgency = new Urgency('foreground'),
  ): Promise<(Buffer | undefined)[]> {
    const found = new Map<number, Frame>();
    const shared: Promise<Map<number, Frame>>[] = [];
    const missing: WantedFrame[] = [];
    for (const frame of wanted) {
      const key = keyOf(frame);
      const cached = this.#frames.get(key);
      const fetching = this.#underWay.get(key);
      if (cached !== undefined) found.set(key, cached);
      else if (fetching !== undefined) shared.push(this.#join(fetching, urgency));
      else missing.push(frame);
    }
    const fetched = mapParallel(stretches(missing), PARALLEL_GETS, (stretch) => this.#share(stretch, urgency));
    const [own, others] = await Promise.all([fetched, Promise.all(shared)]);
    for (const frames of [...own, ...others]) for (const [key, frame] of frames) found.set(key, frame);
    return wanted.map((frame) => checked(found.get(keyOf(frame)), frame));
  }

  setCache(bytes: ByteCount): void {
    this.#frames.setBudget(bytes);
  }

  #join(underWay: UnderWay, urgency: Urgency): Promise<Map<number, Frame>> {
    if (urgency.lane === 'foreground') underWay.urgency.hurry();
    else if (underWay.urgency.lane === 'background') {
      // Whoever hurries this read means what it waits for.
      const forget = urgency.whenHurried(() => {
        underWay.urgency.hurry();
      });
      underWay.frames.then(forget, forget);
    }
    return underWay.frames;
  }

  async #share(stretch: Stretch, urgency: Urgency): Promise<Map<number, Frame>> {
    const fetching = this.#fetch(stretch, urgency);
    for (const frame of stretch.wanted) this.#underWay.set(keyOf(frame), { frames: fetching, urgency });
    try {
      const frames = await fetching;
      for (const [key, frame] of frames) this.#frames.set(key, frame, frame.raw?.length ?? 0);
      return frames;
    } finally {
      for (const frame of stretch.wanted) this.#underWay.delete(keyOf(frame));
    }
  }

  async #fetch(stretch: Stretch, urgency: Urgency): Promise<Map<number, Frame>> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#fetchOnce(stretch, urgency);
      } catch (error) {
        if (!isKind(error, 'damaged') || attempt >= FETCH_ATTEMPTS) throw error;
      }
    }
  }

  async #fetchOnce({ segment, offset, end, wanted }: Stretch, urgency: Urgency): Promise<Map<number, Frame>> {
    const key = segmentKey(this.#lineage, segment);
    const range = { offset: offset * UNIT_BYTES, length: (end - offset) * UNIT_BYTES };
    const bytes = await this.#store.get(key, range, urgency);
    if (bytes === undefined) throw new FarshoreError('not-found', `object ${key} is missing`);
    const frames = new Map<number, Frame>();
    for (const frame of wanted) {
      const from = (frame.offset - offset) * UNIT_BYTES;
      const frameBytes = bytes.subarray(from, from + frame.length * UNIT_BYTES);
      try {
        if (isLostFrame(frameBytes)) {
          frames.set(keyOf(frame), { raw: undefined, blocks: frameBlocks(frameBytes) });
          continue;
        }
        const raw = decodeFrame(frameBytes, this.#compression, frame.places);
        // An uncompressed frame is a view of the whole answer, which must not stay in memory for its sake.
        const own = raw.buffer === bytes.buffer ? Buffer.from(raw) : raw;
        frames.set(keyOf(frame), { raw: own, blocks: frameBlocks(frameBytes) });
      } catch (error) {
        if (!isKind(error, 'damaged')) throw error;
        throw new FarshoreError(
          'damaged',
          `object ${key}, frame at byte ${frame.offset * UNIT_BYTES}: ${error.message}`,
        );
      }
    }
    return frames;
  }
}

/** A segment has 36 bits and an offset 15, so the key is a safe integer. */
function keyOf(frame: WantedFrame): number {
  return frame.segment * 2 ** 15 + frame.offset;
}

function checked(frame: Frame | undefined, wanted: WantedFrame): Buffer | undefined {
  const holdsAll = frame !== undefined && wanted.places.every(({ index, block }) => frame.blocks[index] === block);
  if (!holdsAll) {
    const at = `segment ${wanted.segment} at byte ${wanted.offset * UNIT_BYTES}`;
    throw new FarshoreError('damaged', `the map leads to a frame in ${at} that holds other blocks`);
  }
  return frame.raw;
}

/** Groups frames into stretches of one segment each that are worth one request. */
function stretches(wanted: readonly WantedFrame[]): Stretch[] {
  const ordered = [...wanted].sort((a, b) => a.segment - b.segment || a.offset - b.offset);
  const result: Stretch[] = [];
  for (const frame of ordered) {
    const last = result.at(-1);
    const end = frame.offset + frame.length;
    const joins =
      last?.segment === frame.segment &&
      (frame.offset - last.end) * UNIT_BYTES <= MAX_GAP_BYTES &&
      (end - last.offset) * UNIT_BYTES <= MAX_GET_BYTES;
    if (last !== undefined && joins) {
      last.end = Math.max(last.end, end);
      last.wanted.push(frame);
    } else {
      result.push({ segment: frame.segment, offset: frame.offset, end, wanted: [frame] });
    }
  }
  return result;
}
