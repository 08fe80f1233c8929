import { crc32 } from 'node:zlib';
import type { BlockCount, BlockNumber } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import { blockAt, dataCrcAt, isDescriptor, KIND_UNMAP, kindAt, newTable, volumeAt, wordsOf } from './descriptor.ts';
import { DESCRIPTOR_BYTES, descriptorPosition, SLOT_BYTES, slotPosition } from './layout.ts';

/**
 * Reads `count` slots from `slot` on, which should hold as many blocks of the volume from `block` on, into `into` (count × 4096 bytes).
 * Answers the indices of those that do not: damaged, or no longer there because the chunk was reclaimed. Rejects with `stopped` when
 * the disk fails.
 */
export async function readRun(
  chunk: Chunk,
  slot: number,
  count: BlockCount,
  volume: number,
  block: BlockNumber,
  into: Buffer,
): Promise<readonly number[]> {
  const { generation, table } = chunk;
  let words: Uint32Array;
  let base: number;
  if (table !== undefined) {
    // An open chunk's descriptors are still in memory.
    await chunk.file.read(into, slotPosition(slot));
    words = wordsOf(table);
    base = slot;
  } else {
    const descriptors = newTable(count * DESCRIPTOR_BYTES);
    await Promise.all([
      chunk.file.read(into, slotPosition(slot)),
      chunk.file.read(descriptors, descriptorPosition(slot)),
    ]);
    words = wordsOf(descriptors);
    base = 0;
  }
  // Reused under us: what lies there now has nothing to do with what the index pointed at.
  if (chunk.generation !== generation) return Array.from({ length: count }, (_, index) => index);
  let bad: number[] | undefined;
  for (let index = 0; index < count; index++) {
    const at = base + index;
    const good =
      isDescriptor(words, at, generation, slot + index) &&
      volumeAt(words, at) === volume &&
      blockAt(words, at) === block + index &&
      kindAt(words, at) !== KIND_UNMAP &&
      crc32(count === 1 ? into : into.subarray(index * SLOT_BYTES, (index + 1) * SLOT_BYTES)) === dataCrcAt(words, at);
    if (!good) (bad ??= []).push(index);
  }
  return bad ?? NONE;
}

const NONE: readonly number[] = [];
