import type { BadCdb, Command } from './cdb.ts';
import { flag, protectionBits, readLba64 } from './cdb-fields.ts';

/** COMPARE AND WRITE (SBC-3): the number of logical blocks has one byte. */
export function decodeCompareAndWrite(cdb: Buffer): Command | BadCdb {
  if (protectionBits(cdb)) return { kind: 'invalid-field', byte: 1, bit: 7 };
  const fua = flag(cdb, 1, 3);
  return { kind: 'compare-and-write', lba: readLba64(cdb, 2), sectors: cdb.readUInt8(13), fua };
}

/** ORWRITE (16) (SBC-3). */
export function decodeOrWrite(cdb: Buffer): Command | BadCdb {
  if (protectionBits(cdb)) return { kind: 'invalid-field', byte: 1, bit: 7 };
  return { kind: 'or-write', lba: readLba64(cdb, 2), sectors: cdb.readUInt32BE(10), fua: flag(cdb, 1, 3) };
}

/** WRITE ATOMIC (16) (SBC-4). There are no atomic boundaries: MAXIMUM ATOMIC BOUNDARY SIZE is 0. */
export function decodeWriteAtomic(cdb: Buffer): Command | BadCdb {
  if (protectionBits(cdb)) return { kind: 'invalid-field', byte: 1, bit: 7 };
  if (cdb.readUInt16BE(10) !== 0) return { kind: 'invalid-field', byte: 10, bit: 7 };
  return { kind: 'write-atomic', lba: readLba64(cdb, 2), sectors: cdb.readUInt16BE(12), fua: flag(cdb, 1, 3) };
}
