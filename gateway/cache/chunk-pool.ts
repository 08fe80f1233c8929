import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Disk } from '../base/disk.ts';
import { describeError, FarshoreError, isKind } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatSize } from '../base/size.ts';
import { MIB, type BlockCount, type BlockNumber, type ByteCount, type WriteSeq } from '../base/units.ts';
import { Chunk } from './chunk.ts';
import { encodeChunkHeader } from './chunk-header.ts';
import { CACHE_DIRECTORY, chunkPath, MAX_CHUNKS, type ChunkGeometry } from './layout.ts';
import { Mutex } from './mutex.ts';
import type { PoolState } from './pool-state.ts';
import { clearIndexOf, tableOf } from './reclaim.ts';
import { nextVictim, type QueueSizes } from './s3-fifo.ts';
import { MIN_CHUNKS } from './settings.ts';
import type { VolumeLog } from './volume-log.ts';

/**
 * Chunks kept ready ahead of demand: an eighth of a small pool (a fill takes one only when another is left for writes). Of a pool that moves
 * blocks on when it reclaims, three: while one is made ready, what moves may take one and leave one.
 */
const MOST_READY = 4;
const LEAST_READY = 2;
const LEAST_READY_TO_MOVE = 3;

/**
 * As long as the pool grows, more are kept ready: a new chunk is written twice over, so a burst of writes is faster than they are made. Half a GiB
 * in 32 MiB chunks, which the pool will take anyway.
 */
const MOST_READY_GROWN = 16;

/** After the disk was found full, growing is tried again no sooner. */
const GROW_RETRY_MS = 30_000;

/** A chunk file that was removed is closed so much later: whoever looked up a place in it before has read it by then. */
const CLOSE_AFTER_MS = 30_000;

/**
 * Growing leaves so much of the disk to the other files of the state directory: a cache that has taken the last byte would keep its volumes from
 * opening after a restart, and their access control from being changed.
 */
const LEFT_TO_OTHERS: ByteCount = 64 * MIB;

const ZEROS = Buffer.alloc(MIB);
/** Zeros are written so many MiB at a time: few calls, each too long to be made in the turn. */
const ZEROS_AT_ONCE = 8;

export interface PoolDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly diary: Log;
  readonly state: PoolState;
  readonly geometry: ChunkGeometry;
  readonly maxChunks: number;
  /** Attached volumes by number. */
  readonly volumes: ReadonlyMap<number, VolumeLog>;
  /** A chunk was taken, sealed, retired or made ready. */
  readonly changed: () => void;
  /** There may be more room now. */
  readonly onSpace: () => void;
  readonly queues: QueueSizes;
  /** Gives what was used in a chunk that is about to go a place elsewhere, as far as there is one. `words`: its descriptor table. */
  readonly moveOn: (chunk: Chunk, words: Uint32Array) => Promise<unknown>;
  /** The block has left the log with the chunk. */
  readonly evicted: (chunk: Chunk, volume: number, block: BlockNumber) => void;
}

/**
 * The chunks: grows the pool up to its size by really writing new ones, and reclaims chunks without dirty blocks when it is
 * full grown (see s3-fifo), so that a few are always ready. One maintenance loop at a time.
 */
export class ChunkPool {
  readonly #deps: PoolDeps;
  readonly #mostReady: number;
  readonly #mostReadyGrown: number;
  readonly #chunks = new Map<number, Chunk>();
  readonly #free: Chunk[] = [];
  /** Oldest first. */
  readonly #sealed: Chunk[] = [];
  /** Held while a chunk is reclaimed, and by recovery, which reads tables. */
  readonly mutex = new Mutex();
  /** One chunk is made ready at a time, whoever asks: numbers and generations are taken one after the other. */
  readonly #making = new Mutex();
  /** Removed, and not closed yet. */
  readonly #removed = new Map<Chunk, CancelTimer>();
  #nextGeneration = 1;
  #running: Promise<void> | undefined;
  #closed = false;
  #growNotBeforeMs = 0;
  #growProblem: string | undefined;
  #retired = 0;
  reclaimed = 0;
  /** Blocks that left the log with their chunk. */
  evicted: BlockCount = 0;
  /** Reclaimed chunks that held blocks somebody might have read again. */
  dropped = 0;

