import { describe, expect, it } from 'vitest';
import { entrySegment, isEntry, packEntry, unpackEntry } from '../../../gateway/format/map-entry.ts';
import { buildEntry } from '../../golden/builder.ts';

const ENTRIES = [
  { segment: 1, offset: 1, length: 1, index: 0 },
  { segment: 15, offset: 2, length: 257, index: 15 },
  { segment: 16, offset: 32_767, length: 1, index: 7 },
  { segment: 2 ** 32 - 1, offset: 16_384, length: 511, index: 8 },
  { segment: 2 ** 36 - 1, offset: 32_257, length: 511, index: 15 },
];

describe('a map entry', () => {
  it('has the bits that the document draws and gives its parts back', () => {
    for (const entry of ENTRIES) {
      const words = new Uint32Array(4);
      packEntry(entry, words, 2);
      expect(Buffer.from(words.buffer, 8)).toEqual(buildEntry(entry));
      const [high = 0, low = 0] = words.subarray(2);
      expect(isEntry(high, low)).toBe(true);
      expect(unpackEntry(high, low)).toEqual(entry);
      expect(entrySegment(high, low)).toBe(entry.segment);
      expect([...words.subarray(0, 2)]).toEqual([0, 0]);
    }
  });

  it('of zeros is a block never written', () => {
    expect(unpackEntry(0, 0)).toBeUndefined();
    expect(isEntry(0, 0)).toBe(true);
    expect(entrySegment(0, 0)).toBe(0);
  });

  it('that cannot exist is not packed and is recognised', () => {
    const base = { segment: 1, offset: 1, length: 1, index: 0 };
    for (const wrong of [{ segment: 0 }, { offset: 0 }, { length: 0 }, { offset: 32_767, length: 2 }]) {
      const entry = { ...base, ...wrong };
      expect(() => {
        packEntry(entry, new Uint32Array(2), 0);
      }).toThrow(/invariant/);
      const bytes = buildEntry(entry);
      expect(isEntry(bytes.readUInt32LE(0), bytes.readUInt32LE(4))).toBe(false);
    }
    for (const wrong of [{ segment: 2 ** 36 }, { index: 16 }, { length: 512 }, { segment: -1 }, { index: -1 }]) {
      expect(() => {
        packEntry({ ...base, ...wrong }, new Uint32Array(2), 0);
      }).toThrow(/invariant/);
    }
    expect(() => {
      packEntry(base, new Uint32Array(2), 1);
    }).toThrow(/invariant/);
  });
});
