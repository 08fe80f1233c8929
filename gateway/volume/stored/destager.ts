import { sleep, type CancelTimer, type Clock } from '../../base/clock.ts';
import { describeError, FarshoreError, isKind } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber, type WriteSeq } from '../../base/units.ts';
import { chunkOfPlace } from '../../cache/layout.ts';
import type { LogOp } from '../../cache/log-op.ts';
import type { BlockRange } from '../../cache/unmap-payload.ts';
import type { BlockState } from '../block-state.ts';
import { BlockSet } from '../block-set.ts';
import { BlockBits } from './block-bits.ts';
import type { Image } from './image.ts';
import { MAX_LOST_BLOCKS } from './stored-state.ts';
import { Suspects } from './suspects.ts';

/** What is written again and again reaches the image once in this time. */
const DESTAGE_DELAY_MS = 1_000;

/** So many blocks are not waited with. */
const DESTAGE_BLOCKS: BlockCount = 4_096;

/** One write of the image: 1 MiB. */
const PIECE_BLOCKS: BlockCount = 256;

/** After the image's disk has failed. */
const RETRY_MS = 5_000;

export interface DestagerHooks {
  /** Resolves when a start will know of the blocks in `lost`; rejects as the disk does. */
  rememberLost(): Promise<void>;
  /** The image has more, on stable storage. */
  advanced(): void;
}

/** Somebody waits until a sequence is reached. */
interface Waiter {
  readonly through: WriteSeq;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * Copies from the log to the image, in rounds, ascending by block: each block's newest content, once. Only what is on stable storage in the
 * log goes to the image (else a power cut could leave the image ahead of the log), and `through` rises only after the image was synced, so
 * a round that a crash cuts short is done again from the log.
 *
 * With s the newest logged write of a block: if s ≤ `through`, the image has it on stable storage; otherwise the log has it.
 */
export class Destager {
  readonly #image: Image;
  readonly #clock: Clock;
  readonly #diary: Log;
  readonly #hooks: DestagerHooks;
  readonly #waiters: Waiter[] = [];
  readonly #appendWaiters: Waiter[] = [];
  /** Blocks that the image has an older content of than the volume had. */
  readonly lost: Set<BlockNumber>;
  /** Some of them a start would not know of. */
  #hasNewLost = false;
  #state: BlockState | undefined;
  #through: WriteSeq;
  /** Not in the image, and not in the round under way. */
  #writes = new BlockBits();
  #unmaps = new BlockSet();
  /** In the round under way. */
  #inRound: BlockBits | undefined;
  #isHurried = false;
  #suspects = new Suspects();
  /** Those of them that the round under way has passed over. */
  #stillSuspect = new Suspects();
  #running: Promise<void> | undefined;
  #cancelTimer: CancelTimer | undefined;
  readonly #stop = new AbortController();
  #stopped: Error | undefined;
  /** An alarm: the disk of the image fails. */
  problem: string | undefined;

  constructor(
    image: Image,
    through: WriteSeq,
    lost: readonly BlockNumber[],
    tools: { readonly clock: Clock; readonly log: Log },
    hooks: DestagerHooks,
  ) {
    this.#image = image;
    this.#through = through;
    this.lost = new Set(lost);
    this.#clock = tools.clock;
    this.#diary = tools.log;
    this.#hooks = hooks;
  }

  /** The image has every write up to it, or something newer lies in the log. */
  get through(): WriteSeq {
    return this.#through;
  }

  /** Written blocks that the image does not have yet. */
  get backlog(): BlockCount {
    return this.#writes.size + (this.#inRound?.size ?? 0);
  }

  /** Recovery has told of all that the image does not have. */
  start(state: BlockState): void {
    this.#state = state;
    // The last process may have brought any of it to the image, and met a sync that failed.
    this.#suspects.addAll(this.#writes, this.#unmaps);
    this.#look();
  }

