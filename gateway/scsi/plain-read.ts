import type { ByteCount, Lba, SectorCount } from '../base/units.ts';
import { readLba64 } from './cdb-fields.ts';
import { OPCODE } from './constants.ts';
import type { UnitNexus } from './logical-unit.ts';

/** RDPROTECT and FUA of a READ (10), (16), and NACA of the control byte: with any of them set it is no plain one. */
const NOT_PLAIN = 0xe8;
const NACA = 0x04;

/** Sectors of the plain READ (10) or (16) whose CDB begins at `at`; 0: it is none, or of no length, and is to be decoded. */
export function plainReadSectors(bytes: Buffer, at: number): SectorCount {
  if (((bytes[at + 1] ?? 0) & NOT_PLAIN) !== 0) return 0;
  switch (bytes[at]) {
    case OPCODE.read16:
      return ((bytes[at + 15] ?? 0) & NACA) === 0 ? bytes.readUInt32BE(at + 10) : 0;
    case OPCODE.read10:
      return ((bytes[at + 9] ?? 0) & NACA) === 0 ? bytes.readUInt16BE(at + 7) : 0;
    default:
      return 0;
  }
}

/** The LBA of a READ that plainReadSectors has passed. */
export function plainReadLba(bytes: Buffer, at: number): Lba {
  return bytes[at] === OPCODE.read16 ? readLba64(bytes, at + 2) : bytes.readUInt32BE(at + 2);
}

/**
 * Length of a plain read of these sectors when there is nothing that could refuse it, make it wait or tell its initiator something
 * else first: everything that `admit`, `refuse` and `execute` look at for a READ is as it mostly is. 0 otherwise: they decide.
 */
export function unhinderedBytes(nexus: UnitNexus, lba: Lba, sectors: SectorCount): ByteCount {
  const { unit } = nexus;
  const { media, device } = unit;
  const geometry = unit.geometry(); // may raise an attention
  const bytes = sectors * geometry.sectorSize;
  const isUnhindered =
    !nexus.hasAttention &&
    !unit.document.isDamaged &&
    unit.sanitizer.isIdle &&
    unit.reservations.areNone &&
    media.isLoaded &&
    media.isStarted &&
    media.extents.letsAllIn &&
    lba + sectors <= geometry.sectors &&
    bytes <= device.limits.maxTransferBytes;
  return isUnhindered ? bytes : 0;
}

/** Puts what such a read gives at `at` of `into`, in the same turn; false when the device cannot, and is to be asked by `read`. */
export function readAtOnce(nexus: UnitNexus, lba: Lba, sectors: SectorCount, into: Buffer, at: number): boolean {
  const { device, media } = nexus.unit;
  if (device.readInto?.(lba, sectors, into, at) !== true) return false;
  media.counters.reads += 1;
  media.counters.readBytes += sectors * device.geometry().sectorSize;
  media.counters.readSectors += sectors;
  return true;
}
