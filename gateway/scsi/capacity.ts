import type { DeviceGeometry } from '../base/block-device.ts';
import { BLOCK_SIZE } from '../base/units.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';

const NO_LIMIT = 0xffff_ffff;

/** READ CAPACITY (10), SBC-3: the last LBA, FFFFFFFFh when it needs the longer command. */
export function readCapacity10(geometry: DeviceGeometry): ScsiResult {
  const data = Buffer.alloc(8);
  data.writeUInt32BE(Math.min(geometry.sectors - 1, 0xffff_ffff), 0);
  data.writeUInt32BE(geometry.sectorSize, 4);
  return parameterData(data, NO_LIMIT);
}

/** READ CAPACITY (16), SBC-3: physical blocks, thin, unmapped sectors read as zeros. */
export function readCapacity16(geometry: DeviceGeometry, allocationLength: number): ScsiResult {
  const data = Buffer.alloc(32);
  data.writeBigUInt64BE(BigInt(geometry.sectors - 1), 0);
  data.writeUInt32BE(geometry.sectorSize, 8);
  data[13] = Math.log2((geometry.physicalSize ?? BLOCK_SIZE) / geometry.sectorSize);
  data[14] = 0x80 | 0x40; // LBPME, LBPRZ; lowest aligned LBA 0
  return parameterData(data, allocationLength);
}
