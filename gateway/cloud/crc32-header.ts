import { invariant } from '../base/errors.ts';

/** The form of x-amz-checksum-crc32: base64 of the four bytes, big-endian. */
export function encodeCrc32(crc32: number): string {
  invariant(Number.isInteger(crc32) && crc32 >= 0 && crc32 <= 0xffff_ffff, `${crc32} is a CRC-32`);
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc32);
  return bytes.toString('base64');
}

/** undefined for anything else, as the composite checksum of a multipart upload. */
export function decodeCrc32(header: string | undefined): number | undefined {
  if (header === undefined || !/^[A-Za-z0-9+/]{6}==$/.test(header)) return undefined;
  return Buffer.from(header, 'base64').readUInt32BE();
}
