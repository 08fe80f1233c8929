import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../gateway/base/units.ts';
import { decodeCheckpoint, encodeCheckpoint } from '../../gateway/format/checkpoint.ts';
import type { Compression } from '../../gateway/format/compression.ts';
import { loadCompression, rawCompression } from '../../gateway/format/compression.ts';
import { decodeFrame, encodeFrame, frameBlocks } from '../../gateway/format/frame.ts';
import type { BlockRange } from '../../gateway/format/ids.ts';
import { packEntry, unpackEntry } from '../../gateway/format/map-entry.ts';
import { decodeRun, decodeRunIndex, encodeRun } from '../../gateway/format/run.ts';
import { decodeSegment, decodeSegmentHeader, encodeSegment, segmentEntries } from '../../gateway/format/segment.ts';
import { decodeShard, decodeShardSummary, encodeShard } from '../../gateway/format/shard.ts';
import type { VersionRecord } from '../../gateway/format/version-record.ts';
import { decodeRecord, encodeRecord, splitRecords } from '../../gateway/format/version-record.ts';
import { goldenFiles, patterned, VERSION } from '../golden/samples.ts';
import { outcomeOf, resealFrame, resealObject, resealRecord } from '../unit/format/damage.ts';

let zstd: Compression;
beforeAll(async () => {
  zstd = await loadCompression();
});

const count = fc.maxSafeNat();
const fromOne = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const identifier = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/);
const word = fc.integer({ min: 0, max: 0xffffffff });
const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
const entry = fc.record({
  segment: fc.integer({ min: 1, max: 2 ** 36 - 1 }),
  offset: fc.integer({ min: 1, max: 32_256 }),
  length: fc.integer({ min: 1, max: 511 }),
  index: fc.integer({ min: 0, max: 15 }),
});
const blockNumber = fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 0, max: 2 ** 34 - 1 }));
const blockNumbers = (max: number): fc.Arbitrary<number[]> =>
  fc.uniqueArray(blockNumber, { maxLength: max }).map((blocks) => blocks.sort((a, b) => a - b));
/** Blocks that compress, blocks that do not, blocks of zeros. */
const content = fc.constantFrom(
  (block: number) => Buffer.alloc(BLOCK_SIZE, block),
  (block: number) => patterned(BLOCK_SIZE, block),
  () => Buffer.alloc(BLOCK_SIZE),
);
const compressions = fc.constantFrom(
  () => rawCompression,
  () => zstd,
);

