import type { MaybePromise, WriteEnd } from '../base/block-device.ts';
import { sleep, type Clock } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber, type ByteCount } from '../base/units.ts';
import { KIND_UNMAP, KIND_WRITE } from '../cache/descriptor.ts';
import { MAX_OP_BLOCKS } from '../cache/layout.ts';
import { LogOp, PromisedEnd, slicePieces, type LogOpKind, type LogOpOwner } from '../cache/log-op.ts';
import { encodeUnmap, MAX_UNMAP_RANGES, type BlockRange } from '../cache/unmap-payload.ts';
import { ZERO_BLOCK, type BlockState } from './block-state.ts';
import { RangeLock } from './range-lock.ts';
import type { ReadPath } from './read-path.ts';

/** Unmapped ranges that no version has yet; more have to wait for commits. */
const MAX_PENDING_UNMAPS = 65_536;

/** Parts of blocks that one UNMAP zeroes at a time. */
const MAX_EDGES_AT_ONCE = 32;

const UNMAP_WAIT_MS = 100;
const MAX_UNMAP_WAITS = 200;

/** Longest single operation of the log: it is recovered, and committed, whole or not at all. */
export const OP_BYTES: ByteCount = MAX_OP_BLOCKS * BLOCK_SIZE;

interface ByteRange {
  readonly from: ByteCount;
  readonly to: ByteCount;
}

export interface WritePathDeps {
  readonly state: BlockState;
  readonly reads: ReadPath;
  readonly clock: Clock;
  readonly owner: LogOpOwner;
  /** Why the volume takes no writes now; asked again after every wait. */
  readonly check: () => FarshoreError | undefined;
  /** Of a full volume: see Quota.admit. */
  readonly admit: (block: BlockNumber, count: BlockCount) => Promise<void>;
  /** `isHolding`: writes are acked, and seen, when a version has them. */
  readonly replication: { readonly isHolding: boolean };
}

/** Writes and unmaps of a volume: back-pressure, read-modify-write, staging. */
export class WritePath {
  readonly #state: BlockState;
  readonly #reads: ReadPath;
  readonly #clock: Clock;
  readonly #owner: LogOpOwner;
  readonly #check: WritePathDeps['check'];
  readonly #admit: WritePathDeps['admit'];
  readonly #replication: WritePathDeps['replication'];
  readonly #locks = new RangeLock();
  #gathered = new GatheredEnd();

  constructor(deps: WritePathDeps) {
    this.#state = deps.state;
    this.#reads = deps.reads;
    this.#clock = deps.clock;
    this.#owner = deps.owner;
    this.#check = deps.check;
    this.#admit = deps.admit;
    this.#replication = deps.replication;
  }

  /**
   * Bytes [from, from + length of the pieces); resolves when they are in the log, or, when writes are held, in a version. Rejects with `busy`,
   * `stopped`, `fenced`, `damaged`, `unreplicated`.
   */
  write(from: ByteCount, pieces: readonly Buffer[]): Promise<void> {
    const end = new PromisedEnd();
    this.start(from, pieces, end);
    return end.promise;
  }

