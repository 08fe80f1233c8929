import { crc32 } from '../base/crc32.ts';
import { invariant } from '../base/errors.ts';
import type { BlockCount, ByteCount, SegmentNumber, VersionNumber } from '../base/units.ts';
import type { ByteReader } from './bytes.ts';
import { ByteWriter, damaged, textBytes } from './bytes.ts';
import type { Codec, Compression } from './compression.ts';
import { CODEC_CODES, codecFromCode } from './compression.ts';
import type { NeedBytes, ObjectKind } from './envelope.ts';
import { ENVELOPE_BYTES, openEnvelope, openWhole, sealEnvelope, truncated } from './envelope.ts';
import { ID_PATTERN, MAX_SEGMENT_NUMBER, requireId } from './ids.ts';
import { entrySegment, isEntry } from './map-entry.ts';
import { MAX_SHARDS, SHARD_BLOCKS } from './run.ts';
import { bytesOf, words32 } from './words.ts';

export interface ShardIdentity {
  readonly lineage: string;
  readonly volume: string;
  readonly shard: number;
  /** The map is that of version n. */
  readonly n: VersionNumber;
}

export interface ShardInput extends ShardIdentity {
  /** 32,768 words: two per block (see map-entry). */
  readonly entries: Uint32Array;
}

/** How many blocks of the shard lie in a segment. */
export interface SegmentShare {
  readonly segment: SegmentNumber;
  readonly live: BlockCount;
}

export interface ShardSummary extends ShardIdentity {
  /** Blocks that are mapped. */
  readonly mapped: BlockCount;
  /** Ascending by segment. */
  readonly summary: readonly SegmentShare[];
  readonly codec: Codec;
  readonly headerBytes: ByteCount;
  readonly objectBytes: ByteCount;
}

export interface Shard extends ShardSummary {
  readonly entries: Uint32Array;
}

const ENTRY_WORDS = SHARD_BLOCKS * 2;
const MAP_BYTES = ENTRY_WORDS * 4;
const SHARE_BYTES = 8;
/** n, shard, mapped, shares, codec */
const COUNTS_BYTES = 8 + 4 + 4 + 4 + 4;
const MAX_HEADER_BYTES = ENVELOPE_BYTES + COUNTS_BYTES + 2 * 65 + SHARD_BLOCKS * SHARE_BYTES;

const SHARD_KIND: ObjectKind = {
  what: 'shard',
  magic: 'FSSH',
  maxHeaderBytes: MAX_HEADER_BYTES,
  maxObjectBytes: MAX_HEADER_BYTES + MAP_BYTES,
};

export function encodeShard(
  shard: ShardInput,
  compression: Compression,
): { readonly bytes: Buffer; readonly headerBytes: ByteCount; readonly mapped: BlockCount; readonly crc32: number } {
  requireId(shard.lineage, 'lineage');
  requireId(shard.volume, 'volume');
  invariant(shard.shard >= 0 && shard.shard < MAX_SHARDS, `shard ${shard.shard} lies in a volume`);
  const problem = entriesProblem(shard.entries);
  invariant(problem === undefined, `shard ${shard.shard}: ${problem ?? ''}`);
  const { mapped, summary } = summarise(shard.entries);
  const writer = new ByteWriter(
    ENVELOPE_BYTES + COUNTS_BYTES + textBytes(shard.lineage) + textBytes(shard.volume) + summary.length * SHARE_BYTES,
  );
  const { codec, payload } = compression.compress(bytesOf(shard.entries));
  writer.position = ENVELOPE_BYTES;
  writer.u64(shard.n).u32(shard.shard).u32(mapped).u32(summary.length).u32(CODEC_CODES[codec]);
  writer.text(shard.lineage).text(shard.volume);
  for (const { segment, live } of summary) writer.u48(segment).u16(live);
  const header = writer.done();
  sealEnvelope(header, SHARD_KIND, header.length + payload.length, crc32(payload));
  const bytes = Buffer.concat([header, payload]);
  return { bytes, headerBytes: header.length, mapped, crc32: crc32(bytes) };
}

function entriesProblem(entries: Uint32Array): string | undefined {
  if (entries.length !== ENTRY_WORDS) return `${entries.length} words instead of ${ENTRY_WORDS}`;
  for (let at = 0; at < ENTRY_WORDS; at += 2) {
    if (!isEntry(entries[at] ?? 0, entries[at + 1] ?? 0)) return `the entry of block ${at / 2} is impossible`;
  }
  return undefined;
}

