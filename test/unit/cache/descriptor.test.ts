import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { crc32OfWords } from '../../../gateway/cache/crc.ts';
import {
  blockAt,
  dataCrcAt,
  encodeDescriptor,
  isDescriptor,
  KIND_UNMAP,
  KIND_WRITE,
  kindAt,
  newTable,
  opIndexAt,
  opSlotsAt,
  seqAt,
  syncedThroughAt,
  volumeAt,
  wallSecondsAt,
  wordsOf,
  type DescriptorFields,
} from '../../../gateway/cache/descriptor.ts';

const fields: DescriptorFields = {
  dataCrc: 0xdeadbeef,
  kind: KIND_UNMAP,
  volume: 65_535,
  block: 2 ** 34 - 1,
  seq: 2 ** 48 - 2,
  opIndex: 255,
  opSlots: 256,
  syncedThrough: 2 ** 48 - 1000,
  wallSeconds: 4_000_000_000,
};

describe('the CRC of words', () => {
  test('is what zlib makes of their bytes', () => {
    const bytes = newTable(64);
    for (let at = 0; at < bytes.length; at++) bytes[at] = (at * 37 + 11) & 255;
    for (const seed of [0, 1, 0xffffffff, 0x12345678])
      expect(crc32OfWords(wordsOf(bytes), 2, 13, seed)).toBe(crc32(bytes.subarray(8, 52), seed));
  });
});

describe('a descriptor', () => {
  test('gives back every field at its limits', () => {
    const words = wordsOf(newTable(96));
    encodeDescriptor(words, 1, 77, 5000, fields);
    expect(isDescriptor(words, 1, 77, 5000)).toBe(true);
    expect({
      dataCrc: dataCrcAt(words, 1),
      kind: kindAt(words, 1),
      volume: volumeAt(words, 1),
      block: blockAt(words, 1),
      seq: seqAt(words, 1),
      opIndex: opIndexAt(words, 1),
      opSlots: opSlotsAt(words, 1),
      syncedThrough: syncedThroughAt(words, 1),
      wallSeconds: wallSecondsAt(words, 1),
    }).toEqual(fields);
  });

  test('does not know the synced mark when that is unknown or too far behind', () => {
    const words = wordsOf(newTable(32));
    encodeDescriptor(words, 0, 1, 65, { ...fields, syncedThrough: -1 });
    expect(syncedThroughAt(words, 0)).toBe(-1);
    encodeDescriptor(words, 0, 1, 65, { ...fields, syncedThrough: 1 });
    expect(syncedThroughAt(words, 0)).toBe(-1);
  });

  test('never passes for one of another generation or slot', () => {
    const words = wordsOf(newTable(32));
    encodeDescriptor(words, 0, 1000, 100, { ...fields, kind: KIND_WRITE });
    for (let generation = 900; generation < 1100; generation++)
      expect(isDescriptor(words, 0, generation, 100)).toBe(generation === 1000);
    for (let slot = 65; slot < 8192; slot++) expect(isDescriptor(words, 0, 1000, slot)).toBe(slot === 100);
  });

  test('is spoiled by any bit that flips', () => {
    const table = newTable(32);
    const words = wordsOf(table);
    encodeDescriptor(words, 0, 3, 200, { ...fields, kind: KIND_WRITE });
    for (let bit = 0; bit < 256; bit++) {
      table[bit >> 3] = (table[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(isDescriptor(words, 0, 3, 200)).toBe(false);
      table[bit >> 3] = (table[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    }
    expect(isDescriptor(words, 0, 3, 200)).toBe(true);
  });

  test('of zeros is none', () => {
    expect(isDescriptor(wordsOf(newTable(32)), 0, 1, 65)).toBe(false);
  });

  test('of a kind that is not known yet stops the reader', () => {
    const words = wordsOf(newTable(32));
    encodeDescriptor(words, 0, 3, 200, { ...fields, kind: 9 });
    expect(() => isDescriptor(words, 0, 3, 200)).toThrow(/newer Farshore/);
  });
});
