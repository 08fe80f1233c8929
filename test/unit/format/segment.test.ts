import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE, MIB } from '../../../gateway/base/units.ts';
import { rawCompression } from '../../../gateway/format/compression.ts';
import { decodeFrame, encodeFrame } from '../../../gateway/format/frame.ts';
import type { BlockRange } from '../../../gateway/format/ids.ts';
import { rangesFromPairs } from '../../../gateway/format/ids.ts';
import { unpackEntry } from '../../../gateway/format/map-entry.ts';
import type { EncodedSegment } from '../../../gateway/format/segment.ts';
import {
  decodeSegment,
  decodeSegmentHeader,
  encodeSegment,
  MAX_SEGMENT_BLOCKS,
  MAX_SEGMENT_UNMAPS,
  rebuildRecord,
  segmentEntries,
} from '../../../gateway/format/segment.ts';
import { buildSegment, NO_HASH } from '../../golden/builder.ts';
import type { SegmentParts } from '../../golden/builder.ts';
import { goldenFiles, INLINE, patterned, SEGMENT, TAKEOVER, VERSION } from '../../golden/samples.ts';
import { expectDamaged, put, resealObject } from './damage.ts';

const IDENTITY = { ...VERSION, number: 77 };

/** Frames of sixteen raw blocks over the given block numbers. */
function framesOf(blocks: Float64Array, data: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < blocks.length; at += 16) {
    const part = blocks.subarray(at, at + 16);
    frames.push(encodeFrame(data.subarray(at * BLOCK_SIZE, (at + part.length) * BLOCK_SIZE), part, rawCompression));
  }
  return frames;
}

function encode(blocks: readonly number[], unmaps: readonly BlockRange[] = []): EncodedSegment {
  const numbers = Float64Array.from(blocks);
  return encodeSegment(IDENTITY, numbers, unmaps, framesOf(numbers, patterned(blocks.length * BLOCK_SIZE, 1)));
}

