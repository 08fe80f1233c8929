import { invariant } from '../../gateway/base/errors.ts';

/**
 * iSCSI PDUs as the tests see them, written from RFC 7143 and apart from the gateway's own encoders and decoders:
 * requests are built here, responses taken apart here.
 */

export interface RequestFields {
  readonly opcode: number;
  readonly immediate?: boolean;
  /** Byte 1. */
  readonly flags?: number;
  /** Bytes 2 and 3. */
  readonly byte2?: number;
  readonly byte3?: number;
  readonly lun?: number;
  readonly itt?: number;
  /** Word 20-23: TTT, EDTL, RTT or CID, by the opcode. */
  readonly word20?: number;
  readonly cmdSn?: number;
  readonly expStatSn?: number;
  readonly word32?: number;
  readonly word36?: number;
  readonly word40?: number;
  readonly word44?: number;
  readonly data?: Buffer;
  readonly ahs?: Buffer;
}

const NOTHING = Buffer.alloc(0);

/** A request PDU without digests. */
export function buildRequest(fields: RequestFields): Buffer {
  const data = fields.data ?? NOTHING;
  const ahs = fields.ahs ?? NOTHING;
  const bhs = Buffer.alloc(48);
  bhs.writeUInt8(fields.opcode | (fields.immediate === true ? 0x40 : 0), 0);
  bhs.writeUInt8(fields.flags ?? 0x80, 1);
  bhs.writeUInt8(fields.byte2 ?? 0, 2);
  bhs.writeUInt8(fields.byte3 ?? 0, 3);
  bhs.writeUInt32BE(data.length, 4);
  bhs.writeUInt8(ahs.length / 4, 4);
  bhs.writeUInt16BE(fields.lun ?? 0, 8);
  bhs.writeUInt32BE(fields.itt ?? 0, 16);
  bhs.writeUInt32BE(fields.word20 ?? 0, 20);
  bhs.writeUInt32BE((fields.cmdSn ?? 0) >>> 0, 24);
  bhs.writeUInt32BE(fields.expStatSn ?? 0, 28);
  bhs.writeUInt32BE(fields.word32 ?? 0, 32);
  bhs.writeUInt32BE(fields.word36 ?? 0, 36);
  bhs.writeUInt32BE(fields.word40 ?? 0, 40);
  bhs.writeUInt32BE(fields.word44 ?? 0, 44);
  return Buffer.concat([bhs, ahs, data, Buffer.alloc(-data.length & 3)]);
}

/** Inserts header and data digests into a PDU made by buildRequest. */
export function withDigests(pdu: Buffer, digests: { readonly header: boolean; readonly data: boolean }): Buffer {
  const headerEnd = 48 + pdu.readUInt8(4) * 4;
  const header = pdu.subarray(0, headerEnd);
  const data = pdu.subarray(headerEnd);
  return Buffer.concat([
    header,
    digests.header ? crcBytes(header) : NOTHING,
    data,
    digests.data && data.length > 0 ? crcBytes(data) : NOTHING,
  ]);
}

/** CRC-32C bit by bit, least significant byte first. */
export function crcBytes(bytes: Buffer): Buffer {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  const result = Buffer.alloc(4);
  result.writeUInt32LE(~crc >>> 0);
  return result;
}

export interface LoginFields {
  readonly transit?: boolean;
  readonly continued?: boolean;
  readonly csg?: number;
  readonly nsg?: number;
  readonly isid?: string;
  readonly tsih?: number;
  readonly itt?: number;
  readonly cid?: number;
  readonly cmdSn?: number;
  readonly versionMin?: number;
  readonly keys?: Readonly<Record<string, string>>;
  readonly text?: Buffer;
}

/** Login Request (RFC 7143 11.12). */
export function buildLogin(fields: LoginFields): Buffer {
  const flags =
    (fields.transit === true ? 0x80 : 0) |
    (fields.continued === true ? 0x40 : 0) |
    ((fields.csg ?? 1) << 2) |
    (fields.nsg ?? (fields.transit === true ? 3 : 0));
  const pdu = buildRequest({
    opcode: 0x03,
    immediate: true,
    flags,
    byte3: fields.versionMin ?? 0,
    itt: fields.itt ?? 1,
    word20: (fields.cid ?? 0) << 16,
    cmdSn: fields.cmdSn ?? 0,
    data: fields.text ?? textOf(fields.keys ?? {}),
  });
  pdu.write(fields.isid ?? '00023d000001', 8, 'hex');
  pdu.writeUInt16BE(fields.tsih ?? 0, 14);
  return pdu;
}

export function textOf(keys: Readonly<Record<string, string>>): Buffer {
  return Buffer.from(
    Object.entries(keys)
      .map(([key, value]) => `${key}=${value}\0`)
      .join(''),
  );
}

/** Command descriptor blocks, padded to 16 bytes. */
export function cdb(...bytes: readonly number[]): Buffer {
  const block = Buffer.alloc(16);
  block.set(bytes);
  return block;
}

export function read10(lba: number, blocks: number): Buffer {
  const block = cdb(0x28);
  block.writeUInt32BE(lba, 2);
  block.writeUInt16BE(blocks, 7);
  return block;
}

export function write10(lba: number, blocks: number): Buffer {
  const block = cdb(0x2a);
  block.writeUInt32BE(lba, 2);
  block.writeUInt16BE(blocks, 7);
  return block;
}

export interface CommandFields {
  readonly cdb: Buffer;
  readonly lun?: number;
  readonly itt: number;
  readonly cmdSn: number;
  readonly read?: boolean;
  readonly write?: boolean;
  /** F bit; set unless unsolicited data follows. */
  readonly final?: boolean;
  readonly expectedBytes?: number;
  readonly immediate?: boolean;
  readonly data?: Buffer;
}

