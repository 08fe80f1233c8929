import type { BlockDevice } from '../base/block-device.ts';
import { BLOCK_SIZE } from '../base/units.ts';
import type { ByteCount, Lba, SectorCount } from '../base/units.ts';
import { firstDifference } from './compare.ts';
import { GOOD } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, invalidCdbField, resultOfError } from './sense.ts';

/** What the one byte of NUMBER OF LOGICAL BLOCKS can say; MAXIMUM COMPARE AND WRITE LENGTH of VPD B0h. */
export const MAX_COMPARE_AND_WRITE_SECTORS: SectorCount = 255;

interface Extent {
  readonly lba: Lba;
  readonly sectors: SectorCount;
  readonly fua: boolean;
}

/**
 * MAXIMUM ATOMIC TRANSFER LENGTH of VPD B0h, in sectors: so much lies in one operation of the device wherever it begins, for
 * alignment and granularity are left to the initiator.
 */
export function maxAtomicSectors(device: BlockDevice): SectorCount {
  const { sectorSize } = device.geometry();
  const head = sectorSize < BLOCK_SIZE ? BLOCK_SIZE : 0;
  return (device.limits.maxAtomicBytes - head) / sectorSize;
}

/**
 * Writes to an extent what `change` makes of what is there, or writes nothing and gives the result it ends with instead. The
 * caller holds an exclusive claim on the extent: nothing may come between the read and the write.
 */
async function readModifyWrite(
  device: BlockDevice,
  { lba, sectors, fua }: Extent,
  change: (medium: readonly Buffer[]) => Buffer | ScsiResult,
): Promise<ScsiResult> {
  if (sectors === 0) return GOOD;
  try {
    const changed = change(await device.read(lba, sectors));
    if (!Buffer.isBuffer(changed)) return changed;
    await device.write(lba, [changed], { fua });
    return GOOD;
  } catch (error) {
    return resultOfError(error);
  }
}

/**
 * COMPARE AND WRITE (SBC-3), under an exclusive claim: half of the data is compared with the medium, and the other half
 * written when nothing differs. The sense data of a miscompare has the offset of the first byte that differs.
 */
export async function compareAndWrite(
  device: BlockDevice,
  extent: Extent,
  data: readonly Buffer[],
  announcedBytes: ByteCount,
): Promise<ScsiResult> {
  const bytes = extent.sectors * device.geometry().sectorSize;
  if (announcedBytes !== 2 * bytes) return invalidCdbField(13, 7);
  const both = Buffer.concat(data);
  return readModifyWrite(device, extent, (medium) => {
    const difference = firstDifference(medium, both.subarray(0, bytes));
    if (difference !== undefined) return checkCondition({ ...SENSE.miscompare, information: difference });
    return both.subarray(bytes);
  });
}

/** ORWRITE (16) (SBC-3), under an exclusive claim: the bits of the data are set on the medium. */
export async function orWrite(
  device: BlockDevice,
  extent: Extent,
  data: readonly Buffer[],
  announcedBytes: ByteCount,
): Promise<ScsiResult> {
  const bytes = extent.sectors * device.geometry().sectorSize;
  if (announcedBytes < bytes) return checkCondition(SENSE.wrongDataLength);
  return readModifyWrite(device, extent, (medium) => {
    const merged = Buffer.concat(medium);
    const mask = Buffer.concat(data);
    for (let at = 0; at < bytes; at += 1) merged[at] = (merged[at] ?? 0) | (mask[at] ?? 0);
    return merged;
  });
}

/**
 * WRITE ATOMIC (16) (SBC-4), under an exclusive claim: one operation of the device, which a power failure leaves whole or
 * not at all. Less data than the command is for cannot be written atomically.
 */
export async function writeAtomic(
  device: BlockDevice,
  { lba, sectors, fua }: Extent,
  data: readonly Buffer[],
  announcedBytes: ByteCount,
): Promise<ScsiResult> {
  if (announcedBytes < sectors * device.geometry().sectorSize) return checkCondition(SENSE.wrongDataLength);
  if (sectors === 0) return GOOD;
  try {
    await device.write(lba, data, { fua });
    return GOOD;
  } catch (error) {
    return resultOfError(error);
  }
}
