import { decodeLun } from '../scsi/report-luns.ts';
import { CDB_AT, HEADER_BYTES, REQUEST } from './constants.ts';

/** Fields every initiator PDU has that the session looks at first (RFC 7143 11.2.1). */
interface RequestHeader {
  /** I bit: delivered at once, does not take a CmdSN. */
  readonly immediate: boolean;
  readonly initiatorTaskTag: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
}

/** RFC 7143 11.3. */
export interface ScsiCommandRequest extends RequestHeader {
  readonly kind: 'scsi-command';
  readonly final: boolean;
  readonly read: boolean;
  readonly write: boolean;
  readonly attribute: number;
  readonly lun: number;
  readonly expectedBytes: number;
  /** 16 bytes inside the received buffer. */
  readonly cdb: Buffer;
}

/** RFC 7143 11.5. */
export interface TaskManagementRequest extends RequestHeader {
  readonly kind: 'task-management';
  readonly function: number;
  readonly lun: number;
  readonly referencedTaskTag: number;
  readonly refCmdSn: number;
}

/** RFC 7143 11.7. It has no CmdSN. */
export interface DataOutRequest {
  readonly kind: 'data-out';
  readonly final: boolean;
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly expStatSn: number;
  readonly dataSn: number;
  readonly bufferOffset: number;
}

/** RFC 7143 11.10. */
export interface TextRequest extends RequestHeader {
  readonly kind: 'text';
  readonly final: boolean;
  readonly continued: boolean;
  readonly targetTransferTag: number;
}

/** RFC 7143 11.12. */
export interface LoginRequest extends RequestHeader {
  readonly kind: 'login';
  readonly transit: boolean;
  readonly continued: boolean;
  readonly currentStage: number;
  readonly nextStage: number;
  readonly versionMax: number;
  readonly versionMin: number;
  /** 6 bytes as 12 hexadecimal digits. */
  readonly isid: string;
  readonly tsih: number;
  readonly connectionId: number;
}

/** RFC 7143 11.14. */
export interface LogoutRequest extends RequestHeader {
  readonly kind: 'logout';
  readonly reason: number;
  readonly connectionId: number;
}

/** RFC 7143 11.18. */
export interface NopOutRequest extends RequestHeader {
  readonly kind: 'nop-out';
  readonly lun: Buffer;
  readonly targetTransferTag: number;
}

/** RFC 7143 11.16: only for error recovery levels above ours. */
export interface SnackRequest extends RequestHeader {
  readonly kind: 'snack';
}

export interface UnknownRequest extends RequestHeader {
  readonly kind: 'unknown';
  readonly opcode: number;
}

export type Request =
  | ScsiCommandRequest
  | TaskManagementRequest
  | DataOutRequest
  | TextRequest
  | LoginRequest
  | LogoutRequest
  | NopOutRequest
  | SnackRequest
  | UnknownRequest;

/** Opcode of a header (RFC 7143 11.2.1.2). */
export function opcodeOf(header: Buffer): number {
  return header.readUInt8(0) & 0x3f;
}

/** CmdSN of a request that has one (RFC 7143 11.2.1). */
export function cmdSnOf(header: Buffer): number {
  return header.readUInt32BE(24);
}

/** Length of the data segment without padding (RFC 7143 11.2.1.6). */
export function dataLengthOf(header: Buffer, at: number): number {
  return header.readUInt32BE(at + 4) & 0x00ff_ffff;
}

/** Length of the additional header segments in bytes (RFC 7143 11.2.1.5). */
export function additionalHeaderBytes(header: Buffer, at: number): number {
  return header.readUInt8(at + 4) * 4;
}

/**
 * Whether the header is that of a SCSI Command that is not immediate, reads and does not write, is complete and asks for no order (RFC 7143
 * 11.3.1: untagged or SIMPLE).
 */
export function isSimpleRead(header: Buffer): boolean {
  return isSimple(header, 0xc0);
}

/** As `isSimpleRead`, but it writes and does not read, and no Data-Out PDU follows that was not asked for. */
export function isSimpleWrite(header: Buffer): boolean {
  return isSimple(header, 0xa0);
}

/** `finalReadWrite`: the F, R and W bits. */
function isSimple(header: Buffer, finalReadWrite: number): boolean {
  const flags = header[1] ?? 0;
  return header[0] === REQUEST.scsiCommand && (flags & 0xe0) === finalReadWrite && (flags & 0x07) <= 1;
}

