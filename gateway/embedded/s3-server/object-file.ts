import { crc32 } from '../../base/crc32.ts';
import type { FileHandle } from 'node:fs/promises';
import { isChecksumAlgorithm } from './checksums.ts';
import type { Checksums } from './checksums.ts';

/**
 * One file per object: the data, then the metadata as JSON, then 16 bytes: magic, length and CRC-32 of the JSON. Data and metadata become
 * visible in one rename, so a torn pair cannot exist; data first, so that its offsets are those of the object.
 */
export interface ObjectMeta {
  readonly key: string;
  readonly bytes: number;
  /** Without quotes. */
  readonly etag: string;
  readonly modifiedAt: number;
  readonly checksums: Checksums;
  /** Content-Type, Cache-Control, … as sent, lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** x-amz-meta-…, without the prefix. */
  readonly user: Readonly<Record<string, string>>;
}

const MAGIC = Buffer.from('FSOBJ01\n', 'latin1');
const TRAILER_BYTES = 16;
/** Read in one go; longer metadata takes a second read. */
const TAIL_BYTES = 2048;
const MAX_META_BYTES = 64 * 1024;

export function encodeTail(meta: ObjectMeta): Buffer {
  const json = Buffer.from(JSON.stringify(meta), 'utf8');
  const trailer = Buffer.alloc(TRAILER_BYTES);
  MAGIC.copy(trailer);
  trailer.writeUInt32BE(json.length, 8);
  trailer.writeUInt32BE(crc32(json), 12);
  return Buffer.concat([json, trailer]);
}

/** Reads the metadata of an open object file. Throws when the file is not one, or damaged. */
export async function readMeta(file: FileHandle): Promise<ObjectMeta> {
  const { size } = await file.stat();
  let tail = await readTail(file, size, TAIL_BYTES);
  const trailer = tail.subarray(tail.length - TRAILER_BYTES);
  if (trailer.length < TRAILER_BYTES || !trailer.subarray(0, 8).equals(MAGIC)) throw new Error('it has no trailer');
  const jsonBytes = trailer.readUInt32BE(8);
  if (jsonBytes > MAX_META_BYTES) throw new Error('its trailer is damaged');
  if (jsonBytes + TRAILER_BYTES > tail.length) tail = await readTail(file, size, jsonBytes + TRAILER_BYTES);
  const json = tail.subarray(tail.length - TRAILER_BYTES - jsonBytes, tail.length - TRAILER_BYTES);
  if (json.length !== jsonBytes || crc32(json) !== trailer.readUInt32BE(12)) throw new Error('its metadata is damaged');
  const meta = checkMeta(JSON.parse(json.toString('utf8')));
  if (meta.bytes !== size - jsonBytes - TRAILER_BYTES) throw new Error('its length is not what its metadata says');
  return meta;
}

async function readTail(file: FileHandle, size: number, bytes: number): Promise<Buffer> {
  const length = Math.min(size, bytes);
  const tail = Buffer.alloc(length);
  const { bytesRead } = await file.read(tail, 0, length, size - length);
  return tail.subarray(0, bytesRead);
}

function checkMeta(value: unknown): ObjectMeta {
  if (typeof value !== 'object' || value === null) throw new Error('its metadata is no object');
  const at = (name: string): unknown => Reflect.get(value, name);
  const [key, bytes, etag, modifiedAt] = [at('key'), at('bytes'), at('etag'), at('modifiedAt')];
  if (
    typeof key !== 'string' ||
    typeof bytes !== 'number' ||
    typeof etag !== 'string' ||
    typeof modifiedAt !== 'number'
  )
    throw new Error('its metadata is incomplete');
  const checksums: Checksums = {};
  for (const [name, digest] of Object.entries(strings(at('checksums'))))
    if (isChecksumAlgorithm(name)) checksums[name] = digest;
  return { key, bytes, etag, modifiedAt, checksums, headers: strings(at('headers')), user: strings(at('user')) };
}

function strings(value: unknown): Record<string, string> {
  if (typeof value !== 'object' || value === null) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