describe('what is encoded', () => {
  it('comes back from a map entry', () => {
    fc.assert(
      fc.property(entry, (value) => {
        const words = new Uint32Array(2);
        packEntry(value, words, 0);
        expect(unpackEntry(words[0] ?? 0, words[1] ?? 0)).toEqual(value);
      }),
      { numRuns: 2000 },
    );
  });

  it('comes back from a frame', () => {
    const blocks = blockNumbers(16).filter((numbers) => numbers.length > 0);
    fc.assert(
      fc.property(blocks, content, compressions, (numbers, fill, compression) => {
        const raw = Buffer.concat(numbers.map(fill));
        const frame = encodeFrame(raw, numbers, compression());
        const places = numbers.map((block, index) => ({ index, block }));
        expect(decodeFrame(frame, zstd, places).equals(raw)).toBe(true);
        expect([...frameBlocks(frame)]).toEqual(numbers);
      }),
      { numRuns: 200 },
    );
  });

  it('comes back from a segment, each block from where its entry points', () => {
    const parts = fc.record({
      marks: blockNumbers(120),
      fill: content,
      number: fc.integer({ min: 1, max: 2 ** 36 - 1 }),
    });
    fc.assert(
      fc.property(
        parts,
        fc.infiniteStream(fc.boolean()),
        compressions,
        ({ marks, fill, number }, coins, compression) => {
          const blocks: number[] = [];
          const unmaps: BlockRange[] = [];
          marks.forEach((block, at) => {
            if (coins.next().value) blocks.push(block);
            else unmaps.push({ block, count: (marks[at + 1] ?? block + 1) - block });
          });
          const frames: Buffer[] = [];
          for (let at = 0; at < blocks.length; at += 16) {
            const part = blocks.slice(at, at + 16);
            frames.push(encodeFrame(Buffer.concat(part.map(fill)), part, compression()));
          }
          const segment = encodeSegment({ ...VERSION, number }, Float64Array.from(blocks), unmaps, frames);
          const bytes = Buffer.concat(segment.pieces);
          const { header } = decodeSegment(bytes);
          expect(header).toEqual(segment.header);
          expect(header.unmaps).toEqual(unmaps);
          const found = segmentEntries(header);
          expect([...found.blocks]).toEqual(blocks);
          blocks.forEach((block, at) => {
            const place = unpackEntry(found.entries[at * 2] ?? 0, found.entries[at * 2 + 1] ?? 0);
            if (place === undefined) throw new Error('every block has an entry');
            const frame = bytes.subarray(place.offset * 256, (place.offset + place.length) * 256);
            const raw = decodeFrame(frame, zstd, [{ index: place.index, block }]);
            expect(raw.subarray(place.index * BLOCK_SIZE, (place.index + 1) * BLOCK_SIZE).equals(fill(block))).toBe(
              true,
            );
          });
        },
      ),
      { numRuns: 60 },
    );
  });

  it('comes back from a run', () => {
    const change = fc.record({ block: fc.integer({ min: 0, max: 16_383 }), value: fc.option(entry) });
    const section = fc.record({
      shard: fc.integer({ min: 0, max: 2 ** 20 - 1 }),
      changes: fc.uniqueArray(change, { minLength: 1, maxLength: 50, selector: ({ block }) => block }),
    });
    const run = fc.record({
      lineage: identifier,
      volume: identifier,
      fromN: fc.integer({ min: 1, max: 1000 }),
      throughN: fc.integer({ min: 1000, max: Number.MAX_SAFE_INTEGER }),
      sections: fc.uniqueArray(section, { maxLength: 6, selector: ({ shard }) => shard }),
      marks: blockNumbers(40),
    });
    fc.assert(
      fc.property(run, compressions, ({ sections, marks, ...names }, compression) => {
        const input = {
          ...names,
          ranges: marks.map((block, at) => ({ block, count: (marks[at + 1] ?? block + 1) - block })),
          sections: sections
            .sort((a, b) => a.shard - b.shard)
            .map(({ shard, changes }) => {
              changes.sort((a, b) => a.block - b.block);
              const entries = new Uint32Array(changes.length * 2);
              changes.forEach(({ value }, at) => {
                if (value !== null) packEntry(value, entries, at * 2);
              });
              return { shard, blocks: Uint16Array.from(changes, ({ block }) => block), entries };
            }),
        };
        const { index, sections: read } = decodeRun(encodeRun(input, compression()).bytes, zstd);
        expect(read).toEqual(input.sections);
        expect(index).toMatchObject({ ...names, ranges: input.ranges });
      }),
      { numRuns: 150 },
    );
  });

  it('comes back from a shard', () => {
    const places = fc.array(fc.record({ block: fc.integer({ min: 0, max: 16_383 }), value: entry }), {
      maxLength: 100,
    });
    fc.assert(
      fc.property(places, fc.integer({ min: 0, max: 2 ** 20 - 1 }), compressions, (changes, shard, compression) => {
        const entries = new Uint32Array(32_768);
        for (const { block, value } of changes) packEntry(value, entries, block * 2);
        const { bytes } = encodeShard({ lineage: 'l', volume: 'v', shard, n: 1, entries }, compression());
        const read = decodeShard(bytes, zstd);
        expect(Buffer.compare(Buffer.from(read.entries.buffer), Buffer.from(entries.buffer))).toBe(0);
        const live = read.summary.reduce((sum, share) => sum + share.live, 0);
        expect(live).toBe(new Set(changes.map(({ block }) => block)).size);
      }),
      { numRuns: 40 },
    );
  });

  it('comes back from a version record, and equal records alone have equal bytes', () => {
    const segment = fc.record({
      kind: fc.constant('segment' as const),
      number: fc.integer({ min: 1, max: 2 ** 36 - 1 }),
      headerBytes: fc.integer({ min: 1, max: 1000 }),
      objectBytes: fc.integer({ min: 1000, max: 0xffffffff }),
      crc32: word,
      digest: hash,
    });
    const inline = fc.record({
      kind: fc.constant('inline' as const),
      bytes: fc.integer({ min: 1, max: 0xffffffff }),
      crc32: word,
      digest: hash,
    });
    const record: fc.Arbitrary<VersionRecord> = fc.record({
      volume: identifier,
      n: fromOne,
      epoch: fromOne,
      kind: fc.constantFrom('write', 'resize', 'barrier', 'mode', 'restore'),
      payload: fc.oneof(fc.constant({ kind: 'none' as const }), segment, inline),
      logId: fc.oneof(identifier, fc.constant('')),
      throughSeq: count,
      blocks: count,
      bytes: count,
      newestWriteAt: count,
      sealedAt: count,
      volumeBytes: count,
    });
    fc.assert(
      fc.property(record, record, (one, other) => {
        const bytes = encodeRecord(one);
        expect(decodeRecord(bytes)).toEqual(one);
        expect(encodeRecord(decodeRecord(bytes)).equals(bytes)).toBe(true);
        const both = splitRecords(Buffer.concat([bytes, encodeRecord(other)]));
        expect(both.map((part) => part.record)).toEqual([one, other]);
        expect(encodeRecord(other).equals(bytes)).toBe(JSON.stringify(one) === JSON.stringify(other));
      }),
      { numRuns: 500 },
    );
  });

  it('comes back from a checkpoint', () => {
    const shard = fc.record({
      shard: fc.integer({ min: 0, max: 2 ** 20 - 1 }),
      sequence: count,
      maintenanceEpoch: count,
      n: fc.integer({ min: 0, max: 1000 }),
      mapped: fc.integer({ min: 0, max: 16_384 }),
      objectBytes: fc.integer({ min: 24, max: 0xffffffff }),
      crc32: word,
    });
    const checkpoint = fc.record({
      lineage: identifier,
      volume: identifier,
      sequence: count,
      maintenanceEpoch: count,
      n: fc.integer({ min: 1000, max: Number.MAX_SAFE_INTEGER }),
      epoch: fc.integer({ min: 1000, max: Number.MAX_SAFE_INTEGER }),
      chain: hash,
      bytes: count,
      lastData: fc.option(
        fc.record({ epoch: fc.integer({ min: 1, max: 1000 }), logId: identifier, throughSeq: count }),
        { nil: undefined },
      ),
      newestWriteAt: count,
      sealedAt: count,
      shards: fc.uniqueArray(shard, { maxLength: 30, selector: (value) => value.shard }),
      runEnds: fc.uniqueArray(fc.integer({ min: 1, max: 1000 }), { maxLength: 20 }),
    });
    fc.assert(
      fc.property(checkpoint, compressions, ({ shards, runEnds, ...head }, compression) => {
        runEnds.sort((a, b) => a - b);
        const runs = runEnds.map((throughN, at) => ({
          sequence: at,
          maintenanceEpoch: 1,
          fromN: (runEnds[at - 1] ?? 0) + 1,
          throughN,
          headerBytes: 100,
          objectBytes: 1000 + at,
          crc32: at,
        }));
        const value = { ...head, runs, shards: shards.sort((a, b) => a.shard - b.shard) };
        expect(decodeCheckpoint(encodeCheckpoint(value, compression()).bytes, zstd)).toEqual(value);
      }),
      { numRuns: 150 },
    );
  });
});