  /** As `write`, and `end` hears. */
  start(from: ByteCount, pieces: readonly Buffer[], end: WriteEnd): void {
    let bytes = 0;
    for (const piece of pieces) bytes += piece.length;
    if (this.#state.isFullFor(Math.ceil(bytes / BLOCK_SIZE)))
      tellWhenDone(this.#writeWhenAdmitted(from, bytes, pieces), end);
    else this.#start(from, bytes, pieces, end);
  }

  async #writeWhenAdmitted(from: ByteCount, bytes: ByteCount, pieces: readonly Buffer[]): Promise<void> {
    const refusal = this.#check();
    if (refusal !== undefined) throw refusal;
    const first = Math.floor(from / BLOCK_SIZE);
    await this.#admit(first, Math.ceil((from + bytes) / BLOCK_SIZE) - first);
    const end = new PromisedEnd();
    this.#start(from, bytes, pieces, end);
    await end.promise;
  }

  #start(from: ByteCount, bytes: ByteCount, pieces: readonly Buffer[], end: WriteEnd): void {
    if (from % BLOCK_SIZE !== 0 || bytes % BLOCK_SIZE !== 0 || bytes > OP_BYTES) {
      tellWhenDone(this.#writeSpans(from, bytes, pieces), end);
    } else this.#startBlocks(from / BLOCK_SIZE, bytes / BLOCK_SIZE, pieces, end);
  }

  /** See BlockDevice.gatherWrite: bytes [from, from + length of the data). */
  gather(from: ByteCount, data: Buffer): boolean {
    const bytes = data.length;
    if (from % BLOCK_SIZE !== 0 || bytes % BLOCK_SIZE !== 0 || bytes > OP_BYTES) return false;
    const block = from / BLOCK_SIZE;
    const count = bytes / BLOCK_SIZE;
    if (this.#replication.isHolding) return false;
    if (this.#check() !== undefined || this.#state.beyondEnd(block, count) !== undefined) return false;
    if (this.#state.isFullFor(count) || !this.#locks.isFree(block, count)) return false;
    if (!this.#state.reserveAtOnce(count)) return false;
    this.#gathered.open += 1;
    this.#stage(block, count, [data], this.#gathered);
    return true;
  }

  /** See BlockDevice.logGathered. */
  logGathered(): MaybePromise<void> {
    const gathered = this.#gathered;
    if (gathered.open > 0) this.#state.cache.appendNow();
    if (gathered.open === 0 && gathered.error === undefined) return undefined;
    this.#gathered = new GatheredEnd();
    return gathered.outcome();
  }

  /**
   * Writes a block once more where the log has lost it, unless something newer is there when its turn has come: `isNewest` is asked in the
   * moment of staging. Resolves when it is in the log, or not needed; rejects as `write` does.
   */
  async writeAgain(block: BlockNumber, content: Buffer, isNewest: () => boolean): Promise<void> {
    const refusal = this.#check();
    if (refusal !== undefined) throw refusal;
    const reserved = this.#state.reserve(1);
    if (reserved !== undefined) await reserved;
    const end = new PromisedEnd();
    const op = await this.#withLock(block, 1, 1, end, async () =>
      isNewest() ? this.#stage(block, 1, [content], end) : undefined,
    );
    if (op !== undefined) await end.promise;
    else this.#state.cache.unreserve(1);
  }

  /** Whole blocks inside read zeros afterwards; parts of blocks are zeroed. Byte ranges. Resolves when all of it is in the log. */
  async unmap(ranges: readonly ByteRange[]): Promise<void> {
    const whole: BlockRange[] = [];
    const edges: ByteRange[] = [];
    for (const { from, to } of ranges) {
      const first = Math.ceil(from / BLOCK_SIZE);
      const end = Math.floor(to / BLOCK_SIZE);
      // Within a block, or parts of two, it has no whole one.
      const inner = Math.min(to, first * BLOCK_SIZE);
      if (first < end) whole.push({ block: first, count: end - first });
      edges.push({ from, to: inner }, { from: Math.max(inner, end * BLOCK_SIZE), to });
    }
    const done: Promise<void>[] = [];
    for (let at = 0; at < whole.length; at += MAX_UNMAP_RANGES) {
      done.push(this.#unmapBlocks(whole.slice(at, at + MAX_UNMAP_RANGES)));
    }
    done.push(this.#zero(edges.filter(({ from, to }) => from < to)));
    await settleAll(done);
  }

  /** A few at a time: each takes a block of memory and of the log, and one UNMAP can have thousands of them. */
  async #zero(edges: readonly ByteRange[]): Promise<void> {
    for (let at = 0; at < edges.length; at += MAX_EDGES_AT_ONCE) {
      const some = edges.slice(at, at + MAX_EDGES_AT_ONCE);
      await settleAll(some.map(({ from, to }) => this.#readModifyWrite(from, to, [ZERO_BLOCK.subarray(0, to - from)])));
    }
  }

  async #writeSpans(from: ByteCount, bytes: ByteCount, pieces: readonly Buffer[]): Promise<void> {
    const done: Promise<void>[] = [];
    const to = from + bytes;
    for (let start = from; start < to;) {
      // Whole blocks in the middle, and few of them: every operation is atomic, and none longer than the log allows.
      const border = Math.floor(start / BLOCK_SIZE) * BLOCK_SIZE + OP_BYTES;
      const end = Math.min(to, border);
      done.push(this.#writeSpan(start, end, slicePieces(pieces, start - from, end - from)));
      start = end;
    }
    await settleAll(done);
  }

  #writeSpan(from: ByteCount, to: ByteCount, pieces: readonly Buffer[]): Promise<void> {
    if (from % BLOCK_SIZE === 0 && to % BLOCK_SIZE === 0) {
      const end = new PromisedEnd();
      this.#startBlocks(from / BLOCK_SIZE, (to - from) / BLOCK_SIZE, pieces, end);
      return end.promise;
    }
    return this.#readModifyWrite(from, to, pieces);
  }

  #startBlocks(block: BlockNumber, count: BlockCount, pieces: readonly Buffer[], end: WriteEnd): void {
    const refusal = this.#check() ?? this.#state.beyondEnd(block, count);
    if (refusal !== undefined) {
      tellWhenDone(Promise.reject(refusal), end);
      return;
    }
    const reserved = this.#state.reserve(count);
    if (reserved === undefined && !this.#replication.isHolding && this.#locks.isFree(block, count))
      this.#stage(block, count, pieces, end);
    else tellWhenDone(this.#writeLater(reserved, block, count, pieces), end);
  }

  async #writeLater(
    reserved: MaybePromise<void>,
    block: BlockNumber,
    count: BlockCount,
    pieces: readonly Buffer[],
  ): Promise<void> {
    if (reserved !== undefined) await reserved;
    const end = new PromisedEnd();
    await this.#withLock(block, count, count, end, async () => this.#stage(block, count, pieces, end));
    await end.promise;
  }

  async #readModifyWrite(from: ByteCount, to: ByteCount, pieces: readonly Buffer[]): Promise<void> {
    const refusal = this.#check();
    if (refusal !== undefined) throw refusal;
    const first = Math.floor(from / BLOCK_SIZE);
    const count = Math.ceil(to / BLOCK_SIZE) - first;
    // No waiting where there is nothing to wait for: overlapping commands then keep their order.
    const reserved = this.#state.reserve(count);
    if (reserved !== undefined) await reserved;
    const end = new PromisedEnd();
    await this.#withLock(first, count, count, end, async () => {
      const start = first * BLOCK_SIZE;
      const content = Buffer.allocUnsafe(count * BLOCK_SIZE);
      const last = count - 1;
      if (from > start) await this.#reads.readInto(first, 1, content.subarray(0, BLOCK_SIZE));
      if (to < start + content.length && !(last === 0 && from > start)) {
        await this.#reads.readInto(first + last, 1, content.subarray(last * BLOCK_SIZE));
      }
      let at = from - start;
      for (const piece of pieces) at += piece.copy(content, at);
      return this.#stage(first, count, [content], end);
    });
    await end.promise;
  }

  async #unmapBlocks(ranges: readonly BlockRange[]): Promise<void> {
    const refusal = this.#check();
    if (refusal !== undefined) throw refusal;
    if (this.#state.pendingUnmaps > MAX_PENDING_UNMAPS) await this.#unmapRoom();
    const reserved = this.#state.reserve(1);
    if (reserved !== undefined) await reserved;
    const first = Math.min(...ranges.map(({ block }) => block));
    const last = Math.max(...ranges.map(({ block, count }) => block + count));
    const end = new PromisedEnd();
    await this.#withLock(first, last - first, 1, end, async () => {
      const tooLate = this.#state.beyondEnd(first, last - first);
      if (tooLate !== undefined) throw tooLate;
      return this.#stageUnmap(first, ranges, end);
    });
    await end.promise;
  }

  async #unmapRoom(): Promise<void> {
    for (let waits = 0; this.#state.pendingUnmaps > MAX_PENDING_UNMAPS; waits++) {
      if (waits === MAX_UNMAP_WAITS) {
        throw new FarshoreError('busy', 'too many unmapped ranges wait to be replicated; unmap fewer at a time');
      }
      this.#state.log.onPressure();
      await sleep(this.#clock, UNMAP_WAIT_MS);
    }
  }

  /**
   * Runs `work` when nobody holds any of the blocks; gives the reserved slots back if it comes to nothing. What it stages keeps the blocks, if it is
   * held, until `end` has heard.
   */
  async #withLock(
    block: BlockNumber,
    count: BlockCount,
    reserved: number,
    end: PromisedEnd,
    work: () => Promise<LogOp | undefined>,
  ): Promise<LogOp | undefined> {
    const release = await this.#locks.acquire(block, count);
    let op: LogOp | undefined;
    try {
      op = await work();
      return op;
    } catch (error) {
      this.#state.cache.unreserve(reserved);
      throw error;
    } finally {
      if (op?.isHeld === true) void end.promise.then(release, release);
      else release();
    }
  }

