import { createHash } from 'node:crypto';
import { assemble, bitwiseCrc32, integer, patch } from './format-doc.ts';
import type { FieldValue } from './format-doc.ts';

/** Builders of each structure from the tables of docs/FORMAT.md; they share no code with the gateway's encoders. */
export const NO_HASH = Buffer.alloc(32);

export function sha256(...pieces: readonly Buffer[]): Buffer {
  const hash = createHash('sha256');
  for (const piece of pieces) hash.update(piece);
  return hash.digest();
}

function padding(bytes: number): Buffer {
  return Buffer.alloc((256 - (bytes % 256)) % 256);
}

export interface FrameParts {
  readonly blocks: readonly number[];
  readonly raw: Buffer;
  /** Undefined: raw. */
  readonly zstd?: Buffer;
}

export function buildFrame({ blocks, raw, zstd }: FrameParts): Buffer {
  const payload = zstd ?? raw;
  const numbers = Buffer.concat(blocks.map((block) => integer(block, 6)));
  const bytes = assemble('frame', {
    magic: 'FSFR',
    format: 1,
    flags: 0,
    codec: zstd === undefined ? 0 : 1,
    blocks: blocks.length,
    payloadBytes: payload.length,
    rawCrc: bitwiseCrc32(raw),
    crc: 0,
    numbers,
    payload,
    padding: padding(20 + numbers.length + payload.length),
  });
  patch(bytes, 'frame', 'crc', bitwiseCrc32(bytes.subarray(0, 16), bytes.subarray(20)));
  return bytes;
}

/** A header laid out with 24 zeros for its envelope, and the body that follows it. */
function buildObject(magic: string, header: Buffer, body: Buffer): Buffer {
  const bytes = Buffer.concat([header, body]);
  assemble('envelope', {
    magic,
    format: 1,
    flags: 0,
    headerBytes: header.length,
    objectBytes: bytes.length,
    bodyCrc: bitwiseCrc32(body),
    headerCrc: 0,
  }).copy(bytes);
  patch(bytes, 'envelope', 'headerCrc', bitwiseCrc32(bytes.subarray(0, 20), bytes.subarray(24, header.length)));
  return bytes;
}

const NO_ENVELOPE = Buffer.alloc(24);

export interface VersionParts {
  readonly n: number;
  readonly epoch: number;
  readonly firstSeq: number;
  readonly throughSeq: number;
  readonly newestWriteAt: number;
  readonly sealedAt: number;
  readonly volumeBytes: number;
  readonly kind: 'moved' | 'write' | 'resize' | 'restore';
  readonly previousChain: Buffer;
  readonly lineage: string;
  readonly volume: string;
  readonly logId: string;
  readonly takeover?: { readonly previousChain: Buffer; readonly record: Buffer } | undefined;
}

export function buildVersionPart(parts: VersionParts): Buffer {
  const { takeover, kind, ...fields } = parts;
  return assemble('version-part', {
    ...fields,
    kind: { moved: 0, write: 1, resize: 3, restore: 6 }[kind],
    takeoverBytes: takeover?.record.length ?? 0,
    takeoverChain: takeover?.previousChain ?? NO_HASH,
    takeover: takeover?.record ?? Buffer.alloc(0),
  });
}

export interface ExtentParts {
  readonly block: number;
  readonly count: number;
  readonly frame: number;
  readonly index: number;
}

export interface RangeParts {
  readonly block: number;
  readonly count: number;
}

export interface SegmentParts {
  readonly number: number;
  readonly version: VersionParts;
  readonly frames: readonly Buffer[];
  readonly extents: readonly ExtentParts[];
  readonly unmaps: readonly RangeParts[];
}

export function buildSegment(parts: SegmentParts): Buffer {
  const fields: Record<string, FieldValue> = {
    envelope: NO_ENVELOPE,
    number: parts.number,
    blocks: parts.extents.reduce((sum, extent) => sum + extent.count, 0),
    frames: parts.frames.length,
    extents: parts.extents.length,
    unmaps: parts.unmaps.length,
    version: buildVersionPart(parts.version),
    frameLengths: Buffer.concat(parts.frames.map((frame) => integer(frame.length / 256, 2))),
    extentList: Buffer.concat(parts.extents.map((extent) => assemble('extent', { ...extent }))),
    unmapList: rangeList(parts.unmaps),
    padding: Buffer.alloc(0),
  };
  fields['padding'] = padding(assemble('segment', fields).length);
  return buildObject('FSSG', assemble('segment', fields), Buffer.concat(parts.frames));
}

function rangeList(ranges: readonly RangeParts[]): Buffer {
  return Buffer.concat(ranges.flatMap(({ block, count }) => [integer(block, 6), integer(count, 6)]));
}

/** Bits as the document counts them. */
export interface EntryParts {
  readonly segment: number;
  readonly offset: number;
  readonly length: number;
  readonly index: number;
}

