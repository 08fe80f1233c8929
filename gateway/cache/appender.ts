import { sleep, type Clock } from '../base/clock.ts';
import { FarshoreError, invariant, isKind } from '../base/errors.ts';
import { crcPerBlock, slicePieces, type LogOp } from './log-op.ts';
import { BLOCK_SIZE } from '../base/units.ts';
import { KIND_UNMAP, KIND_WRITE, type DescriptorFields } from './descriptor.ts';
import { Lane, writePart, type LanePart } from './lane.ts';
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
  /** The log can't go on: an append failed. */
  failed(error: FarshoreError): void;
}

/**
 * Appends operations in the order of submission: everything staged while the last write was under way goes out as one data write and
 * one descriptor write per chunk; then owners hear in order. One batch at a time, so that acks never overtake one another.
 */
export class Appender {
  readonly #lane: Lane;
  readonly #hooks: AppenderHooks;
  readonly #clock: Clock;
  readonly #noSpaceMs: number;
  #queue: LogOp[] = [];
  #running: Promise<void> | undefined;
  #stopped: FarshoreError | undefined;
  readonly #crcs = new Uint32Array(MAX_OP_BLOCKS);

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
    this.#running ??= this.#run();
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  /** Fails what is queued, now and later. */
  stop(error: FarshoreError): void {
    this.#stopped ??= error;
  }

  async #run(): Promise<void> {
    // One turn of promises later, all commands that arrived together have been staged.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const batch = this.#takeBatch();
      const error = this.#stopped ?? (await this.#write(batch));
      for (const op of batch) {
        if (error !== undefined) op.owner.opFailed(op, error);
        else {
          op.log.appendedThrough = op.seq;
          op.owner.opLogged(op);
        }
        op.log.end();
      }
    }
    this.#running = undefined;
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

  /** undefined when everything was written. */
  async #write(batch: readonly LogOp[]): Promise<FarshoreError | undefined> {
    const parts = this.#place(batch);
    const deadline = this.#clock.monotonicMs() + this.#noSpaceMs;
    for (const part of parts) part.chunk.unsynced = true;
    for (;;) {
      try {
        await Promise.all(parts.map(writePart));
        break;
      } catch (error) {
        // A full disk has lost nothing: the same bytes may go to the same place again. Any other failure is final.
        if (isKind(error, 'busy') && this.#clock.monotonicMs() < deadline && this.#stopped === undefined) {
          await sleep(this.#clock, NO_SPACE_RETRY_MS);
          continue;
        }
        return this.#fail(error);
      }
    }
    for (const part of parts) {
      // A sync that ran meanwhile may have missed the end of this write.
      part.chunk.unsynced = true;
      part.chunk.pending--;
    }
    this.#sealFull(parts);
    return this.#stopped;
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
    const fields: DescriptorFields = {
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
