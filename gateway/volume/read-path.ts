import type { MaybePromise } from '../base/block-device.ts';
import { describeError, FarshoreError, invariant, isKind } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber, type ByteCount } from '../base/units.ts';
import { chunkOfPlace } from '../cache/layout.ts';
import { CAME_ALONG } from '../cache/ram-tier.ts';
import { LOST_BLOCK } from '../replication/remote-volume.ts';
import { ZERO_BLOCK, type BlockState } from './block-state.ts';
import { MemoryCopies } from './memory-copies.ts';
import { MAX_ATTEMPTS, MissReads, type BlockSource } from './miss-reads.ts';
import type { ReadAhead } from './read-ahead.ts';
import { damagedBlock } from './remote-answer.ts';
import { rescueFromImage } from './stored/rescue.ts';

/** Blocks that reads asked for, by where they were when they came: in memory, in the log on disk, or neither (S3, or the image). */
export interface ReadCounts {
  readonly ram: BlockCount;
  readonly log: BlockCount;
  readonly missed: BlockCount;
}

/** Reads of a volume: RAM tier, in flight, log, pending unmaps, remote. */
export class ReadPath {
  readonly #state: BlockState;
  readonly #diary: Log;
  readonly #misses: MissReads;
  readonly #ahead: ReadAhead;
  readonly #copies: MemoryCopies;
  repaired = 0;
  #ramBlocks: BlockCount = 0;
  #logBlocks: BlockCount = 0;
  #missedBlocks: BlockCount = 0;

