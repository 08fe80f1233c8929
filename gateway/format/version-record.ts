import { createHash } from 'node:crypto';
import { crc32 } from '../base/crc32.ts';
import { invariant } from '../base/errors.ts';
import type {
  BlockCount,
  ByteCount,
  Epoch,
  SegmentNumber,
  VersionNumber,
  WallMillis,
  WriteSeq,
} from '../base/units.ts';
import { ByteReader, ByteWriter, damaged, textBytes } from './bytes.ts';
import { HASH_BYTES, ID_PATTERN, LOG_ID_PATTERN, MAX_SEGMENT_NUMBER, requireId } from './ids.ts';

export type VersionKind = 'write' | 'takeover' | 'resize' | 'barrier' | 'mode' | 'restore';

/** Where the data of a version is. `digest` is the SHA-256 of all its bytes, `crc32` their CRC-32. */
export type VersionPayload =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'segment';
      readonly number: SegmentNumber;
      readonly headerBytes: ByteCount;
      readonly objectBytes: ByteCount;
      readonly crc32: number;
      readonly digest: Buffer;
    }
  /** A segment image (number 0) of `bytes` bytes in the version item itself. */
  | { readonly kind: 'inline'; readonly bytes: ByteCount; readonly crc32: number; readonly digest: Buffer }
  /** A run with a version part, at `key`. */
  | {
      readonly kind: 'manifest';
      readonly key: string;
      readonly headerBytes: ByteCount;
      readonly objectBytes: ByteCount;
      readonly crc32: number;
      readonly digest: Buffer;
    };

/** One version as the log holds it; immutable, and the same bytes at every attempt to put it. */
export interface VersionRecord {
  readonly volume: string;
  readonly n: VersionNumber;
  readonly epoch: Epoch;
  readonly kind: VersionKind;
  readonly payload: VersionPayload;
  /** The local log this version was written from; '' when none stands behind it. */
  readonly logId: string;
  /** The version is the volume after this write of that log; 0 for a takeover. */
  readonly throughSeq: WriteSeq;
  /** Blocks written (unmapped ones do not count). */
  readonly blocks: BlockCount;
  /** Bytes of the payload as stored. */
  readonly bytes: ByteCount;
  readonly newestWriteAt: WallMillis;
  readonly sealedAt: WallMillis;
  readonly volumeBytes: ByteCount;
}

/** The chain before version 1. */
export const EMPTY_CHAIN: Buffer = Buffer.alloc(HASH_BYTES);
/** No record is longer. */
export const MAX_RECORD_BYTES = 640;

const WHAT = 'version record';
const MAGIC = 'FSVR';
const FORMAT = 1;
const LENGTH_AT = 8;
const DIGEST_AT = 16;
const FIXED_BYTES = 128;
const KEY_PATTERN = /^[A-Za-z0-9._/-]{1,255}$/;
const KINDS: Readonly<Record<VersionKind, number>> = {
  write: 1,
  takeover: 2,
  resize: 3,
  barrier: 4,
  mode: 5,
  restore: 6,
};
const KIND_BY_CODE = new Map(Object.entries(KINDS).map(([kind, code]) => [code, kind as VersionKind]));
const PAYLOADS: Readonly<Record<VersionPayload['kind'], number>> = { none: 0, segment: 1, inline: 2, manifest: 3 };

