import type { MaybePromise } from '../base/block-device.ts';
import { sleep, type Clock } from '../base/clock.ts';
import { FarshoreError, invariant, isKind } from '../base/errors.ts';
import { crcPerBlock, slicePieces, type LogOp } from './log-op.ts';
import { BLOCK_SIZE } from '../base/units.ts';
import { KIND_UNMAP, KIND_WRITE, type DescriptorFields } from './descriptor.ts';
import { allDone, Lane, writePart, type LanePart } from './lane.ts';
import { MAX_OP_BLOCKS, type ChunkGeometry } from './layout.ts';
import type { Chunk } from './chunk.ts';

/** Most slots written in one go (8 MiB). */
const MAX_BATCH_SLOTS = 2048;

/** Between attempts of a write that found the disk full. */
const NO_SPACE_RETRY_MS = 500;

export interface AppenderHooks {
  /** A chunk made ready; admission has seen to it that there is one. */
  takeFree(): Chunk | undefined;
  seal(chunk: Chunk): void;
  /** So many reserved slots have been taken into use. */
  placed(slots: number): void;
  /** So many slots lie in the page cache. */
  written(slots: number): void;
  /** The log can't go on: an append failed. */
  failed(error: FarshoreError): void;
}

const AT_ONCE = Promise.resolve();

/**
 * Appends operations in the order of submission: everything staged in a turn, or while the last write was under way, goes out as one data write and
 * one descriptor write per chunk; then owners hear in order. One batch at a time, so that acks never overtake one another. Where the disk
 * answers in the turn, all that happens at the end of the turn, before the event loop goes on.
 */
