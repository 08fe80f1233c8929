import { readdirSync, readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeCheckpoint, encodeCheckpoint } from '../../../gateway/format/checkpoint.ts';
import type { Compression } from '../../../gateway/format/compression.ts';
import { loadCompression, rawCompression } from '../../../gateway/format/compression.ts';
import { decodeFrame, encodeFrame, frameBlocks } from '../../../gateway/format/frame.ts';
import { parseKey } from '../../../gateway/format/keys.ts';
import { packEntry, unpackEntry } from '../../../gateway/format/map-entry.ts';
import { decodeRun, encodeRun, recordOfManifest } from '../../../gateway/format/run.ts';
import { decodeSegment, encodeSegment, rebuildRecord, segmentEntries } from '../../../gateway/format/segment.ts';
import { decodeShard, decodeShardSummary, encodeShard } from '../../../gateway/format/shard.ts';
import { chainAfter, decodeRecord, encodeRecord } from '../../../gateway/format/version-record.ts';
import type { EntryParts, SegmentParts, VersionParts } from '../../golden/builder.ts';
import { buildShard, NO_HASH, sha256 } from '../../golden/builder.ts';
import {
  CHECKPOINT,
  EMPTY_CHECKPOINT,
  goldenFiles,
  INLINE,
  MANIFEST,
  MANIFEST_KEY,
  RAW_FRAME,
  RUN,
  SEGMENT,
  SHARD,
  SHARD_MAP,
  TAKEOVER,
  RESIZE_SEGMENT,
  UNMAP_SEGMENT,
  VERSION,
  ZSTD_FRAME,
} from '../../golden/samples.ts';

const directory = new URL('../../golden/', import.meta.url);

function golden(name: string): Buffer {
  return readFileSync(new URL(name, directory));
}

/** Equal as bytes, without printing megabytes when they are not. */
function expectSameBytes(actual: Buffer, expected: Buffer): void {
  expect(actual.length).toBe(expected.length);
  expect(Buffer.compare(actual, expected)).toBe(0);
}

let compression: Compression;
beforeAll(async () => {
  compression = await loadCompression();
});

