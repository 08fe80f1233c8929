import { NO_TAG, RESPONSE } from './constants.ts';

/** StatSN, ExpCmdSN and MaxCmdSN as they go into bytes 24 to 35 (RFC 7143 11.4.8 - 11.4.10). */
export interface Sequence {
  readonly statSn: number;
  readonly expCmdSn: number;
  readonly maxCmdSn: number;
}

/** Overflow or underflow of the transfer, or neither (RFC 7143 11.4.5). */
export interface Residual {
  readonly kind: 'none' | 'overflow' | 'underflow';
  readonly bytes: number;
}

export const NO_RESIDUAL: Residual = { kind: 'none', bytes: 0 };

const OVERFLOW = 0x04;
const UNDERFLOW = 0x02;

function residualFlags(residual: Residual): number {
  return residual.kind === 'none' ? 0 : residual.kind === 'overflow' ? OVERFLOW : UNDERFLOW;
}

/** Every encoder writes a whole basic header segment of 48 bytes at `at`; the digests and the data are the sender's. */
function start(into: Buffer, at: number, opcode: number, flags: number, dataBytes: number): void {
  into.fill(0, at, at + 48);
  into[at] = opcode;
  into[at + 1] = flags;
  into.writeUInt32BE(dataBytes, at + 4); // TotalAHSLength is 0
}

function writeSequence(into: Buffer, at: number, sequence: Sequence): void {
  into.writeUInt32BE(sequence.statSn, at + 24);
  into.writeUInt32BE(sequence.expCmdSn, at + 28);
  into.writeUInt32BE(sequence.maxCmdSn, at + 32);
}

export interface ScsiResponse {
  readonly initiatorTaskTag: number;
  readonly status: number;
  /** Data-In PDUs and R2Ts sent for the command. */
  readonly expDataSn: number;
  readonly residual: Residual;
  /** Length of the data segment: sense with its length in front. */
  readonly dataBytes: number;
}

/** RFC 7143 11.4: SCSI Response, "command completed at target". */
export function encodeScsiResponse(into: Buffer, at: number, response: ScsiResponse, sequence: Sequence): void {
  start(into, at, RESPONSE.scsiResponse, 0x80 | residualFlags(response.residual), response.dataBytes);
  into[at + 3] = response.status;
  into.writeUInt32BE(response.initiatorTaskTag, at + 16);
  writeSequence(into, at, sequence);
  into.writeUInt32BE(response.expDataSn, at + 36);
  into.writeUInt32BE(response.residual.bytes, at + 44);
}

export interface DataIn {
  readonly initiatorTaskTag: number;
  readonly final: boolean;
  /** The GOOD status travels with the last PDU; StatSN is reserved without it. */
  readonly status: boolean;
  readonly dataSn: number;
  readonly bufferOffset: number;
  readonly dataBytes: number;
  readonly residual: Residual;
}

/** RFC 7143 11.7: SCSI Data-In. */
export function encodeDataIn(into: Buffer, at: number, data: DataIn, sequence: Sequence): void {
  const flags = (data.final ? 0x80 : 0) | (data.status ? 0x01 | residualFlags(data.residual) : 0);
  start(into, at, RESPONSE.dataIn, flags, data.dataBytes);
  into.writeUInt32BE(data.initiatorTaskTag, at + 16);
  into.writeUInt32BE(NO_TAG, at + 20);
  writeSequence(into, at, sequence);
  if (!data.status) into.writeUInt32BE(0, at + 24);
  into.writeUInt32BE(data.dataSn, at + 36);
  into.writeUInt32BE(data.bufferOffset, at + 40);
  into.writeUInt32BE(data.residual.bytes, at + 44);
}

export interface ReadyToTransfer {
  readonly lun: number;
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly r2tSn: number;
  readonly bufferOffset: number;
  readonly desiredBytes: number;
}

/** RFC 7143 11.8: Ready To Transfer. StatSN is the next one, and not used up. */
export function encodeReadyToTransfer(into: Buffer, at: number, r2t: ReadyToTransfer, sequence: Sequence): void {
  start(into, at, RESPONSE.readyToTransfer, 0x80, 0);
  into.writeUInt16BE(r2t.lun, at + 8);
  into.writeUInt32BE(r2t.initiatorTaskTag, at + 16);
  into.writeUInt32BE(r2t.targetTransferTag, at + 20);
  writeSequence(into, at, sequence);
  into.writeUInt32BE(r2t.r2tSn, at + 36);
  into.writeUInt32BE(r2t.bufferOffset, at + 40);
  into.writeUInt32BE(r2t.desiredBytes, at + 44);
}

