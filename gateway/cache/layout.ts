import { endianness } from 'node:os';
import { FarshoreError, invariant } from '../base/errors.ts';
import { BLOCK_SIZE, type BlockCount, type ByteCount } from '../base/units.ts';

/**
 * Where things lie in the cache directory. A chunk file is a row of 4 KiB slots: slot 0 is the header, then the
 * descriptor table (32 bytes per slot of the file, the first of it unused), then data. A place names a data slot of the pool.
 */
export const CACHE_DIRECTORY = 'cache';

export const SLOT_BYTES = BLOCK_SIZE;
export const DESCRIPTOR_BYTES = 32;
export const DESCRIPTOR_WORDS = DESCRIPTOR_BYTES / 4;

/** 13 bits of slot, 17 bits of chunk: 4 TiB of cache at 32 MiB a chunk. */
export const SLOTS_PER_PLACE_CHUNK = 8192;
export const MAX_CHUNKS = 131_072;

/** Descriptor table starts behind the header. */
export const TABLE_OFFSET: ByteCount = SLOT_BYTES;

/** A write longer than this is several operations, each atomic by itself. */
export const MAX_OP_BLOCKS: BlockCount = 256;

/** Everything a chunk's size decides; the product uses 8192 slots, tests may use smaller chunks. */
export interface ChunkGeometry {
  readonly slots: number;
  readonly bytes: ByteCount;
  readonly tableBytes: ByteCount;
  /** First data slot. */
  readonly firstSlot: number;
  readonly dataSlots: number;
}

/** `input` when the number of slots is no multiple of 128 between 128 and 8192, or leaves less room than one operation. */
export function chunkGeometry(slots: number): ChunkGeometry {
  if (!Number.isInteger(slots) || slots % 128 !== 0 || slots > SLOTS_PER_PLACE_CHUNK) {
    throw new FarshoreError('input', `a chunk of ${slots} slots is not possible: a multiple of 128, at most 8192`);
  }
  const tableBytes = slots * DESCRIPTOR_BYTES;
  const firstSlot = 1 + tableBytes / SLOT_BYTES;
  const dataSlots = slots - firstSlot;
  if (dataSlots < MAX_OP_BLOCKS) {
    throw new FarshoreError(
      'input',
      `a chunk of ${slots} slots has no room for an operation of ${MAX_OP_BLOCKS} blocks`,
    );
  }
  return { slots, bytes: slots * SLOT_BYTES, tableBytes, firstSlot, dataSlots };
}

export const DEFAULT_CHUNK_SLOTS = 8192;

export function placeOf(chunk: number, slot: number): number {
  return chunk * SLOTS_PER_PLACE_CHUNK + slot;
}

export function chunkOfPlace(place: number): number {
  return Math.floor(place / SLOTS_PER_PLACE_CHUNK);
}

export function slotOfPlace(place: number): number {
  return place % SLOTS_PER_PLACE_CHUNK;
}

/** Byte position of a slot's descriptor in its chunk file. */
export function descriptorPosition(slot: number): ByteCount {
  return TABLE_OFFSET + slot * DESCRIPTOR_BYTES;
}

export function slotPosition(slot: number): ByteCount {
  return slot * SLOT_BYTES;
}

const CHUNK_NAME = /^([0-9]{6})\.chunk$/;

export function chunkName(chunk: number): string {
  return `${String(chunk).padStart(6, '0')}.chunk`;
}

export function chunkPath(chunk: number): string {
  return `${CACHE_DIRECTORY}/${chunkName(chunk)}`;
}

/** undefined for names that are not a chunk's. */
export function chunkOfName(name: string): number | undefined {
  const digits = CHUNK_NAME.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

// Tables are read and written as 32-bit words in the machine's order, and the files are little-endian.
invariant(endianness() === 'LE', 'the cache log needs a little-endian machine');
