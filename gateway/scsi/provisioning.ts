import type { BlockDevice, MaybePromise, SectorRange } from '../base/block-device.ts';
import type { ByteCount, Lba, SectorCount } from '../base/units.ts';
import { INTERNAL_CHUNK_BYTES } from './limits.ts';
import { GOOD, parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, invalidParameterField, resultOfError } from './sense.ts';

const returnGood = (): ScsiResult => GOOD;

/** Header and descriptor of the UNMAP parameter list (SBC-3). */
const UNMAP_HEADER_BYTES = 8;
const UNMAP_DESCRIPTOR_BYTES = 16;

/** UNMAP (SBC-3): the whole list is checked before anything is deallocated. */
export function unmap(device: BlockDevice, parameters: Buffer): MaybePromise<ScsiResult> {
  if (parameters.length === 0) return GOOD;
  if (parameters.length < UNMAP_HEADER_BYTES) return checkCondition(SENSE.parameterListLength);
  const announced = parameters.readUInt16BE(2);
  const present = parameters.length - UNMAP_HEADER_BYTES;
  const count = Math.floor(Math.min(announced, present) / UNMAP_DESCRIPTOR_BYTES);
  if (count > device.limits.maxUnmapRanges) return invalidParameterField(2);
  const ranges: SectorRange[] = [];
  for (let index = 0; index < count; index += 1) {
    const at = UNMAP_HEADER_BYTES + index * UNMAP_DESCRIPTOR_BYTES;
    const lba = parameters.readUInt32BE(at) * 2 ** 32 + parameters.readUInt32BE(at + 4);
    const sectors = parameters.readUInt32BE(at + 8);
    if (lba + sectors > device.geometry().sectors) return checkCondition(SENSE.lbaOutOfRange);
    if (sectors > 0) ranges.push({ lba, sectors });
  }
  return ranges.length === 0 ? GOOD : deallocate(device, ranges);
}

function deallocate(device: BlockDevice, ranges: readonly SectorRange[]): MaybePromise<ScsiResult> {
  try {
    const done = device.unmap(ranges);
    return done instanceof Promise ? done.then(returnGood, resultOfError) : GOOD;
  } catch (error) {
    return resultOfError(error);
  }
}

/**
 * WRITE SAME (10), (16): SBC-3. Zeros are what unmapped sectors read as here, so they are deallocated whether UNMAP
 * asks for it or not; anything else is written, piece by piece, also with UNMAP: what is read afterwards must be the data.
 */
export async function writeSame(
  device: BlockDevice,
  command: { readonly lba: Lba; readonly sectors: SectorCount },
  pattern: Buffer | undefined,
): Promise<ScsiResult> {
  const { lba, sectors } = command;
  if (pattern === undefined || isZero(pattern)) return deallocate(device, [{ lba, sectors }]);
  const chunkSectors = Math.min(INTERNAL_CHUNK_BYTES / pattern.length, sectors);
  const chunk = Buffer.alloc(chunkSectors * pattern.length, pattern);
  try {
    for (let done = 0; done < sectors; done += chunkSectors) {
      const count = Math.min(chunkSectors, sectors - done);
      await device.write(lba + done, [chunk.subarray(0, count * pattern.length)], { fua: false });
    }
    return GOOD;
  } catch (error) {
    return resultOfError(error);
  }
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
export async function getLbaStatus(device: BlockDevice, lba: Lba, allocationLength: ByteCount): Promise<ScsiResult> {
  const room = Math.floor((allocationLength - LBA_STATUS_HEADER_BYTES) / LBA_STATUS_DESCRIPTOR_BYTES);
  const limit = Math.min(Math.max(room, 1), MAX_LBA_STATUS_DESCRIPTORS);
  const end = device.geometry().sectors;
  const descriptors: Buffer[] = [];
  try {
    let at = lba;
    let last: { readonly mapped: boolean; readonly descriptor: Buffer } | undefined;
    for (let looks = 0; looks < MAX_LOOKS && at < end; looks += 1) {
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