/** Decodes a basic header segment; `header` has 48 bytes. Any 48 bytes decode to something. */
export function decodeRequest(header: Buffer): Request {
  switch (opcodeOf(header)) {
    case REQUEST.scsiCommand:
      return decodeScsiCommand(header);
    case REQUEST.dataOut:
      return decodeDataOut(header);
    case REQUEST.nopOut:
      return decodeNopOut(header);
    case REQUEST.taskManagement:
      return decodeTaskManagement(header);
    case REQUEST.login:
      return decodeLogin(header);
    case REQUEST.text:
      return decodeText(header);
    case REQUEST.logout:
      return decodeLogout(header);
    case REQUEST.snack:
      return { kind: 'snack', ...common(header) };
    default:
      return { kind: 'unknown', opcode: opcodeOf(header), ...common(header) };
  }
}

/** RFC 7143 11.3: SCSI Command. */
export function decodeScsiCommand(header: Buffer): ScsiCommandRequest {
  const flags = header.readUInt8(1);
  return {
    kind: 'scsi-command',
    immediate: isImmediate(header),
    final: (flags & 0x80) !== 0,
    read: (flags & 0x40) !== 0,
    write: (flags & 0x20) !== 0,
    attribute: flags & 0x07,
    lun: decodeLun(header, 8),
    initiatorTaskTag: header.readUInt32BE(16),
    expectedBytes: header.readUInt32BE(20),
    cmdSn: header.readUInt32BE(24),
    expStatSn: header.readUInt32BE(28),
    cdb: header.subarray(CDB_AT, HEADER_BYTES),
  };
}

/** RFC 7143 11.5: Task Management Function Request. */
export function decodeTaskManagement(header: Buffer): TaskManagementRequest {
  return {
    kind: 'task-management',
    immediate: isImmediate(header),
    function: header.readUInt8(1) & 0x7f,
    lun: decodeLun(header, 8),
    initiatorTaskTag: header.readUInt32BE(16),
    referencedTaskTag: header.readUInt32BE(20),
    cmdSn: header.readUInt32BE(24),
    expStatSn: header.readUInt32BE(28),
    refCmdSn: header.readUInt32BE(32),
  };
}

/** RFC 7143 11.7: SCSI Data-Out. The LUN field is not looked at: some initiators leave it empty. */
export function decodeDataOut(header: Buffer): DataOutRequest {
  return {
    kind: 'data-out',
    final: (header.readUInt8(1) & 0x80) !== 0,
    initiatorTaskTag: header.readUInt32BE(16),
    targetTransferTag: header.readUInt32BE(20),
    expStatSn: header.readUInt32BE(28),
    dataSn: header.readUInt32BE(36),
    bufferOffset: header.readUInt32BE(40),
  };
}

/** RFC 7143 11.10: Text Request. */
export function decodeText(header: Buffer): TextRequest {
  return {
    kind: 'text',
    ...common(header),
    final: (header.readUInt8(1) & 0x80) !== 0,
    continued: (header.readUInt8(1) & 0x40) !== 0,
    targetTransferTag: header.readUInt32BE(20),
  };
}

/** RFC 7143 11.12: Login Request. */
export function decodeLogin(header: Buffer): LoginRequest {
  const flags = header.readUInt8(1);
  return {
    kind: 'login',
    ...common(header),
    transit: (flags & 0x80) !== 0,
    continued: (flags & 0x40) !== 0,
    currentStage: (flags >> 2) & 0x03,
    nextStage: flags & 0x03,
    versionMax: header.readUInt8(2),
    versionMin: header.readUInt8(3),
    isid: header.toString('hex', 8, 14),
    tsih: header.readUInt16BE(14),
    connectionId: header.readUInt16BE(20),
  };
}

/** RFC 7143 11.14: Logout Request. */
export function decodeLogout(header: Buffer): LogoutRequest {
  return {
    kind: 'logout',
    ...common(header),
    reason: header.readUInt8(1) & 0x7f,
    connectionId: header.readUInt16BE(20),
  };
}

/** RFC 7143 11.18: NOP-Out. */
export function decodeNopOut(header: Buffer): NopOutRequest {
  return {
    kind: 'nop-out',
    ...common(header),
    lun: header.subarray(8, 16),
    targetTransferTag: header.readUInt32BE(20),
  };
}

function common(header: Buffer): RequestHeader {
  return {
    immediate: isImmediate(header),
    initiatorTaskTag: header.readUInt32BE(16),
    cmdSn: header.readUInt32BE(24),
    expStatSn: header.readUInt32BE(28),
  };
}

function isImmediate(header: Buffer): boolean {
  return (header.readUInt8(0) & 0x40) !== 0;
}
