import { crc32 } from '../base/crc32.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BlockNumber } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import { KIND_FILL, type DescriptorFields } from './descriptor.ts';
import { Lane, writePart, type LanePart } from './lane.ts';
import { placeOf, type ChunkGeometry } from './layout.ts';
import type { Queue } from './s3-fifo.ts';
import type { VolumeLog } from './volume-log.ts';

/** Fills that wait to be written (8 MiB); more are dropped, they can be fetched again. */
const MAX_QUEUED_FILLS = 2048;

/** Most slots written in one go. */
const MAX_BATCH_FILLS = 512;

/** Who fetched a block. */
export interface FillOwner {
  /** Still the block's newest content, and nowhere in the log? Asked in the tick in which the fill takes its place, and before the index is set. */
  isFillWanted(block: BlockNumber): boolean;
  /** `placed`: the index leads to it now; otherwise it is forgotten. */
  fillEnded(block: BlockNumber, placed: boolean): void;
}

/** A clean block, fetched from the remote or about to lose its chunk, that may go into the log. */
export interface Fill {
  readonly log: VolumeLog;
  readonly block: BlockNumber;
  readonly data: Buffer;
  readonly owner: FillOwner;
}

export interface FillHooks {
  /** A chunk made ready that writes can do without; undefined when there is none. */
  takeSpare(): Chunk | undefined;
  seal(chunk: Chunk): void;
  retire(chunk: Chunk): void;
}

/** Appends fills to a chunk of their own. Best effort: a fill that finds no room is forgotten, and a failed one harms nothing. */
export class FillWriter {
  readonly #lane: Lane;
  readonly #hooks: FillHooks;
  readonly #diary: Log;
  readonly #queue: Fill[] = [];
  #running: Promise<void> | undefined;
  #stopped = false;
  fills = 0;
  dropped = 0;

  /** `queue`: what its chunks are part of. */
  constructor(geometry: ChunkGeometry, queue: Queue, diary: Log, hooks: FillHooks) {
    this.#lane = new Lane(geometry, queue);
    this.#diary = diary;
    this.#hooks = hooks;
  }

  /** Whether the open chunk has room beyond what is queued. */
  get hasRoomInChunk(): boolean {
    return this.#lane.room > this.#queue.length;
  }

  /** Whether it has a chunk open. */
  get hasChunk(): boolean {
    return this.#lane.chunk !== undefined;
  }

  /** Whether the queue has room: hydration waits while it has not. */
  get hasRoom(): boolean {
    return this.#queue.length < MAX_QUEUED_FILLS / 2;
  }

  submit(fill: Fill): void {
    fill.log.begin();
    if (this.#stopped || this.#queue.length >= MAX_QUEUED_FILLS) {
      this.#drop(fill);
      return;
    }
    this.#queue.push(fill);
    this.#running ??= this.#run();
  }

  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  stop(): void {
    this.#stopped = true;
    for (const fill of this.#queue.splice(0)) this.#drop(fill);
  }

  #drop(fill: Fill): void {
    this.dropped++;
    this.#end(fill, false);
  }

  #end(fill: Fill, placed: boolean): void {
    fill.owner.fillEnded(fill.block, placed);
    fill.log.end();
  }

  async #run(): Promise<void> {
    await Promise.resolve();
    while (this.#queue.length > 0 && !this.#stopped) await this.#writeBatch();
    this.#running = undefined;
  }

  async #writeBatch(): Promise<void> {
    let part: LanePart | undefined;
    const placed: { fill: Fill; slot: number }[] = [];
    while (placed.length < MAX_BATCH_FILLS) {
      const fill = this.#queue[0];
      if (fill === undefined || (part !== undefined && this.#lane.room === 0)) break;
      this.#queue.shift();
      if (!fill.owner.isFillWanted(fill.block) || !this.#haveRoom()) {
        this.#drop(fill);
        continue;
      }
      part = this.#lane.part(part);
      const slot = this.#lane.take(part, fieldsOf(fill));
      part.pieces.push(fill.data);
      part.chunk.noteFill(fill.log.number, fill.log.assignedThrough);
      placed.push({ fill, slot });
    }
    if (part === undefined) return;
    const { chunk } = part;
    try {
      await writePart(part);
    } catch (error) {
      this.#diary.warn({ chunk: chunk.number, reason: describeError(error) }, 'a fill of the cache failed');
      chunk.pending--;
      if (this.#lane.chunk === chunk) this.#lane.takeChunk();
      this.#hooks.retire(chunk);
      for (const { fill } of placed) this.#drop(fill);
      return;
    }
    for (const { fill, slot } of placed) {
      const isWanted = fill.owner.isFillWanted(fill.block);
      if (isWanted) {
        fill.log.index.set(fill.block, placeOf(chunk.number, slot), false);
        this.fills++;
      }
      this.#end(fill, isWanted);
    }
    chunk.pending--;
    if (this.#lane.room > 0) return;
    this.#lane.takeChunk();
    this.#hooks.seal(chunk);
  }

  #haveRoom(): boolean {
    if (this.#lane.room > 0) return true;
    const spare = this.#hooks.takeSpare();
    if (spare === undefined) return false;
    this.#lane.open(spare);
    return true;
  }
}

/** Its key is the newest sequence handed out: the content is the block's as of then, because nothing is staged for it. */
function fieldsOf({ log, block, data }: Fill): DescriptorFields {
  return {
    dataCrc: crc32(data),
    kind: KIND_FILL,
    volume: log.number,
    block,
    seq: log.assignedThrough,
    opIndex: 0,
    opSlots: 1,
    syncedThrough: log.syncedThrough,
    wallSeconds: 0,
  };
}