  /** The operation is in the log. */
  add(op: LogOp): void {
    if (op.ranges.length > 0) this.addUnmap(op.ranges);
    else this.addWrite(op.block, op.slots);
    if (this.#appendWaiters.length > 0) resolveThrough(this.#appendWaiters, op.seq);
    this.#look();
  }

  /** The same, found by recovery. */
  addWrite(block: BlockNumber, count: BlockCount): void {
    this.#writes.add(block, count);
  }

  addUnmap(ranges: readonly BlockRange[]): void {
    for (const { block, count } of ranges) this.#unmaps.add(block, count);
  }

  /** Resolves when `through`, which is in the log, is reached; rejects when that can't be any more, or the image takes nothing now. */
  reach(through: WriteSeq): Promise<void> {
    if (this.#through >= through) return Promise.resolve();
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ through, resolve, reject });
      this.#look();
    });
  }

  /** Somebody waits for the log to have room. */
  hurry(): void {
    if (this.#writes.size === 0 && this.#unmaps.size === 0) return;
    this.#isHurried = true;
    this.#look();
  }

  /** Whether the image may not have, on stable storage, the newest content of the block that was logged. */
  isBehind(block: BlockNumber): boolean {
    return this.#writes.has(block) || this.#inRound?.has(block) === true || this.lost.has(block);
  }

  /** Nothing more goes to the image; resolves when nothing is on its way there. */
  async stop(error: Error): Promise<void> {
    if (this.#stopped === undefined) {
      this.#stopped = error;
      this.#stop.abort();
      this.#cancelTimer?.();
      for (const { reject } of [...this.#waiters.splice(0), ...this.#appendWaiters.splice(0)]) reject(error);
    }
    await this.#running;
  }

  #look(): void {
    const state = this.#state;
    if (state === undefined || this.#stopped !== undefined || this.#running !== undefined) return;
    const isUrgent = this.#isHurried || this.#waiters.length > 0 || this.#writes.size >= DESTAGE_BLOCKS;
    if (isUrgent) {
      this.#cancelTimer?.();
      this.#cancelTimer = undefined;
      this.#running = this.#run(state);
    } else if (this.#writes.size > 0 || this.#unmaps.size > 0) {
      this.#cancelTimer ??= this.#clock.startTimer(DESTAGE_DELAY_MS, () => {
        this.#cancelTimer = undefined;
        this.#running ??= this.#run(state);
      });
    }
  }

  async #run(state: BlockState): Promise<void> {
    try {
      await this.#round(state);
      this.problem = undefined;
    } catch (error) {
      if (!isKind(error, 'stopped', 'busy', 'damaged')) {
        this.#diary.error({ reason: describeError(error) }, 'what is written cannot be brought to the image');
      }
      this.problem = `what is written stays in the cache, because it cannot be brought to its image (tried again all the time): ${describeError(error)}`;
      this.#diary.warn({ reason: describeError(error) }, 'the image takes nothing now; trying again');
      // A stop is not kept waiting for a disk that may never mend: the log has it all.
      const reason = new FarshoreError('stopped', describeError(error), { cause: error });
      for (const { reject } of this.#waiters.splice(0)) reject(reason);
      await sleep(this.#clock, RETRY_MS, this.#stop.signal);
    }
    this.#running = undefined;
    this.#look();
  }

  async #round(state: BlockState): Promise<void> {
    const { cache, log } = state;
    const mark = state.visibleThrough;
    const writes = this.#writes;
    const unmaps = this.#unmaps;
    this.#writes = new BlockBits();
    this.#unmaps = new BlockSet();
    this.#inRound = writes;
    this.#isHurried = false;
    this.#stillSuspect = new Suspects();
    const { failedSyncs } = this.#image;
    try {
      // A group that has begun may not have everything up to the mark.
      while (log.syncedThrough < mark) await cache.sync(log);
      const newer = { seq: 0 };
      await this.#zero(state, unmaps, newer);
      await this.#write(state, writes, unmaps, newer);
      await this.#image.sync();
      if (failedSyncs !== this.#image.failedSyncs) throw this.#image.syncFailed();
      // What was passed over, because something newer is in the log or on its way there, is only safe once that is on stable storage.
      while (log.syncedThrough < newer.seq) {
        this.#throwIfStopped();
        if (log.appendedThrough < newer.seq) await this.#appended(newer.seq);
        await cache.sync(log);
      }
      // Once D has passed such a block the log may drop what is left of it, and then nothing else says that the image's content is old.
      if (this.#hasNewLost) await this.#hooks.rememberLost();
      this.#hasNewLost = false;
      this.#suspects = this.#stillSuspect;
    } catch (error) {
      this.#suspects.addAll(writes, unmaps);
      // All of it again: after a failed sync nothing is known of what was written before it.
      for (const { block, count } of rangesOf(unmaps)) this.#unmaps.add(block, count);
      for (let at = writes.next(0); at !== undefined; at = writes.next(at + 1)) this.#writes.add(at, 1);
      throw error;
    } finally {
      this.#inRound = undefined;
    }
    this.#through = mark;
    resolveThrough(this.#waiters, mark);
    this.#hooks.advanced();
  }

  #appended(seq: WriteSeq): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#appendWaiters.push({ through: seq, resolve, reject });
    });
  }

  /** What the log does not have again reads zeros. */
  async #zero(state: BlockState, unmaps: BlockSet, newer: { seq: WriteSeq }): Promise<void> {
    const { log } = state;
    for (const { block: first, count } of rangesOf(unmaps)) {
      const end = first + count;
      for (let at = first; at < end;) {
        this.#throwIfStopped();
        // What was written since is in this round, or in the next one.
        if (log.index.has(at)) {
          newer.seq = Math.max(newer.seq, log.appendedThrough);
          this.#passOver(at);
          at++;
          continue;
        }
        const isSuspect = this.#isSuspect(at);
        let run = 1;
        while (
          run < PIECE_BLOCKS &&
          at + run < end &&
          !log.index.has(at + run) &&
          this.#isSuspect(at + run) === isSuspect
        )
          run++;
        await this.#image.zero(at, run, isSuspect);
        if (this.lost.size > 0) for (let block = at; block < at + run; block++) this.lost.delete(block);
        at += run;
      }
    }
  }

  async #write(state: BlockState, writes: BlockBits, unmaps: BlockSet, newer: { seq: WriteSeq }): Promise<void> {
    const piece = Buffer.allocUnsafe(PIECE_BLOCKS * BLOCK_SIZE);
    for (let block = writes.next(0); block !== undefined;) {
      this.#throwIfStopped();
      const count = writes.run(block, PIECE_BLOCKS);
      for (let at = 0; at < count;) at += await this.#writeRun(state, block + at, count - at, piece, unmaps, newer);
      block = writes.next(block + count);
    }
  }

  /** Writes the longest run from `first` on that is to be written, or passes over a block; answers how many blocks were dealt with. */
  async #writeRun(
    state: BlockState,
    first: BlockNumber,
    most: BlockCount,
    piece: Buffer,
    unmaps: BlockSet,
    newer: { seq: WriteSeq },
  ): Promise<BlockCount> {
    const { log, cache } = state;
    const { index } = log;
    if (this.#writes.has(first) || this.#unmaps.has(first)) {
      newer.seq = Math.max(newer.seq, log.appendedThrough);
      this.#passOver(first);
      return 1;
    }
    const place = index.place(first);
    if (place === 0) {
      if (!unmaps.has(first)) this.#passOver(first);
      if (state.isDamaged(first)) this.#lose(first);
      // Zeroed already, or an unmap of it is on its way into the log: which of them, nobody knows where it was passed over among the unmaps.
      else newer.seq = Math.max(newer.seq, log.assignedThrough);
      return 1;
    }
    let run = 0;
    for (let block = first; run < most && !this.#writes.has(block); block++, run++) {
      const inMemory = index.has(block) ? cache.ram.peek(log.number, block) : undefined;
      if (inMemory === undefined) break;
      inMemory.copy(piece, run * BLOCK_SIZE);
    }
    if (run === 0) {
      run = 1;
      while (
        run < most &&
        index.place(first + run) === place + run &&
        chunkOfPlace(place + run) === chunkOfPlace(place) &&
        !this.#writes.has(first + run)
      )
        run++;
      const bad = await cache.readRun(log, place, run, first, piece.subarray(0, run * BLOCK_SIZE));
      const [firstBad] = bad;
      if (firstBad === 0) return this.#passBad(state, first, place, newer);
      if (firstBad !== undefined) run = firstBad;
    }
    await this.#image.write(first, piece.subarray(0, run * BLOCK_SIZE));
    if (this.lost.size > 0) for (let block = first; block < first + run; block++) this.lost.delete(block);
    return run;
  }

  /** The log has something else where the block should be: it is somewhere else by now, or gone. */
  #passBad(state: BlockState, block: BlockNumber, place: number, newer: { seq: WriteSeq }): BlockCount {
    this.#passOver(block);
    if (state.log.index.place(block) !== place) {
      newer.seq = Math.max(newer.seq, state.log.assignedThrough);
      return 1;
    }
    this.#diary.error({ block }, 'a block that the image does not have yet is damaged in the cache log');
    state.noteDamaged(block);
    this.#lose(block);
    return 1;
  }

  #isSuspect(block: BlockNumber): boolean {
    return !this.#suspects.isEmpty && this.#suspects.has(block);
  }

  /** What is not written in this round is as suspect as it was. */
  #passOver(block: BlockNumber): void {
    if (this.#isSuspect(block)) this.#stillSuspect.add(block);
  }

  /** The image has an older content of it, which nobody may read. */
  #lose(block: BlockNumber): void {
    if (this.lost.size >= MAX_LOST_BLOCKS)
      throw new FarshoreError(
        'damaged',
        `more than ${MAX_LOST_BLOCKS} blocks of the cache log are damaged; check the disk of the cache`,
      );
    this.lost.add(block);
    this.#hasNewLost = true;
  }

  #throwIfStopped(): void {
    if (this.#stopped !== undefined) throw this.#stopped;
  }
}

function resolveThrough(waiters: Waiter[], through: WriteSeq): void {
  for (let at = 0; at < waiters.length;) {
    const waiter = waiters[at];
    if (waiter === undefined || waiter.through > through) at++;
    else {
      waiters.splice(at, 1);
      waiter.resolve();
    }
  }
}

function rangesOf(set: BlockSet): BlockRange[] {
  const pairs = set.pairs();
  return Array.from({ length: set.size }, (_, at) => ({ block: pairs[2 * at] ?? 0, count: pairs[2 * at + 1] ?? 0 }));
}
