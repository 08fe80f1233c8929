import { BLOCK_SIZE, type BlockCount, type ByteCount } from '../base/units.ts';
import { MAX_FRAME_BLOCKS } from '../format/frame.ts';
import { MAX_SEGMENT_BYTES } from '../format/segment-layout.ts';
import { Semaphore } from '../maintenance/parallel.ts';

/** Blocks read from the cache log at a time; between two of these other volumes get their turn. */
export const READ_SLICE_BLOCKS = 256;

/** All that a segment needs at most: what is read of the log, the blocks of a frame, the frames. */
const MEMORY_BYTES: ByteCount = (READ_SLICE_BLOCKS + MAX_FRAME_BLOCKS) * BLOCK_SIZE + MAX_SEGMENT_BYTES;
/** Shorter batches get memory that is just large enough, and nobody's again. */
const LEAST_BLOCKS: BlockCount = READ_SLICE_BLOCKS;
/** Short ones that somebody waits for: they do not stand behind megabytes that nobody does. */
const SHORT_AT_ONCE = 16;
/** Kept for the next segments while others are under way. */
const MAX_SPARE = 2;

/** Where one segment is built: taken piece by piece, and free as a whole. */
export class SegmentMemory {
  readonly #bytes: Buffer | undefined;
  readonly #end: (reusable: Buffer | undefined) => void;
  #used: ByteCount = 0;

  constructor(bytes?: Buffer, end: (reusable: Buffer | undefined) => void = () => undefined) {
    this.#bytes = bytes;
    this.#end = end;
  }

  /** Memory of so many bytes with any content. */
  readonly take = (bytes: ByteCount): Buffer => {
    const whole = this.#bytes;
    if (whole === undefined || bytes > whole.length - this.#used) return Buffer.allocUnsafe(bytes);
    const from = this.#used;
    this.#used += bytes;
    return whole.subarray(from, this.#used);
  };

  /** What was taken is not needed: it is given out again. */
  startOver(): void {
    this.#used = 0;
  }

  /** The segment is done. Unless nobody reads what lies here any more (an upload that was given up may), it is left to the collector. */
  end(isFree: boolean): void {
    this.#end(isFree ? this.#bytes : undefined);
  }
}

/**
 * So many segments in memory at once, served in the order they asked. The memory is used again: fresh memory for every 64 KiB frame, at tens of MB a second,
 * has V8 collect the whole heap several times a second. While none is under way none is kept.
 */
export class SegmentMemories {
  readonly #permits: Semaphore;
  readonly #short = new Semaphore(SHORT_AT_ONCE);
  readonly #spare: Buffer[] = [];
  #out = 0;

  constructor(segments: number) {
    this.#permits = new Semaphore(segments);
  }

  /** For a batch of so many blocks, until its `end`. */
  async take(blocks: BlockCount, isAwaited = false): Promise<SegmentMemory> {
    const giveBack = await (isAwaited && blocks < LEAST_BLOCKS ? this.#short : this.#permits).acquire();
    this.#out += 1;
    const bytes = blocks < LEAST_BLOCKS ? undefined : (this.#spare.pop() ?? Buffer.allocUnsafeSlow(MEMORY_BYTES));
    return new SegmentMemory(bytes, (reusable) => {
      this.#out -= 1;
      if (this.#out === 0) this.#spare.length = 0;
      else if (reusable !== undefined && this.#spare.length < MAX_SPARE) this.#spare.push(reusable);
      giveBack();
    });
  }
}