/** Everything that takes bytes from outside. */
const DECODERS: readonly ((bytes: Buffer) => unknown)[] = [
  (bytes) => decodeFrame(bytes, zstd),
  frameBlocks,
  decodeSegment,
  decodeSegmentHeader,
  (bytes) => decodeRun(bytes, zstd),
  decodeRunIndex,
  (bytes) => decodeShard(bytes, zstd),
  decodeShardSummary,
  (bytes) => decodeCheckpoint(bytes, zstd),
  decodeRecord,
  splitRecords,
];

const samples = [...goldenFiles()];
const edit = fc.record({ at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), value: fc.nat(255) });

function edited(
  bytes: Buffer,
  edits: readonly { readonly at: number; readonly value: number }[],
  within: number,
): Buffer {
  const copy = Buffer.from(bytes);
  for (const { at, value } of edits) copy[Math.floor(at * Math.min(within, copy.length))] = value;
  return copy;
}

describe('a hostile writer', () => {
  it('who keeps every checksum right gets an answer or damaged, whatever bytes it changes', () => {
    const sample = fc.constantFrom(...samples);
    fc.assert(
      fc.property(sample, fc.array(edit, { minLength: 1, maxLength: 4 }), ([name, bytes], edits) => {
        const copy = edited(bytes, edits, 700);
        const reseal = name.startsWith('frame') ? resealFrame : name.startsWith('record') ? resealRecord : resealObject;
        const sealed = reseal(copy);
        for (const decode of DECODERS) outcomeOf(() => decode(sealed));
      }),
      { numRuns: 5000 },
    );
  });

  it('who sends anything at all gets an answer or damaged', () => {
    const magics = ['FSFR', 'FSSG', 'FSRN', 'FSSH', 'FSCP', 'FSVR', ''];
    fc.assert(
      fc.property(fc.constantFrom(...magics), fc.uint8Array({ maxLength: 600 }), (magic, bytes) => {
        const whole = Buffer.concat([Buffer.from(magic, 'ascii'), bytes]);
        for (const decode of DECODERS) outcomeOf(() => decode(whole));
      }),
      { numRuns: 2000 },
    );
  });

  it('cannot make zstd answer with other bytes than were asked for', () => {
    const text = Buffer.alloc(3 * BLOCK_SIZE, 'the quick brown fox jumps over the lazy dog; ');
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), (edits) => {
        const { payload } = zstd.compress(text);
        const copy = edited(payload, edits, payload.length);
        outcomeOf(() => {
          expect(zstd.decompress('zstd', copy, text.length)).toHaveLength(text.length);
        });
      }),
      { numRuns: 2000 },
    );
  });
});
