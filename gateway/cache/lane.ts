import type { MaybePromise } from '../base/block-device.ts';
import { invariant } from '../base/errors.ts';
import type { Chunk } from './chunk.ts';
import { encodeDescriptor, newTable, wordsOf, type DescriptorFields } from './descriptor.ts';
import { descriptorPosition, slotPosition, type ChunkGeometry } from './layout.ts';
import type { Queue } from './s3-fifo.ts';

/** A stretch of one chunk that is being written: data slots [from, to) and their descriptors. */
export interface LanePart {
  readonly chunk: Chunk;
  readonly from: number;
  to: number;
  readonly pieces: Buffer[];
  readonly words: Uint32Array;
  readonly table: Buffer;
}

/** The end of a log: the open chunk and the next slot of it. */
export class Lane {
  readonly #geometry: ChunkGeometry;
  readonly #queue: Queue;
  #chunk: Chunk | undefined;
  #table: Buffer | undefined;
  #words: Uint32Array | undefined;
  #next = 0;

  /** `queue`: of which its chunks become part. */
  constructor(geometry: ChunkGeometry, queue: Queue) {
    this.#geometry = geometry;
    this.#queue = queue;
  }

  get chunk(): Chunk | undefined {
    return this.#chunk;
  }

  /** Slots left in the open chunk. */
  get room(): number {
    return this.#chunk === undefined ? 0 : this.#geometry.slots - this.#next;
  }

  /** Goes on in a chunk that was made ready. The one before must be full or given up. */
  open(chunk: Chunk): void {
    invariant(chunk.state === 'free', 'a lane goes on in a free chunk');
    chunk.state = 'open';
    chunk.queue = this.#queue;
    this.#chunk = chunk;
    this.#table = newTable(this.#geometry.tableBytes);
    this.#words = wordsOf(this.#table);
    this.#next = this.#geometry.firstSlot;
    chunk.table = this.#table;
  }

  /** Gives the open chunk away, full or not. */
  takeChunk(): Chunk | undefined {
    const chunk = this.#chunk;
    this.#chunk = undefined;
    return chunk;
  }

  /** The part at the lane's end; goes on from `last` when that is still growing in the same chunk. */
  part(last: LanePart | undefined): LanePart {
    const chunk = this.#chunk;
    const words = this.#words;
    const table = this.#table;
    invariant(chunk !== undefined && words !== undefined && table !== undefined, 'the lane has an open chunk');
    if (last?.chunk === chunk) return last;
    chunk.pending++;
    return { chunk, from: this.#next, to: this.#next, pieces: [], words, table };
  }

  /** Takes the next slot and writes its descriptor into the table; answers the slot. */
  take(part: LanePart, fields: DescriptorFields): number {
    const slot = this.#next++;
    encodeDescriptor(part.words, slot, part.chunk.generation, slot, fields);
    part.to = this.#next;
    return slot;
  }
}

/**
 * Writes data and descriptors of the part. They may land in either order: recovery checks the data of all that was not synced. A rejection comes
 * when nothing of it is under way any more.
 */
export function writePart(part: LanePart): MaybePromise<void> {
  const descriptors = part.table.subarray(
    descriptorPosition(part.from) - descriptorPosition(0),
    descriptorPosition(part.to) - descriptorPosition(0),
  );
  const { file } = part.chunk;
  return allDone(
    file.write(part.pieces, slotPosition(part.from)),
    file.write([descriptors], descriptorPosition(part.from)),
  );
}

/** undefined when both were answered in the turn; otherwise it settles when both have ended. */
export function allDone(one: MaybePromise<void>, other: MaybePromise<void>): MaybePromise<void> {
  if (one === undefined) return other;
  return other === undefined ? one : bothDone(one, other);
}

async function bothDone(one: Promise<void>, other: Promise<void>): Promise<void> {
  const outcomes = await Promise.allSettled([one, other]);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason as Error;
}
