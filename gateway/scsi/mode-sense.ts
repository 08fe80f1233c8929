import type { DeviceGeometry } from '../base/block-device.ts';
import type { ModeSense } from './cdb.ts';
import { modePages } from './mode-pages.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, invalidCdbField } from './sense.ts';

/** Page control (SPC-4 6.13.1). */
const CHANGEABLE = 1;
const SAVED = 3;

/** DPOFUA: the device honours FUA (SBC-3 6.4.1). */
const DPOFUA = 0x10;

/** MODE SENSE (6) and (10): SPC-4 6.13, 6.14. No page can be saved. */
export function modeSense(geometry: DeviceGeometry, command: ModeSense): ScsiResult {
  if (command.pageControl === SAVED) return checkCondition(SENSE.savingNotSupported);
  const pages = modePages(command.page, command.subpage, command.pageControl === CHANGEABLE);
  if (pages === undefined) return invalidCdbField(2, 5);
  const descriptor = command.noBlockDescriptor ? Buffer.alloc(0) : blockDescriptor(geometry, command.longLba);
  const header = command.ten
    ? header10(descriptor.length, command.longLba, pages.length)
    : header6(descriptor.length, pages.length);
  return parameterData(Buffer.concat([header, descriptor, pages]), command.allocationLength);
}

/** Mode parameter header (6), SPC-4 7.5.5. The length does not count itself. */
function header6(descriptorBytes: number, pageBytes: number): Buffer {
  return Buffer.from([3 + descriptorBytes + pageBytes, 0x00, DPOFUA, descriptorBytes]);
}

/** Mode parameter header (10), SPC-4 7.5.5. */
function header10(descriptorBytes: number, longLba: boolean, pageBytes: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(6 + descriptorBytes + pageBytes, 0);
  header[3] = DPOFUA;
  header[4] = longLba && descriptorBytes > 0 ? 1 : 0;
  header.writeUInt16BE(descriptorBytes, 6);
  return header;
}

/** Short and long LBA mode parameter block descriptors (SBC-3 6.4.2). */
function blockDescriptor(geometry: DeviceGeometry, longLba: boolean): Buffer {
  if (longLba) {
    const long = Buffer.alloc(16);
    long.writeBigUInt64BE(BigInt(geometry.sectors), 0);
    long.writeUInt32BE(geometry.sectorSize, 12);
    return long;
  }
  const short = Buffer.alloc(8);
  short.writeUInt32BE(Math.min(geometry.sectors, 0xffff_ffff), 0);
  short.writeUInt32BE(geometry.sectorSize, 4); // the upper byte is reserved, and stays 0
  return short;
}