  constructor(deps: PoolDeps) {
    this.#deps = deps;
    const least = deps.queues.mostMoved === 0 ? LEAST_READY : LEAST_READY_TO_MOVE;
    const share = Math.max(least, Math.floor(deps.maxChunks / 8));
    this.#mostReady = Math.min(MOST_READY, share);
    this.#mostReadyGrown = Math.min(MOST_READY_GROWN, share);
  }

  get chunks(): ReadonlyMap<number, Chunk> {
    return this.#chunks;
  }

  /** Chunks there may be, without those that are out of use. */
  get usableChunks(): number {
    const most = this.#growProblem === undefined ? this.#deps.maxChunks : this.#chunks.size;
    return Math.max(1, most - this.#retired);
  }

  /** Chunks that are ready, or can be made so without a commit: by reclaiming, or by growing. Looks at all of them. */
  get obtainableChunks(): number {
    let count = this.#free.length;
    for (const chunk of this.#sealed) if (chunk.state === 'reclaiming' || this.#isReclaimable(chunk)) count++;
    return count + Math.max(0, this.usableChunks + this.#retired - this.#chunks.size);
  }

  get freeChunks(): number {
    return this.#free.length;
  }

  /** Why the pool is smaller than it was meant to be; undefined when it is not. */
  get problem(): string | undefined {
    if (this.#growProblem !== undefined) return this.#growProblem;
    return this.#retired === 0
      ? undefined
      : `${this.#retired} chunks of the cache are out of use until a restart, because the disk failed under them`;
  }

  /** Whether more room can be had without reclaiming. */
  get canGrow(): boolean {
    return this.#chunks.size < this.#deps.maxChunks && this.#deps.clock.monotonicMs() >= this.#growNotBeforeMs;
  }

  /** Whether there is room without dropping anything that is cached. */
  get hasUnusedRoom(): boolean {
    return this.canGrow || this.#free.length > this.#mostReady || this.#sealed.some((chunk) => this.#isNobodys(chunk));
  }

  /**
   * Takes over the chunks found at the start, oldest first. None is appended to again, and empty ones are made ready anew: whether
   * their header ever reached the platter is known only to the process that wrote it.
   */
  adopt(chunks: readonly Chunk[], nextGeneration: number): void {
    for (const chunk of chunks) {
      chunk.state = 'sealed';
      this.#chunks.set(chunk.number, chunk);
      this.#sealed.push(chunk);
    }
    this.#nextGeneration = nextGeneration;
  }

  takeFree(): Chunk | undefined {
    const chunk = this.#free.shift();
    this.#deps.changed();
    this.kick();
    return chunk;
  }

  seal(chunk: Chunk): void {
    chunk.state = 'sealed';
    chunk.table = undefined;
    this.#sealed.push(chunk);
    this.#deps.changed();
    this.kick();
  }

  /** The disk failed under it: nobody uses it again before a restart. */
  retire(chunk: Chunk): void {
    this.#retired++;
    chunk.state = 'retired';
    chunk.table = undefined;
    this.#deps.changed();
    this.kick();
  }

  /** Sees to it that enough chunks are ready, in the background. */
  kick(): void {
    if (this.#closed) return;
    this.#running ??= this.#maintain();
  }

  /** Resolves when at least `count` chunks are ready, or nothing more can be done about it now. */
  async prepare(count: number): Promise<void> {
    while (this.#free.length < count && (await this.#makeOne()));
  }

  async close(): Promise<void> {
    this.#closed = true;
    while (this.#running !== undefined) await this.#running;
    for (const cancel of this.#removed.values()) cancel();
    for (const chunk of [...this.#removed.keys(), ...this.#chunks.values()]) await chunk.file.close();
  }

  async #maintain(): Promise<void> {
    await Promise.resolve();
    while (!this.#closed) {
      if (this.#free.length < this.#readyTarget && (await this.#makeOne())) this.#deps.onSpace();
      else if (!this.#isTooLarge || !(await this.#removeOne())) break;
    }
    this.#running = undefined;
  }

  /** The pool was made for a larger part of the disk (or of the threads) than it has now. */
  get #isTooLarge(): boolean {
    return this.#chunks.size > this.#deps.maxChunks;
  }

  /** Gives the oldest chunk without anything dirty back to the disk. */
  #removeOne(): Promise<boolean> {
    return this.mutex.run(async () => {
      const victim = this.#victim();
      return victim !== undefined && (await this.#remove(victim));
    });
  }

  get #readyTarget(): number {
    return this.canGrow ? this.#mostReadyGrown : this.#mostReady;
  }

  /** Makes one chunk ready: one that holds nothing, or a new one as long as the pool may grow, or the oldest that holds nothing dirty. */
  #makeOne(): Promise<boolean> {
    return this.#making.run(() => this.#makeOneNow());
  }

  async #makeOneNow(): Promise<boolean> {
    if (await this.#reclaimOne()) return true;
    if (!this.canGrow) return false;
    return (await this.#grow()) || this.#reclaimOne();
  }

  /** It holds nothing that any volume could still want. */
  #isNobodys(chunk: Chunk): boolean {
    for (const number of chunk.shares.keys()) if (this.#deps.state.isRegistered(number)) return false;
    return true;
  }

  #reclaimOne(): Promise<boolean> {
    return this.mutex.run(async () => {
      const victim = this.#victim();
      return victim !== undefined && (await this.#reclaim(victim));
    });
  }

  #victim(): Chunk | undefined {
    const mayGo = (chunk: Chunk): boolean => this.#isReclaimable(chunk);
    const nobodys = this.#sealed.find((chunk) => this.#isNobodys(chunk) && mayGo(chunk));
    return nobodys ?? (this.canGrow ? undefined : nextVictim(this.#sealed, mayGo, this.#deps.queues));
  }

  #isReclaimable(chunk: Chunk): boolean {
    if (chunk.state !== 'sealed' || chunk.pending > 0 || chunk.pins > 0) return false;
    for (const [number, share] of chunk.shares) {
      if (share.maxSeq > 0 && share.maxSeq > this.#committedThrough(number)) return false;
    }
    return true;
  }

  /** How far a volume's records are clean. */
  #committedThrough(number: number): WriteSeq {
    if (!this.#deps.state.isRegistered(number)) return Infinity;
    return this.#deps.volumes.get(number)?.committedThrough ?? this.#deps.state.marks(number).committedThrough;
  }

  async #grow(): Promise<boolean> {
    const { disk, geometry, diary } = this.#deps;
    let number = 0;
    while (this.#chunks.has(number)) number++;
    if (number >= MAX_CHUNKS) return false;
    const path = chunkPath(number);
    const temporary = `${path}.new`;
    try {
      await disk.remove(temporary);
      await this.#leaveRoom();
      const file = await disk.open(temporary, 'create');
      const generation = this.#nextGeneration++;
      try {
        for (let at = 0; at < geometry.bytes; at += ZEROS_AT_ONCE * ZEROS.length)
          await file.write(zeros(at, geometry), at);
        await file.write([this.#header(number, generation)], 0);
        await file.sync();
        await disk.rename(temporary, path);
        await disk.syncDirectory(CACHE_DIRECTORY);
      } catch (error) {
        await file.close();
        throw error;
      }
      const chunk = new Chunk(number, file, generation);
      this.#chunks.set(number, chunk);
      this.#free.push(chunk);
      this.#growProblem = undefined;
      this.#deps.changed();
      return true;
    } catch (error) {
      this.#growNotBeforeMs = this.#deps.clock.monotonicMs() + GROW_RETRY_MS;
      this.#growProblem = `the cache stays at ${this.#chunks.size} of ${this.#deps.maxChunks} chunks: ${describeError(error)}`;
      this.#deps.changed();
      diary.warn({ chunks: this.#chunks.size, reason: describeError(error) }, 'the cache cannot grow');
      await disk.remove(temporary).catch((later: unknown) => {
        diary.warn({ path: temporary, reason: describeError(later) }, 'a half-made chunk could not be removed');
      });
      return false;
    }
  }

  /** Rejects with `busy` when a further chunk would take what is left to others. */
  async #leaveRoom(): Promise<void> {
    const { disk, geometry } = this.#deps;
    // What it cannot do without, it takes whatever is left.
    if (this.#chunks.size < MIN_CHUNKS) return;
    const free = await disk.freeBytes?.();
    if (free === undefined || free >= geometry.bytes + LEFT_TO_OTHERS) return;
    throw new FarshoreError(
      'busy',
      `${formatSize(free)} are left on the disk of the state directory, and the last ${formatSize(LEFT_TO_OTHERS)} are kept for its other files; make room on it, or set cache.size to what there is`,
    );
  }

  /**
   * Makes an old chunk ready for new use. The marks are durable before the first index entry goes, and the new generation is durable
   * before the chunk is used: at every moment in between a restart believes the right records.
   */
  async #reclaim(chunk: Chunk): Promise<boolean> {
    const isReady = await this.#emptied(chunk, async () => {
      const generation = this.#nextGeneration++;
      await chunk.file.write([this.#header(chunk.number, generation)], 0);
      await chunk.file.sync();
      chunk.generation = generation;
    });
    if (!isReady) return false;
    chunk.shares.clear();
    chunk.unsynced = false;
    chunk.state = 'free';
    this.#free.push(chunk);
    this.#deps.changed();
    this.reclaimed++;
    return true;
  }

  /**
   * The same for a chunk that there is one too many of. Should its removal not outlive a power cut, it is there again as a crash in the midst of a reclaim
   * would have left it: the marks say what of it still counts. Its number is not used again by this process, which grows no more.
   */
  async #remove(chunk: Chunk): Promise<boolean> {
    const { disk, clock, diary } = this.#deps;
    const isGone = await this.#emptied(chunk, async () => {
      await disk.remove(chunkPath(chunk.number));
      try {
        await disk.syncDirectory(CACHE_DIRECTORY);
      } catch (error) {
        // The file is gone all the same: what is written to it from now on nobody would ever find.
        diary.warn({ chunk: chunk.number, reason: describeError(error) }, 'the removal of a chunk may not last');
      }
    });
    if (!isGone) return false;
    this.#chunks.delete(chunk.number);
    const close = (): void => {
      this.#removed.delete(chunk);
      chunk.file.close().catch((error: unknown) => {
        this.#deps.diary.warn({ chunk: chunk.number, reason: describeError(error) }, 'a removed chunk was not closed');
      });
    };
    this.#removed.set(chunk, clock.startTimer(CLOSE_AFTER_MS, close));
    this.#deps.changed();
    return true;
  }

  /** Takes what is in the chunk out of use, durably, and `settle`s what becomes of it; false when the disk refuses that. */
  async #emptied(chunk: Chunk, settle: () => Promise<void>): Promise<boolean> {
    const { state, diary, geometry } = this.#deps;
    chunk.state = 'reclaiming';
    try {
      // How far volumes have come is saved along, so that a start knows what is clean before its volumes are open.
      await state.raiseMarks([
        ...[...this.#deps.volumes.values()].map(
          ({ number, committedThrough, syncedThrough }) => [number, { committedThrough, syncedThrough }] as const,
        ),
        ...[...chunk.shares].map(
          // Only a write or unmap makes older copies wrong. Those of the same content elsewhere outlive a fill that goes.
          ([number, share]) => [number, { forgetThrough: share.maxSeq, reclaimedThrough: share.maxSeq }] as const,
        ),
      ]);
      const words = await tableOf(chunk, geometry);
      if (words !== undefined && this.#deps.queues.mostMoved > 0) await this.#deps.moveOn(chunk, words);
      this.evicted += clearIndexOf(chunk, words, geometry, this.#deps.volumes, (volume, block) => {
        this.#deps.evicted(chunk, volume, block);
      });
      await settle();
    } catch (error) {
      diary.warn({ chunk: chunk.number, reason: describeError(error) }, 'a chunk of the cache could not be reclaimed');
      if (isKind(error, 'busy')) chunk.state = 'sealed';
      else this.#dropSealed(chunk).retire(chunk);
      return false;
    }
    this.#dropSealed(chunk);
    if (!this.#isNobodys(chunk)) this.dropped++;
    return true;
  }

  #dropSealed(chunk: Chunk): this {
    this.#sealed.splice(this.#sealed.indexOf(chunk), 1);
    return this;
  }

  #header(chunk: number, generation: number): Buffer {
    const { geometry, state } = this.#deps;
    return encodeChunkHeader({ chunk, generation, slots: geometry.slots, poolId: state.poolId });
  }
}

/** The next zeros of a new chunk, from byte `from` on. */
function zeros(from: ByteCount, geometry: ChunkGeometry): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = from; at < geometry.bytes && pieces.length < ZEROS_AT_ONCE; at += ZEROS.length) {
    pieces.push(ZEROS.subarray(0, geometry.bytes - at));
  }
  return pieces;
}
