import { crc32 } from '../base/crc32.ts';
import type { MaybePromise } from '../base/block-device.ts';
import type { BlockCount, BlockNumber } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import { allDone } from './lane.ts';
import { blockAt, dataCrcAt, isDescriptor, KIND_UNMAP, kindAt, newTable, volumeAt, wordsOf } from './descriptor.ts';
import { DESCRIPTOR_BYTES, descriptorPosition, MAX_OP_BLOCKS, SLOT_BYTES, slotPosition } from './layout.ts';

/**
 * Reads `count` slots from `slot` on, which should hold as many blocks of the volume from `block` on, into `into` (count × 4096 bytes).
 * Answers the indices of those that do not: damaged, or no longer there because the chunk was reclaimed. Rejects with `stopped` when
 * the disk fails, when it does nothing with `into` any more. `fromDisk`: also the descriptors of an open chunk, which memory has.
 */
export function readRun(
  chunk: Chunk,
  slot: number,
  count: BlockCount,
  volume: number,
  block: BlockNumber,
  into: Buffer,
  fromDisk = false,
): MaybePromise<readonly number[]> {
  const { generation, table } = chunk;
  const expected = { chunk, generation, slot, count, volume, block };
  const reading = chunk.file.read(into, slotPosition(slot));
  if (table !== undefined && !fromDisk) {
    // An open chunk's descriptors are still in memory.
    const words = wordsOf(table);
    if (reading === undefined) return badOnes(expected, words, slot, into);
    return reading.then(() => badOnes(expected, words, slot, into));
  }
  const found = scratch.take(count);
  const describing = chunk.file.read(
    found.bytes.length === count * DESCRIPTOR_BYTES ? found.bytes : found.bytes.subarray(0, count * DESCRIPTOR_BYTES),
    descriptorPosition(slot),
  );
  if (reading === undefined && describing === undefined) return badOnes(expected, found.words, 0, into);
  // Whoever waits keeps it.
  scratch.renew();
  return Promise.resolve(allDone(reading, describing)).then(() => badOnes(expected, found.words, 0, into));
}

/** A place for descriptors that are read and looked at in one turn. */
class Scratch {
  #one = newDescriptors(1);
  #many = newDescriptors(MAX_OP_BLOCKS);

  take(count: BlockCount): Descriptors {
    if (count === 1) return this.#one;
    return count <= MAX_OP_BLOCKS ? this.#many : newDescriptors(count);
  }

  renew(): void {
    this.#one = newDescriptors(1);
    this.#many = newDescriptors(MAX_OP_BLOCKS);
  }
}

interface Descriptors {
  readonly bytes: Buffer;
  readonly words: Uint32Array;
}

function newDescriptors(count: BlockCount): Descriptors {
  const bytes = newTable(count * DESCRIPTOR_BYTES);
  return { bytes, words: wordsOf(bytes) };
}

const scratch = new Scratch();

interface ExpectedRun {
  readonly chunk: Chunk;
  readonly generation: number;
  readonly slot: number;
  readonly count: BlockCount;
  readonly volume: number;
  readonly block: BlockNumber;
}

/** `words` has the descriptor of the first slot at index `base`. */
function badOnes(
  { chunk, generation, slot, count, volume, block }: ExpectedRun,
  words: Uint32Array,
  base: number,
  into: Buffer,
): readonly number[] {
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
