import { FarshoreError, invariant } from '../base/errors.ts';
import type { BlockCount, BlockNumber } from '../base/units.ts';
import { SLOT_BYTES } from './layout.ts';

export interface BlockRange {
  readonly block: BlockNumber;
  readonly count: BlockCount;
}

const RANGE_BYTES = 16;

/** Ranges one unmap record can hold; more are several operations. */
export const MAX_UNMAP_RANGES = SLOT_BYTES / RANGE_BYTES - 1;

/** A slot: number of ranges, 12 bytes of zeros, then (block, count) as 64-bit little-endian numbers. */
export function encodeUnmap(ranges: readonly BlockRange[]): Buffer {
  invariant(ranges.length > 0 && ranges.length <= MAX_UNMAP_RANGES, 'an unmap record has room for its ranges');
  const slot = Buffer.alloc(SLOT_BYTES);
  slot.writeUInt32LE(ranges.length, 0);
  ranges.forEach(({ block, count }, index) => {
    slot.writeBigUInt64LE(BigInt(block), (index + 1) * RANGE_BYTES);
    slot.writeBigUInt64LE(BigInt(count), (index + 1) * RANGE_BYTES + 8);
  });
  return slot;
}

/** `damaged` when it is not what encodeUnmap makes. */
export function decodeUnmap(slot: Buffer): BlockRange[] {
  const length = slot.readUInt32LE(0);
  if (length === 0 || length > MAX_UNMAP_RANGES) {
    throw new FarshoreError('damaged', `an unmap record of the cache log claims ${length} ranges`);
  }
  return Array.from({ length }, (_, index) => ({
    block: Number(slot.readBigUInt64LE((index + 1) * RANGE_BYTES)),
    count: Number(slot.readBigUInt64LE((index + 1) * RANGE_BYTES + 8)),
  }));
}
