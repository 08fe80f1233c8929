import type { BlockDevice, SectorRange } from '../base/block-device.ts';
import type { ByteCount, Lba, SectorCount } from '../base/units.ts';
import { readLba64 } from './cdb-fields.ts';
import { ABORTED, isAborted } from './command-life.ts';
import type { CommandLife } from './command-life.ts';
import { INTERNAL_CHUNK_BYTES, PATTERN_BYTES, UNMAP_BATCH_RANGES } from './limits.ts';
import { GOOD, parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, invalidParameterField, resultOfError } from './sense.ts';

/** Header and descriptor of the UNMAP parameter list (SBC-3). */
const UNMAP_HEADER_BYTES = 8;
const UNMAP_DESCRIPTOR_BYTES = 16;

/** The ranges of an UNMAP parameter list; a descriptor that is cut off is not looked at. */
export function unmapRanges(parameters: Buffer): SectorRange[] {
  if (parameters.length < UNMAP_HEADER_BYTES) return [];
  const announced = parameters.readUInt16BE(2);
  const present = parameters.length - UNMAP_HEADER_BYTES;
  const count = Math.floor(Math.min(announced, present) / UNMAP_DESCRIPTOR_BYTES);
  return Array.from({ length: count }, (_, index) => {
    const at = UNMAP_HEADER_BYTES + index * UNMAP_DESCRIPTOR_BYTES;
    return { lba: readLba64(parameters, at), sectors: parameters.readUInt32BE(at + 8) };
  });
}

/** UNMAP (SBC-3): the whole list is checked before anything is deallocated. */
export async function unmap(device: BlockDevice, parameters: Buffer, life: CommandLife): Promise<ScsiResult> {
  if (parameters.length === 0) return GOOD;
  if (parameters.length < UNMAP_HEADER_BYTES) return checkCondition(SENSE.parameterListLength);
  const all = unmapRanges(parameters);
  if (all.length > device.limits.maxUnmapRanges) return invalidParameterField(2);
  const { sectors: end } = device.geometry();
  if (all.some(({ lba, sectors }) => lba + sectors > end)) return checkCondition(SENSE.lbaOutOfRange);
  return deallocate(
    device,
    all.filter(({ sectors }) => sectors > 0),
    life,
  );
}

async function deallocate(device: BlockDevice, ranges: readonly SectorRange[], life: CommandLife): Promise<ScsiResult> {
  try {
    for (let at = 0; at < ranges.length; at += UNMAP_BATCH_RANGES) {
      if (isAborted(life)) return ABORTED;
      await device.unmap(ranges.slice(at, at + UNMAP_BATCH_RANGES));
    }
    return GOOD;
  } catch (error) {
    return resultOfError(error);
  }
}

/**
 * WRITE SAME (10), (16): SBC-3; `block` is undefined with NDOB. Zeros are what unmapped sectors read as here, so they are deallocated
 * whether UNMAP asks for it or not; anything else is written, piece by piece, also with UNMAP: what is read afterwards must be the data.
 */
export async function writeSame(
  device: BlockDevice,
  { lba, sectors }: SectorRange,
  block: Buffer | undefined,
  life: CommandLife,
): Promise<ScsiResult> {
  if (block === undefined || isZero(block)) return deallocate(device, [{ lba, sectors }], life);
  const sectorSize = block.length;
  const pattern = Buffer.alloc(Math.min(PATTERN_BYTES, sectors * sectorSize), block);
  const pieceSectors = INTERNAL_CHUNK_BYTES / sectorSize;
  try {
    for (let done = 0; done < sectors; done += pieceSectors) {
      if (isAborted(life)) return ABORTED;
      const bytes = Math.min(pieceSectors, sectors - done) * sectorSize;
      await device.write(lba + done, repeated(pattern, bytes), { fua: false });
    }
    return GOOD;
  } catch (error) {
    return resultOfError(error);
  }
}

/** The pattern as often as it makes so many bytes, a whole number of blocks. */
function repeated(pattern: Buffer, bytes: ByteCount): Buffer[] {
  const pieces: Buffer[] = [];
  for (let left = bytes; left > 0; left -= pattern.length) {
    pieces.push(left < pattern.length ? pattern.subarray(0, left) : pattern);
  }
  return pieces;
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

const LBA_STATUS_HEADER_BYTES = 8;
const LBA_STATUS_DESCRIPTOR_BYTES = 16;
/** The device is asked so often for one answer; the host asks again from where it ends. */
const MAX_LOOKS = 64;
/** More descriptors than this are not worth an answer either. */
const MAX_LBA_STATUS_DESCRIPTORS = 64;
const DEALLOCATED = 1;

function lbaStatus(lba: Lba, sectors: SectorCount, mapped: boolean): Buffer {
  const descriptor = Buffer.alloc(LBA_STATUS_DESCRIPTOR_BYTES);
  descriptor.writeBigUInt64BE(BigInt(lba), 0);
  descriptor.writeUInt32BE(sectors, 8);
  descriptor[12] = mapped ? 0 : DEALLOCATED;
  return descriptor;
}

/** GET LBA STATUS (SBC-3): as many descriptors as the allocation length has room for, and at least one. */
export async function getLbaStatus(
  device: BlockDevice,
  { lba, allocationLength }: { readonly lba: Lba; readonly allocationLength: ByteCount },
  life: CommandLife,
): Promise<ScsiResult> {
  const room = Math.floor((allocationLength - LBA_STATUS_HEADER_BYTES) / LBA_STATUS_DESCRIPTOR_BYTES);
  const limit = Math.min(Math.max(room, 1), MAX_LBA_STATUS_DESCRIPTORS);
  const end = device.geometry().sectors;
  const descriptors: Buffer[] = [];
  try {
    let at = lba;
    let last: { readonly mapped: boolean; readonly descriptor: Buffer } | undefined;
    for (let looks = 0; looks < MAX_LOOKS && at < end; looks += 1) {
      if (isAborted(life)) return ABORTED;
      const { mapped, sectors } = await device.provisioning(at, Math.min(end - at, 0xffff_ffff));
      const joined = (last?.descriptor.readUInt32BE(8) ?? 0) + sectors;
      if (last?.mapped === mapped && joined <= 0xffff_ffff) {
        last.descriptor.writeUInt32BE(joined, 8);
      } else {
        if (descriptors.length === limit) break;
        last = { mapped, descriptor: lbaStatus(at, sectors, mapped) };
        descriptors.push(last.descriptor);
      }
      at += sectors;
    }
  } catch (error) {
    return resultOfError(error);
  }
  const header = Buffer.alloc(LBA_STATUS_HEADER_BYTES);
  header.writeUInt32BE(4 + descriptors.length * LBA_STATUS_DESCRIPTOR_BYTES, 0);
  return parameterData(Buffer.concat([header, ...descriptors]), allocationLength);
}
