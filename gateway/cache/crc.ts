/**
 * CRC-32 (polynomial of zlib.crc32) over a few 32-bit little-endian words. For the 28 bytes of a descriptor this is faster
 * than calling zlib, and it makes no object.
 */
const TABLES = makeTables();

function makeTables(): readonly [Uint32Array, Uint32Array, Uint32Array, Uint32Array] {
  const first = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    first[byte] = crc;
  }
  const shifted = (previous: Uint32Array): Uint32Array =>
    Uint32Array.from(previous, (crc) => (crc >>> 8) ^ (first[crc & 255] ?? 0));
  const second = shifted(first);
  const third = shifted(second);
  return [first, second, third, shifted(third)];
}

/** The CRC of words[from, to), going on from `seed` (0 to begin with), as zlib.crc32 would give it for their bytes. */
export function crc32OfWords(words: Uint32Array, from: number, to: number, seed: number): number {
  const [t0, t1, t2, t3] = TABLES;
  let crc = ~seed;
  for (let at = from; at < to; at++) {
    crc ^= words[at] ?? 0;
    crc = (t3[crc & 255] ?? 0) ^ (t2[(crc >>> 8) & 255] ?? 0) ^ (t1[(crc >>> 16) & 255] ?? 0) ^ (t0[crc >>> 24] ?? 0);
  }
  return ~crc >>> 0;
}
