import type { Clock } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { BlockCount, BlockNumber, WallMillis, WriteSeq } from '../base/units.ts';
import { KIND_UNMAP } from '../cache/descriptor.ts';
import type { LogOp } from '../cache/log-op.ts';
import type { BlockRange } from '../cache/unmap-payload.ts';
import { BatchBuilder, type Placed, type SealedBatch } from './batch-builder.ts';
import type { BlockState } from './block-state.ts';

/** Dirty blocks whose places are kept in memory (24 bytes each); those of later operations are read from the log when it is their turn. */
export const MAX_HELD_BLOCKS: BlockCount = 65_536;

/**
 * What is in the log and not yet on its way to the remote: batches that are sealed, and the one that grows. When it holds enough, operations
 * are only counted, until `refill` reads them from the log: memory does not grow with what is dirty.
 */
export class DirtyBacklog {
  readonly #clock: Clock;
  readonly #mostBlocks: BlockCount;
  readonly #builder = new BatchBuilder();
  readonly #sealed: SealedBatch[] = [];
  #sealedBlocks: BlockCount = 0;
  /** Every operation up to it is in a batch, or was. */
  #takenThrough: WriteSeq = 0;
  /** Newest operation in the log. */
  #loggedThrough: WriteSeq = 0;
  /** Arrival of the first operation that was only counted; undefined when none is. */
  #countedSinceMs: number | undefined;
  #refilling = false;
  /** Of every write since the opening, overwritten or not. */
  #writtenBlocks: BlockCount = 0;
  /** Nothing is held: everything is only counted. */
  #isSuspended = false;
  /** The last refill found nothing: what is missing can only be missed when all before it is gone. */
  #isStuck = false;

  constructor(clock: Clock, mostBlocks: BlockCount) {
    this.#clock = clock;
    this.#mostBlocks = mostBlocks;
  }

  /** Sealed batches. */
  get batches(): number {
    return this.#sealed.length;
  }

  get growing(): Pick<BatchBuilder, 'blocks' | 'isEmpty' | 'oldestMs' | 'firstSeq'> {
    return this.#builder;
  }

  /** Arrival of the oldest operation, on the monotonic clock. */
  get oldestMs(): number | undefined {
    const [oldest] = this.#sealed;
    if (oldest !== undefined) return oldest.oldestMs;
    return this.#builder.isEmpty ? this.#countedSinceMs : this.#builder.oldestMs;
  }

  /** Blocks that were written since the opening, each time they were. */
  get writtenBlocks(): BlockCount {
    return this.#writtenBlocks;
  }

  /** Blocks whose places are in memory. */
  get heldBlocks(): BlockCount {
    return this.#sealedBlocks + this.#builder.blocks;
  }