/** Canonical bytes: equal records have equal bytes and the other way round. */
export function encodeRecord(record: VersionRecord): Buffer {
  const { payload } = record;
  requireId(record.volume, 'volume');
  invariant(LOG_ID_PATTERN.test(record.logId), `log identity '${record.logId}' is an identifier`);
  invariant(record.n >= 1 && record.epoch >= 1, 'versions and epochs count from 1');
  const key = payload.kind === 'manifest' ? payload.key : '';
  invariant(payload.kind !== 'manifest' || KEY_PATTERN.test(key), `manifest key '${key}' is an object key`);
  const size = FIXED_BYTES + textBytes(record.volume) + textBytes(record.logId) + textBytes(key) + 4;
  const writer = new ByteWriter(size);
  writer.raw(Buffer.from(MAGIC, 'latin1')).u16(FORMAT).u16(0).u16(size);
  writer.u8(KINDS[record.kind]).u8(PAYLOADS[payload.kind]);
  writer.u32(payload.kind === 'none' ? 0 : payload.crc32).raw(digestOf(payload));
  writer.u64(record.n).u64(record.epoch).u64(record.throughSeq).u64(record.blocks).u64(record.bytes);
  writer.u64(record.newestWriteAt).u64(record.sealedAt).u64(record.volumeBytes);
  writer.u64(payload.kind === 'segment' ? payload.number : 0);
  writer.u32(payload.kind === 'segment' || payload.kind === 'manifest' ? payload.headerBytes : 0);
  writer.u32(payload.kind === 'none' ? 0 : payload.kind === 'inline' ? payload.bytes : payload.objectBytes);
  writer.text(record.volume).text(record.logId).text(key);
  writer.u32(crc32(writer.bytes.subarray(0, writer.position)));
  const bytes = writer.done();
  invariant(decodeProblem(bytes) === undefined, `a version record can be read back: ${decodeProblem(bytes) ?? ''}`);
  return bytes;
}

function digestOf(payload: VersionPayload): Buffer {
  if (payload.kind === 'none') return EMPTY_CHAIN;
  invariant(payload.digest.length === HASH_BYTES, 'a payload digest is a SHA-256');
  return payload.digest;
}

function decodeProblem(bytes: Buffer): string | undefined {
  try {
    decodeRecord(bytes);
    return undefined;
  } catch (error) {
    return String(error);
  }
}

/** Rejects by `damaged`; unknown formats, kinds and flags are refused. */
export function decodeRecord(bytes: Buffer): VersionRecord {
  const reader = openRecord(bytes);
  const kindCode = reader.u8('kind');
  const kind = KIND_BY_CODE.get(kindCode);
  if (kind === undefined) throw damaged(WHAT, `unknown kind ${kindCode} at byte 10`);
  const payloadCode = reader.u8('payload kind');
  const payloadCrc = reader.u32('payload CRC');
  const digest = reader.copy(HASH_BYTES, 'payload digest');
  const n = reader.u64('n');
  const epoch = reader.u64('epoch');
  const throughSeq = reader.u64('last write sequence');
  const blocks = reader.u64('blocks');
  const storedBytes = reader.u64('bytes');
  const newestWriteAt = reader.u64('time of the newest write');
  const sealedAt = reader.u64('time of sealing');
  const volumeBytes = reader.u64('size of the volume');
  const number = reader.u64('segment number');
  const headerBytes = reader.u32('header bytes');
  const objectBytes = reader.u32('object bytes');
  const volume = reader.text('volume', ID_PATTERN);
  const logId = reader.text('log identity', LOG_ID_PATTERN);
  const key = reader.text('manifest key', /^[A-Za-z0-9._/-]*$/);
  reader.finish();
  reader.check(n >= 1 && epoch >= 1, `n ${n} and epoch ${epoch} count from 1`);
  reader.check(kind !== 'takeover' || payloadCode === PAYLOADS.none, 'a takeover has no payload');
  const parts = { payloadCode, payloadCrc, digest, number, headerBytes, objectBytes, key };
  const payload = payloadOf(parts);
  return {
    volume,
    n,
    epoch,
    kind,
    payload,
    logId,
    throughSeq,
    blocks,
    bytes: storedBytes,
    newestWriteAt,
    sealedAt,
    volumeBytes,
  };
}