describe('the golden files', () => {
  it('are what the builder makes of the tables in docs/FORMAT.md', () => {
    const built = goldenFiles();
    const names = readdirSync(directory).filter((name) => name.endsWith('.bin'));
    expect(names.sort()).toEqual([...built.keys()].sort());
    for (const [name, bytes] of built) expectSameBytes(golden(name), bytes);
  });

  it('have frames that decode to their blocks, by whatever codec', () => {
    for (const [name, parts] of [
      ['frame-raw.bin', RAW_FRAME],
      ['frame-zstd.bin', ZSTD_FRAME],
    ] as const) {
      const bytes = golden(name);
      const places = parts.blocks.map((block, index) => ({ index, block }));
      expectSameBytes(decodeFrame(bytes, compression, places), parts.raw);
      expect([...frameBlocks(bytes)]).toEqual(parts.blocks);
    }
    expectSameBytes(encodeFrame(RAW_FRAME.raw, RAW_FRAME.blocks, rawCompression), golden('frame-raw.bin'));
  });

  it.each([
    ['segment.bin', SEGMENT],
    ['segment-unmap.bin', UNMAP_SEGMENT],
    ['segment-resize.bin', RESIZE_SEGMENT],
    ['inline.bin', INLINE],
  ] as const)('have a %s that decodes to its parts and encodes to the same bytes', (name, parts) => {
    const bytes = golden(name);
    const { header, frames } = decodeSegment(bytes);
    expect(header).toEqual(expectedHeader(parts, bytes));
    expect(frames.map((frame) => frame.toString('hex'))).toEqual(parts.frames.map((frame) => frame.toString('hex')));
    const blocks = Float64Array.from(parts.frames.flatMap((frame) => [...frameBlocks(frame)]));
    const again = encodeSegment({ ...parts.version, number: parts.number }, blocks, parts.unmaps, parts.frames);
    expectSameBytes(Buffer.concat(again.pieces), bytes);
    expect(again.header).toEqual(header);
    expect(again.crc32).toBe(crc32(bytes));
    expect(again.digest).toEqual(sha256(bytes));
  });

  it('give each block of a segment the entry that leads to it', () => {
    const { header } = decodeSegment(golden('segment.bin'));
    const { blocks, entries } = segmentEntries(header);
    expect([...blocks]).toEqual([...RAW_FRAME.blocks, ...ZSTD_FRAME.blocks]);
    const units = header.headerBytes / 256;
    const expected: EntryParts[] = [
      { segment: SEGMENT.number, offset: units, length: 17, index: 0 },
      ...[0, 1, 2].map((index) => ({ segment: SEGMENT.number, offset: units + 17, length: 1, index })),
    ];
    expect(expected.map((_, at) => unpackEntry(entries[at * 2] ?? 0, entries[at * 2 + 1] ?? 0))).toEqual(expected);
  });

  it.each([
    ['record-takeover.bin', 'takeover', 'none'],
    ['record-segment.bin', 'write', 'segment'],
    ['record-inline.bin', 'write', 'inline'],
    ['record-manifest.bin', 'restore', 'manifest'],
    ['record-resize.bin', 'resize', 'none'],
  ] as const)('have a %s that decodes and encodes to the same bytes', (name, kind, payload) => {
    const bytes = golden(name);
    const record = decodeRecord(bytes);
    expect(record.kind).toBe(kind);
    expect(record.payload.kind).toBe(payload);
    expectSameBytes(encodeRecord(record), bytes);
  });

  it('have records with the fields they were built from', () => {
    const bytes = golden('segment.bin');
    const { n, epoch, throughSeq, newestWriteAt, sealedAt, volumeBytes, volume, logId } = VERSION;
    expect(decodeRecord(golden('record-segment.bin'))).toEqual({
      kind: 'write',
      payload: {
        kind: 'segment',
        number: SEGMENT.number,
        headerBytes: bytes.readUInt32LE(8),
        objectBytes: bytes.length,
        crc32: crc32(bytes),
        digest: sha256(bytes),
      },
      ...{ n, epoch, throughSeq, newestWriteAt, sealedAt, volumeBytes, volume, logId },
      blocks: 4,
      bytes: bytes.length,
    });
    expect(decodeRecord(golden('record-manifest.bin')).payload).toMatchObject({ key: MANIFEST_KEY });
    expect(parseKey(MANIFEST_KEY)).toMatchObject({ kind: 'manifest', n: 43, epoch: 3 });
  });

  it('give the record of a version from its object alone', () => {
    expectSameBytes(encodeRecord(rebuildRecord(golden('segment.bin'))), golden('record-segment.bin'));
    expectSameBytes(encodeRecord(rebuildRecord(golden('inline.bin'))), golden('record-inline.bin'));
    const bytes = golden('manifest.bin');
    const { index } = decodeRun(bytes, compression);
    if (index.version === undefined) throw new Error('a manifest has a version');
    const object = { key: MANIFEST_KEY, crc32: crc32(bytes), digest: sha256(bytes) };
    expectSameBytes(encodeRecord(recordOfManifest(index, index.version, object)), golden('record-manifest.bin'));
  });

  it('chain as the document says', () => {
    const takeover = golden('record-takeover.bin');
    const segment = golden('record-segment.bin');
    const afterTakeover = chainAfter(TAKEOVER.previousChain, takeover);
    expect(afterTakeover).toEqual(sha256(TAKEOVER.previousChain, NO_HASH, takeover));
    expect(afterTakeover).toEqual(decodeSegment(golden('segment.bin')).header.previousChain);
    expect(chainAfter(afterTakeover, segment)).toEqual(sha256(afterTakeover, sha256(golden('segment.bin')), segment));
  });

  it.each([
    ['run.bin', RUN],
    ['manifest.bin', MANIFEST],
  ] as const)('have a %s that decodes to its parts and encodes to the same bytes', (name, parts) => {
    const bytes = golden(name);
    const { index, sections } = decodeRun(bytes, compression);
    const { lineage, volume, fromN, throughN, ranges, version } = parts;
    expect(index).toMatchObject({ lineage, volume, fromN, throughN, ranges, objectBytes: bytes.length });
    expect(index.version).toEqual(version);
    const read = sections.map(({ shard, blocks, entries }) => ({
      shard,
      changes: Array.from(blocks, (block, at) => ({
        block,
        entry: unpackEntry(entries[at * 2] ?? 0, entries[at * 2 + 1] ?? 0),
      })),
    }));
    expect(read).toEqual(parts.sections);
    const again = encodeRun({ ...parts, sections }, rawCompression);
    expectSameBytes(again.bytes, bytes);
    expect(again).toMatchObject({ headerBytes: index.headerBytes, crc32: crc32(bytes), digest: sha256(bytes) });
  });

  it('have a shard whose summary is that of its map', () => {
    const bytes = golden('shard.bin');
    const shard = decodeShard(bytes, compression);
    const { payload: _payload, codec: _codec, ...identity } = SHARD;
    expect(shard).toMatchObject({ ...identity, codec: 'zstd', objectBytes: bytes.length });
    expectSameBytes(Buffer.from(shard.entries.buffer), SHARD_MAP);
    const { entries: _entries, ...summary } = shard;
    expect(decodeShardSummary(bytes.subarray(0, shard.headerBytes))).toEqual(summary);
    const raw = encodeShard(shard, rawCompression);
    expectSameBytes(raw.bytes, buildShard({ ...SHARD, codec: 0, payload: SHARD_MAP }));
    expect(raw).toMatchObject({ mapped: 3, headerBytes: shard.headerBytes, crc32: crc32(raw.bytes) });
    const packed = encodeShard(shard, compression);
    expect(packed.bytes.length).toBeLessThan(1000);
    expectSameBytes(Buffer.from(decodeShard(packed.bytes, compression).entries.buffer), SHARD_MAP);
  });

  it('have checkpoints that decode to their parts and encode to the same bytes', () => {
    const full = decodeCheckpoint(golden('checkpoint.bin'), compression);
    const { dataEpoch, dataThroughSeq, dataLogId, volumeBytes, ...same } = CHECKPOINT.header;
    const renamed = (row: Readonly<Record<string, number>>): object => {
      const { crc, ...others } = row;
      return { ...others, crc32: crc };
    };
    expect(full).toEqual({
      ...same,
      bytes: volumeBytes,
      lastData: { epoch: dataEpoch, logId: dataLogId, throughSeq: dataThroughSeq },
      runs: CHECKPOINT.runs.map(renamed),
      shards: CHECKPOINT.shards.map(renamed),
    });
    expectSameBytes(encodeCheckpoint(full, rawCompression).bytes, golden('checkpoint.bin'));
    const empty = decodeCheckpoint(golden('checkpoint-empty.bin'), compression);
    expect(empty).toMatchObject({ lastData: undefined, runs: [], shards: [], n: EMPTY_CHECKPOINT.header['n'] });
    expectSameBytes(encodeCheckpoint(empty, rawCompression).bytes, golden('checkpoint-empty.bin'));
  });

  it('have entries that pack to the words the document draws', () => {
    for (const section of RUN.sections) {
      for (const { entry } of section.changes) {
        if (entry === undefined) continue;
        const words = new Uint32Array(2);
        packEntry(entry, words, 0);
        expect(unpackEntry(words[0] ?? 0, words[1] ?? 0)).toEqual(entry);
      }
    }
  });
});

function expectedHeader(parts: SegmentParts, bytes: Buffer): object {
  const headerBytes = bytes.readUInt32LE(8);
  let offset = headerBytes / 256;
  const frames = parts.frames.map((frame) => {
    const length = frame.length / 256;
    offset += length;
    return { offset: offset - length, length };
  });
  const version: VersionParts = { ...parts.version, takeover: parts.version.takeover };
  return {
    ...version,
    number: parts.number,
    frames,
    extents: parts.extents,
    unmaps: parts.unmaps,
    blocks: parts.extents.reduce((sum, extent) => sum + extent.count, 0),
    headerBytes,
    objectBytes: bytes.length,
  };
}