export function buildEntry(entry: EntryParts | undefined): Buffer {
  if (entry === undefined) return Buffer.alloc(8);
  const bits =
    (BigInt(entry.segment) << 28n) |
    (BigInt(entry.offset) << 13n) |
    (BigInt(entry.length) << 4n) |
    BigInt(entry.index);
  return Buffer.concat([integer(Number(bits >> 32n), 4), integer(Number(bits & 0xffffffffn), 4)]);
}

export interface SectionParts {
  readonly shard: number;
  readonly changes: readonly { readonly block: number; readonly entry: EntryParts | undefined }[];
}

export interface RunParts {
  readonly lineage: string;
  readonly volume: string;
  readonly fromN: number;
  readonly throughN: number;
  readonly sections: readonly SectionParts[];
  readonly ranges: readonly RangeParts[];
  readonly version?: VersionParts;
}

export function buildRun(parts: RunParts): Buffer {
  const payloads = parts.sections.map(({ changes }) =>
    Buffer.concat([...changes.map(({ block }) => integer(block, 2)), ...changes.map(({ entry }) => buildEntry(entry))]),
  );
  const version = parts.version === undefined ? Buffer.alloc(0) : buildVersionPart(parts.version);
  const headerWith = (start: number): Buffer => {
    let offset = start;
    const index = parts.sections.map((section, at) => {
      const payload = payloads[at] ?? Buffer.alloc(0);
      const entry = assemble('run-index', {
        shard: section.shard,
        offset,
        storedBytes: payload.length,
        crc: bitwiseCrc32(payload),
        changes: section.changes.length,
        codec: 0,
        reserved: 0,
      });
      offset += payload.length;
      return entry;
    });
    const changes = parts.sections.flatMap((section) => section.changes);
    return assemble('run', {
      envelope: NO_ENVELOPE,
      fromN: parts.fromN,
      throughN: parts.throughN,
      mapped: changes.filter(({ entry }) => entry !== undefined).length,
      sections: parts.sections.length,
      ranges: parts.ranges.length,
      versionBytes: version.length,
      lineage: parts.lineage,
      volume: parts.volume,
      version,
      index: Buffer.concat(index),
      rangeList: rangeList(parts.ranges),
      payloads: Buffer.alloc(0),
    });
  };
  return buildObject('FSRN', headerWith(headerWith(0).length), Buffer.concat(payloads));
}

export interface ShardParts {
  readonly lineage: string;
  readonly volume: string;
  readonly shard: number;
  readonly n: number;
  readonly mapped: number;
  readonly summary: readonly { readonly segment: number; readonly live: number }[];
  readonly codec: number;
  readonly payload: Buffer;
}

export function buildShard(parts: ShardParts): Buffer {
  const header = assemble('shard', {
    envelope: NO_ENVELOPE,
    n: parts.n,
    shard: parts.shard,
    mapped: parts.mapped,
    segments: parts.summary.length,
    codec: parts.codec,
    lineage: parts.lineage,
    volume: parts.volume,
    summary: Buffer.concat(parts.summary.map((share) => assemble('shard-share', { ...share }))),
    payload: Buffer.alloc(0),
  });
  return buildObject('FSSH', header, parts.payload);
}

export interface CheckpointParts {
  readonly header: Readonly<Record<string, FieldValue>>;
  readonly runs: readonly Readonly<Record<string, number>>[];
  readonly shards: readonly Readonly<Record<string, number>>[];
}

export function buildCheckpoint(parts: CheckpointParts): Buffer {
  const header = assemble('checkpoint', {
    envelope: NO_ENVELOPE,
    ...parts.header,
    runs: parts.runs.length,
    shards: parts.shards.length,
    codec: 0,
    body: Buffer.alloc(0),
  });
  const body = Buffer.concat([
    ...parts.runs.map((run) => assemble('checkpoint-run', run)),
    ...parts.shards.map((shard) => assemble('checkpoint-shard', shard)),
  ]);
  return buildObject('FSCP', header, body);
}

const KINDS = ['', 'write', 'takeover', 'resize', 'barrier', 'mode', 'restore'];
const PAYLOADS = ['none', 'segment', 'inline', 'manifest'];

/** Fields of the table with names for kinds; what a payload does not use may be left out. */
export function buildRecord(kind: string, payload: string, fields: Readonly<Record<string, FieldValue>>): Buffer {
  const values: Record<string, FieldValue> = {
    payloadCrc: 0,
    digest: NO_HASH,
    number: 0,
    headerBytes: 0,
    objectBytes: 0,
    key: '',
    ...fields,
    magic: 'FSVR',
    format: 1,
    flags: 0,
    kind: KINDS.indexOf(kind),
    payloadKind: PAYLOADS.indexOf(payload),
    recordBytes: 0,
    crc: 0,
  };
  const bytes = assemble('version-record', values);
  patch(bytes, 'version-record', 'recordBytes', bytes.length);
  integer(bitwiseCrc32(bytes.subarray(0, -4)), 4).copy(bytes, bytes.length - 4);
  return bytes;
}
