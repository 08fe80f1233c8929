import type { MaybePromise } from '../base/block-device.ts';
import type { BlockNumber, WriteSeq } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import {
  blockAt,
  dataCrcAt,
  isDescriptor,
  KIND_FILL,
  kindAt,
  newTable,
  opIndexAt,
  opSlotsAt,
  seqAt,
  syncedThroughAt,
  volumeAt,
  wallSecondsAt,
  wordsOf,
} from './descriptor.ts';
import { placeOf, TABLE_OFFSET, type ChunkGeometry } from './layout.ts';

/** Reads the descriptor table of a chunk as words. */
export async function readTable(chunk: Chunk, geometry: ChunkGeometry): Promise<Uint32Array> {
  const table = newTable(geometry.tableBytes);
  await chunk.file.read(table, TABLE_OFFSET);
  return wordsOf(table);
}

/** The highest key that records of the volume may have in a chunk (see LogEnd). */
export type KeyLimit = (chunk: Chunk) => WriteSeq;

const UNLIMITED: KeyLimit = () => Infinity;

/**
 * The records of one volume in the order of their keys, chunk by chunk. Writes and unmaps are one stream, fills another: within each
 * the order of placing is the order of keys. `load` brings the next table; between loads `next` is synchronous.
 */
export class RecordStream {
  readonly #volume: number;
  readonly #geometry: ChunkGeometry;
  readonly #chunks: Chunk[];
  readonly #wantFills: boolean;
  readonly #limit: KeyLimit;
  #chunkLimit: WriteSeq = Infinity;
  #chunk: Chunk | undefined;
  #words: Uint32Array = new Uint32Array(0);
  #slot = 0;

  /** Only chunks that have something above `above` are read; records above their chunk's `limit` do not exist. */
  constructor(
    chunks: Iterable<Chunk>,
    volume: number,
    geometry: ChunkGeometry,
    which: 'writes' | 'fills',
    above: WriteSeq,
    limit: KeyLimit = UNLIMITED,
  ) {
    this.#limit = limit;
    this.#volume = volume;
    this.#geometry = geometry;
    this.#wantFills = which === 'fills';
    const first = (chunk: Chunk): WriteSeq => {
      const share = chunk.shares.get(volume);
      return (which === 'fills' ? share?.minKey : share?.minSeq) ?? 0;
    };
    this.#chunks = [...chunks]
      .filter((chunk) => {
        const share = chunk.shares.get(volume);
        if (share === undefined) return false;
        return which === 'writes' ? share.maxSeq > Math.max(above, 0) : share.maxSeq === 0 && share.maxKey > above;
      })
      .sort((a, b) => first(a) - first(b) || a.generation - b.generation);
  }

  /** Whether a table has to be loaded before `next` may be asked. */
  get mustLoad(): boolean {
    return this.#chunk === undefined && this.#chunks.length > 0;
  }

  /** After the last record. */
  get ended(): boolean {
    return this.#chunk === undefined && this.#chunks.length === 0;
  }

  /** Brings the next table that has a record of the stream. */
  async load(): Promise<void> {
    while (this.mustLoad) {
      const chunk = this.#chunks.shift();
      if (chunk === undefined) return;
      this.#words = await readTable(chunk, this.#geometry);
      this.#chunk = chunk;
      this.#chunkLimit = this.#limit(chunk);
      this.#slot = this.#geometry.firstSlot - 1;
      this.next();
    }
  }

  /** Goes to the next record of the table; at its end the stream must load again, or has ended. */
  next(): void {
    const chunk = this.#chunk;
    if (chunk === undefined) return;
    const words = this.#words;
    for (;;) {
      const slot = ++this.#slot;
      if (slot >= this.#geometry.slots) {
        this.#chunk = undefined;
        return;
      }
      if (!isDescriptor(words, slot, chunk.generation, slot) || volumeAt(words, slot) !== this.#volume) continue;
      if ((kindAt(words, slot) === KIND_FILL) === this.#wantFills && seqAt(words, slot) <= this.#chunkLimit) return;
    }
  }

  get chunk(): Chunk | undefined {
    return this.#chunk;
  }

  get slot(): number {
    return this.#slot;
  }

  get place(): number {
    return placeOf(this.#chunk?.number ?? 0, this.#slot);
  }

  get key(): WriteSeq {
    return seqAt(this.#words, this.#slot);
  }

  get kind(): number {
    return kindAt(this.#words, this.#slot);
  }

  get block(): BlockNumber {
    return blockAt(this.#words, this.#slot);
  }

  get opIndex(): number {
    return opIndexAt(this.#words, this.#slot);
  }

  get opSlots(): number {
    return opSlotsAt(this.#words, this.#slot);
  }

  get dataCrc(): number {
    return dataCrcAt(this.#words, this.#slot);
  }

  get wallSeconds(): number {
    return wallSecondsAt(this.#words, this.#slot);
  }

  get syncedThrough(): WriteSeq {
    return syncedThroughAt(this.#words, this.#slot);
  }
}

/** One operation as the log has it; slots that are missing have no record. */
export interface LoggedOp {
  readonly seq: WriteSeq;
  readonly kind: number;
  /** First block of a write. */
  readonly block: BlockNumber;
  readonly slots: number;
  readonly wallSeconds: number;
  /** By index in the operation; undefined where the record is missing. */
  readonly records: (LoggedSlot | undefined)[];
}

export interface LoggedSlot {
  readonly chunk: Chunk;
  readonly slot: number;
  readonly dataCrc: number;
}

/**
 * Takes the operation the stream is at, moving behind it; in the same turn unless a table must be loaded on the way, since a start goes
 * through millions of them.
 */
export function takeOp(stream: RecordStream): MaybePromise<LoggedOp> {
  const seq = stream.key;
  const op: LoggedOp = {
    seq,
    kind: stream.kind,
    block: stream.kind === KIND_FILL ? stream.block : Math.max(0, stream.block - stream.opIndex),
    slots: stream.opSlots,
    wallSeconds: stream.wallSeconds,
    records: new Array<LoggedSlot | undefined>(stream.opSlots).fill(undefined),
  };
  return takeFromTable(stream, op) ? op : takeAcrossTables(stream, op);
}

/** false at the end of the table. */
function takeFromTable(stream: RecordStream, op: LoggedOp): boolean {
  do {
    const chunk = stream.chunk;
    if (chunk !== undefined && stream.opIndex < op.slots) {
      op.records[stream.opIndex] = { chunk, slot: stream.slot, dataCrc: stream.dataCrc };
    }
    stream.next();
    if (stream.mustLoad) return false;
  } while (!stream.ended && stream.key === op.seq);
  return true;
}

async function takeAcrossTables(stream: RecordStream, op: LoggedOp): Promise<LoggedOp> {
  do {
    await stream.load();
  } while (!stream.ended && stream.key === op.seq && !takeFromTable(stream, op));
  return op;
}

export function isComplete(op: LoggedOp): boolean {
  return op.records.every((record) => record !== undefined);
}
