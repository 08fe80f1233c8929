import type { CheckpointParts, FrameParts, RunParts, SegmentParts, ShardParts, VersionParts } from './builder.ts';
import {
  bitwiseCrc32,
} from './format-doc.ts';
import {
  buildCheckpoint,
  buildEntry,
  buildFrame,
  buildRecord,
  buildRun,
  buildSegment,
  buildShard,
  NO_HASH,
  sha256,
} from './builder.ts';
import { zstdFrame } from './zstd-by-hand.ts';

/** The values behind the golden files. Fixed for ever: the files of version 1 never change. */
const LINEAGE = 'lineage-7f3a';
const VOLUME = 'vol_01.a';
const LOG_ID = 'log-c0ffee';
const VOLUME_BYTES = 64 * 2 ** 40;
const HIGH_BLOCK = 2 ** 34 - 20;

/** Bytes that differ from place to place, without any randomness. */
export function patterned(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = (at * 31 + (at >> 8) * 7 + seed) & 0xff;
  return bytes;
}

export const RAW_FRAME: FrameParts = { blocks: [7], raw: patterned(4096, 3) };
export const ZSTD_FRAME: FrameParts = {
  blocks: [9, 10, HIGH_BLOCK],
  raw: Buffer.alloc(3 * 4096, 0x61),
  zstd: zstdFrame([{ repeat: 0x61, times: 3 * 4096 }]),
};

export const TAKEOVER_FIELDS = {
  n: 40,
  epoch: 3,
  throughSeq: 0,
  blocks: 0,
  bytes: 0,
  newestWriteAt: 1_790_000_000_000,
  sealedAt: 1_790_000_000_001,
  volumeBytes: VOLUME_BYTES,
  volume: VOLUME,
  logId: LOG_ID,
};
const TAKEOVER_RECORD = buildRecord('takeover', 'none', TAKEOVER_FIELDS);

export const TAKEOVER = { previousChain: sha256(Buffer.from('before the takeover')), record: TAKEOVER_RECORD };

export const VERSION: VersionParts = {
  n: 41,
  epoch: 3,
  firstSeq: 1001,
  throughSeq: 2 ** 53 - 1,
  newestWriteAt: 1_790_000_000_123,
  sealedAt: 1_790_000_000_456,
  volumeBytes: VOLUME_BYTES,
  kind: 'write',
  previousChain: sha256(TAKEOVER.previousChain, NO_HASH, TAKEOVER_RECORD),
  lineage: LINEAGE,
  volume: VOLUME,
  logId: LOG_ID,
  takeover: TAKEOVER,
};

export const SEGMENT: SegmentParts = {
  number: 2 ** 36 - 1,
  version: VERSION,
  frames: [buildFrame(RAW_FRAME), buildFrame(ZSTD_FRAME)],
  extents: [
    { block: 7, count: 1, frame: 0, index: 0 },
    { block: 9, count: 2, frame: 1, index: 0 },
    { block: HIGH_BLOCK, count: 1, frame: 1, index: 2 },
  ],
  unmaps: [
    { block: 0, count: 7 },
    { block: 8, count: 1 },
    { block: 11, count: 2 ** 33 },
  ],
};

/** Nothing but an unmap, no takeover. */
export const UNMAP_SEGMENT: SegmentParts = {
  number: 1,
  version: { ...VERSION, n: 1, epoch: 1, firstSeq: 0, throughSeq: 0, previousChain: NO_HASH, takeover: undefined },
  frames: [],
  extents: [],
  unmaps: [{ block: 0, count: 2 ** 34 }],
};

export const INLINE: SegmentParts = {
  number: 0,
  version: { ...VERSION, n: 42, takeover: undefined },
  frames: [buildFrame(ZSTD_FRAME)],
  extents: [
    { block: 9, count: 2, frame: 0, index: 0 },
    { block: HIGH_BLOCK, count: 1, frame: 0, index: 2 },
  ],
  unmaps: [],
};

const ENTRY = { segment: 2 ** 36 - 1, offset: 32_767, length: 1, index: 15 };
const OTHER_ENTRY = { segment: 17, offset: 1, length: 257, index: 0 };

export const RUN: RunParts = {
  lineage: LINEAGE,
  volume: VOLUME,
  fromN: 12,
  throughN: 40,
  sections: [
    {
      shard: 0,
      changes: [
        { block: 0, entry: ENTRY },
        { block: 5, entry: undefined },
        { block: 16_383, entry: OTHER_ENTRY },
      ],
    },
    { shard: 2 ** 20 - 1, changes: [{ block: 1, entry: OTHER_ENTRY }] },
  ],
  ranges: [
    { block: 3, count: 4 },
    { block: 16_384, count: 2 ** 33 },
  ],
};

export const MANIFEST: RunParts = {
  lineage: LINEAGE,
  volume: VOLUME,
  fromN: 43,
  throughN: 43,
  sections: [{ shard: 1, changes: [{ block: 2, entry: ENTRY }] }],
  ranges: [],
  version: { ...VERSION, n: 43, kind: 'restore' },
};

const SHARD_HEAD = [OTHER_ENTRY, undefined, ENTRY, OTHER_ENTRY].map(buildEntry);
export const SHARD_MAP = Buffer.concat([...SHARD_HEAD, Buffer.alloc(131_072 - 32)]);

