import { nativeCrc } from '../base/native-crc.ts';
import type { Crc } from '../base/native-crc.ts';

/** Reversed Castagnoli polynomial (RFC 7143 13.1). */
const POLYNOMIAL = 0x82f63b78;
const SLICES = 8;

/** Slicing-by-8 tables: TABLES[k][b] is the CRC of byte b followed by k zero bytes. */
const TABLES: readonly Uint32Array[] = makeTables();

function makeTables(): Uint32Array[] {
  const first = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    first[byte] = crc >>> 0;
  }
  const tables = [first];
  for (let slice = 1; slice < SLICES; slice += 1) {
    const previous = tables[slice - 1] ?? first;
    tables.push(previous.map((crc) => (crc >>> 8) ^ (first[crc & 0xff] ?? 0)));
  }
  return tables;
}

/** CRC-32C in plain JavaScript, eight bytes at a time: for machines without the native module. */
export const crc32cPortable: Crc = (bytes, previous = 0) => {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ];
  const at = (table: Uint32Array, index: number): number => table[index] ?? 0;
  let crc = ~previous;
  let i = 0;
  for (; i + SLICES <= bytes.length; i += SLICES) {
    const low =
      crc ^ ((bytes[i] ?? 0) | ((bytes[i + 1] ?? 0) << 8) | ((bytes[i + 2] ?? 0) << 16) | ((bytes[i + 3] ?? 0) << 24));
    crc =
      at(t7, low & 0xff) ^
      at(t6, (low >>> 8) & 0xff) ^
      at(t5, (low >>> 16) & 0xff) ^
      at(t4, low >>> 24) ^
      at(t3, bytes[i + 4] ?? 0) ^
      at(t2, bytes[i + 5] ?? 0) ^
      at(t1, bytes[i + 6] ?? 0) ^
      at(t0, bytes[i + 7] ?? 0);
  }
  for (; i < bytes.length; i += 1) crc = (crc >>> 8) ^ at(t0, (crc ^ (bytes[i] ?? 0)) & 0xff);
  return ~crc >>> 0;
};

/** The native CRC-32C where its binary package is installed, the portable one otherwise. */
export const crc32c: Crc = nativeCrc('crc32c') ?? crc32cPortable;
