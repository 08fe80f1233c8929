import { crc32 } from '../base/crc32.ts';
import { isKind } from '../base/errors.ts';
import { BLOCK_SIZE, type BlockNumber } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import { blockAt, dataCrcAt, isDescriptor, KIND_UNMAP, kindAt, volumeAt } from './descriptor.ts';
import type { FillOwner, FillWriter } from './fill-writer.ts';
import { placeOf, slotPosition, type ChunkGeometry } from './layout.ts';
import type { RamTier } from './ram-tier.ts';
import type { VolumeLog } from './volume-log.ts';

/** Slots looked at, read and written together (256 KiB): never more than one such step is under way. */
const STEP_SLOTS = 64;

export interface MoveDeps {
  readonly geometry: ChunkGeometry;
  readonly volumes: ReadonlyMap<number, VolumeLog>;
  readonly ram: RamTier;
  /** Appends to main. */
  readonly writer: FillWriter;
  /** Blocks that may move, at most. */
  readonly mostMoved: number;
  /** Nobody waits for the chunk. Asked before every step. */
  readonly mayGoOn: () => boolean;
}

/** A block on its way to another chunk. Its content is the volume's as long as the index leads to where it came from, and no write is staged. */
class Move implements FillOwner {
  readonly #log: VolumeLog;
  readonly #from: number;
  readonly #ended: (placed: boolean) => void;

  constructor(log: VolumeLog, from: number, ended: (placed: boolean) => void) {
    this.#log = log;
    this.#from = from;
    this.#ended = ended;
  }

  /** The chunk it came from takes nothing new before it has been reclaimed, so the place can't have come back by a detour. */
  isFillWanted(block: BlockNumber): boolean {
    const { index } = this.#log;
    return index.place(block) === this.#from && !index.isDirty(block) && !this.#log.isStaged(block);
  }

  fillEnded(_: BlockNumber, placed: boolean): void {
    this.#ended(placed);
  }
}

/**
 * Writes clean blocks of the chunk that were used since they came into it to the open chunk of main, and leads the index there: what the index
 * leads to in this chunk afterwards may go. Ends early when there is no room or somebody waits. Answers how many moved. Never rejects
 * because of the disk.
 */
export async function moveOn(chunk: Chunk, words: Uint32Array, deps: MoveDeps): Promise<number> {
  const { geometry } = deps;
  let moved = 0;
  for (let first = geometry.firstSlot; first < geometry.slots && moved < deps.mostMoved; first += STEP_SLOTS) {
    const end = Math.min(first + STEP_SLOTS, geometry.slots);
    const slots = usedSlots(chunk, words, first, end, deps).slice(0, deps.mostMoved - moved);
    if (slots.length === 0) continue;
    if (!deps.mayGoOn()) break;
    const done = await moveSlots(chunk, words, slots, deps);
    if (done === 0) break;
    moved += done;
  }
  return moved;
}

function usedSlots(chunk: Chunk, words: Uint32Array, first: number, end: number, deps: MoveDeps): number[] {
  const slots: number[] = [];
  for (let slot = first; slot < end; slot++) {
    if (!isDescriptor(words, slot, chunk.generation, slot) || kindAt(words, slot) === KIND_UNMAP) continue;
    const volume = volumeAt(words, slot);
    const block = blockAt(words, slot);
    const index = deps.volumes.get(volume)?.index;
    if (index?.place(block) !== placeOf(chunk.number, slot) || index.isDirty(block)) continue;
    if (index.isVisited(block) || deps.ram.isVisited(volume, block)) slots.push(slot);
  }
  return slots;
}

/** Answers how many are in their new place. */
async function moveSlots(chunk: Chunk, words: Uint32Array, slots: readonly number[], deps: MoveDeps): Promise<number> {
  const { volumes, writer } = deps;
  const first = slots[0] ?? 0;
  const data = Buffer.allocUnsafe(((slots.at(-1) ?? first) - first + 1) * BLOCK_SIZE);
  try {
    await chunk.file.read(data, slotPosition(first));
  } catch (error) {
    // What the disk refuses is fetched again when somebody wants it.
    if (!isKind(error, 'stopped', 'damaged')) throw error;
    return 0;
  }
  const moves: Promise<boolean>[] = [];
  for (const slot of slots) {
    const content = data.subarray((slot - first) * BLOCK_SIZE, (slot - first + 1) * BLOCK_SIZE);
    const log = volumes.get(volumeAt(words, slot));
    if (log === undefined || crc32(content) !== dataCrcAt(words, slot)) continue;
    const block = blockAt(words, slot);
    moves.push(
      new Promise((resolve) => {
        const owner = new Move(log, placeOf(chunk.number, slot), resolve);
        writer.submit({ log, block, data: content, owner });
      }),
    );
  }
  return (await Promise.all(moves)).filter((placed) => placed).length;
}