  /** Whether operations have to be read from the log, and there is room for them. */
  get wantsRefill(): boolean {
    if (this.#countedSinceMs === undefined || this.#refilling || this.#isSuspended) return false;
    return this.heldBlocks <= (this.#isStuck ? 0 : this.#mostBlocks / 2);
  }

  /** The oldest sealed batch, which stays. */
  get next(): SealedBatch | undefined {
    return this.#sealed[0];
  }

  /** Takes the oldest sealed batch away. */
  take(): void {
    this.#sealedBlocks -= this.#sealed.shift()?.blocks.length ?? 0;
  }

  /** Forgets what is held, and only counts from now on: the log may drop what it points at. */
  suspend(): void {
    this.#countedSinceMs ??= this.oldestMs;
    this.#sealed.length = 0;
    this.#sealedBlocks = 0;
    if (!this.#builder.isEmpty) this.#builder.seal();
    this.#isSuspended = true;
  }

  /** What lies behind `through` is to be had again. */
  resume(through: WriteSeq): void {
    this.#isSuspended = false;
    this.#isStuck = false;
    this.#takenThrough = through;
    if (this.#loggedThrough <= through) this.#countedSinceMs = undefined;
  }

  seal(): void {
    const batch = this.#builder.seal();
    this.#sealedBlocks += batch.blocks.length;
    this.#sealed.push(batch);
  }

  /** The operation is in the log. */
  add(op: LogOp): void {
    const { seq, arrivedAt: at, arrivedMs: ms } = op;
    if (op.kind !== KIND_UNMAP) this.#writtenBlocks += op.slots;
    if (!this.#count(seq, ms)) return;
    if (op.kind === KIND_UNMAP) this.#takeUnmap(seq, at, ms, op.ranges);
    else this.#takeWrite(seq, at, ms, op.block, op.slots, op);
  }

  /** Recovery found a write that is not committed; in the order of sequences. */
  addFoundWrite(seq: WriteSeq, wallSeconds: number, block: BlockNumber, places: readonly number[]): void {
    if (this.#count(seq, this.#arrivalMs(wallSeconds))) this.#takeFoundWrite(seq, wallSeconds, block, places);
  }

  addFoundUnmap(seq: WriteSeq, wallSeconds: number, ranges: readonly BlockRange[]): void {
    const ms = this.#arrivalMs(wallSeconds);
    if (this.#count(seq, ms)) this.#takeUnmap(seq, wallSeconds * 1000, ms, ranges);
  }

  /**
   * Reads operations that were only counted, as many as there is room for. Rejects with `damaged` when the log has lost one of them: nothing
   * behind it may be replicated then.
   */
  async refill({ cache, log }: BlockState): Promise<void> {
    const before = this.#takenThrough;
    /** What was held may be on its way before the replay has ended, so that says nothing of why it ended. */
    let isFull = false;
    this.#refilling = true;
    try {
      await cache.replay(log, this.#takenThrough, (op) => {
        if (op.seq > this.#loggedThrough || this.#isSuspended) return false;
        isFull = this.heldBlocks >= this.#mostBlocks && !this.#builder.isEmpty;
        if (isFull) return false;
        // What lies before a gap can still be replicated.
        if (op.seq !== this.#takenThrough + 1) return false;
        if (op.kind === 'unmap') {
          if (op.ranges === undefined) return false;
          this.#takeUnmap(op.seq, op.wallSeconds * 1000, this.#arrivalMs(op.wallSeconds), op.ranges);
        } else this.#takeFoundWrite(op.seq, op.wallSeconds, op.block, op.places);
        this.#countedSinceMs = this.#arrivalMs(op.wallSeconds);
        return true;
      });
      if (this.#isSuspended) return;
      this.#isStuck = this.#takenThrough === before && !isFull;
      if (this.#takenThrough === this.#loggedThrough) this.#countedSinceMs = undefined;
      else if (this.#isStuck && this.heldBlocks === 0 && this.#sealed.length === 0 && this.#builder.isEmpty)
        throw lostOperation(this.#takenThrough + 1);
    } finally {
      this.#refilling = false;
    }
  }

  /** Notes that the operation is in the log; answers whether it is taken now. */
  #count(seq: WriteSeq, ms: number): boolean {
    this.#loggedThrough = seq;
    if (
      !this.#isSuspended &&
      this.#countedSinceMs === undefined &&
      (this.heldBlocks < this.#mostBlocks || this.#builder.isEmpty)
    )
      return true;
    this.#countedSinceMs ??= ms;
    return false;
  }

  #takeFoundWrite(seq: WriteSeq, wallSeconds: number, block: BlockNumber, places: readonly number[]): void {
    const ms = this.#arrivalMs(wallSeconds);
    const placed = { placeAt: (index: number): number => places[index] ?? 0 };
    this.#takeWrite(seq, wallSeconds * 1000, ms, block, places.length, placed);
  }

  #takeWrite(seq: WriteSeq, at: WallMillis, ms: number, block: BlockNumber, count: BlockCount, placed: Placed): void {
    if (!this.#builder.isEmpty && !this.#builder.fitsWrite(block, count)) this.seal();
    this.#builder.addWrite(seq, at, ms, block, count, placed);
    this.#takenThrough = seq;
  }

  #takeUnmap(seq: WriteSeq, at: WallMillis, ms: number, ranges: readonly BlockRange[]): void {
    if (!this.#builder.isEmpty && !this.#builder.fitsUnmap(ranges.length)) this.seal();
    this.#builder.addUnmap(seq, at, ms, ranges);
    this.#takenThrough = seq;
  }

  #arrivalMs(wallSeconds: number): number {
    return this.#clock.monotonicMs() - Math.max(0, this.#clock.now() - wallSeconds * 1000);
  }
}

function lostOperation(seq: WriteSeq): FarshoreError {
  return new FarshoreError(
    'damaged',
    `the cache log has lost write ${seq}, which is in no version yet; restore the volume with --takeover to go on from the last version`,
  );
}
