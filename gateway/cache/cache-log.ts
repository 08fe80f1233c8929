import type { MaybePromise } from '../base/block-device.ts';
import type { Clock, Random } from '../base/clock.ts';
import type { Disk } from '../base/disk.ts';
import { FarshoreError, invariant } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BlockCount, BlockNumber, WriteSeq } from '../base/units.ts';
import { Admission } from './admission.ts';
import { Appender } from './appender.ts';
import { BlockIndex } from './block-index.ts';
import type { AttachRequest } from './attach-request.ts';
import { buildIndex, type BuiltIndex } from './build-index.ts';
import type { CacheLogState, CacheStatus } from './cache-status.ts';
import { ChunkPool } from './chunk-pool.ts';
import { lowestSeq, type Chunk } from './chunk.ts';
import { cutsIn } from './cuts.ts';
import { FillWriter, type Fill, type FillHooks } from './fill-writer.ts';
import { CACHE_DIRECTORY, chunkGeometry, chunkOfPlace, SLOT_BYTES, slotOfPlace, type ChunkGeometry } from './layout.ts';
import { LeafSlab } from './leaf-slab.ts';
import type { LogOp } from './log-op.ts';
import { moveOn } from './move-on.ts';
import { openState } from './open-state.ts';
import type { PoolState } from './pool-state.ts';
import { PressureGauge } from './pressure-gauge.ts';
import { RamTier } from './ram-tier.ts';
import { ReadAheadBudget } from './read-ahead-budget.ts';
import { readRun } from './reader.ts';
import type { KeyLimit } from './record-stream.ts';
import { recoverTail, type RecoveredTail } from './recover-tail.ts';
import { replay, type ReplayedOp } from './replay.ts';
import { scanPool, type PoolScan } from './scan.ts';
import { Ghosts, queueSizes, type QueueSizes } from './s3-fifo.ts';
import { chunksOf, type CacheSettings } from './settings.ts';
import { readTail, type TailOp } from './tail-reader.ts';
import { SyncGroup } from './sync-group.ts';
import { SyncMarks } from './sync-marks.ts';
import { VolumeLog } from './volume-log.ts';

export interface CacheLogDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * The local log of a gateway thread: one pool of chunks on disk shared by its volumes, with their indexes and the RAM tier. A volume
 * recovers and attaches, appends operations and fills, reads what its index points at, and says what was committed.
 */
export class CacheLog {
  readonly ram: RamTier;
  readonly geometry: ChunkGeometry;
  readonly aheadBudget = new ReadAheadBudget();
  readonly #deps: CacheLogDeps;
  readonly #settings: CacheSettings;
  readonly #state: PoolState;
  readonly #synced: ReadonlyMap<number, WriteSeq>;
  /** Chunks of a lower generation were written by earlier processes. */
  readonly #firstGeneration: number;
  /** Where the log of a volume ends that was recovered or closed in this process. */
  readonly #ends = new Map<number, WriteSeq>();
  readonly #volumes = new Map<number, VolumeLog>();
  readonly #slab: LeafSlab;
  readonly #pool: ChunkPool;
  readonly #admission: Admission<VolumeLog>;
  readonly pressure: PressureGauge;
  readonly #appender: Appender;
  /** What is fetched goes to small, or to main when it has just left small; and to main what reclaim moves on. */
  readonly #fills: FillWriter;
  readonly #mainFills: FillWriter;
  readonly #queues: QueueSizes;
  readonly #ghosts: Ghosts;
  #moved: BlockCount = 0;
  readonly #sync: SyncGroup;
  readonly #syncMarks: SyncMarks;
  #stopped: FarshoreError | undefined;

  /** Opens the cache directory, or makes one. Rejects with `damaged`, `stopped`, `busy` (no space for the first chunks), `input`. */
  static async open(deps: CacheLogDeps, settings: CacheSettings): Promise<CacheLog> {
    const geometry = chunkGeometry(settings.chunkSlots);
    const maxChunks = chunksOf(settings);
    await deps.disk.makeDirectory(CACHE_DIRECTORY);
    await deps.disk.syncDirectory('');
    const state = await openState(deps.disk, deps.random, geometry);
    const scan = await scanPool(deps.disk, state, geometry, deps.log);
    const cache = new CacheLog(deps, settings, state, geometry, maxChunks, scan);
    cache.#pool.adopt(scan.chunks, scan.nextGeneration);
    await cache.#pool.prepare(2);
    if (cache.#pool.chunks.size < 2) {
      throw new FarshoreError('busy', `there is no space for the cache: ${cache.#pool.problem ?? 'unknown'}`);
    }
    cache.#pool.kick();
    return cache;
  }

