import type { BlockCount, BlockNumber } from '../base/units.ts';

/** Streams of one volume that are followed at a time; the one that went longest without a read makes way. */
const MAX_STREAMS = 8;

/** Misses in a row that make a stream. */
const LEAST_RUN = 3;

/** 256 KiB, doubled to 4 MiB as long as the reader goes on. */
const FIRST_WINDOW: BlockCount = 64;
const LARGEST_WINDOW: BlockCount = 1024;

/** A window takes no more than this part of the RAM tier, where it waits for its reader. */
const RAM_PART = 16;

/** How far behind its end a stream still knows what it has read ahead. */
const WINDOWS_REMEMBERED = 3;

export interface ReadAheadHooks {
  /** Fetches what of these blocks only the remote has, in the background. */
  fetch(first: BlockNumber, count: BlockCount): void;
  volumeBlocks(): BlockCount;
  /** Room of the RAM tier; 0 without one. */
  ramBlocks(): BlockCount;
}

interface Stream {
  /** Everything of the stream before it is here, or under way. */
  next: BlockNumber;
  run: number;
  /** 0 until the stream has run for long enough. */
  window: BlockCount;
  /** The reader has come to what was read ahead last: time for more. */
  trigger: BlockNumber;
  lastUse: number;
}

/**
 * Finds sequential readers among the misses of a volume, by nothing but their blocks, and fetches what they will ask for next: a window at a
 * time, and the next one when they come to the last. Random misses match no stream and cost a look at eight numbers.
 */
export class ReadAhead {
  readonly #hooks: ReadAheadHooks;
  readonly #streams: Stream[] = [];
  #uses = 0;

  constructor(hooks: ReadAheadHooks) {
    this.#hooks = hooks;
  }

  /** A reader waits for a block from `first` on that has to be fetched; it and what comes along reach up to `end`. */
  missed(first: BlockNumber, end: BlockNumber): void {
    const stream = this.#streams.find((one) => first >= one.next && first <= one.next + one.window / 2);
    if (stream === undefined) {
      this.#begin(end);
      return;
    }
    stream.lastUse = ++this.#uses;
    stream.next = end;
    stream.run++;
    // The reader has overtaken what was read ahead, or there is nothing yet.
    if (stream.run >= LEAST_RUN) this.#extend(stream);
  }

  /** A reader of blocks [first, end) met some that were read ahead. */
  met(first: BlockNumber, end: BlockNumber): void {
    const stream = this.#streams.find((one) => one.window > 0 && end > one.trigger && first < one.next);
    if (stream === undefined) return;
    stream.lastUse = ++this.#uses;
    this.#extend(stream);
  }

  /** Whether the block was read ahead a short while ago: who reads it from the log is likely to be the first. */
  covers(block: BlockNumber): boolean {
    for (const { next, window } of this.#streams)
      if (window > 0 && block < next && block >= next - WINDOWS_REMEMBERED * window) return true;
    return false;
  }

  #begin(next: BlockNumber): void {
    const stream = { next, run: 1, window: 0, trigger: 0, lastUse: ++this.#uses };
    if (this.#streams.length < MAX_STREAMS) {
      this.#streams.push(stream);
      return;
    }
    let oldest = 0;
    this.#streams.forEach(({ lastUse }, at) => {
      if (lastUse < (this.#streams[oldest]?.lastUse ?? 0)) oldest = at;
    });
    this.#streams[oldest] = stream;
  }

  #extend(stream: Stream): void {
    const ram = this.#hooks.ramBlocks();
    const largest = ram === 0 ? LARGEST_WINDOW : Math.min(LARGEST_WINDOW, Math.floor(ram / RAM_PART));
    stream.window = Math.min(stream.window === 0 ? FIRST_WINDOW : stream.window * 2, largest);
    const count = Math.min(stream.window, this.#hooks.volumeBlocks() - stream.next);
    stream.trigger = stream.next;
    if (count <= 0) return;
    stream.next += count;
    this.#hooks.fetch(stream.trigger, count);
  }
}