/** SCSI Command (RFC 7143 11.3), simple task attribute. */
export function buildCommand(fields: CommandFields): Buffer {
  const pdu = buildRequest({
    opcode: 0x01,
    immediate: fields.immediate ?? false,
    flags:
      (fields.final === false ? 0 : 0x80) | (fields.read === true ? 0x40 : 0) | (fields.write === true ? 0x20 : 0) | 1,
    lun: fields.lun ?? 0,
    itt: fields.itt,
    word20: fields.expectedBytes ?? 0,
    cmdSn: fields.cmdSn,
    ...(fields.data === undefined ? {} : { data: fields.data }),
  });
  fields.cdb.copy(pdu, 32, 0, 16);
  return pdu;
}

export interface DataOutFields {
  readonly itt: number;
  readonly ttt?: number;
  readonly final?: boolean;
  readonly dataSn: number;
  readonly offset: number;
  readonly data: Buffer;
}

/** SCSI Data-Out (RFC 7143 11.7). */
export function buildDataOut(fields: DataOutFields): Buffer {
  return buildRequest({
    opcode: 0x05,
    flags: fields.final === false ? 0 : 0x80,
    itt: fields.itt,
    word20: fields.ttt ?? 0xffff_ffff,
    word36: fields.dataSn,
    word40: fields.offset,
    data: fields.data,
  });
}

/** Task Management Function Request (RFC 7143 11.5), immediate. */
export function buildTaskManagement(fields: {
  readonly function: number;
  readonly itt: number;
  readonly cmdSn: number;
  readonly lun?: number;
  readonly rtt?: number;
  readonly refCmdSn?: number;
}): Buffer {
  return buildRequest({
    opcode: 0x02,
    immediate: true,
    flags: 0x80 | fields.function,
    lun: fields.lun ?? 0,
    itt: fields.itt,
    word20: fields.rtt ?? 0xffff_ffff,
    cmdSn: fields.cmdSn,
    word32: fields.refCmdSn ?? 0,
  });
}

/** A response PDU, with every field at its offset whether the opcode has it or not. */
export interface Response {
  readonly opcode: number;
  readonly flags: number;
  readonly byte2: number;
  readonly byte3: number;
  readonly lun: number;
  readonly isid: string;
  readonly tsih: number;
  readonly itt: number;
  readonly word20: number;
  readonly statSn: number;
  readonly expCmdSn: number;
  readonly maxCmdSn: number;
  readonly word36: number;
  readonly word40: number;
  readonly word44: number;
  readonly data: Buffer;
}

/** Opcodes of responses (RFC 7143 11.2.1.2). */
export const KIND = {
  nopIn: 0x20,
  scsiResponse: 0x21,
  taskManagement: 0x22,
  login: 0x23,
  text: 0x24,
  dataIn: 0x25,
  logout: 0x26,
  r2t: 0x31,
  async: 0x32,
  reject: 0x3f,
} as const;

/** Takes whole response PDUs off a growing byte stream, checking their digests. */
export class ResponseParser {
  #bytes: Buffer = NOTHING;
  digests = { header: false, data: false };

  push(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
  }

  get pendingBytes(): number {
    return this.#bytes.length;
  }

  next(): Response | undefined {
    const bytes = this.#bytes;
    if (bytes.length < 48) return undefined;
    const dataLength = bytes.readUInt32BE(4) & 0xff_ffff;
    const padded = (dataLength + 3) & ~3;
    const headerEnd = 48 + (this.digests.header ? 4 : 0);
    const end = headerEnd + padded + (this.digests.data && dataLength > 0 ? 4 : 0);
    if (bytes.length < end) return undefined;
    if (this.digests.header)
      invariant(crcBytes(bytes.subarray(0, 48)).equals(bytes.subarray(48, 52)), 'the header digest is wrong');
    if (this.digests.data && dataLength > 0) {
      const segment = bytes.subarray(headerEnd, headerEnd + padded);
      invariant(crcBytes(segment).equals(bytes.subarray(end - 4, end)), 'the data digest is wrong');
    }
    this.#bytes = bytes.subarray(end);
    return {
      opcode: bytes.readUInt8(0),
      flags: bytes.readUInt8(1),
      byte2: bytes.readUInt8(2),
      byte3: bytes.readUInt8(3),
      lun: bytes.readUInt16BE(8),
      isid: bytes.toString('hex', 8, 14),
      tsih: bytes.readUInt16BE(14),
      itt: bytes.readUInt32BE(16),
      word20: bytes.readUInt32BE(20),
      statSn: bytes.readUInt32BE(24),
      expCmdSn: bytes.readUInt32BE(28),
      maxCmdSn: bytes.readUInt32BE(32),
      word36: bytes.readUInt32BE(36),
      word40: bytes.readUInt32BE(40),
      word44: bytes.readUInt32BE(44),
      data: Buffer.from(bytes.subarray(headerEnd, headerEnd + dataLength)),
    };
  }
}

/** The keys of a text data segment. */
export function keysOf(data: Buffer): Record<string, string> {
  const keys: Record<string, string> = {};
  for (const part of data.toString().split('\0')) {
    if (part === '') continue;
    const equals = part.indexOf('=');
    keys[part.slice(0, equals)] = part.slice(equals + 1);
  }
  return keys;
}

/** Sense key, ASC and ASCQ of a SCSI Response with fixed format sense. */
export function senseOf(response: Response): { readonly key: number; readonly asc: number; readonly ascq: number } {
  const sense = response.data.subarray(2);
  return { key: sense.readUInt8(2) & 0x0f, asc: sense.readUInt8(12), ascq: sense.readUInt8(13) };
}
