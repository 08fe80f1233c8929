/**
 * The bytes of iSCSI as an initiator writes and reads them (RFC 7143 section 11). Written independently of the
 * target's codec on purpose: the two check each other.
 */

export const BHS_BYTES = 48;
export const DIGEST_BYTES = 4;

/** RFC 7143 11.2.1.2, initiator opcodes. */
export const INITIATOR_OPCODE = {
  nopOut: 0x00,
  scsiCommand: 0x01,
  taskManagement: 0x02,
  login: 0x03,
  text: 0x04,
  dataOut: 0x05,
  logout: 0x06,
} as const;

/** RFC 7143 11.2.1.2, target opcodes. */
export const TARGET_OPCODE = {
  nopIn: 0x20,
  scsiResponse: 0x21,
  taskManagementResponse: 0x22,
  loginResponse: 0x23,
  textResponse: 0x24,
  dataIn: 0x25,
  logoutResponse: 0x26,
  r2t: 0x31,
  asyncMessage: 0x32,
  reject: 0x3f,
} as const;

export const OPCODE_MASK = 0x3f;
export const IMMEDIATE_BIT = 0x40;
export const FINAL_BIT = 0x80;
/** C bit of login and text PDUs: the key list goes on in the next one. */
export const CONTINUE_BIT = 0x40;
/** S bit of a Data-In: it carries the status. */
export const STATUS_BIT = 0x01;
/** O and U bits of a response or a Data-In with status (RFC 7143 11.4.1). */
export const OVERFLOW_BIT = 0x04;
export const UNDERFLOW_BIT = 0x02;

/** R and W bits of a SCSI command (RFC 7143 11.3.1) and the SIMPLE task attribute. */
export const READ_BIT = 0x40;
export const WRITE_BIT = 0x20;
export const ATTRIBUTE_SIMPLE = 0x01;

export const RESERVED_TAG = 0xffffffff;

/** Zero bytes that follow a data segment up to a multiple of four. */
export function paddingOf(length: number): number {
  return -length & 3;
}

/** Serial-number arithmetic (RFC 1982): how far `a` is ahead of `b`; negative when behind. */
export function serialDistance(a: number, b: number): number {
  return (a - b) | 0;
}

export function nextSerial(a: number): number {
  return (a + 1) >>> 0;
}

/** The LUN field for a single-level LUN: peripheral addressing below 256, flat above (SAM-5 4.7). */
export function writeLun(into: Buffer, at: number, lun: number): void {
  if (lun < 256) {
    into[at + 1] = lun;
  } else {
    into[at] = 0x40 | (lun >>> 8);
    into[at + 1] = lun & 0xff;
  }
}

export function writeDataSegmentLength(into: Buffer, at: number, length: number): void {
  into[at + 5] = length >>> 16;
  into[at + 6] = (length >>> 8) & 0xff;
  into[at + 7] = length & 0xff;
}

export function dataSegmentLength(header: Buffer, at: number): number {
  return ((header[at + 5] ?? 0) << 16) | ((header[at + 6] ?? 0) << 8) | (header[at + 7] ?? 0);
}

/** Bytes of additional header segments. */
export function additionalHeaderBytes(header: Buffer, at: number): number {
  return (header[at + 4] ?? 0) * 4;
}

export function opcodeOf(header: Buffer, at: number): number {
  return (header[at] ?? 0) & OPCODE_MASK;
}

export function flagsOf(header: Buffer, at: number): number {
  return header[at + 1] ?? 0;
}

export function taskTagOf(header: Buffer, at: number): number {
  return header.readUInt32BE(at + 16);
}

/** Bytes 20-23: target transfer tag of NOP-In, R2T, text response and Data-In. */
export function transferTagOf(header: Buffer, at: number): number {
  return header.readUInt32BE(at + 20);
}

/** Signed residual count: positive when less was moved than asked for (underflow), negative on overflow. */
export function residualOf(header: Buffer, at: number): number {
  const flags = flagsOf(header, at);
  if ((flags & UNDERFLOW_BIT) !== 0) return header.readUInt32BE(at + 44);
  if ((flags & OVERFLOW_BIT) !== 0) return -header.readUInt32BE(at + 44);
  return 0;
}
