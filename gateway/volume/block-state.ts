import type { CacheLog } from '../cache/cache-log.ts';
import type { FillOwner } from '../cache/fill-writer.ts';
import type { LogOp } from '../cache/log-op.ts';
import type { VolumeLog } from '../cache/volume-log.ts';
import type { MaybePromise } from '../base/block-device.ts';
import { FarshoreError } from '../base/errors.ts';
import { BLOCK_SIZE, MAX_VOLUME_BYTES, type BlockCount, type BlockNumber, type WriteSeq } from '../base/units.ts';
import { LOST_BLOCK, type RemoteBlocks } from '../replication/remote-volume.ts';
import { KIND_WRITE } from '../cache/descriptor.ts';
import { READ_AHEAD, type CAME_ALONG } from '../cache/ram-tier.ts';
import type { BlockRange } from '../cache/unmap-payload.ts';
import { BlockSet } from './block-set.ts';
import type { PendingUnmaps } from './pending-unmaps.ts';
import { PendingWrites } from './pending-writes.ts';

/**
 * A read of the remote under way, or its blocks on their way into the log. It has a claim on each block it may still fill; whoever
 * changes the block takes the claim away.
 */
export class Miss implements FillOwner {
  readonly first: BlockNumber;
  readonly count: BlockCount;
  readonly answer: Promise<RemoteBlocks>;
  readonly #state: BlockState;
  /** What somebody waits for; the rest comes along, or is read ahead. */
  #wantedFrom: BlockNumber = Infinity;
  #wantedTo: BlockNumber = 0;
  readonly #unwanted: typeof CAME_ALONG | typeof READ_AHEAD;
  /** Nobody has waited for any of it yet. */
  #isPatient: boolean;

  constructor(
    state: BlockState,
    first: BlockNumber,
    count: BlockCount,
    answer: Promise<RemoteBlocks>,
    unwanted: typeof CAME_ALONG | typeof READ_AHEAD,
    isPatient: boolean,
  ) {
    this.#isPatient = isPatient;
    this.#state = state;
    this.first = first;
    this.count = count;
    this.answer = answer;
    this.#unwanted = unwanted;
  }

  want(block: BlockNumber, count: BlockCount): void {
    this.#wantedFrom = Math.min(this.#wantedFrom, block);
    this.#wantedTo = Math.max(this.#wantedTo, block + count);
  }

  /** Somebody waits for it: whether that is news, and its source is to be told. */
  beginHurry(): boolean {
    const isNews = this.#isPatient;
    this.#isPatient = false;
    return isNews;
  }

  get isAhead(): boolean {
    return this.#unwanted === READ_AHEAD;
  }

  isWanted(block: BlockNumber): boolean {
    return block >= this.#wantedFrom && block < this.#wantedTo;
  }

  /** For the RAM tier: why the block comes; undefined when it is wanted. */
  reasonFor(block: BlockNumber): number | undefined {
    return this.isWanted(block) ? undefined : this.#unwanted;
  }

  isFillWanted(block: BlockNumber): boolean {
    return this.#state.missFor(block) === this && !this.#state.log.index.has(block);
  }

  fillEnded(block: BlockNumber): void {
    this.#state.dropClaim(this, block);
  }
}

/** The image of a stored volume. */
export interface ImageBlocks {
  /** The image alone has the newest content of the block, as far as the log has not. */
  isMarked(block: BlockNumber): boolean;
  /** Whether the image may not have, on stable storage, the newest content of the block that was logged. */
  isBehind(block: BlockNumber): boolean;
  /** One block. Rejects with `stopped` when the disk of the image can't. */
  read(block: BlockNumber, into: Buffer): Promise<void>;
}

/** In the answer of an image read: the block was written or unmapped meanwhile, so nobody knows what was read. */
export const STALE_BLOCK = 3;

/**
 * Where the newest content of each block of an open volume is. In this order: in flight (`staged`), known to be damaged, in the RAM tier,
 * in the log (index), zeros by a pending unmap, in the remote. Every change is one synchronous step.
 */
