import { crc32c } from '@node-rs/crc32';

/** PDUs of a target, built field by field from RFC 7143 section 11, without the code under test. */
export interface PduFields {
  readonly opcode: number;
  /** Byte 1. */
  readonly flags?: number;
  /** Further single bytes by offset. */
  readonly bytes?: Readonly<Record<number, number>>;
  /** 32-bit words by offset. */
  readonly words?: Readonly<Record<number, number>>;
  readonly data?: Buffer;
}

export function pdu(fields: PduFields, digests: { readonly header?: boolean; readonly data?: boolean } = {}): Buffer {
  const header: Buffer = Buffer.alloc(48);
  header[0] = fields.opcode;
  header[1] = fields.flags ?? 0x80;
  const data = fields.data ?? Buffer.alloc(0);
  header.writeUIntBE(data.length, 5, 3);
  for (const [offset, byte] of Object.entries(fields.bytes ?? {})) header[Number(offset)] = byte;
  for (const [offset, word] of Object.entries(fields.words ?? {})) header.writeUInt32BE(word, Number(offset));
  const padded = Buffer.concat([data, Buffer.alloc((4 - (data.length % 4)) % 4)]);
  const pieces: Buffer[] = [header];
  if (digests.header === true) pieces.push(digestOf(header));
  pieces.push(padded);
  if (digests.data === true && data.length > 0) pieces.push(digestOf(padded));
  return Buffer.concat(pieces);
}

function digestOf(bytes: Buffer): Buffer {
  const digest = Buffer.alloc(4);
  digest.writeUInt32LE(crc32c(bytes));
  return digest;
}
