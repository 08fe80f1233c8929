import { MIB } from '../base/units.ts';
import type { SectorCount } from '../base/units.ts';

/** Longest WRITE SAME: with data it becomes real writes, and an initiator's patience is short. */
const MAX_WRITE_SAME_BYTES = 16 * MIB;

/** Commands that move through the device without an initiator's buffer do so in pieces of this size. */
export const INTERNAL_CHUNK_BYTES = MIB;

/** Longest parameter list a command may bring (UNMAP's is the longest). */
export const MAX_PARAMETER_BYTES = 65_535;

/** MAXIMUM WRITE SAME LENGTH of VPD B0h, in sectors. */
export function maxWriteSameSectors(sectorSize: number): SectorCount {
  return MAX_WRITE_SAME_BYTES / sectorSize;
}