describe('a segment', () => {
  it('holds 1,984 scattered incompressible blocks and 16,384 unmapped ranges within 8 MiB', () => {
    const blocks = Float64Array.from({ length: MAX_SEGMENT_BLOCKS }, (_, at) => at * 2);
    const unmaps = Array.from({ length: MAX_SEGMENT_UNMAPS }, (_, at) => ({ block: 10_000 + at * 2, count: 1 }));
    const data = patterned(blocks.length * BLOCK_SIZE, 5);
    const segment = encodeSegment(IDENTITY, blocks, unmaps, framesOf(blocks, data));
    const bytes = Buffer.concat(segment.pieces);
    expect(bytes.length).toBeLessThanOrEqual(8 * MIB);
    const { header, frames } = decodeSegment(bytes);
    expect(header.blocks).toBe(MAX_SEGMENT_BLOCKS);
    expect(header.unmaps).toEqual(unmaps);
    const { entries } = segmentEntries(header);
    const last = unpackEntry(entries.at(-2) ?? 0, entries.at(-1) ?? 0);
    expect(last).toMatchObject({ segment: 77, index: 15, length: 257 });
    const frame = frames[(MAX_SEGMENT_BLOCKS - 1) >> 4] ?? Buffer.alloc(0);
    const place = { index: 15, block: (MAX_SEGMENT_BLOCKS - 1) * 2 };
    expect(decodeFrame(frame, rawCompression, [place]).equals(data.subarray(-16 * BLOCK_SIZE))).toBe(true);
  });

  it('says its CRC and digest over all its pieces', () => {
    const segment = encode([1, 2, 3, 40, 41]);
    const bytes = Buffer.concat(segment.pieces);
    expect(segment.crc32).toBe(crc32(bytes));
    expect(segment.digest).toEqual(createHash('sha256').update(bytes).digest());
    expect(segment.header.objectBytes).toBe(bytes.length);
  });

  it('merges consecutive blocks into extents that never cross a frame', () => {
    const blocks = [...Array.from({ length: 20 }, (_, at) => 100 + at), 200, 202];
    const { extents } = encode(blocks).header;
    expect(extents).toEqual([
      { block: 100, count: 16, frame: 0, index: 0 },
      { block: 116, count: 4, frame: 1, index: 0 },
      { block: 200, count: 1, frame: 1, index: 4 },
      { block: 202, count: 1, frame: 1, index: 5 },
    ]);
  });

  it('is not made of blocks, frames and ranges that contradict each other', () => {
    expect(() => encode([5, 6], [{ block: 6, count: 1 }])).toThrow(/both written and unmapped/);
    expect(() => encode([5], [{ block: 0, count: 6 }])).toThrow(/both written and unmapped/);
    expect(() =>
      encode(
        [],
        [
          { block: 9, count: 2 },
          { block: 10, count: 1 },
        ],
      ),
    ).toThrow(/unmap range at block 10/);
    expect(() => encode([], [{ block: 9, count: 0 }])).toThrow(/unmap range/);
    expect(() => encode([], [{ block: 2 ** 34, count: 1 }])).toThrow(/unmap range/);
    const frames = framesOf(Float64Array.from([1, 2]), Buffer.alloc(2 * BLOCK_SIZE));
    expect(() => encodeSegment(IDENTITY, Float64Array.from([1, 3]), [], frames)).toThrow(/in order/);
    expect(() => encodeSegment(IDENTITY, Float64Array.from([1]), [], frames)).toThrow(/invariant/);
    expect(() => encodeSegment(IDENTITY, Float64Array.from([1, 2, 3]), [], frames)).toThrow(/invariant/);
    expect(() => encodeSegment(IDENTITY, Float64Array.from([1, 2, 1, 2]), [], [...frames, ...frames])).toThrow(
      /extent/,
    );
    expect(() => encodeSegment({ ...IDENTITY, volume: 'a/b' }, new Float64Array(0), [], [])).toThrow(/identifier/);
    expect(() => encodeSegment({ ...IDENTITY, epoch: 4 }, new Float64Array(0), [], [])).toThrow(
      /takeover began another epoch/,
    );
  });

  it('may touch its unmapped ranges on both sides', () => {
    const unmaps = [
      { block: 0, count: 5 },
      { block: 7, count: 3 },
    ];
    expect(encode([5, 6, 10], unmaps).header.unmaps).toEqual(unmaps);
  });

  it('is refused when its parts do not add up, even with right checksums', () => {
    const extents = SEGMENT.extents;
    const [first, second, third] = extents;
    if (first === undefined || second === undefined || third === undefined) throw new Error('three extents');
    const twice = Buffer.concat([TAKEOVER.record, TAKEOVER.record]);
    const payload = goldenFiles().get('record-segment.bin') ?? Buffer.alloc(0);
    const wrong: readonly (readonly [Partial<SegmentParts>, RegExp])[] = [
      [{ number: 2 ** 36 }, /segment number/],
      [{ extents: [second, first, third] }, /frames go on|extent/],
      [{ extents: [first, { ...second, frame: 0, index: 1 }, third] }, /extent|frames/],
      [{ extents: [first, { ...second, index: 1 }, third] }, /extent 1/],
      [{ extents: [first, second, { ...third, index: 1 }] }, /extent 2/],
      [{ extents: [first, second, { ...third, count: 15 }] }, /extent 2/],
      [{ extents: [first, second, { ...third, count: 0 }] }, /extent|blocks/],
      [{ extents: [first, second, { ...third, block: 2 ** 34 }] }, /extent at block/],
      [{ extents: [first, second, { ...third, block: 11 }] }, /extent 2/],
      [{ extents: [first, { ...second, block: 7 }, third] }, /extent at block 7/],
      [{ extents: [first] }, /1 extents|frames/],
      [{ unmaps: [{ block: 7, count: 1 }] }, /both written and unmapped/],
      [{ unmaps: [{ block: 3, count: 2 ** 47 }] }, /unmap range/],
      [{ version: { ...VERSION, n: 0 } }, /count from 1/],
      [{ version: { ...VERSION, n: 40 } }, /takeover comes after its version/],
      [{ version: { ...VERSION, epoch: 4 } }, /takeover began another epoch/],
      [{ version: { ...VERSION, volume: 'other' } }, /record of another volume/],
      [{ version: { ...VERSION, volume: 'a/b' } }, /volume at byte/],
      [{ version: { ...VERSION, logId: '' } }, /log identity/],
      [{ version: { ...VERSION, previousChain: NO_HASH } }, /chain after the takeover is another/],
      [{ version: { ...VERSION, takeover: { ...TAKEOVER, record: twice } } }, /after version 40/],
      [{ version: { ...VERSION, takeover: { ...TAKEOVER, record: twice.subarray(0, -20) } } }, /version record/],
      [{ version: { ...VERSION, takeover: { ...TAKEOVER, record: Buffer.alloc(12_289) } } }, /12289 bytes/],
      [{ version: { ...VERSION, takeover: { ...TAKEOVER, record: payload } } }, /has a payload/],
      [{ version: { ...VERSION, firstSeq: 9, throughSeq: 8 } }, /writes 9 to 8/],
    ];
    for (const [parts, message] of wrong) {
      expectDamaged(() => decodeSegment(buildSegment({ ...SEGMENT, ...parts })), message);
    }
  });

  it('is refused when its counts lie, even with right checksums', () => {
    for (const [field, value] of [
      ['blocks', 3],
      ['blocks', 5],
      ['blocks', 0xffffffff],
      ['frames', 1],
      ['frames', 3],
      ['frames', 0xffff],
      ['extents', 2],
      ['extents', 4],
      ['extents', 0xffff],
      ['unmaps', 2],
      ['unmaps', 4],
      ['unmaps', 0xffffffff],
    ] as const) {
      expectDamaged(() => decodeSegment(resealObject(put(buildSegment(SEGMENT), 'segment', field, value))));
    }
  });

  it('is refused when its envelope lies about sizes', () => {
    for (const [field, value] of [
      ['headerBytes', 0],
      ['headerBytes', 23],
      ['headerBytes', 0xffffffff],
      ['headerBytes', 257],
      ['objectBytes', 0],
      ['objectBytes', 0xffffffff],
      ['objectBytes', 5376],
    ] as const) {
      expectDamaged(() => decodeSegment(resealObject(put(buildSegment(SEGMENT), 'envelope', field, value))));
    }
  });

  it('that maintenance made of moved blocks has no version record', () => {
    const moved = { ...SEGMENT, version: { ...VERSION, kind: 'moved' as const } };
    const bytes = buildSegment(moved);
    expect(decodeSegment(bytes).header.kind).toBe('moved');
    expectDamaged(() => rebuildRecord(bytes), /made by maintenance/);
  });

  it('of number 0 has no map entries', () => {
    const header = decodeSegmentHeader(buildSegment(INLINE));
    if ('needBytes' in header) throw new Error('the whole image was given');
    expectDamaged(() => segmentEntries(header), /inline image/);
  });
});

describe('ranges of a commit batch', () => {
  it('come as pairs', () => {
    expect(rangesFromPairs(Float64Array.of(1, 2, 10, 5))).toEqual([
      { block: 1, count: 2 },
      { block: 10, count: 5 },
    ]);
    expect(rangesFromPairs(new Float64Array(0))).toEqual([]);
  });
});
