import { invariant, isKind } from '../base/errors.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber } from '../base/units.ts';
import { CAME_ALONG, READ_AHEAD } from '../cache/ram-tier.ts';
import type { ReadHow, RemoteBlocks } from '../replication/remote-volume.ts';
import { Miss, type BlockState } from './block-state.ts';
import { ReadAhead } from './read-ahead.ts';
import { copyBlocks } from './remote-answer.ts';

/** A miss fetches this much around it: what was written together lies in one frame. */
const MISS_WINDOW: BlockCount = 16;

/** Most blocks of one remote read. */
const MAX_REMOTE_BLOCKS: BlockCount = 256;

/** How often a block may move away while it is read. */
export const MAX_ATTEMPTS = 8;

/** Where blocks are that nothing here has: the remote, or the image of a stored volume. */
export interface BlockSource {
  /** As RemoteVolume.read. */
  read(block: BlockNumber, count: BlockCount, how?: ReadHow): Promise<RemoteBlocks>;
  /** As RemoteVolume.hurry. */
  hurry(block: BlockNumber, count: BlockCount): void;
}

/** Reads of what nothing here has: by the source, shared by all who wait for the same blocks, and ahead of sequential readers. */
export class MissReads {
  readonly ahead: ReadAhead;
  readonly #state: BlockState;
  readonly #source: BlockSource;
  readonly #readAgain: (block: BlockNumber, into: Buffer, attempt: number) => Promise<void>;
  #closed = false;
  /** Reads that initiators wait for. */
  waitedFor = 0;

  /** `readAgain` reads a block that was changed while the image was read, wherever it is by now. */
  constructor(
    state: BlockState,
    source: BlockSource,
    readAgain: (block: BlockNumber, into: Buffer, attempt: number) => Promise<void>,
  ) {
    this.#state = state;
    this.#source = source;
    this.#readAgain = readAgain;
    this.ahead = new ReadAhead({
      fetch: (first, count) => {
        this.#readAhead(first, count);
      },
      volumeBlocks: () => state.volumeBlocks,
      ramBlocks: () => state.cache.ram.capacity,
    });
  }

  /** Nothing that is fetched goes into the cache any more. */
  close(): void {
    this.#closed = true;
  }

  /** Reads under way are shared; what nobody fetches yet is fetched. Which read answers for which block is settled in this tick. */
  read(block: BlockNumber, count: BlockCount, into: Buffer, attempt: number): Promise<void>[] {
    const reads: Promise<void>[] = [];
    for (let at = 0; at < count;) {
      let miss = this.#state.missFor(block + at);
      if (miss === undefined) {
        miss = this.start(block + at, this.#unclaimedRun(block + at, count - at), CAME_ALONG);
        this.ahead.missed(block + at, miss.first + miss.count);
      } else if (miss.beginHurry()) this.#source.hurry(miss.first, miss.count);
      let run = 1;
      while (at + run < count && this.#state.missFor(block + at + run) === miss) run++;
      miss.want(block + at, run);
      if (miss.isAhead) {
        // It was on its way already.
        this.#state.cache.ram.aheadUsed += run;
        this.ahead.met(block + at, block + at + run);
      }
      reads.push(this.#copyWhenRead(miss, block + at - miss.first, run, into.subarray(at * BLOCK_SIZE), attempt));
      at += run;
    }
    return reads;
  }

  async #copyWhenRead(miss: Miss, from: number, count: BlockCount, into: Buffer, attempt: number): Promise<void> {
    this.waitedFor++;
    try {
      let answer: RemoteBlocks;
      try {
        answer = await miss.answer;
      } catch (error) {
        // What came along could not be had. What was asked for may need nothing from afar: blocks that nobody ever wrote, beside some that are here.
        if (!isKind(error, 'retry') || this.#state.hasImage || count === miss.count) throw error;
        copyBlocks(await this.#source.read(miss.first + from, count), miss.first + from, 0, count, into);
        return;
      }
      const stale = copyBlocks(answer, miss.first, from, count, into);
      for (const at of stale) {
        invariant(attempt < MAX_ATTEMPTS, `block ${miss.first + from + at} of the image comes to rest`);
        const again = into.subarray(at * BLOCK_SIZE, (at + 1) * BLOCK_SIZE);
        await this.#readAgain(miss.first + from + at, again, attempt + 1);
      }
    } finally {
      this.waitedFor--;
    }
  }

  #unclaimedRun(block: BlockNumber, most: BlockCount): BlockCount {
    let run = 1;
    while (run < Math.min(most, MAX_REMOTE_BLOCKS - MISS_WINDOW) && this.#state.missFor(block + run) === undefined)
      run++;
    return run;
  }

  /** Reads the blocks and, on either side, up to the borders of their windows; `background`: nobody waits for them. */
  start(
    block: BlockNumber,
    count: BlockCount,
    unwanted: typeof CAME_ALONG | typeof READ_AHEAD,
    background = unwanted === READ_AHEAD,
  ): Miss {
    const first = block - (block % MISS_WINDOW);
    const end = Math.min(this.#state.volumeBlocks, Math.ceil((block + count) / MISS_WINDOW) * MISS_WINDOW);
    const most = Math.min(end - first, MAX_REMOTE_BLOCKS);
    const read = background ? this.#source.read(first, most, { background }) : this.#source.read(first, most);
    const answer = this.#state.hasImage ? read.then((blocks) => this.#endImageRead(miss, blocks)) : read;
    const miss: Miss = new Miss(this.#state, first, most, answer, unwanted, background);
    this.#state.beginMiss(miss);
    void this.#finishMiss(miss);
    return miss;
  }

  /** Windows of which the remote has something that nobody here knows or fetches already, as many as possible with one read. */
  #readAhead(first: BlockNumber, count: BlockCount): void {
    const end = first + count;
    let from = first;
    for (let window = first - (first % MISS_WINDOW); window < end; window += MISS_WINDOW) {
      const stop = Math.min(window + MISS_WINDOW, end);
      const wanted = this.#isOnlyRemote(Math.max(window, first), stop);
      if (!wanted || stop - from > MAX_REMOTE_BLOCKS - MISS_WINDOW || stop === end) {
        if (!this.#fetchAhead(from, wanted ? stop : window)) return;
        from = stop;
      }
    }
  }

  /** false when nothing more is to be read ahead now. */
  #fetchAhead(first: BlockNumber, end: BlockNumber): boolean {
    const { cache } = this.#state;
    if (first >= end) return true;
    const count = end - first;
    if (this.#closed || !cache.takesFills || !cache.aheadBudget.take(count)) return false;
    const { answer } = this.start(first, count, READ_AHEAD);
    const give = (): void => {
      cache.aheadBudget.give(count);
    };
    void answer.then(give, give);
    return true;
  }

  #isOnlyRemote(first: BlockNumber, end: BlockNumber): boolean {
    for (let block = first; block < end; block++)
      if (this.#state.missFor(block) === undefined && this.#state.isRemote(block)) return true;
    return false;
  }

  /** Before anybody looks at the answer: what of it is old must be known by then. */
  #endImageRead(miss: Miss, blocks: RemoteBlocks): RemoteBlocks {
    return this.#closed ? blocks : this.#state.endImageMiss(miss, blocks);
  }

  async #finishMiss(miss: Miss): Promise<void> {
    try {
      const answer = await miss.answer;
      if (this.#closed) this.#state.dropMiss(miss);
      else if (!this.#state.hasImage) this.#state.endMiss(miss, answer);
    } catch {
      // Whoever reads these blocks hears of it.
      this.#state.dropMiss(miss);
    }
  }
}
