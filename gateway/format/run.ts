import { createHash } from 'node:crypto';
import { crc32 } from '../base/crc32.ts';
import { invariant } from '../base/errors.ts';
import type { BlockCount, ByteCount, VersionNumber } from '../base/units.ts';
import { GIB } from '../base/units.ts';
import type { ByteReader } from './bytes.ts';
import { ByteWriter, damaged, textBytes } from './bytes.ts';
import type { Codec, Compression } from './compression.ts';
import { CODEC_CODES, codecFromCode } from './compression.ts';
import type { NeedBytes, ObjectKind } from './envelope.ts';
import { ENVELOPE_BYTES, openEnvelope, openWhole, sealEnvelope, truncated } from './envelope.ts';
import type { BlockRange } from './ids.ts';
import { ID_PATTERN, isBlockRange, MAX_VOLUME_BLOCKS, requireId } from './ids.ts';
import { isEntry } from './map-entry.ts';
import { RANGE_BYTES, readRanges, writeRanges } from './ranges.ts';
import type { VersionIdentity } from './version-identity.ts';
import { identityBytes, MAX_IDENTITY_BYTES, readIdentity, recordFields, writeIdentity } from './version-identity.ts';
import type { VersionRecord } from './version-record.ts';
import { bytesOf, words16, words32 } from './words.ts';

/** Blocks of one shard: 64 MiB of volume. */
export const SHARD_BLOCKS = 16_384;
export const MAX_SHARDS = MAX_VOLUME_BLOCKS / SHARD_BLOCKS;
export const MAX_RUN_RANGES = 2 ** 20;
export const MAX_RUN_BYTES = GIB;

/** Changes to the map of one shard. */
export interface RunSection {
  readonly shard: number;
  /** Index in the shard, ascending, at least one. */
  readonly blocks: Uint16Array;
  /** Two words per block (see map-entry); 0, 0 is unmapped. */
  readonly entries: Uint32Array;
}

/** A section as it is stored: of a large run not all sections are in memory raw at once. */
export interface PackedSection {
  readonly shard: number;
  readonly changes: BlockCount;
  /** Entries that are not 0. */
  readonly mapped: BlockCount;
  readonly codec: Codec;
  readonly payload: Buffer;
}

export interface RunInput {
  readonly lineage: string;
  readonly volume: string;
  /** The run holds the changes of versions fromN to throughN. */
  readonly fromN: VersionNumber;
  readonly throughN: VersionNumber;
  /** Ascending by shard. */
  readonly sections: readonly (RunSection | PackedSection)[];
  /** Unmapped ranges, ascending and disjoint; entries of sections win over them. At most 2^20. */
  readonly ranges: readonly BlockRange[];
  /** In a manifest: the version it is the payload of (fromN = throughN = its n). */
  readonly version?: VersionIdentity | undefined;
}

export interface EncodedRun {
  readonly bytes: Buffer;
  readonly headerBytes: ByteCount;
  readonly crc32: number;
  /** SHA-256 of all bytes. */
  readonly digest: Buffer;
}

/** Where the section of a shard lies in the run. */
export interface RunIndexEntry {
  readonly shard: number;
  readonly changes: BlockCount;
  readonly codec: Codec;
  /** From the start of the object. */
  readonly offset: ByteCount;
  /** As stored. */
  readonly bytes: ByteCount;
  /** Of the stored bytes. */
  readonly crc32: number;
}

export interface RunIndex {
  readonly lineage: string;
  readonly volume: string;
  readonly fromN: VersionNumber;
  readonly throughN: VersionNumber;
  /** Blocks that the run maps (unmapped ones do not count). */
  readonly mapped: BlockCount;
  /** Ascending by shard. */
  readonly sections: readonly RunIndexEntry[];
  readonly ranges: readonly BlockRange[];
  readonly version: VersionIdentity | undefined;
  readonly headerBytes: ByteCount;
  readonly objectBytes: ByteCount;
}

const INDEX_ENTRY_BYTES = 20;
const CHANGE_BYTES = 10;
/** fromN, throughN, mapped, sections, ranges, version bytes */
const COUNTS_BYTES = 3 * 8 + 3 * 4;

const RUN_KIND: ObjectKind = {
  what: 'run',
  magic: 'FSRN',
  maxHeaderBytes:
    ENVELOPE_BYTES +
    COUNTS_BYTES +
    2 * 65 +
    MAX_IDENTITY_BYTES +
    MAX_SHARDS * INDEX_ENTRY_BYTES +
    MAX_RUN_RANGES * RANGE_BYTES,
  maxObjectBytes: MAX_RUN_BYTES,
};