/** RFC 7143 11.6: Task Management Function Response. */
export function encodeTaskManagementResponse(
  into: Buffer,
  at: number,
  response: { readonly initiatorTaskTag: number; readonly response: number },
  sequence: Sequence,
): void {
  start(into, at, RESPONSE.taskManagement, 0x80, 0);
  into[at + 2] = response.response;
  into.writeUInt32BE(response.initiatorTaskTag, at + 16);
  writeSequence(into, at, sequence);
}

export interface LoginResponse {
  readonly transit: boolean;
  readonly continued: boolean;
  readonly currentStage: number;
  readonly nextStage: number;
  /** 12 hexadecimal digits. */
  readonly isid: string;
  readonly tsih: number;
  readonly initiatorTaskTag: number;
  /** Status class and detail. */
  readonly status: number;
  readonly dataBytes: number;
}

/** RFC 7143 11.13: Login Response. Only version 0 exists. */
export function encodeLoginResponse(into: Buffer, at: number, login: LoginResponse, sequence: Sequence): void {
  const flags =
    (login.transit ? 0x80 : 0) |
    (login.continued ? 0x40 : 0) |
    (login.currentStage << 2) |
    (login.transit ? login.nextStage : 0);
  start(into, at, RESPONSE.login, flags, login.dataBytes);
  into.write(login.isid, at + 8, 'hex');
  into.writeUInt16BE(login.tsih, at + 14);
  into.writeUInt32BE(login.initiatorTaskTag, at + 16);
  writeSequence(into, at, sequence);
  into.writeUInt16BE(login.status, at + 36);
}

export interface TextResponse {
  readonly final: boolean;
  readonly continued: boolean;
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly dataBytes: number;
}

/** RFC 7143 11.11: Text Response. */
export function encodeTextResponse(into: Buffer, at: number, text: TextResponse, sequence: Sequence): void {
  start(into, at, RESPONSE.text, (text.final ? 0x80 : 0) | (text.continued ? 0x40 : 0), text.dataBytes);
  into.writeUInt32BE(text.initiatorTaskTag, at + 16);
  into.writeUInt32BE(text.targetTransferTag, at + 20);
  writeSequence(into, at, sequence);
}

/** RFC 7143 11.15: Logout Response. Time2Wait and Time2Retain are 0: nothing is kept for a connection that is gone. */
export function encodeLogoutResponse(
  into: Buffer,
  at: number,
  logout: { readonly initiatorTaskTag: number; readonly response: number },
  sequence: Sequence,
): void {
  start(into, at, RESPONSE.logout, 0x80, 0);
  into[at + 2] = logout.response;
  into.writeUInt32BE(logout.initiatorTaskTag, at + 16);
  writeSequence(into, at, sequence);
}

export interface NopIn {
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly lun: Buffer | undefined;
  readonly dataBytes: number;
}

/** RFC 7143 11.19: NOP-In. */
export function encodeNopIn(into: Buffer, at: number, nop: NopIn, sequence: Sequence): void {
  start(into, at, RESPONSE.nopIn, 0x80, nop.dataBytes);
  nop.lun?.copy(into, at + 8);
  into.writeUInt32BE(nop.initiatorTaskTag, at + 16);
  into.writeUInt32BE(nop.targetTransferTag, at + 20);
  writeSequence(into, at, sequence);
}

/** RFC 7143 11.9: Asynchronous Message without data. */
export function encodeAsyncMessage(
  into: Buffer,
  at: number,
  message: {
    readonly event: number;
    readonly parameter1: number;
    readonly parameter2: number;
    readonly parameter3: number;
  },
  sequence: Sequence,
): void {
  start(into, at, RESPONSE.asyncMessage, 0x80, 0);
  into.writeUInt32BE(NO_TAG, at + 16);
  writeSequence(into, at, sequence);
  into[at + 36] = message.event;
  into.writeUInt16BE(message.parameter1, at + 38);
  into.writeUInt16BE(message.parameter2, at + 40);
  into.writeUInt16BE(message.parameter3, at + 42);
}

/** RFC 7143 11.17: Reject; its data segment is the header of the offending PDU. */
export function encodeReject(
  into: Buffer,
  at: number,
  reject: { readonly reason: number; readonly dataBytes: number },
  sequence: Sequence,
): void {
  start(into, at, RESPONSE.reject, 0x80, reject.dataBytes);
  into[at + 2] = reject.reason;
  into.writeUInt32BE(NO_TAG, at + 16);
  writeSequence(into, at, sequence);
}