  /** The moment a write takes its place in the volume's history. */
  #stage(block: BlockNumber, count: BlockCount, pieces: readonly Buffer[], end: WriteEnd): LogOp {
    const refusal = this.#state.beyondEnd(block, count);
    if (refusal !== undefined) throw refusal;
    const op = this.#newOp(KIND_WRITE, block, count, pieces, end, undefined);
    if (op.isHeld) this.#state.hold(op);
    else this.#state.stageWrite(op);
    this.#state.cache.append(op);
    return op;
  }

  #stageUnmap(block: BlockNumber, ranges: readonly BlockRange[], end: WriteEnd): LogOp {
    const op = this.#newOp(KIND_UNMAP, block, 1, [encodeUnmap(ranges)], end, ranges);
    if (op.isHeld) this.#state.hold(op);
    else this.#state.stageUnmap(op, ranges);
    this.#state.cache.append(op);
    return op;
  }

  #newOp(
    kind: LogOpKind,
    block: BlockNumber,
    slots: BlockCount,
    data: readonly Buffer[],
    end: WriteEnd,
    ranges: readonly BlockRange[] | undefined,
  ): LogOp {
    const refusal = this.#check();
    if (refusal !== undefined) throw refusal;
    const { log } = this.#state;
    return new LogOp({
      log,
      owner: this.#owner,
      kind,
      seq: log.nextSeq(),
      block,
      slots,
      data,
      arrivedAt: this.#clock.now(),
      arrivedMs: this.#clock.monotonicMs(),
      end,
      isHeld: this.#replication.isHolding,
      ranges,
    });
  }
}

/** Hears of all the writes that were gathered and logged together. */
class GatheredEnd implements WriteEnd {
  /** Writes that have not ended. */
  open = 0;
  error: Error | undefined;
  #allEnded: (() => void) | undefined;

  writeEnded(error: Error | undefined): void {
    this.open -= 1;
    this.error ??= error;
    if (this.open === 0) this.#allEnded?.();
  }

  /** Resolves when all have ended; rejects when one of them has failed: then the log has stopped, and what became of the others is not certain either. */
  async outcome(): Promise<void> {
    if (this.open > 0) {
      await new Promise<void>((resolve) => {
        this.#allEnded = resolve;
      });
    }
    if (this.error !== undefined) throw this.error;
  }
}

/** For a write that took the long way. */
function tellWhenDone(work: Promise<void>, end: WriteEnd): void {
  void work.then(
    () => {
      end.writeEnded(undefined);
    },
    (error: unknown) => {
      end.writeEnded(error instanceof Error ? error : new Error(String(error)));
    },
  );
}

/** Waits for all of them, then rejects with the first failure if there was one: nothing is left under way. */
async function settleAll(work: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(work);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason as Error;
}
