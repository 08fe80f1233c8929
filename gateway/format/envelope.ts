import { crc32 } from '../base/crc32.ts';
import { invariant } from '../base/errors.ts';
import { ByteReader, damaged } from './bytes.ts';

/**
 * Every object in S3 begins with the same 24 bytes: magic (4), format (2), flags (2), bytes of the header (4), bytes of the object (4),
 * CRC-32 of everything after the header (4), CRC-32 of the header but for this field (4).
 */
export const ENVELOPE_BYTES = 24;
/** A good size for a first ranged GET of a header whose length is not known yet. */
export const FIRST_READ_BYTES = 64 * 1024;
const FORMAT = 1;
const HEADER_CRC_AT = 20;

export interface ObjectKind {
  /** For messages. */
  readonly what: string;
  /** Four ASCII letters. */
  readonly magic: string;
  readonly maxHeaderBytes: number;
  readonly maxObjectBytes: number;
}

/** Answer of a decoder that was given too few bytes of an object: at least this many are needed. */
export interface NeedBytes {
  readonly needBytes: number;
}

export interface Envelope {
  /** Stands after the envelope and ends with the header. */
  readonly reader: ByteReader;
  readonly headerBytes: number;
  readonly objectBytes: number;
  readonly bodyCrc: number;
}

/** Checks the envelope and the header's CRC, given the first bytes of an object. */
export function openEnvelope(prefix: Buffer, kind: ObjectKind): Envelope | NeedBytes {
  const { what } = kind;
  if (prefix.length < ENVELOPE_BYTES) return { needBytes: ENVELOPE_BYTES };
  if (prefix.toString('latin1', 0, 4) !== kind.magic) throw damaged(what, `it does not start with ${kind.magic}`);
  const format = prefix.readUInt16LE(4);
  if (format !== FORMAT) throw damaged(what, `format ${format} is unknown; this release reads format ${FORMAT}`);
  const flags = prefix.readUInt16LE(6);
  if (flags !== 0) throw damaged(what, `unknown flags ${flags} at byte 6`);
  const headerBytes = prefix.readUInt32LE(8);
  if (headerBytes < ENVELOPE_BYTES || headerBytes > kind.maxHeaderBytes) {
    throw damaged(what, `a header of ${headerBytes} bytes at byte 8`);
  }
  const objectBytes = prefix.readUInt32LE(12);
  if (objectBytes < headerBytes || objectBytes > kind.maxObjectBytes) {
    throw damaged(what, `an object of ${objectBytes} bytes at byte 12`);
  }
  if (prefix.length < headerBytes) return { needBytes: headerBytes };
  if (prefix.length > objectBytes) throw damaged(what, `it has ${prefix.length} bytes instead of ${objectBytes}`);
  if (prefix.readUInt32LE(HEADER_CRC_AT) !== headerCrc(prefix, headerBytes)) {
    throw damaged(what, `the CRC-32 of its header at byte ${HEADER_CRC_AT} does not match`);
  }
  const reader = new ByteReader(prefix, what, ENVELOPE_BYTES, headerBytes);
  return { reader, headerBytes, objectBytes, bodyCrc: prefix.readUInt32LE(16) };
}

/** As openEnvelope for a whole object, whose body must match its CRC too. */
export function openWhole(bytes: Buffer, kind: ObjectKind): Envelope {
  const envelope = openEnvelope(bytes, kind);
  if ('needBytes' in envelope) throw truncated(kind.what, bytes.length, envelope);
  if (bytes.length !== envelope.objectBytes) {
    throw damaged(kind.what, `it has ${bytes.length} bytes instead of ${envelope.objectBytes}`);
  }
  if (crc32(bytes.subarray(envelope.headerBytes)) !== envelope.bodyCrc) {
    throw damaged(kind.what, 'the CRC-32 of its body at byte 16 does not match');
  }
  return envelope;
}

export function truncated(what: string, bytes: number, need: NeedBytes): Error {
  return damaged(what, `it ends after ${bytes} bytes and needs at least ${need.needBytes}`);
}

/** Fills in the envelope of a header whose other bytes are final. */
export function sealEnvelope(header: Buffer, kind: ObjectKind, objectBytes: number, bodyCrc: number): void {
  invariant(header.length <= kind.maxHeaderBytes, `the header of a ${kind.what} keeps its limit`);
  invariant(objectBytes <= kind.maxObjectBytes, `a ${kind.what} of ${objectBytes} bytes keeps its limit`);
  header.write(kind.magic, 0, 'latin1');
  header.writeUInt16LE(FORMAT, 4);
  header.writeUInt16LE(0, 6);
  header.writeUInt32LE(header.length, 8);
  header.writeUInt32LE(objectBytes, 12);
  header.writeUInt32LE(bodyCrc, 16);
  header.writeUInt32LE(headerCrc(header, header.length), HEADER_CRC_AT);
}

function headerCrc(bytes: Buffer, headerBytes: number): number {
  return crc32(bytes.subarray(ENVELOPE_BYTES, headerBytes), crc32(bytes.subarray(0, HEADER_CRC_AT)));
}
