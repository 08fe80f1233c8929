import { crc32 } from './crc32.ts';

/** Eight hexadecimal digits over the JSON text, without white space, of all members before it. */
const MEMBER = 'crc32';

/** A file of the state directory: JSON for people to read, and a last member `crc32` that tells when a bit of it has flipped. */
export function encodeChecked(content: object, indent: 0 | 2 = 2): Buffer {
  const checked = { ...content, [MEMBER]: checksumOf(content) };
  return Buffer.from(`${JSON.stringify(checked, null, indent)}\n`);
}

/**
 * What `encodeChecked` was given. What has no checksum comes from before there were any, and is answered as it is; whether it is what it should be, a strict
 * schema has to say. Throws when it is no JSON, or does not fit its checksum.
 */
export function decodeChecked(content: Buffer): unknown {
  const parsed: unknown = JSON.parse(content.toString('utf8'));
  if (typeof parsed !== 'object' || parsed === null || !(MEMBER in parsed)) return parsed;
  const { [MEMBER]: checksum, ...rest } = parsed;
  if (checksum !== checksumOf(rest)) throw new Error('its checksum does not fit its content');
  return rest;
}

function checksumOf(content: object): string {
  return crc32(Buffer.from(JSON.stringify(content)))
    .toString(16)
    .padStart(8, '0');
}
