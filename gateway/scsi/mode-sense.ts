import type { DeviceGeometry } from '../base/block-device.ts';
import type { ModeSense } from './cdb.ts';
import type { UnitNexus } from './logical-unit.ts';
import type { PageValues } from './mode-parameters.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, invalidCdbField } from './sense.ts';
import { provisioningModePage } from './thresholds.ts';

/** Page control (SPC-4 6.13.1); saved values there are none. */
const VALUES: readonly (PageValues | undefined)[] = ['current', 'changeable', 'default', undefined];

/** WP and DPOFUA: the device honours FUA (SBC-3). */
const WRITE_PROTECTED = 0x80;
const DPOFUA = 0x10;

/** MODE SENSE (6) and (10): SPC-4 6.13, 6.14. */
export function modeSense(nexus: UnitNexus, command: ModeSense): ScsiResult {
  const values = VALUES[command.pageControl];
  if (values === undefined) return checkCondition(SENSE.savingNotSupported);
  const { device, media } = nexus.unit;
  const { mode } = media;
  const pages = mode.pages(command.page, command.subpage, values, provisioningModePage(device));
  if (pages === undefined) return invalidCdbField(2, 5);
  const specific = DPOFUA | (mode.softwareWriteProtect || nexus.readOnly ? WRITE_PROTECTED : 0);
  const descriptor = command.noBlockDescriptor
    ? Buffer.alloc(0)
    : blockDescriptor(nexus.unit.geometry(), command.longLba);
  const header = command.ten
    ? header10(specific, descriptor.length, command.longLba, pages.length)
    : header6(specific, descriptor.length, pages.length);
  return parameterData(Buffer.concat([header, descriptor, pages]), command.allocationLength);
}

/** Mode parameter header (6), SPC-4 7.5.5. The length does not count itself. */
function header6(specific: number, descriptorBytes: number, pageBytes: number): Buffer {
  return Buffer.from([3 + descriptorBytes + pageBytes, 0x00, specific, descriptorBytes]);
}

/** Mode parameter header (10), SPC-4 7.5.5. */
function header10(specific: number, descriptorBytes: number, longLba: boolean, pageBytes: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(6 + descriptorBytes + pageBytes, 0);
  header[3] = specific;
  header[4] = longLba && descriptorBytes > 0 ? 1 : 0;
  header.writeUInt16BE(descriptorBytes, 6);
  return header;
}

/** Short and long LBA mode parameter block descriptors (SBC-3). */
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