export class BlockState {
  readonly cache: CacheLog;
  readonly log: VolumeLog;
  /** Size of the volume; nothing is staged beyond it. */
  volumeBlocks: BlockCount;
  /** With so many dirty blocks the quota is used up: see Quota. */
  dirtyLimit: BlockCount = Infinity;
  /** Synchronous writes that no version has: reads pass them by. */
  readonly pending = new PendingWrites();
  /** Newest operation in flight per block. */
  readonly #staged = new Map<BlockNumber, LogOp>();
  readonly #damaged: Set<BlockNumber>;
  readonly #unmaps: PendingUnmaps;
  /** Under unmaps that failed with the log: a restart may find them done or not. */
  readonly #unknown = new BlockSet();
  /** A block leaves when its fill has ended, and at once when it is written or unmapped: from then on the remote's content is old. */
  readonly #misses = new Map<BlockNumber, Miss>();

  /** What the log does not have lies in an image, not in the remote; undefined: in the remote. */
  readonly image: ImageBlocks | undefined;

  /** `damaged` and `unmaps` as recovery found them. */
  constructor(
    cache: CacheLog,
    log: VolumeLog,
    volumeBlocks: BlockCount,
    damaged: Set<BlockNumber>,
    unmaps: PendingUnmaps,
    image?: ImageBlocks,
  ) {
    this.image = image;
    this.cache = cache;
    this.log = log;
    this.volumeBlocks = volumeBlocks;
    this.#damaged = damaged;
    this.#unmaps = unmaps;
    log.isStaged = (block) => this.stagedFor(block) !== undefined || this.pending.covers(block);
  }

  /** Everything up to it is in the log, and readers see it. */
  get visibleThrough(): WriteSeq {
    const { oldest } = this.pending;
    return Math.min(this.log.appendedThrough, oldest === undefined ? Infinity : oldest.seq - 1);
  }

  get hasImage(): boolean {
    return this.image !== undefined;
  }

  get pendingUnmaps(): number {
    return this.#unmaps.size;
  }

  get damagedBlocks(): BlockCount {
    return this.#damaged.size;
  }

  someDamaged(): Iterable<BlockNumber> {
    return this.#damaged;
  }

  get openMisses(): number {
    return this.#misses.size;
  }

  get nothingStaged(): boolean {
    return this.#staged.size === 0;
  }

  stagedFor(block: BlockNumber): LogOp | undefined {
    return this.#staged.size === 0 ? undefined : this.#staged.get(block);
  }

  isDamaged(block: BlockNumber): boolean {
    return this.#damaged.size > 0 && this.#damaged.has(block);
  }

  isUnmapped(block: BlockNumber): boolean {
    return this.#unmaps.covers(block);
  }

  /** Where the pending unmap's cover next begins or ends after the block. */
  unmapBoundaryAfter(block: BlockNumber): BlockNumber {
    return this.#unmaps.boundaryAfter(block);
  }

  /** Nothing here knows the block: its content is the remote's. */
  isRemote(block: BlockNumber): boolean {
    return (
      this.stagedFor(block) === undefined &&
      !this.isDamaged(block) &&
      !this.log.index.has(block) &&
      !this.#unmaps.covers(block)
    );
  }

  /** Whether so many blocks that are not mapped may not be written now. */
  isFullFor(count: BlockCount): boolean {
    return this.log.index.dirtyBlocks + this.#staged.size + this.pending.blocks + count > this.dirtyLimit;
  }

  // ---- writes and unmaps

  /** Room for so many slots; undefined when there is some at once (see Admission.reserve). */
  reserve(slots: number): MaybePromise<void> {
    return this.cache.reserve(slots, this.log);
  }

  /** Whether so many slots are reserved now, for a write that is logged in this turn (see CacheLog.reserveAtOnce). */
  reserveAtOnce(slots: number): boolean {
    return this.cache.reserveAtOnce(slots, this.log);
  }

  /** Why these blocks can't be written: the volume was made smaller after the command was let in. */
  beyondEnd(block: BlockNumber, count: BlockCount): FarshoreError | undefined {
    if (block + count <= this.volumeBlocks) return undefined;
    return new FarshoreError(
      'retry',
      `blocks ${block} to ${block + count - 1} lie beyond the end of the volume by now`,
    );
  }