  constructor(state: BlockState, source: BlockSource, diary: Log) {
    this.#state = state;
    this.#copies = new MemoryCopies(state);
    this.#diary = diary;
    this.#misses = new MissReads(state, source, async (block, into, attempt) => {
      await Promise.all(this.#plan(block, 1, into, attempt));
    });
    this.#ahead = this.#misses.ahead;
  }

  /** Remote reads that initiators wait for. */
  get foregroundMisses(): number {
    return this.#misses.waitedFor;
  }

  /** Since the volume was opened. What writes read to fill up a block counts as well. */
  get counts(): ReadCounts {
    return { ram: this.#ramBlocks, log: this.#logBlocks, missed: this.#missedBlocks };
  }

  /** Nothing that is fetched goes into the cache any more. */
  close(): void {
    this.#misses.close();
  }

  /** Bytes [from, to) of the volume, answered at once when all of it is in memory. Rejects with `damaged`, `stopped`, `retry`, `fenced`. */
  read(from: ByteCount, to: ByteCount): MaybePromise<readonly Buffer[]> {
    const first = Math.floor(from / BLOCK_SIZE);
    const end = Math.ceil(to / BLOCK_SIZE);
    const head = from - first * BLOCK_SIZE;
    const tail = end * BLOCK_SIZE - to;
    const pieces: Buffer[] = [];
    const { ram } = this.#state.cache;
    const metBefore = ram.aheadUsed;
    for (let block = first; block < end; block++) {
      const piece = this.#inMemory(block);
      if (piece === undefined) return this.#readSlowly(first, end - first, head, to - from, pieces, metBefore);
      pieces.push(piece);
    }
    if (ram.aheadUsed !== metBefore) this.#ahead.met(first, end);
    this.#ramBlocks += end - first;
    if (head > 0) pieces[0] = (pieces[0] ?? ZERO_BLOCK).subarray(head);
    if (tail > 0) {
      const last = pieces.at(-1) ?? ZERO_BLOCK;
      pieces[pieces.length - 1] = last.subarray(0, last.length - tail);
    }
    return pieces;
  }

  /** Bytes [from, to) of the volume to `at` of `into`, when all of them are in memory; false: ask `read`. */
  copyInto(from: ByteCount, to: ByteCount, into: Buffer, at: number): boolean {
    const { ram } = this.#state.cache;
    const metBefore = ram.aheadUsed;
    const count = this.#copies.copy(from, to, into, at);
    if (count === 0) return false;
    if (ram.aheadUsed !== metBefore) {
      const first = Math.floor(from / BLOCK_SIZE);
      this.#ahead.met(first, first + count);
    }
    this.#ramBlocks += count;
    return true;
  }

  /** Whole blocks into a buffer of their size. */
  async readInto(first: BlockNumber, count: BlockCount, into: Buffer): Promise<void> {
    await Promise.all(this.#plan(first, count, into, 0));
  }

  /** Fetches what the remote has of these blocks into the cache, as far as nothing here knows them. Answers how many blocks came. */
  async prefetch(first: BlockNumber, count: BlockCount): Promise<BlockCount> {
    const answer = await this.#misses.start(first, count, CAME_ALONG, true).answer;
    return answer.present.reduce((sum, present) => sum + (present === 1 ? 1 : 0), 0);
  }

  /** Fetches a block that the cache has lost; false when its version says that it is lost. Rejects as reads of the remote do. */
  async refetch(block: BlockNumber): Promise<boolean> {
    const miss = this.#misses.start(block, 1, CAME_ALONG);
    miss.want(block, 1);
    const { present } = await miss.answer;
    return present[block - miss.first] !== LOST_BLOCK;
  }

  #inMemory(block: BlockNumber): Buffer | undefined {
    const op = this.#state.stagedFor(block);
    if (op === undefined) return this.#state.cache.ram.get(this.#state.log.number, block);
    return op.failed ? undefined : op.dataAt(block - op.block);
  }

  /** `found`: the first blocks, which are in memory. They are copied at once, and not looked up, and so counted as used, a second time. */
  #readSlowly(
    first: BlockNumber,
    count: BlockCount,
    head: ByteCount,
    bytes: ByteCount,
    found: readonly Buffer[],
    metBefore: number,
  ): MaybePromise<readonly Buffer[]> {
    const planned = (): MaybePromise<readonly Buffer[]> => {
      const into = Buffer.allocUnsafe(count * BLOCK_SIZE);
      found.forEach((piece, at) => piece.copy(into, at * BLOCK_SIZE));
      const done = found.length;
      this.#ramBlocks += done;
      const reads = this.#plan(first + done, count - done, into.subarray(done * BLOCK_SIZE), 0);
      if (this.#state.cache.ram.aheadUsed !== metBefore) this.#ahead.met(first, first + count);
      const answer = [into.subarray(head, head + bytes)];
      return reads.length === 0 ? answer : Promise.all(reads).then(() => answer);
    };
    if (count > 1) return planned();
    const one = this.#readOne(first);
    if (one === undefined) return planned();
    if (!(one instanceof Promise)) return [one.subarray(head, head + bytes)];
    return one.then((block) => (block === undefined ? planned() : [block.subarray(head, head + bytes)]));
  }

  /**
   * The block, read from the log into the RAM tier, in this turn where the disk answers in it; undefined when it must be read another way, which
   * also says why. Here end the reads that miss the RAM tier: nothing is allocated but the view.
   */
  #readOne(block: BlockNumber): MaybePromise<Buffer | undefined> {
    const state = this.#state;
    const { cache, log } = state;
    const place = log.index.place(block);
    if (place === 0 || state.stagedFor(block) !== undefined || state.isUnknown(block) || state.isDamaged(block)) {
      return undefined;
    }
    const slot = cache.ram.borrow();
    if (slot < 0) return undefined;
    const into = cache.ram.viewOf(slot);
    const found = cache.readRun(log, place, 1, block, into);
    if (!(found instanceof Promise)) return this.#enter(slot, into, block, place, found.length === 0);
    return found.then(
      (bad) => this.#enter(slot, into, block, place, bad.length === 0),
      (error: unknown) => {
        cache.ram.giveBack(slot);
        if (isKind(error, 'stopped', 'damaged')) return undefined;
        throw error;
      },
    );
  }

  #enter(slot: number, into: Buffer, block: BlockNumber, place: number, isGood: boolean): Buffer | undefined {
    const { cache, log } = this.#state;
    if (isGood) this.#logBlocks++;
    if (isGood && log.index.place(block) === place && this.#state.stagedFor(block) === undefined) {
      cache.ram.enter(slot, log.number, block);
      if (!this.#ahead.covers(block)) log.index.visit(block);
      return into;
    }
    // It was changed, or moved, while it was read: then this is what was asked for, and not what the RAM tier may hold.
    const copy = isGood ? Buffer.from(into) : undefined;
    cache.ram.giveBack(slot);
    return copy;
  }

  /** Decides for every block where it is, in this tick, and starts the reads. */
  #plan(first: BlockNumber, count: BlockCount, into: Buffer, attempt: number): Promise<void>[] {
    const reads: Promise<void>[] = [];
    const slice = (at: number, blocks: number): Buffer => into.subarray(at * BLOCK_SIZE, (at + blocks) * BLOCK_SIZE);
    for (let at = 0; at < count;) {
      const block = first + at;
      const state = this.#state;
      const inMemory = this.#inMemory(block);
      const place = state.log.index.place(block);
      let run = 1;
      if (inMemory !== undefined) {
        inMemory.copy(into, at * BLOCK_SIZE);
        if (attempt === 0) this.#ramBlocks++;
      } else if (state.isUnknown(block)) reads.push(Promise.reject(this.#unknownFate(block)));
      else if (state.isDamaged(block)) reads.push(Promise.reject(damagedBlock(block)));
      else if (place !== 0) {
        run = this.#loggedRun(block, place, count - at);
        if (attempt === 0) this.#logBlocks += run;
        const reading = this.#readLog(block, place, run, slice(at, run), attempt);
        if (reading !== undefined) reads.push(reading);
      } else if (state.isUnmapped(block)) {
        run = this.#zeroRun(block, count - at);
        into.fill(0, at * BLOCK_SIZE, (at + run) * BLOCK_SIZE);
        // Known here, and zeros.
        if (attempt === 0) this.#ramBlocks += run;
      } else {
        run = this.#missRun(block, count - at);
        if (attempt === 0) this.#missedBlocks += run;
        reads.push(...this.#misses.read(block, run, slice(at, run), attempt));
      }
      at += run;
    }
    return reads;
  }

  /** How many of the next blocks lie one behind the other in the log. */
  #loggedRun(block: BlockNumber, place: number, most: BlockCount): BlockCount {
    const { log } = this.#state;
    let run = 1;
    while (
      run < most &&
      log.index.place(block + run) === place + run &&
      chunkOfPlace(place + run) === chunkOfPlace(place) &&
      this.#state.stagedFor(block + run) === undefined &&
      !this.#state.isDamaged(block + run)
    )
      run++;
    return run;
  }

  #zeroRun(block: BlockNumber, most: BlockCount): BlockCount {
    let run = 1;
    while (
      run < most &&
      this.#state.isUnmapped(block + run) &&
      !this.#state.isUnknown(block + run) &&
      this.#state.log.index.place(block + run) === 0 &&
      this.#state.stagedFor(block + run) === undefined
    )
      run++;
    return run;
  }

  #missRun(block: BlockNumber, most: BlockCount): BlockCount {
    let run = 1;
    while (run < most && this.#state.isRemote(block + run)) run++;
    return run;
  }

  #readLog(block: BlockNumber, place: number, count: BlockCount, into: Buffer, attempt: number): MaybePromise<void> {
    const { cache, log } = this.#state;
    const found = cache.readRun(log, place, count, block, into);
    if (found instanceof Promise) return this.#readLogLater(found, block, place, count, into, attempt);
    return this.#takeRun(found, block, place, count, into, attempt);
  }

  async #readLogLater(
    found: Promise<readonly number[]>,
    block: BlockNumber,
    place: number,
    count: BlockCount,
    into: Buffer,
    attempt: number,
  ): Promise<void> {
    const { index } = this.#state.log;
    let bad: readonly number[];
    try {
      bad = await found;
    } catch (error) {
      if (!isKind(error, 'stopped', 'damaged')) throw error;
      if (count > 1) {
        // Find out which of them it is.
        for (let at = 0; at < count; at++) {
          const one = into.subarray(at * BLOCK_SIZE, (at + 1) * BLOCK_SIZE);
          // Its chunk may have gone meanwhile, file and all.
          if (index.place(block + at) === place + at) await this.#readLog(block + at, place + at, 1, one, attempt);
          else await this.#readElsewhere(block + at, place + at, one, attempt + 1);
        }
        return;
      }
      this.#diary.warn({ block, reason: describeError(error) }, 'a block could not be read from the cache log');
      // The disk may yet change its mind about a block that only it has.
      if (index.place(block) === place && index.isDirty(block)) throw damagedBlock(block);
      bad = [0];
    }
    await this.#takeRun(bad, block, place, count, into, attempt);
  }

  /** Takes what was read into the RAM tier; what turned out bad is read elsewhere. */
  #takeRun(
    bad: readonly number[],
    block: BlockNumber,
    place: number,
    count: BlockCount,
    into: Buffer,
    attempt: number,
  ): MaybePromise<void> {
    const { cache, log } = this.#state;
    const { index } = log;
    const pieces = [into];
    for (let at = 0, nextBad = 0; at < count; at++) {
      if (bad[nextBad] === at) nextBad++;
      else if (index.place(block + at) === place + at && this.#state.stagedFor(block + at) === undefined) {
        cache.ram.put(log.number, block + at, pieces, at * BLOCK_SIZE);
        if (!this.#ahead.covers(block + at)) index.visit(block + at);
      }
    }
    return bad.length === 0 ? undefined : this.#readAllElsewhere(bad, block, place, into, attempt);
  }

  async #readAllElsewhere(
    bad: readonly number[],
    block: BlockNumber,
    place: number,
    into: Buffer,
    attempt: number,
  ): Promise<void> {
    for (const at of bad) {
      const data = into.subarray(at * BLOCK_SIZE, (at + 1) * BLOCK_SIZE);
      await this.#readElsewhere(block + at, place + at, data, attempt + 1);
    }
  }

  /** The place did not hold the block: it moved meanwhile, or is damaged. Clean damage is repaired from the remote. */
  async #readElsewhere(block: BlockNumber, place: number, into: Buffer, attempt: number): Promise<void> {
    const { index } = this.#state.log;
    invariant(attempt < MAX_ATTEMPTS, `block ${block} of the cache log comes to rest`);
    if (index.place(block) === place && this.#state.stagedFor(block) === undefined) {
      if (index.isDirty(block)) {
        const rescued = await rescueFromImage(this.#state, block, place);
        if (rescued !== undefined) {
          this.#diary.warn({ block }, 'a damaged block of the cache log is read from the image');
          rescued.copy(into);
          return;
        }
        // Otherwise something newer is there by now.
        if (index.place(block) === place && this.#state.stagedFor(block) === undefined) {
          this.#state.noteDamaged(block);
          this.#diary.error({ block }, 'a block that was not replicated yet is damaged in the cache log');
        }
      } else {
        index.clearIfAt(block, place);
        this.repaired++;
        this.#diary.warn({ block }, 'a damaged block of the cache is fetched again');
      }
    }
    await Promise.all(this.#plan(block, 1, into, attempt));
  }

  #unknownFate(block: BlockNumber): FarshoreError {
    return new FarshoreError(
      'stopped',
      `block ${block} was being written when the cache log stopped; a restart of the gateway finds out what became of it`,
    );
  }
}
