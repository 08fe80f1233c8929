import { crc32 as zlibCrc32 } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { crc32 } from '../../../gateway/base/crc32.ts';
import { nativeCrc } from '../../../gateway/base/native-crc.ts';

test('the CRC-32 of formats, logs and uploads is that of zlib, whoever computes it', () => {
  expect(nativeCrc('crc32')).toBe(crc32); // the package is installed where this runs
  const seed = fc.integer({ min: 0, max: 0xffff_ffff });
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 5000 }), seed, fc.nat(), (bytes, previous, cut) => {
      expect(crc32(bytes)).toBe(zlibCrc32(bytes));
      expect(crc32(bytes, previous)).toBe(zlibCrc32(bytes, previous));
      // Views that do not begin at a word, and going on from where it stopped.
      const at = cut % (bytes.length + 1);
      expect(crc32(bytes.subarray(at), crc32(bytes.subarray(0, at), previous))).toBe(zlibCrc32(bytes, previous));
    }),
  );
});

test('of nothing it is what it was before', () => {
  for (const previous of [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff])
    expect(crc32(Buffer.alloc(0), previous)).toBe(previous);
});

test('what is no function of the package is not taken for one', () => {
  expect(nativeCrc('crc64' as 'crc32')).toBeUndefined();
});
