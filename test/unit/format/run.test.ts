import { beforeAll, describe, expect, it } from 'vitest';
import type { Compression } from '../../../gateway/format/compression.ts';
import { loadCompression, rawCompression } from '../../../gateway/format/compression.ts';
import { packEntry } from '../../../gateway/format/map-entry.ts';
import type { RunInput, RunSection } from '../../../gateway/format/run.ts';
import { decodeRun, decodeRunIndex, decodeRunSection, encodeRun } from '../../../gateway/format/run.ts';
import type { RunParts } from '../../golden/builder.ts';
import { buildRun } from '../../golden/builder.ts';
import { MANIFEST, RUN, VERSION } from '../../golden/samples.ts';
import { expectDamaged, put, resealObject } from './damage.ts';

let compression: Compression;
beforeAll(async () => {
  compression = await loadCompression();
});

/** Every block of a shard, sixteen to a frame. */
function denseSection(shard: number): RunSection {
  const entries = new Uint32Array(16_384 * 2);
  for (let block = 0; block < 16_384; block++) {
    const frame = (block >> 4) % 100;
    packEntry(
      { segment: 5 + (block >> 11), offset: 1 + frame * 17, length: 17, index: block & 15 },
      entries,
      block * 2,
    );
  }
  return { shard, blocks: Uint16Array.from({ length: 16_384 }, (_, block) => block), entries };
}

const INPUT: RunInput = { lineage: 'lin', volume: 'vol', fromN: 1, throughN: 9, sections: [], ranges: [] };

describe('a run', () => {
  it('gives each of its sections by a ranged read, from an index that is read first', () => {
    const sections = [denseSection(0), denseSection(7), denseSection(2 ** 20 - 1)];
    const { bytes, headerBytes } = encodeRun({ ...INPUT, sections }, compression);
    expect(bytes.length).toBeLessThan(150_000);
    const index = decodeRunIndex(bytes.subarray(0, headerBytes));
    if ('needBytes' in index) throw new Error('the whole index was given');
    expect(index.mapped).toBe(3 * 16_384);
    expect(index.sections.map(({ shard, changes }) => [shard, changes])).toEqual([
      [0, 16_384],
      [7, 16_384],
      [2 ** 20 - 1, 16_384],
    ]);
    for (const [at, entry] of index.sections.entries()) {
      const stored = bytes.subarray(entry.offset, entry.offset + entry.bytes);
      expect(decodeRunSection(stored, entry, compression)).toEqual(sections[at]);
    }
  });

  it('may hold nothing at all, or nothing but ranges', () => {
    const ranges = [{ block: 0, count: 2 ** 34 }];
    for (const input of [INPUT, { ...INPUT, ranges }]) {
      const { index, sections } = decodeRun(encodeRun(input, compression).bytes, compression);
      expect(sections).toEqual([]);
      expect(index.ranges).toEqual(input.ranges);
    }
  });

  it('is not made of sections and ranges out of order', () => {
    const encode =
      (change: Partial<RunInput>): (() => unknown) =>
      () =>
        encodeRun({ ...INPUT, ...change }, rawCompression);
    const section = (blocks: readonly number[], entries = new Uint32Array(blocks.length * 2)): RunSection => ({
      shard: 1,
      blocks: Uint16Array.from(blocks),
      entries,
    });
    expect(encode({ sections: [denseSection(1), denseSection(1)] })).toThrow(/ascend by shard/);
    expect(encode({ sections: [denseSection(2 ** 20)] })).toThrow(/ascend by shard/);
    expect(encode({ sections: [section([])] })).toThrow(/0 changes/);
    expect(encode({ sections: [section([5, 5])] })).toThrow(/out of order/);
    expect(encode({ sections: [section([16_384])] })).toThrow(/out of order/);
    expect(encode({ sections: [section([1], new Uint32Array(4))] })).toThrow(/4 words/);
    expect(encode({ sections: [section([1], Uint32Array.of(1, 0))] })).toThrow(/impossible/);
    expect(encode({ ranges: [{ block: 5, count: 0 }] })).toThrow(/range at block 5/);
    expect(
      encode({
        ranges: [
          { block: 5, count: 2 },
          { block: 6, count: 1 },
        ],
      }),
    ).toThrow(/range at block 6/);
    expect(encode({ fromN: 10 })).toThrow(/versions 10 to 9/);
    expect(encode({ version: VERSION })).toThrow(/version of another run/);
  });

  it('is refused when its parts do not add up, even with right checksums', () => {
    const [first, second] = RUN.sections;
    if (first === undefined || second === undefined) throw new Error('two sections');
    const wrong: readonly (readonly [Partial<RunParts>, RegExp])[] = [
      [{ sections: [second, first] }, /out of order/],
      [{ sections: [{ ...first, shard: 2 ** 20 }] }, /out of order/],
      [{ sections: [{ ...first, changes: [] }] }, /0 changes/],
      [{ sections: [{ ...first, changes: [...first.changes].reverse() }] }, /out of order/],
      [{ sections: [{ shard: 0, changes: [{ block: 16_384, entry: undefined }] }] }, /out of order/],
      [{ ranges: [{ block: 2 ** 34, count: 1 }] }, /range at block/],
      [
        {
          ranges: [
            { block: 2, count: 2 },
            { block: 3, count: 1 },
          ],
        },
        /range at block 3/,
      ],
      [{ fromN: 0 }, /versions 0/],
      [{ fromN: 41 }, /versions 41 to 40/],
      [{ version: VERSION }, /version of another run/],
      [{ lineage: 'a/b' }, /lineage/],
    ];
    for (const [parts, message] of wrong) {
      expectDamaged(() => decodeRun(buildRun({ ...RUN, ...parts }), compression), message);
    }
    const entry = { segment: 0, offset: 4, length: 1, index: 0 };
    const impossible = { ...RUN, sections: [{ shard: 0, changes: [{ block: 0, entry }] }] };
    expectDamaged(() => decodeRun(buildRun(impossible), compression), /impossible/);
    expectDamaged(() => decodeRunIndex(buildRun({ ...MANIFEST, fromN: 42 })), /version of another run/);
  });

  it('is refused when its counts lie, even with right checksums', () => {
    for (const [field, value] of [
      ['mapped', 2],
      ['sections', 1],
      ['sections', 3],
      ['sections', 0xffffffff],
      ['ranges', 1],
      ['ranges', 3],
      ['ranges', 0xffffffff],
      ['versionBytes', 1],
      ['versionBytes', 0xffffffff],
    ] as const) {
      expectDamaged(() => decodeRun(resealObject(put(buildRun(RUN), 'run', field, value)), compression));
    }
  });

  it('does not take the section of another shard for its own', () => {
    const bytes = buildRun(RUN);
    const index = decodeRunIndex(bytes);
    if ('needBytes' in index) throw new Error('the whole run was given');
    const [first, second] = index.sections;
    if (first === undefined || second === undefined) throw new Error('two sections');
    const stored = bytes.subarray(second.offset, second.offset + second.bytes);
    expectDamaged(() => decodeRunSection(stored, first, compression), /bytes instead of/);
    expectDamaged(() => decodeRunSection(stored, { ...first, bytes: second.bytes }, compression), /CRC-32/);
  });
});
