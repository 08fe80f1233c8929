/** Command descriptor blocks, written into the caller's 16 bytes (SPC-4, SBC-3). Bytes not named stay zero. */

import type { Lba, SectorCount } from '../base/units.ts';

export const CDB_BYTES = 16;

/** FUA bit of READ and WRITE (SBC-3 5.11). */
const FUA = 0x08;

export function testUnitReady(cdb: Buffer): void {
  cdb.fill(0);
}

export function inquiry(cdb: Buffer, allocationBytes: number, vpdPage?: number): void {
  cdb.fill(0);
  cdb[0] = 0x12;
  if (vpdPage !== undefined) {
    cdb[1] = 0x01;
    cdb[2] = vpdPage;
  }
  cdb.writeUInt16BE(allocationBytes, 3);
}

/** All LUNs but well known ones (SPC-4 6.33). */
export function reportLuns(cdb: Buffer, allocationBytes: number): void {
  cdb.fill(0);
  cdb[0] = 0xa0;
  cdb.writeUInt32BE(allocationBytes, 6);
}

/** SERVICE ACTION IN(16), READ CAPACITY(16) (SBC-3 5.16). */
export function readCapacity16(cdb: Buffer, allocationBytes: number): void {
  cdb.fill(0);
  cdb[0] = 0x9e;
  cdb[1] = 0x10;
  cdb.writeUInt32BE(allocationBytes, 10);
}

export function read16(cdb: Buffer, lba: Lba, sectors: SectorCount): void {
  transfer(cdb, 0x88, lba, sectors, false);
}

export function write16(cdb: Buffer, lba: Lba, sectors: SectorCount, fua: boolean): void {
  transfer(cdb, 0x8a, lba, sectors, fua);
}

/** SYNCHRONIZE CACHE(16) of the whole device: zero blocks from 0 (SBC-3 5.25). */
export function synchronizeCache16(cdb: Buffer): void {
  cdb.fill(0);
  cdb[0] = 0x91;
}

export function unmap(cdb: Buffer, parameterBytes: number): void {
  cdb.fill(0);
  cdb[0] = 0x42;
  cdb.writeUInt16BE(parameterBytes, 7);
}

/** UNMAP parameter list (SBC-3 5.28.2): 16 bytes per range. */
export function unmapParameters(ranges: readonly { readonly lba: Lba; readonly sectors: SectorCount }[]): Buffer {
  const list = Buffer.alloc(8 + 16 * ranges.length);
  list.writeUInt16BE(list.length - 2, 0);
  list.writeUInt16BE(list.length - 8, 2);
  ranges.forEach((range, index) => {
    writeUint64(list, 8 + 16 * index, range.lba);
    list.writeUInt32BE(range.sectors, 16 + 16 * index);
  });
  return list;
}

function transfer(cdb: Buffer, opcode: number, lba: Lba, sectors: SectorCount, fua: boolean): void {
  cdb[0] = opcode;
  cdb[1] = fua ? FUA : 0;
  writeUint64(cdb, 2, lba);
  cdb.writeUInt32BE(sectors, 10);
  cdb[14] = 0;
  cdb[15] = 0;
}

function writeUint64(into: Buffer, at: number, value: number): void {
  into.writeUInt32BE(Math.floor(value / 2 ** 32), at);
  into.writeUInt32BE(value >>> 0, at + 4);
}
