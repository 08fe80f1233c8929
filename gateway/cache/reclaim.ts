import { isKind } from '../base/errors.ts';
import type { Chunk } from './chunk.ts';
import { blockAt, isDescriptor, KIND_UNMAP, kindAt, newTable, volumeAt, wordsOf } from './descriptor.ts';
import { placeOf, TABLE_OFFSET, type ChunkGeometry } from './layout.ts';
import type { VolumeLog } from './volume-log.ts';

/** Clears every index entry that points into the chunk, as its descriptor table says; without a readable table, by looking at all entries. */
export async function clearIndexOf(
  chunk: Chunk,
  geometry: ChunkGeometry,
  volumes: ReadonlyMap<number, VolumeLog>,
): Promise<void> {
  const table = newTable(geometry.tableBytes);
  try {
    await chunk.file.read(table, TABLE_OFFSET);
  } catch (error) {
    if (!isKind(error, 'stopped', 'damaged')) throw error;
    clearByPlace(chunk, geometry, volumes);
    return;
  }
  const words = wordsOf(table);
  for (let slot = geometry.firstSlot; slot < geometry.slots; slot++) {
    if (!isDescriptor(words, slot, chunk.generation, slot) || kindAt(words, slot) === KIND_UNMAP) continue;
    volumes.get(volumeAt(words, slot))?.index.clearIfAt(blockAt(words, slot), placeOf(chunk.number, slot));
  }
}

function clearByPlace(chunk: Chunk, geometry: ChunkGeometry, volumes: ReadonlyMap<number, VolumeLog>): void {
  const first = placeOf(chunk.number, 0);
  for (const number of chunk.shares.keys()) volumes.get(number)?.index.clearPlaces(first, first + geometry.slots);
}
