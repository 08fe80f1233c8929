import type { MaybePromise } from '../base/block-device.ts';
import type { ByteCount, Lba, SectorCount } from '../base/units.ts';
import { readLba64 } from './cdb-fields.ts';
import { OPCODE } from './constants.ts';
import type { UnitNexus } from './logical-unit.ts';

/** RDPROTECT or WRPROTECT, and FUA; and NACA of the control byte: with any of them set it is no plain one. */
const NOT_PLAIN = 0xe8;
const NACA = 0x04;

/** Sectors of the plain READ (10) or (16) whose CDB begins at `at`; 0: it is none, or of no length, and is to be decoded. */
export function plainReadSectors(bytes: Buffer, at: number): SectorCount {
  return plainSectors(bytes, at, OPCODE.read10, OPCODE.read16);
}

/** As `plainReadSectors`, of a WRITE (10) or (16). */
export function plainWriteSectors(bytes: Buffer, at: number): SectorCount {
  return plainSectors(bytes, at, OPCODE.write10, OPCODE.write16);
}

function plainSectors(bytes: Buffer, at: number, short: number, long: number): SectorCount {
  if (((bytes[at + 1] ?? 0) & NOT_PLAIN) !== 0) return 0;
  switch (bytes[at]) {
    case long:
      return ((bytes[at + 15] ?? 0) & NACA) === 0 ? bytes.readUInt32BE(at + 10) : 0;
    case short:
      return ((bytes[at + 9] ?? 0) & NACA) === 0 ? bytes.readUInt16BE(at + 7) : 0;
    default:
      return 0;
  }
}

/** The LBA of a command that plainReadSectors or plainWriteSectors has passed. */
export function plainLba(bytes: Buffer, at: number): Lba {
  const isLong = bytes[at] === OPCODE.read16 || bytes[at] === OPCODE.write16;
  return isLong ? readLba64(bytes, at + 2) : bytes.readUInt32BE(at + 2);
}

/**
 * Length of a plain read or write of these sectors when there is nothing that could refuse it, make it wait or tell its initiator something
 * else first: everything that `admit`, `refuse` and `execute` look at is as it mostly is; for a write there is write protection
 * besides (`isWritable`). 0 otherwise: they decide.
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

/** Whether the initiator may write there. */
export function isWritable(nexus: UnitNexus): boolean {
  return !nexus.readOnly && !nexus.unit.media.mode.softwareWriteProtect;
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

/** Gives such a write to the device (BlockDevice.gatherWrite); false when it does not take it, and is to be asked by `write`. */
export function gatherWrite(nexus: UnitNexus, lba: Lba, sectors: SectorCount, data: Buffer): boolean {
  const { device, media } = nexus.unit;
  if (device.gatherWrite?.(lba, data) !== true) return false;
  media.counters.writes += 1;
  media.counters.writtenBytes += data.length;
  media.counters.writtenSectors += sectors;
  return true;
}

/** Logs what was gathered (BlockDevice.logGathered). What the atomic commands wait for is told if it takes longer than the turn. */
export function logGathered(nexus: UnitNexus): MaybePromise<void> {
  const { device, media } = nexus.unit;
  const done = device.logGathered?.();
  if (done === undefined) return undefined;
  const inFlight = media.extents.enter();
  return done.finally(() => {
    inFlight.leave();
  });
}
