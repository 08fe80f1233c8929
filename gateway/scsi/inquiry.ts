import { PRODUCT_ID, VENDOR_ID } from './constants.ts';
import type { UnitNexus } from './logical-unit.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { invalidCdbField } from './sense.ts';
import { encodeVpdPage } from './vpd.ts';

const PRODUCT_REVISION = '0001';

/** Peripheral qualifier and device type (SPC-4 6.6.2): a disk that is there, and "no device, but the LUN is possible". */
const CONNECTED_DISK = 0x00;
const NO_DEVICE = 0x7f;

/** SAM-5, SPC-4, SBC-3, iSCSI (SPC-4 6.6.2, table 145). */
const VERSION_DESCRIPTORS = [0x00a0, 0x0460, 0x04c0, 0x0960];

/** INQUIRY (SPC-4 6.6) of a mapped logical unit. */
export function inquiry(
  nexus: UnitNexus,
  command: { readonly vital: boolean; readonly page: number; readonly allocationLength: number },
): ScsiResult {
  if (!command.vital) return standardOf(nexus, command.allocationLength);
  const page = encodeVpdPage(command.page, nexus.unit.device, nexus.port);
  return page === undefined ? invalidCdbField(2, 7) : parameterData(page, command.allocationLength);
}

function standardOf(nexus: UnitNexus, allocationLength: number): ScsiResult {
  const bytes = standardInquiry(CONNECTED_DISK);
  if (nexus.unit.device.identity.removable === true) bytes[1] = 0x80; // RMB
  return parameterData(bytes, allocationLength);
}

/** INQUIRY of a LUN nothing is mapped to: answered all the same, with qualifier 011b. */
export function inquiryOfUnmapped(command: { readonly vital: boolean; readonly allocationLength: number }): ScsiResult {
  if (command.vital) return invalidCdbField(2, 7);
  return parameterData(standardInquiry(NO_DEVICE), command.allocationLength);
}

/** Standard INQUIRY data, 96 bytes (SPC-4 6.6.2). */
function standardInquiry(peripheral: number): Buffer {
  const bytes = Buffer.alloc(96);
  bytes[0] = peripheral;
  bytes[2] = 0x06; // SPC-4
  bytes[3] = 0x12; // HISUP, response data format 2
  bytes[4] = bytes.length - 5;
  bytes[5] = 0x10 | 0x08; // TPGS: implicit asymmetric access, 3PC
  bytes[7] = 0x02; // CMDQUE
  writeAscii(bytes, 8, 8, VENDOR_ID);
  writeAscii(bytes, 16, 16, PRODUCT_ID);
  writeAscii(bytes, 32, 4, PRODUCT_REVISION);
  VERSION_DESCRIPTORS.forEach((version, index) => bytes.writeUInt16BE(version, 58 + 2 * index));
  return bytes;
}

/** Left-aligned, padded with spaces (ASCII data fields, SPC-4). */
function writeAscii(bytes: Buffer, at: number, length: number, text: string): void {
  bytes.write(text.padEnd(length).slice(0, length), at, 'latin1');
}