  private constructor(
    deps: CacheLogDeps,
    settings: CacheSettings,
    state: PoolState,
    geometry: ChunkGeometry,
    maxChunks: number,
    scan: PoolScan,
  ) {
    this.#deps = deps;
    this.#settings = settings;
    this.#state = state;
    this.geometry = geometry;
    this.#synced = scan.synced;
    this.#firstGeneration = scan.nextGeneration;
    this.ram = new RamTier(settings.ramBytes, deps.clock, (number, block) => {
      this.#volumes.get(number)?.index.visit(block);
    });
    this.#queues = queueSizes(maxChunks, geometry.dataSlots);
    this.#ghosts = new Ghosts(this.#queues.ghosts);
    this.#slab = new LeafSlab(settings.indexBytes);
    this.#pool = new ChunkPool({
      disk: deps.disk,
      clock: deps.clock,
      diary: deps.log,
      state,
      geometry,
      maxChunks,
      volumes: this.#volumes,
      changed: () => {
        this.pressure.changed();
      },
      onSpace: () => {
        this.#admission.poke();
      },
      queues: this.#queues,
      moveOn: (chunk, words) => this.#moveOn(chunk, words),
      evicted: (chunk, volume, block) => {
        if (chunk.queue === 'small') this.#ghosts.add(volume, block);
      },
    });
    this.pressure = new PressureGauge(deps.clock, {
      volumes: this.#volumes,
      totalSlots: () => (this.#pool.usableChunks - this.#chunksOfFills) * geometry.dataSlots,
      obtainableSlots: () => this.#pool.obtainableChunks * geometry.dataSlots,
      openSlots: () => this.#appender.room - this.#admission.reserved,
      indexShare: () => this.#slab.dirtyShare,
    });
    this.#admission = new Admission(deps.clock, settings.maxWaitMs, {
      space: () => (this.#slab.crowded ? 0 : this.#appender.room + this.#pool.freeChunks * geometry.dataSlots),
      share: () => this.pressure.share(),
      weight: (log) => this.pressure.weight(log),
      isKeptFrom: (log) => this.pressure.isKeptFrom(log),
      pressed: () => {
        this.#press();
      },
    });
    this.#appender = new Appender(geometry, deps.clock, settings.maxWaitMs, {
      takeFree: () => this.#pool.takeFree(),
      seal: (chunk) => {
        this.#pool.seal(chunk);
        this.pressure.sample();
      },
      placed: (slots) => {
        this.#admission.release(slots);
      },
      written: (slots) => {
        this.#sync.noteWritten(slots * SLOT_BYTES);
      },
      failed: (error) => {
        this.#stop(error);
      },
    });
    const fillHooks: FillHooks = {
      takeSpare: () => (this.#hasSpare() ? this.#pool.takeFree() : undefined),
      seal: (chunk) => {
        this.#pool.seal(chunk);
      },
      retire: (chunk) => {
        this.#pool.retire(chunk);
      },
    };
    this.#fills = new FillWriter(geometry, 'small', deps.log, fillHooks);
    this.#mainFills = new FillWriter(geometry, 'main', deps.log, fillHooks);
    this.#syncMarks = new SyncMarks(deps.clock, deps.log, state, this.#volumes);
    this.#sync = new SyncGroup({
      chunks: () => this.#pool.chunks.values(),
      volumes: () => this.#volumes.values(),
      synced: this.#syncMarks.note,
      failed: (error) => {
        this.#stop(error);
      },
    });
  }

  get state(): CacheLogState {
    return this.#stopped === undefined ? { kind: 'serving' } : { kind: 'stopped', reason: this.#stopped.message };
  }

  /** Why the log has stopped; undefined while it serves. */
  get stoppedBy(): FarshoreError | undefined {
    return this.#stopped;
  }

  // ---- volumes

  numbersOf(volume: string): number[] {
    return this.#state.numbersOf(volume);
  }

  /** Volumes (by identifier) of which something in the log may still count, open or not. */
  get registeredVolumes(): readonly string[] {
    return this.#state.registeredVolumes;
  }

  /** At least everything up to it is in a committed version. */
  committedAtLeast(number: number): WriteSeq {
    return this.#state.marks(number).committedThrough;
  }

  /** Writes up to it may be gone from the log, because they were clean. */
  reclaimedThrough(number: number): WriteSeq {
    return this.#state.marks(number).reclaimedThrough;
  }

  /** A fresh number for the volume, durable when it resolves. */
  register(volume: string): Promise<number> {
    const isPresent = (number: number): boolean => {
      for (const chunk of this.#pool.chunks.values()) if (chunk.shares.has(number)) return true;
      return false;
    };
    return this.#state.register(volume, isPresent);
  }

  /** The volume's records under this number are worthless from now on. It must not be attached. */
  async release(number: number): Promise<void> {
    invariant(!this.#volumes.has(number), 'an attached volume keeps its number');
    await this.#state.release(number);
    this.#ends.delete(number);
    this.ram.removeVolume(number);
    this.pressure.changed();
    this.#pool.kick();
  }

  /**
   * Finds the end of a volume's log, and makes it final (see recoverTail): once per process, before the volume is attached. Where nobody knows its first
   * sequence any more, the log begins with what is left of it.
   */
  recover(number: number, firstSeq: WriteSeq | undefined): Promise<RecoveredTail> {
    return this.#pool.mutex.run(async () => {
      const known = this.#ends.get(number);
      // What this process recovered, or wrote itself, has no torn end.
      if (known !== undefined) return { lastSeq: known, kept: 0, discarded: 0 };
      // Only now: while we waited, a chunk of the volume may have been reclaimed, and the log begins behind it.
      const { reclaimedThrough, syncedThrough } = this.#state.marks(number);
      const chunks = [...this.#pool.chunks.values()];
      const first = firstSeq ?? lowestSeq(chunks, number);
      const synced = Math.max(this.#synced.get(number) ?? 0, reclaimedThrough, syncedThrough, first - 1);
      const limit = this.#limitOf(number);
      const cutOff = cutsIn(this.#state, number, this.#firstGeneration, chunks, this.geometry, limit);
      const tail = await recoverTail(chunks, number, this.geometry, synced, limit, cutOff);
      // All of it is on stable storage by now: the next start is to take damage in it for damage.
      await this.#state.raiseMarks([[number, { syncedThrough: tail.lastSeq }]]);
      this.#ends.set(number, tail.lastSeq);
      return tail;
    });
  }

  /** Tells of every operation of a recovered, unattached volume above `after`, in order (for salvage). */
  readTail(number: number, after: WriteSeq, visit: (op: TailOp) => Promise<void>): Promise<void> {
    return this.#pool.mutex.run(() =>
      readTail([...this.#pool.chunks.values()], number, this.geometry, after, this.#limitOf(number), visit),
    );
  }

  /** Tells of operations of an attached volume above `after`, in order, until `visit` answers false (see replay). */
  replay(log: VolumeLog, after: WriteSeq, visit: (op: ReplayedOp) => boolean): Promise<void> {
    return this.#pool.mutex.run(() =>
      replay([...this.#pool.chunks.values()], log.number, this.geometry, after, this.#limitOf(log.number), visit),
    );
  }

  /** Builds the volume's index and lets it append. Rejects with `damaged` or `stopped` (see buildIndex). */
  async attach(request: AttachRequest): Promise<{ readonly log: VolumeLog; readonly built: BuiltIndex }> {
    const { number, firstSeq, lastSeq, committedThrough } = request;
    if (this.#stopped !== undefined) throw this.#stopped;
    invariant(this.#state.isRegistered(number) && !this.#volumes.has(number), 'a number is attached once');
    const index = new BlockIndex(this.#slab);
    const built = await this.#pool.mutex.run(async () => {
      const { forgetThrough, reclaimedThrough } = this.#state.marks(number);
      const marks = { forgetThrough, reclaimedThrough, committedThrough, lastSeq };
      try {
        return await buildIndex(
          [...this.#pool.chunks.values()],
          number,
          this.geometry,
          firstSeq,
          marks,
          index,
          request.sink,
          this.#limitOf(number),
        );
      } catch (error) {
        index.clearAll();
        throw error;
      }
    });
    const log = new VolumeLog({
      number,
      index,
      through: lastSeq,
      committedThrough,
      onPressure: request.onPressure,
      onStopped: request.onStopped,
    });
    this.#volumes.set(number, log);
    this.pressure.changed();
    this.#pool.kick();
    return { log, built };
  }

  /** The volume's blocks stay in the log, and dirty ones keep their chunks; nothing of it may be under way any more. */
  async detach(log: VolumeLog): Promise<void> {
    this.#volumes.delete(log.number);
    this.pressure.changed();
    this.#ends.set(log.number, log.appendedThrough);
    log.index.clearAll();
    this.ram.removeVolume(log.number);
    // Without the first, its clean chunks could not be reclaimed while it is closed; the second tells damage from a torn end.
    const { number, committedThrough, syncedThrough } = log;
    await this.#state.raiseMarks([[number, { committedThrough, syncedThrough }]]);
    this.#pool.kick();
  }

  /** Everything up to `through` is in a committed version. */
  noteCommitted(log: VolumeLog, through: WriteSeq): void {
    log.committedThrough = Math.max(log.committedThrough, through);
    this.pressure.sample();
    this.#pool.kick();
    if (this.#admission.waiting > 0) this.#admission.poke();
  }

  // ---- writing

  /** Room for so many slots; see Admission.reserve. */
  reserve(slots: number, log: VolumeLog): MaybePromise<void> {
    return this.#admission.reserve(slots, log);
  }

  /** Whether a write of so many slots can be logged in this call of the event loop, with `appendNow`; then they are reserved. */
  reserveAtOnce(slots: number, log: VolumeLog): boolean {
    return !this.#appender.isRunning && this.#admission.reserveAtOnce(slots, log);
  }

  /** Refuses the volume's writes that wait for room: it takes none any more. */
  turnAway(log: VolumeLog, error: FarshoreError): void {
    this.#admission.turnAway(log, error);
  }

  /** Identity of the pool, in hexadecimal: a new one with every cache directory. */
  get poolId(): string {
    return this.#state.poolId.toString('hex');
  }

  /** Gives back what was reserved and not used. */
  unreserve(slots: number): void {
    this.#admission.release(slots);
  }

  /** Appends an operation whose slots are reserved, in the order of the calls. */
  append(op: LogOp): void {
    this.#appender.submit(op);
  }

  /** Logs in this call what was appended in this turn, if the disk answers in the turn. */
  appendNow(): void {
    this.#appender.runNow();
  }

  /** Resolves when everything of the volume that was acked before the call is on stable storage; rejects with `stopped`. */
  sync(log: VolumeLog): MaybePromise<void> {
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped);
    return log.syncedThrough >= log.appendedThrough ? undefined : this.#sync.sync();
  }

  /** As `sync`, for a volume that is being closed: also when the log has stopped, unless a sync of it has failed. */
  syncLast(log: VolumeLog): MaybePromise<void> {
    return this.#stopped === undefined ? this.sync(log) : this.#sync.last();
  }

  /** Whether a fill may take a place that no write needs. */
  get takesFills(): boolean {
    return this.#stopped === undefined && this.#fills.hasRoom;
  }

  /** Whether there is room for fills without dropping anything that is cached. */
  get hasUnusedRoom(): boolean {
    return this.#fills.hasRoomInChunk || this.#pool.hasUnusedRoom;
  }

  /** How many chunks with cached blocks were given up for new ones since the start. */
  get droppedChunks(): number {
    return this.#pool.dropped;
  }

  /** `wanted`: somebody has asked for the block, it did not just come along. */
  fill(fill: Fill, wanted: boolean): void {
    const returns = wanted && this.#queues.mostMoved > 0 && this.#ghosts.take(fill.log.number, fill.block);
    // Better among the new ones than nowhere.
    const hasRoom = this.#mainFills.hasRoomInChunk || this.#hasSpare();
    (returns && hasRoom ? this.#mainFills : this.#fills).submit(fill);
  }

  // ---- reading

  /** Reads consecutive places holding consecutive blocks; answers the indices of those that hold something else (see readRun). */
  readRun(
    log: VolumeLog,
    place: number,
    count: BlockCount,
    block: BlockNumber,
    into: Buffer,
    fromDisk = false,
  ): MaybePromise<readonly number[]> {
    const chunk = this.#pool.chunks.get(chunkOfPlace(place));
    invariant(chunk !== undefined, 'the index points into a chunk of the pool');
    return readRun(chunk, slotOfPlace(place), count, log.number, block, into, fromDisk);
  }

  /** Of the chunk that the place lies in: while it stays the same, so does what the place holds. undefined when there is no such chunk. */
  generationAt(place: number): number | undefined {
    return this.#pool.chunks.get(chunkOfPlace(place))?.generation;
  }

  /** Keeps the chunks that the places lie in from being reclaimed, until the answer is called. */
  pin(places: Float64Array): () => void {
    const chunks = new Set<Chunk>();
    for (const place of places) {
      const chunk = this.#pool.chunks.get(chunkOfPlace(place));
      if (chunk !== undefined) chunks.add(chunk);
    }
    for (const chunk of chunks) chunk.pins++;
    return () => {
      for (const chunk of chunks) chunk.pins--;
      chunks.clear();
      this.pressure.changed();
      this.#pool.kick();
    };
  }

  /** How much of the cache holds what the cloud does not have, 0 to 1. */
  get dirtyShare(): number {
    return this.pressure.share();
  }

  // ---- the rest

  status(): CacheStatus {
    const slots = this.#appender.room + this.#pool.freeChunks * this.geometry.dataSlots;
    let [dirty, cached] = [0, 0];
    for (const { index } of this.#volumes.values()) {
      dirty += index.dirtyBlocks;
      cached += index.blocks;
    }
    return {
      state: this.state,
      allocatedBytes: this.#pool.chunks.size * this.geometry.bytes,
      maxBytes: this.#settings.sizeBytes,
      freeBytes: slots * 4096,
      dirtyBytes: dirty * 4096,
      cachedBytes: cached * 4096,
      indexBytes: this.#slab.bytes,
      ramBytes: this.ram.blocks * 4096,
      waitingWrites: this.#admission.waiting,
      reservedBytes: this.#admission.reserved * SLOT_BYTES,
      busyWrites: this.#admission.refused,
      fills: this.#fills.fills + this.#mainFills.fills - this.#moved,
      movedBlocks: this.#moved,
      evictedBlocks: this.#pool.evicted,
      readAhead: { fetched: this.aheadBudget.fetched, used: this.ram.aheadUsed, wasted: this.ram.aheadWasted },
      ...this.pressure.report(),
      reclaimedChunks: this.#pool.reclaimed,
      problem: this.#stopped?.message ?? this.#pool.problem,
    };
  }

  /** Waits for what is under way, syncs, and closes every file. The volumes have been closed before. */
  async close(): Promise<void> {
    const closing = new FarshoreError('stopped', 'the gateway is stopping');
    this.#admission.stop(closing);
    for (const fills of [this.#fills, this.#mainFills]) fills.stop();
    await this.#appender.idle();
    await this.#fills.idle();
    await this.#mainFills.idle();
    if (this.#stopped === undefined) await this.#sync.sync();
    this.#stopped ??= closing;
    await this.#syncMarks.close();
    await this.#pool.close();
    await this.#state.close();
  }

  #stop(error: FarshoreError): void {
    if (this.#stopped !== undefined) return;
    this.#stopped = error;
    this.#deps.log.error({ reason: error.message, cause: String(error.cause) }, 'the cache log has stopped');
    this.#appender.stop(error);
    for (const fills of [this.#fills, this.#mainFills]) fills.stop();
    this.#sync.stop(error);
    this.#admission.stop(error);
    for (const log of [...this.#volumes.values()]) log.onStopped(error);
  }

  #limitOf(number: number): KeyLimit {
    return (chunk) => this.#state.keyLimit(number, chunk.generation);
  }

  #press(): void {
    this.#pool.kick();
    for (const log of this.#volumes.values()) log.onPressure();
  }

  async #moveOn(chunk: Chunk, words: Uint32Array): Promise<void> {
    this.#moved += await moveOn(chunk, words, {
      geometry: this.geometry,
      volumes: this.#volumes,
      ram: this.ram,
      writer: this.#mainFills,
      mostMoved: this.#queues.mostMoved,
      mayGoOn: () => this.#stopped === undefined && !this.#admission.isShort,
    });
  }

  get #chunksOfFills(): number {
    return Number(this.#fills.hasChunk) + Number(this.#mainFills.hasChunk);
  }

  /** A chunk beyond what admitted writes and the next ones need. */
  #hasSpare(): boolean {
    const left = (this.#pool.freeChunks - 2) * this.geometry.dataSlots + this.#appender.room;
    return this.#pool.freeChunks >= 2 && !this.#admission.isShort && left >= this.#admission.reserved;
  }
}