/** Checks magic, format, length and CRC; the reader stands at byte 10. */
function openRecord(bytes: Buffer): ByteReader {
  if (bytes.length < FIXED_BYTES + 4 || bytes.length > MAX_RECORD_BYTES) {
    throw damaged(WHAT, `no version record has ${bytes.length} bytes`);
  }
  if (bytes.toString('latin1', 0, 4) !== MAGIC) throw damaged(WHAT, `it does not start with ${MAGIC}`);
  const format = bytes.readUInt16LE(4);
  if (format !== FORMAT) throw damaged(WHAT, `format ${format} is unknown; this release reads format ${FORMAT}`);
  if (bytes.readUInt16LE(6) !== 0) throw damaged(WHAT, `unknown flags ${bytes.readUInt16LE(6)} at byte 6`);
  if (bytes.readUInt16LE(LENGTH_AT) !== bytes.length) {
    throw damaged(WHAT, `it has ${bytes.length} bytes instead of ${bytes.readUInt16LE(LENGTH_AT)}`);
  }
  const end = bytes.length - 4;
  if (bytes.readUInt32LE(end) !== crc32(bytes.subarray(0, end))) {
    throw damaged(WHAT, `its CRC-32 at byte ${end} does not match`);
  }
  return new ByteReader(bytes, WHAT, 10, end);
}

interface PayloadParts {
  readonly payloadCode: number;
  readonly payloadCrc: number;
  readonly digest: Buffer;
  readonly number: number;
  readonly headerBytes: number;
  readonly objectBytes: number;
  readonly key: string;
}

/** Fields that a payload kind does not use are zero: otherwise one record had several encodings. */
function payloadOf(parts: PayloadParts): VersionPayload {
  const { payloadCrc, digest, number, headerBytes, objectBytes, key } = parts;
  const require = (condition: boolean, detail: string): void => {
    if (!condition) throw damaged(WHAT, detail);
  };
  switch (parts.payloadCode) {
    case PAYLOADS.none:
      require(payloadCrc === 0 && digest.equals(EMPTY_CHAIN), 'a digest of a payload that is not there');
      require(number === 0 && headerBytes === 0 && objectBytes === 0 && key === '', 'a payload of no kind');
      return { kind: 'none' };
    case PAYLOADS.segment:
      require(number >= 1 && number <= MAX_SEGMENT_NUMBER && key === '', `segment number ${number}`);
      require(headerBytes >= 1 && headerBytes <= objectBytes, `header of ${headerBytes} in ${objectBytes} bytes`);
      return { kind: 'segment', number, headerBytes, objectBytes, crc32: payloadCrc, digest };
    case PAYLOADS.inline:
      require(number === 0 && headerBytes === 0 && objectBytes >= 1 && key === '', 'inline bytes that are elsewhere');
      return { kind: 'inline', bytes: objectBytes, crc32: payloadCrc, digest };
    case PAYLOADS.manifest:
      require(number === 0 && key !== '', 'a manifest without a key');
      require(headerBytes >= 1 && headerBytes <= objectBytes, `header of ${headerBytes} in ${objectBytes} bytes`);
      return { kind: 'manifest', key, headerBytes, objectBytes, crc32: payloadCrc, digest };
    default:
      throw damaged(WHAT, `unknown payload kind ${parts.payloadCode} at byte 11`);
  }
}

/** The records in a concatenation of them, each with its bytes. Anything else in it is `damaged`. */
export function splitRecords(bytes: Buffer): { readonly bytes: Buffer; readonly record: VersionRecord }[] {
  const records: { readonly bytes: Buffer; readonly record: VersionRecord }[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < FIXED_BYTES) throw damaged(WHAT, `${bytes.length - at} bytes after the last one`);
    const length = bytes.readUInt16LE(at + LENGTH_AT);
    const one = bytes.subarray(at, at + length);
    records.push({ bytes: one, record: decodeRecord(one) });
    at += length;
  }
  return records;
}

/** sha256(previous chain ‖ payload digest, zeros when there is no payload ‖ record). `record` must be a valid encoding. */
export function chainAfter(previousChain: Buffer, record: Buffer): Buffer {
  invariant(previousChain.length === HASH_BYTES, 'a chain value is a SHA-256');
  openRecord(record);
  const digest = record.subarray(DIGEST_AT, DIGEST_AT + HASH_BYTES);
  return createHash('sha256').update(previousChain).update(digest).update(record).digest();
}