export class Appender {
  readonly #lane: Lane;
  readonly #hooks: AppenderHooks;
  readonly #clock: Clock;
  readonly #noSpaceMs: number;
  #queue: LogOp[] = [];
  /** It will run at the end of the turn. */
  #isPlanned = false;
  /** A batch is being written, or its owners hear. */
  #isRunning = false;
  readonly #idleWaiters: (() => void)[] = [];
  #stopped: FarshoreError | undefined;
  readonly #crcs = new Uint32Array(MAX_OP_BLOCKS);
  readonly #fields: DescriptorFields = {
    dataCrc: 0,
    kind: KIND_WRITE,
    volume: 0,
    block: 0,
    seq: 0,
    opIndex: 0,
    opSlots: 1,
    syncedThrough: 0,
    wallSeconds: 0,
  };

  /** `noSpaceMs`: how long a disk that is full in spite of preallocation is put up with. */
  constructor(geometry: ChunkGeometry, clock: Clock, noSpaceMs: number, hooks: AppenderHooks) {
    this.#lane = new Lane(geometry, 'main');
    this.#clock = clock;
    this.#noSpaceMs = noSpaceMs;
    this.#hooks = hooks;
  }

  /** Slots left in the open chunk. */
  get room(): number {
    return this.#lane.room;
  }

  /** Takes the operation, whose slots were reserved. The owner hears exactly once, never within this call. */
  submit(op: LogOp): void {
    op.log.begin();
    this.#queue.push(op);
    if (this.#isRunning || this.#isPlanned) return;
    this.#isPlanned = true;
    // One turn of promises later, all commands that arrived together have been staged.
    void AT_ONCE.then(this.#runPlanned);
  }

  /** Whether a batch is on its way to the disk, so that what is submitted now has to wait for it. */
  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Writes what was submitted in this call instead of at the end of the turn: where the disk answers in the turn, owners have heard when it returns. */
  runNow(): void {
    if (!this.#isRunning) this.#run();
  }

  /** Resolves when nothing is under way. */
  idle(): Promise<void> {
    if (!this.#isRunning && this.#queue.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idleWaiters.push(resolve);
    });
  }

  /** Fails what is queued, now and later. */
  stop(error: FarshoreError): void {
    this.#stopped ??= error;
  }

  /** Writes batch after batch. Owners that hear may submit more, which is written next: a disk does not answer in the turn for ever. */
  #run(): void {
    this.#isRunning = true;
    while (this.#queue.length > 0) {
      const batch = this.#takeBatch();
      if (this.#stopped !== undefined) {
        answer(batch, this.#stopped);
        continue;
      }
      const parts = this.#place(batch);
      for (const part of parts) part.chunk.unsynced = true;
      const writing = writeParts(parts);
      if (writing !== undefined) {
        void this.#finishLater(batch, parts, writing);
        return;
      }
      this.#written(parts);
      answer(batch, this.#stopped);
    }
    this.#isRunning = false;
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  readonly #runPlanned = (): void => {
    this.#isPlanned = false;
    this.runNow();
  };

  async #finishLater(batch: readonly LogOp[], parts: readonly LanePart[], writing: Promise<void>): Promise<void> {
    const error = await this.#outcome(parts, writing);
    if (error === undefined) this.#written(parts);
    answer(batch, error ?? this.#stopped);
    this.#run();
  }

  /** undefined when everything was written in the end. */
  async #outcome(parts: readonly LanePart[], first: Promise<void>): Promise<FarshoreError | undefined> {
    const deadline = this.#clock.monotonicMs() + this.#noSpaceMs;
    let writing: MaybePromise<void> = first;
    for (;;) {
      try {
        await writing;
        return undefined;
      } catch (error) {
        // A full disk has lost nothing: the same bytes may go to the same place again. Any other failure is final.
        if (!isKind(error, 'busy') || this.#clock.monotonicMs() >= deadline || this.#stopped !== undefined) {
          return this.#fail(error);
        }
      }
      await sleep(this.#clock, NO_SPACE_RETRY_MS);
      writing = writeParts(parts);
    }
  }

  #takeBatch(): LogOp[] {
    let slots = 0;
    let count = 0;
    for (const op of this.#queue) {
      slots += op.slots;
      if (slots > MAX_BATCH_SLOTS && count > 0) break;
      count++;
    }
    if (count === this.#queue.length) {
      const all = this.#queue;
      this.#queue = [];
      return all;
    }
    return this.#queue.splice(0, count);
  }

  #written(parts: readonly LanePart[]): void {
    let slots = 0;
    for (const part of parts) {
      // A sync that ran meanwhile may have missed the end of this write.
      part.chunk.unsynced = true;
      part.chunk.pending--;
      slots += part.to - part.from;
    }
    this.#sealFull(parts);
    this.#hooks.written(slots);
  }

  #fail(error: unknown): FarshoreError {
    const stopped = new FarshoreError('stopped', 'the cache log has stopped: an append to it failed', { cause: error });
    this.#stopped ??= stopped;
    this.#hooks.failed(stopped);
    return stopped;
  }

  #sealFull(parts: readonly LanePart[]): void {
    for (const { chunk } of parts) {
      if (chunk === this.#lane.chunk) {
        if (this.#lane.room > 0) continue;
        this.#lane.takeChunk();
      }
      this.#hooks.seal(chunk);
    }
  }

  #place(batch: readonly LogOp[]): LanePart[] {
    const parts: LanePart[] = [];
    const fields = this.#fields;
    let slots = 0;
    for (const op of batch) {
      crcPerBlock(op.data, this.#crcs);
      fields.kind = op.kind;
      fields.volume = op.log.number;
      fields.seq = op.seq;
      fields.opSlots = op.slots;
      fields.syncedThrough = op.log.syncedThrough;
      fields.wallSeconds = Math.floor(op.arrivedAt / 1000);
      slots += op.slots;
      for (let index = 0; index < op.slots;) index += this.#placeRun(op, index, fields, parts);
    }
    this.#hooks.placed(slots);
    return parts;
  }

  /** Places as much of the operation, from `index` on, as the open chunk takes. */
  #placeRun(op: LogOp, index: number, fields: DescriptorFields, parts: LanePart[]): number {
    if (this.#lane.room === 0) {
      const free = this.#hooks.takeFree();
      invariant(free !== undefined, 'admission keeps free chunks for what it let in');
      this.#lane.takeChunk();
      this.#lane.open(free);
    }
    const run = Math.min(op.slots - index, this.#lane.room);
    const last = parts.at(-1);
    const part = this.#lane.part(last);
    if (part !== last) parts.push(part);
    op.placeRun(part.chunk.number, part.to, run);
    part.chunk.noteWrite(op.log.number, op.seq);
    for (let i = index; i < index + run; i++) {
      fields.opIndex = i;
      fields.block = op.kind === KIND_UNMAP ? op.block : op.block + i;
      fields.dataCrc = this.#crcs[i] ?? 0;
      this.#lane.take(part, fields);
    }
    if (run === op.slots) part.pieces.push(...op.data);
    else part.pieces.push(...slicePieces(op.data, index * BLOCK_SIZE, (index + run) * BLOCK_SIZE));
    return run;
  }
}

/** undefined when all of it was written in the turn; a rejection comes when nothing of it is under way any more. */
function writeParts(parts: readonly LanePart[]): MaybePromise<void> {
  let writing: MaybePromise<void> = undefined;
  for (const part of parts) writing = allDone(writing, writePart(part));
  return writing;
}

/** Owners hear in the order of submission. */
function answer(batch: readonly LogOp[], error: FarshoreError | undefined): void {
  for (const op of batch) {
    if (error !== undefined) op.owner.opFailed(op, error);
    else {
      op.log.appendedThrough = op.seq;
      op.owner.opLogged(op);
    }
    op.log.end();
  }
}
