import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { MAX_LUN } from './constants.ts';
import { invalidCdbField } from './sense.ts';

/** The first allocation length that holds a header and one LUN (SPC-4 6.33). */
const MIN_ALLOCATION_LENGTH = 16;

/** REPORT LUNS (SPC-4 6.33): the mapped LUNs in ascending order. There are no well known logical units. */
export function reportLuns(
  luns: Iterable<number>,
  command: { readonly select: number; readonly allocationLength: number },
): ScsiResult {
  if (command.allocationLength < MIN_ALLOCATION_LENGTH) return invalidCdbField(6, 7);
  switch (command.select) {
    case 0x00:
    case 0x02:
      return parameterData(encode([...luns].sort((a, b) => a - b)), command.allocationLength);
    case 0x01:
      return parameterData(encode([]), command.allocationLength);
    default:
      return invalidCdbField(2, 7);
  }
}

function encode(luns: readonly number[]): Buffer {
  const data = Buffer.alloc(8 + 8 * luns.length);
  data.writeUInt32BE(8 * luns.length, 0);
  luns.forEach((lun, index) => data.writeUInt16BE(lun, 8 + 8 * index));
  return data;
}

/**
 * The LUN in an 8-byte field: peripheral device addressing on bus 0, or flat space addressing (SAM-5 4.7.7).
 * Anything else, and what lies above the highest LUN, is -1: no such logical unit.
 */
export function decodeLun(bytes: Buffer, at: number): number {
  if (bytes.readUInt16BE(at + 2) !== 0 || bytes.readUInt32BE(at + 4) !== 0) return -1;
  const first = bytes.readUInt16BE(at);
  const method = first >> 14;
  const lun = method === 1 ? first & 0x3fff : first;
  return method <= 1 && lun <= MAX_LUN ? lun : -1;
}