/** Disorder in the input is a `bug`. */
export function encodeRun(run: RunInput, compression: Compression): EncodedRun {
  requireId(run.lineage, 'lineage');
  requireId(run.volume, 'volume');
  invariant(run.fromN >= 1 && run.fromN <= run.throughN, `a run of versions ${run.fromN} to ${run.throughN}`);
  const rangesProblem = rangeProblem(run.ranges);
  invariant(rangesProblem === undefined, `run: ${rangesProblem ?? ''}`);
  const versionProblem = versionMismatch(run, run.version);
  invariant(versionProblem === undefined, `run: ${versionProblem ?? ''}`);
  const versionBytes = run.version === undefined ? 0 : identityBytes(run.version);
  const writer = new ByteWriter(
    ENVELOPE_BYTES +
      COUNTS_BYTES +
      textBytes(run.lineage) +
      textBytes(run.volume) +
      versionBytes +
      run.sections.length * INDEX_ENTRY_BYTES +
      run.ranges.length * RANGE_BYTES,
  );
  const headerBytes = writer.bytes.length;
  const payloads: Buffer[] = [];
  const sections = run.sections.map((section) => ('payload' in section ? section : packSection(section, compression)));
  const mapped = sections.reduce((sum, section) => sum + section.mapped, 0);
  writer.position = ENVELOPE_BYTES;
  writer.u64(run.fromN).u64(run.throughN).u64(mapped);
  writer.u32(run.sections.length).u32(run.ranges.length).u32(versionBytes);
  writer.text(run.lineage).text(run.volume);
  if (run.version !== undefined) writeIdentity(writer, run.version);
  let offset = headerBytes;
  let bodyCrc = 0;
  let lastShard = -1;
  for (const { shard, changes, codec, payload } of sections) {
    invariant(shard > lastShard && shard < MAX_SHARDS, 'sections of a run ascend by shard');
    lastShard = shard;
    writer.u32(shard).u32(offset).u32(payload.length).u32(crc32(payload));
    writer.u16(changes).u8(CODEC_CODES[codec]).u8(0);
    payloads.push(payload);
    bodyCrc = crc32(payload, bodyCrc);
    offset += payload.length;
    invariant(offset <= MAX_RUN_BYTES, `a run has at most ${MAX_RUN_BYTES} bytes`);
  }
  writeRanges(writer, run.ranges);
  const header = writer.done();
  sealEnvelope(header, RUN_KIND, offset, bodyCrc);
  const bytes = Buffer.concat([header, ...payloads], offset);
  return { bytes, headerBytes, crc32: crc32(bytes), digest: createHash('sha256').update(bytes).digest() };
}

/** Disorder in the section is a `bug`. */
export function packSection(section: RunSection, compression: Compression): PackedSection {
  const { codec, payload } = compression.compress(sectionBytes(section));
  return { shard: section.shard, changes: section.blocks.length, mapped: countMapped(section), codec, payload };
}

function countMapped(section: RunSection): number {
  let mapped = 0;
  for (let at = 0; at + 1 < section.entries.length; at += 2) {
    if (section.entries[at] !== 0 || section.entries[at + 1] !== 0) mapped++;
  }
  return mapped;
}

/** All indexes, then all entries. */
function sectionBytes(section: RunSection): Buffer {
  const problem = sectionProblem(section.blocks, section.entries);
  invariant(problem === undefined, `section of shard ${section.shard}: ${problem ?? ''}`);
  return Buffer.concat([bytesOf(section.blocks), bytesOf(section.entries)]);
}

function sectionProblem(blocks: Uint16Array, entries: Uint32Array): string | undefined {
  if (blocks.length < 1 || blocks.length > SHARD_BLOCKS) return `${blocks.length} changes`;
  if (entries.length !== blocks.length * 2) return `${entries.length} words for ${blocks.length} changes`;
  let last = -1;
  for (let at = 0; at < blocks.length; at++) {
    const block = blocks[at] ?? 0;
    if (block <= last || block >= SHARD_BLOCKS) return `block ${block} is out of order`;
    last = block;
    if (!isEntry(entries[at * 2] ?? 0, entries[at * 2 + 1] ?? 0)) return `the entry of block ${block} is impossible`;
  }
  return undefined;
}

function rangeProblem(ranges: readonly BlockRange[]): string | undefined {
  if (ranges.length > MAX_RUN_RANGES) return `${ranges.length} ranges`;
  let end = 0;
  for (const { block, count } of ranges) {
    if (!isBlockRange(block, count) || block < end) return `range at block ${block}`;
    end = block + count;
  }
  return undefined;
}

type RunOrigin = Pick<RunInput, 'lineage' | 'volume' | 'fromN' | 'throughN'>;

function versionMismatch(run: RunOrigin, version: VersionIdentity | undefined): string | undefined {
  if (version === undefined) return undefined;
  const same = version.lineage === run.lineage && version.volume === run.volume;
  return same && version.n === run.fromN && version.n === run.throughN ? undefined : 'the version of another run';
}

