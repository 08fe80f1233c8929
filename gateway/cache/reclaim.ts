import { isKind } from '../base/errors.ts';
import type { BlockCount, BlockNumber } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import { blockAt, isDescriptor, KIND_UNMAP, kindAt, volumeAt } from './descriptor.ts';
import { placeOf, type ChunkGeometry } from './layout.ts';
import { readTable } from './record-stream.ts';
import type { VolumeLog } from './volume-log.ts';

/** The chunk's descriptor table; undefined when the disk refuses it. */
export async function tableOf(chunk: Chunk, geometry: ChunkGeometry): Promise<Uint32Array | undefined> {
  try {
    return await readTable(chunk, geometry);
  } catch (error) {
    if (!isKind(error, 'stopped', 'damaged')) throw error;
    return undefined;
  }
}

/**
 * Clears every index entry that points into the chunk, as its descriptor table says; without one, by looking at all entries. Tells of the
 * blocks that are gone (those the table names), and answers how many.
 */
export function clearIndexOf(
  chunk: Chunk,
  words: Uint32Array | undefined,
  geometry: ChunkGeometry,
  volumes: ReadonlyMap<number, VolumeLog>,
  evicted: (volume: number, block: BlockNumber) => void,
): BlockCount {
  if (words === undefined) return clearByPlace(chunk, geometry, volumes);
  let cleared = 0;
  for (let slot = geometry.firstSlot; slot < geometry.slots; slot++) {
    if (!isDescriptor(words, slot, chunk.generation, slot) || kindAt(words, slot) === KIND_UNMAP) continue;
    const volume = volumeAt(words, slot);
    const block = blockAt(words, slot);
    if (volumes.get(volume)?.index.clearIfAt(block, placeOf(chunk.number, slot)) !== true) continue;
    cleared++;
    evicted(volume, block);
  }
  return cleared;
}

function clearByPlace(chunk: Chunk, geometry: ChunkGeometry, volumes: ReadonlyMap<number, VolumeLog>): BlockCount {
  const first = placeOf(chunk.number, 0);
  let cleared = 0;
  for (const number of chunk.shares.keys()) {
    const index = volumes.get(number)?.index;
    if (index === undefined) continue;
    const before = index.blocks;
    index.clearPlaces(first, first + geometry.slots);
    cleared += before - index.blocks;
  }
  return cleared;
}