  /**
   * A write or unmap that nobody is to see before it is published. What the remote has of its blocks must not get into the log behind it: recovery would
   * take that for newer. (What an image has never gets there.)
   */
  hold(op: LogOp): void {
    this.pending.add(op);
    if (this.image !== undefined) return;
    if (op.kind === KIND_WRITE) deleteRange(this.#misses, op.block, op.slots);
    for (const { block, count } of op.ranges) deleteRange(this.#misses, block, count);
  }

  /** What was held and taken out of `pending` is in the log: from now on reads see it. */
  publish(op: LogOp): void {
    if (op.kind === KIND_WRITE) {
      this.stageWrite(op);
      this.opLogged(op);
    } else this.stageUnmap(op, op.ranges);
  }

  /** From now on reads see the write. */
  stageWrite(op: LogOp): void {
    const end = op.block + op.slots;
    for (let block = op.block; block < end; block++) this.#staged.set(block, op);
    if (this.#misses.size > 0) for (let block = op.block; block < end; block++) this.#misses.delete(block);
  }

  /** From now on the ranges read zeros. */
  stageUnmap(op: LogOp, ranges: readonly BlockRange[]): void {
    for (const { block, count } of ranges) {
      deleteRange(this.#staged, block, count);
      deleteRange(this.#misses, block, count);
      for (const damaged of this.#damaged)
        if (damaged >= block && damaged < block + count) this.#damaged.delete(damaged);
      this.cache.ram.removeRange(this.log.number, block, count);
      this.log.index.clearRange(block, count);
      this.#unmaps.add(block, count, op.seq);
    }
  }

  /** The operation is in the log. Blocks that a later one has overwritten or unmapped are that one's. */
  opLogged(op: LogOp): void {
    if (op.kind !== KIND_WRITE) return;
    const { log } = this;
    let run = 0;
    for (let index = 0; index < op.slots; index++) {
      const block = op.block + index;
      if (this.#staged.get(block) !== op) {
        this.#takeIn(op, index - run, run);
        run = 0;
        continue;
      }
      log.index.set(block, op.placeAt(index), true);
      this.#staged.delete(block);
      if (this.#damaged.size > 0) this.#damaged.delete(block);
      run++;
    }
    this.#takeIn(op, op.slots - run, run);
  }

  /** Blocks [index, index + count) of a logged write go into the RAM tier. */
  #takeIn(op: LogOp, index: number, count: BlockCount): void {
    const { ram } = this.cache;
    const { number } = this.log;
    const [whole] = op.data;
    if (op.data.length === 1 && whole !== undefined) {
      if (count > 0) ram.putRun(number, op.block + index, count, whole, index * BLOCK_SIZE);
      return;
    }
    for (let at = index; at < index + count; at++) ram.put(number, op.block + at, op.data, at * BLOCK_SIZE);
  }

  /** The blocks of a failed operation stay staged, or become unknown, so that nobody reads what a restart might contradict. */
  opFailed(op: LogOp): void {
    op.failed = true;
    for (const { block, count } of op.ranges) this.#unknown.add(block, count);
  }

  /** What the block is, only a restart tells. */
  isUnknown(block: BlockNumber): boolean {
    return this.stagedFor(block)?.failed ?? (this.#unknown.size > 0 && this.#unknown.has(block));
  }

  /** Everything up to the log's committedThrough is in a version. */
  noteCommitted(): void {
    this.#unmaps.dropThrough(this.log.committedThrough);
  }

  /** What is cached from there on, where nothing is mapped, is given up. */
  forgetFrom(first: BlockNumber): void {
    const count = MAX_VOLUME_BYTES / BLOCK_SIZE - first;
    if (count === 0) return;
    deleteRange(this.#misses, first, count);
    this.cache.ram.removeRange(this.log.number, first, count);
    this.log.index.clearRange(first, count);
  }

  // ---- reads

  /** The dirty content of the block, which is nowhere else, is lost. */
  noteDamaged(block: BlockNumber): void {
    this.#damaged.add(block);
    this.cache.ram.remove(this.log.number, block);
  }

  /** What lies at this place is in a version: a read that found it damaged was wrong, or is mended from there. */
  noteReplicated(block: BlockNumber, place: number): void {
    if (!this.isDamaged(block) || this.log.index.place(block) !== place) return;
    this.#damaged.delete(block);
    this.log.index.clearIfAt(block, place);
  }

  /** The block was committed as lost from this place. Nothing to do where it was written again meanwhile. */
  noteLost(block: BlockNumber, place: number): void {
    if (this.stagedFor(block) !== undefined || this.log.index.place(block) !== place) return;
    this.noteDamaged(block);
    this.log.index.clearIfAt(block, place);
  }

  missFor(block: BlockNumber): Miss | undefined {
    return this.#misses.size === 0 ? undefined : this.#misses.get(block);
  }

  /** Enters a read of the remote for those of its blocks that nothing here knows and no other read is under way for. */
  beginMiss(miss: Miss): void {
    for (let block = miss.first; block < miss.first + miss.count; block++)
      if (!this.#misses.has(block) && this.isRemote(block) && (this.image !== undefined || !this.pending.covers(block)))
        this.#misses.set(block, miss);
  }

  /** The remote has answered: what is still wanted goes into the RAM tier and the log. */
  endMiss(miss: Miss, { data, present }: RemoteBlocks): void {
    const { cache, log } = this;
    let from = 0;
    for (let index = 0; index < miss.count; index++) {
      const block = miss.first + index;
      const isPresent = present[index] === 1;
      const at = from;
      if (isPresent) from += 4096;
      if (this.#misses.get(block) !== miss) continue;
      if (present[index] === LOST_BLOCK) {
        this.#misses.delete(block);
        this.#damaged.add(block);
        continue;
      }
      if (!isPresent || log.index.has(block)) {
        if (!isPresent) cache.ram.put(log.number, block, ZERO_PIECES, 0, miss.reasonFor(block));
        this.#misses.delete(block);
        continue;
      }
      const content = data.subarray(at, at + 4096);
      cache.ram.put(log.number, block, [content], 0, miss.reasonFor(block));
      cache.fill({ log, block, data: content, owner: miss }, miss.isWanted(block));
    }
  }

  /**
   * The image has answered: what is still wanted goes into the RAM tier (the log would only have it twice). What was written or unmapped
   * since may have been read in any state, half of it perhaps, and is marked as stale.
   */
  endImageMiss(miss: Miss, { data, present }: RemoteBlocks): RemoteBlocks {
    const { cache, log } = this;
    let at = 0;
    for (let index = 0; index < miss.count; index++) {
      const block = miss.first + index;
      const isPresent = present[index] === 1;
      const isWanted = this.#misses.get(block) === miss;
      if (!isWanted) {
        if (isPresent) present[index] = STALE_BLOCK;
      } else {
        this.#misses.delete(block);
        if (present[index] === LOST_BLOCK) this.#damaged.add(block);
        else {
          const pieces = isPresent ? [data.subarray(at, at + 4096)] : ZERO_PIECES;
          cache.ram.put(log.number, block, pieces, 0, miss.reasonFor(block));
        }
      }
      if (isPresent) at += 4096;
    }
    return { data, present };
  }

  /** The remote could not answer. */
  dropMiss(miss: Miss): void {
    for (let block = miss.first; block < miss.first + miss.count; block++) this.dropClaim(miss, block);
  }

  dropClaim(miss: Miss, block: BlockNumber): void {
    if (this.#misses.get(block) === miss) this.#misses.delete(block);
  }
}

export const ZERO_BLOCK = Buffer.alloc(4096);
const ZERO_PIECES = [ZERO_BLOCK];

function deleteRange(map: Map<BlockNumber, unknown>, first: BlockNumber, count: BlockCount): void {
  if (map.size === 0) return;
  if (count <= map.size) {
    for (let block = first; block < first + count; block++) map.delete(block);
    return;
  }
  for (const block of [...map.keys()]) if (block >= first && block < first + count) map.delete(block);
}