/** Given the first bytes of a run: its index, or how many bytes it takes. Sections are not looked at. */
export function decodeRunIndex(prefix: Buffer): RunIndex | NeedBytes {
  const envelope = openEnvelope(prefix, RUN_KIND);
  if ('needBytes' in envelope) return envelope;
  const { reader, headerBytes, objectBytes } = envelope;
  const fromN = reader.u64('first version');
  const throughN = reader.u64('last version');
  const mapped = reader.u64('mapped blocks');
  const sectionCount = reader.u32('sections');
  const rangeCount = reader.u32('ranges');
  const versionBytes = reader.u32('bytes of the version');
  reader.check(fromN >= 1 && fromN <= throughN, `versions ${fromN} to ${throughN}`);
  reader.check(
    sectionCount <= MAX_SHARDS && rangeCount <= MAX_RUN_RANGES,
    `${sectionCount} sections, ${rangeCount} ranges`,
  );
  const lineage = reader.text('lineage', ID_PATTERN);
  const volume = reader.text('volume', ID_PATTERN);
  const versionAt = reader.position;
  const version = versionBytes === 0 ? undefined : readIdentity(reader);
  reader.check(reader.position === versionAt + versionBytes, `a version of ${versionBytes} bytes`);
  const mismatch = versionMismatch({ lineage, volume, fromN, throughN }, version);
  const sections = readIndex(reader, sectionCount, headerBytes, objectBytes);
  const ranges = readRanges(reader, rangeCount);
  const problem = mismatch ?? rangeProblem(ranges);
  if (problem !== undefined) throw damaged(RUN_KIND.what, problem);
  reader.finish();
  return { lineage, volume, fromN, throughN, mapped, sections, ranges, version, headerBytes, objectBytes };
}

/** Sections follow each other from the end of the header to the end of the object. */
function readIndex(reader: ByteReader, count: number, headerBytes: number, objectBytes: number): RunIndexEntry[] {
  const start = reader.take(count * INDEX_ENTRY_BYTES, 'index');
  const { bytes } = reader;
  const index: RunIndexEntry[] = [];
  let end = headerBytes;
  let lastShard = -1;
  for (let at = start; at < start + count * INDEX_ENTRY_BYTES; at += INDEX_ENTRY_BYTES) {
    const shard = bytes.readUInt32LE(at);
    const offset = bytes.readUInt32LE(at + 4);
    const length = bytes.readUInt32LE(at + 8);
    const changes = bytes.readUInt16LE(at + 16);
    const codec = codecFromCode(bytes.readUInt8(at + 18));
    reader.check(shard > lastShard && shard < MAX_SHARDS, `shard ${shard} is out of order`);
    reader.check(changes >= 1 && changes <= SHARD_BLOCKS, `${changes} changes in shard ${shard}`);
    reader.check(length >= 1 && length <= changes * CHANGE_BYTES, `a section of ${length} bytes in shard ${shard}`);
    reader.check(offset === end, `the section of shard ${shard} at byte ${offset} instead of ${end}`);
    if (codec === undefined || bytes.readUInt8(at + 19) !== 0)
      throw damaged(RUN_KIND.what, `unknown codec in shard ${shard}`);
    index.push({ shard, changes, codec, offset, bytes: length, crc32: bytes.readUInt32LE(at + 12) });
    end += length;
    lastShard = shard;
  }
  reader.check(end === objectBytes, `sections that end at byte ${end} of ${objectBytes}`);
  return index;
}

/** `bytes` are those that the index entry points to, and nothing else. */
export function decodeRunSection(bytes: Buffer, entry: RunIndexEntry, compression: Compression): RunSection {
  const what = `${RUN_KIND.what} section of shard ${entry.shard}`;
  if (bytes.length !== entry.bytes) throw damaged(what, `it has ${bytes.length} bytes instead of ${entry.bytes}`);
  if (crc32(bytes) !== entry.crc32) throw damaged(what, 'its CRC-32 does not match');
  const raw = compression.decompress(entry.codec, bytes, entry.changes * CHANGE_BYTES);
  const blocks = words16(raw, 0, entry.changes);
  const entries = words32(raw, entry.changes * 2, entry.changes * 2);
  const problem = sectionProblem(blocks, entries);
  if (problem !== undefined) throw damaged(what, problem);
  return { shard: entry.shard, blocks, entries };
}

/** A whole run, every section of it. */
export function decodeRun(
  bytes: Buffer,
  compression: Compression,
): { readonly index: RunIndex; readonly sections: readonly RunSection[] } {
  openWhole(bytes, RUN_KIND);
  const index = decodeRunIndex(bytes);
  if ('needBytes' in index) throw truncated(RUN_KIND.what, bytes.length, index);
  const sections = index.sections.map((entry) =>
    decodeRunSection(bytes.subarray(entry.offset, entry.offset + entry.bytes), entry, compression),
  );
  let mapped = 0;
  for (const section of sections) mapped += countMapped(section);
  if (mapped !== index.mapped) throw damaged(RUN_KIND.what, `${mapped} mapped blocks instead of ${index.mapped}`);
  return { index, sections };
}

/** The record of the version a manifest is the payload of; `index.version` must be there. */
export function recordOfManifest(
  index: RunIndex,
  version: VersionIdentity,
  object: { readonly key: string; readonly crc32: number; readonly digest: Buffer },
): VersionRecord {
  const { headerBytes, objectBytes, mapped } = index;
  const payload: VersionRecord['payload'] = {
    kind: 'manifest',
    key: object.key,
    headerBytes,
    objectBytes,
    crc32: object.crc32,
    digest: object.digest,
  };
  return { ...recordFields(version), payload, blocks: mapped, bytes: objectBytes };
}
