import type { Lba } from '../base/units.ts';

/** One bit of a CDB. */
export function flag(cdb: Buffer, byte: number, bit: number): boolean {
  return ((cdb.readUInt8(byte) >> bit) & 1) !== 0;
}

/** RDPROTECT, WRPROTECT, VRPROTECT or ORPROTECT other than 000b: there is no protection information. */
export function protectionBits(cdb: Buffer): boolean {
  return (cdb.readUInt8(1) & 0xe0) !== 0;
}

/** A 64-bit LBA; above 2^53 it loses precision, but is beyond any device anyway. */
export function readLba64(cdb: Buffer, at: number): Lba {
  return cdb.readUInt32BE(at) * 2 ** 32 + cdb.readUInt32BE(at + 4);
}

/** The 21-bit LBA of six-byte CDBs. */
export function lba21(cdb: Buffer): Lba {
  return cdb.readUInt32BE(0) & 0x1f_ffff;
}