export const SHARD: ShardParts = {
  lineage: LINEAGE,
  volume: VOLUME,
  shard: 513,
  n: 40,
  mapped: 3,
  summary: [
    { segment: 17, live: 2 },
    { segment: 2 ** 36 - 1, live: 1 },
  ],
  codec: 1,
  payload: zstdFrame([{ raw: Buffer.concat(SHARD_HEAD) }, { repeat: 0, times: 131_072 - 32 }]),
};

export const CHECKPOINT: CheckpointParts = {
  header: {
    sequence: 9,
    maintenanceEpoch: 4,
    n: 40,
    epoch: 3,
    volumeBytes: VOLUME_BYTES,
    newestWriteAt: 1_790_000_000_000,
    sealedAt: 1_790_000_000_001,
    dataEpoch: 2,
    dataThroughSeq: 999,
    chain: VERSION.previousChain,
    lineage: LINEAGE,
    volume: VOLUME,
    dataLogId: 'log-of-before',
  },
  runs: [
    { sequence: 7, maintenanceEpoch: 2, fromN: 1, throughN: 11, headerBytes: 300, objectBytes: 4000, crc: 1 },
    { sequence: 9, maintenanceEpoch: 4, fromN: 12, throughN: 40, headerBytes: 200, objectBytes: 2 ** 30, crc: 0xffffffff },
  ],
  shards: [
    { sequence: 7, maintenanceEpoch: 2, n: 11, shard: 0, mapped: 16_384, objectBytes: 1715, crc: 0x89abcdef },
    { sequence: 9, maintenanceEpoch: 4, n: 40, shard: 2 ** 20 - 1, mapped: 3, objectBytes: 250, crc: 0 },
  ],
};

/** The first checkpoint of a volume that was only ever taken over. */
export const EMPTY_CHECKPOINT: CheckpointParts = {
  header: { ...CHECKPOINT.header, dataEpoch: 0, dataThroughSeq: 0, dataLogId: '' },
  runs: [],
  shards: [],
};

function recordFields(version: VersionParts): Record<string, number | string> {
  const { n, epoch, throughSeq, newestWriteAt, sealedAt, volumeBytes, volume, logId } = version;
  return { n, epoch, throughSeq, newestWriteAt, sealedAt, volumeBytes, volume, logId };
}

function segmentRecord(parts: SegmentParts, object: Buffer): Buffer {
  const inline = parts.number === 0;
  return buildRecord('write', inline ? 'inline' : 'segment', {
    ...recordFields(parts.version),
    blocks: parts.extents.reduce((sum, extent) => sum + extent.count, 0),
    bytes: object.length,
    number: parts.number,
    headerBytes: inline ? 0 : object.readUInt32LE(8),
    objectBytes: object.length,
    payloadCrc: bitwiseCrc32(object),
    digest: sha256(object),
  });
}

export const MANIFEST_KEY = `lineages/${LINEAGE}/volumes/${VOLUME}/manifests/000000000000002b-0000000000000003`;

function manifestRecord(object: Buffer): Buffer {
  return buildRecord('restore', 'manifest', {
    ...recordFields({ ...VERSION, n: 43 }),
    blocks: 1,
    bytes: object.length,
    key: MANIFEST_KEY,
    headerBytes: object.readUInt32LE(8),
    objectBytes: object.length,
    payloadCrc: bitwiseCrc32(object),
    digest: sha256(object),
  });
}

/** Shrunk: what lies beyond the new end is unmapped by the version itself. */
export const RESIZE_SEGMENT: SegmentParts = {
  number: 5,
  version: { ...VERSION, n: 44, kind: 'resize', firstSeq: 1900, throughSeq: 1900, volumeBytes: 2 ** 30, takeover: undefined },
  frames: [],
  extents: [],
  unmaps: [{ block: 2 ** 18, count: 2 ** 20 }],
};

const resizeRecord = buildRecord('resize', 'none', {
  ...recordFields({ ...VERSION, n: 44, throughSeq: 0, volumeBytes: 2 ** 40 }),
  blocks: 0,
  bytes: 0,
  logId: '',
});

/** Everything in test/golden, by file name. */
export function goldenFiles(): ReadonlyMap<string, Buffer> {
  const segment = buildSegment(SEGMENT);
  const inline = buildSegment(INLINE);
  const manifest = buildRun(MANIFEST);
  return new Map([
    ['frame-raw.bin', buildFrame(RAW_FRAME)],
    ['frame-zstd.bin', buildFrame(ZSTD_FRAME)],
    ['segment.bin', segment],
    ['segment-unmap.bin', buildSegment(UNMAP_SEGMENT)],
    ['segment-resize.bin', buildSegment(RESIZE_SEGMENT)],
    ['inline.bin', inline],
    ['run.bin', buildRun(RUN)],
    ['manifest.bin', manifest],
    ['shard.bin', buildShard(SHARD)],
    ['checkpoint.bin', buildCheckpoint(CHECKPOINT)],
    ['checkpoint-empty.bin', buildCheckpoint(EMPTY_CHECKPOINT)],
    ['record-takeover.bin', TAKEOVER_RECORD],
    ['record-segment.bin', segmentRecord(SEGMENT, segment)],
    ['record-inline.bin', segmentRecord(INLINE, inline)],
    ['record-manifest.bin', manifestRecord(manifest)],
    ['record-resize.bin', resizeRecord],
  ]);
}