/** Live blocks per segment. */
function summarise(entries: Uint32Array): { mapped: number; summary: SegmentShare[] } {
  const lives = new Map<number, number>();
  let mapped = 0;
  let segment = 0;
  let live = 0;
  for (let at = 0; at < ENTRY_WORDS; at += 2) {
    const next = entrySegment(entries[at] ?? 0, entries[at + 1] ?? 0);
    if (next !== segment) {
      if (segment !== 0) lives.set(segment, (lives.get(segment) ?? 0) + live);
      segment = next;
      live = 0;
    }
    live++;
    if (next !== 0) mapped++;
  }
  if (segment !== 0) lives.set(segment, (lives.get(segment) ?? 0) + live);
  const segments = Float64Array.from(lives.keys()).sort();
  return { mapped, summary: Array.from(segments, (number) => ({ segment: number, live: lives.get(number) ?? 0 })) };
}

/** Given the first bytes of a shard: its summary, or how many bytes it takes. The map is not looked at. */
export function decodeShardSummary(prefix: Buffer): ShardSummary | NeedBytes {
  const envelope = openEnvelope(prefix, SHARD_KIND);
  if ('needBytes' in envelope) return envelope;
  const { reader, headerBytes, objectBytes } = envelope;
  const n = reader.u64('n');
  const shard = reader.u32('shard');
  const mapped = reader.u32('mapped blocks');
  const shares = reader.u32('segments');
  const codecCode = reader.u32('codec');
  const codec = codecFromCode(codecCode);
  if (codec === undefined) throw damaged(SHARD_KIND.what, `unknown codec ${codecCode}`);
  reader.check(shard < MAX_SHARDS, `shard ${shard}`);
  reader.check(mapped <= SHARD_BLOCKS && shares <= mapped, `${mapped} mapped blocks in ${shares} segments`);
  reader.check(objectBytes > headerBytes && objectBytes - headerBytes <= MAP_BYTES, 'a map of impossible size');
  const lineage = reader.text('lineage', ID_PATTERN);
  const volume = reader.text('volume', ID_PATTERN);
  const summary = readShares(reader, shares, mapped);
  reader.finish();
  return { lineage, volume, shard, n, mapped, summary, codec, headerBytes, objectBytes };
}

function readShares(reader: ByteReader, count: number, mapped: number): SegmentShare[] {
  const start = reader.take(count * SHARE_BYTES, 'summary');
  const summary: SegmentShare[] = [];
  let last = 0;
  let total = 0;
  for (let at = start; at < start + count * SHARE_BYTES; at += SHARE_BYTES) {
    const segment = reader.bytes.readUIntLE(at, 6);
    const live = reader.bytes.readUInt16LE(at + 6);
    reader.check(segment > last && segment <= MAX_SEGMENT_NUMBER, `segment ${segment} is out of order`);
    reader.check(live >= 1, `segment ${segment} has no live blocks`);
    summary.push({ segment, live });
    last = segment;
    total += live;
  }
  reader.check(total === mapped, `${total} live blocks instead of ${mapped}`);
  return summary;
}

/** A whole shard; its summary is checked against its map. */
export function decodeShard(bytes: Buffer, compression: Compression): Shard {
  openWhole(bytes, SHARD_KIND);
  const summary = decodeShardSummary(bytes);
  if ('needBytes' in summary) throw truncated(SHARD_KIND.what, bytes.length, summary);
  const raw = compression.decompress(summary.codec, bytes.subarray(summary.headerBytes), MAP_BYTES);
  const entries = words32(raw, 0, ENTRY_WORDS);
  const problem = entriesProblem(entries) ?? summaryProblem(summary, entries);
  if (problem !== undefined) throw damaged(SHARD_KIND.what, problem);
  return { ...summary, entries };
}

function summaryProblem(stated: ShardSummary, entries: Uint32Array): string | undefined {
  const { summary } = summarise(entries);
  const same =
    summary.length === stated.summary.length &&
    summary.every(({ segment, live }, at) => {
      const share = stated.summary[at];
      return share?.segment === segment && share.live === live;
    });
  return same ? undefined : 'its summary is not that of its map';
}
