import { KIB, MIB } from '../base/units.ts';
import type { ByteCount, SectorCount } from '../base/units.ts';

/** Longest WRITE SAME: with data it becomes real writes, and an initiator's patience is short. */
const MAX_WRITE_SAME_BYTES = 16 * MIB;

/** Commands that move through the device without an initiator's buffer do so in pieces of this size. */
export const INTERNAL_CHUNK_BYTES = MIB;

/** A WRITE SAME has its block so often in memory, however long it is: a piece is made of the same memory again and again. */
export const PATTERN_BYTES: ByteCount = 64 * KIB;

/** Ranges that an UNMAP hands to the device at a time: between them it looks whether it has been aborted. */
export const UNMAP_BATCH_RANGES = 32;

/** Longest parameter list a command may bring (UNMAP's is the longest). */
export const MAX_PARAMETER_BYTES = 65_535;

/** MAXIMUM WRITE SAME LENGTH of VPD B0h, in sectors. */
export function maxWriteSameSectors(sectorSize: number): SectorCount {
  return MAX_WRITE_SAME_BYTES / sectorSize;
}
