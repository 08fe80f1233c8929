import { KIB, MIB } from '../base/units.ts';

/** Initiator opcodes (RFC 7143 11.2.1.2). */
export const REQUEST = {
  nopOut: 0x00,
  scsiCommand: 0x01,
  taskManagement: 0x02,
  login: 0x03,
  text: 0x04,
  dataOut: 0x05,
  logout: 0x06,
  snack: 0x10,
} as const;

/** Target opcodes (RFC 7143 11.2.1.2). */
export const RESPONSE = {
  nopIn: 0x20,
  scsiResponse: 0x21,
  taskManagement: 0x22,
  login: 0x23,
  text: 0x24,
  dataIn: 0x25,
  logout: 0x26,
  readyToTransfer: 0x31,
  asyncMessage: 0x32,
  reject: 0x3f,
} as const;

/** Reasons of a Reject (RFC 7143 11.17.1). */
export const REJECT = {
  dataDigestError: 0x02,
  snackReject: 0x03,
  protocolError: 0x04,
  commandNotSupported: 0x05,
  immediateCommandReject: 0x06,
  taskInProgress: 0x07,
  invalidDataAck: 0x08,
  invalidPduField: 0x09,
  outOfResources: 0x0a,
  waitingForLogout: 0x0c,
} as const;

/** Status class and detail of a Login Response (RFC 7143 11.13.5), as one number. */
export const LOGIN_STATUS = {
  success: 0x0000,
  targetMovedTemporarily: 0x0101,
  initiatorError: 0x0200,
  authenticationFailure: 0x0201,
  authorizationFailure: 0x0202,
  notFound: 0x0203,
  targetRemoved: 0x0204,
  unsupportedVersion: 0x0205,
  tooManyConnections: 0x0206,
  missingParameter: 0x0207,
  cannotIncludeInSession: 0x0208,
  sessionTypeNotSupported: 0x0209,
  sessionDoesNotExist: 0x020a,
  invalidDuringLogin: 0x020b,
  targetError: 0x0300,
  serviceUnavailable: 0x0301,
  outOfResources: 0x0302,
} as const;

/** Task management functions (RFC 7143 11.5.1). */
export const TASK_FUNCTION = {
  abortTask: 1,
  abortTaskSet: 2,
  clearAca: 3,
  clearTaskSet: 4,
  logicalUnitReset: 5,
  targetWarmReset: 6,
  targetColdReset: 7,
  taskReassign: 8,
} as const;

/** Task management responses (RFC 7143 11.6.1). */
export const TASK_RESPONSE = {
  complete: 0,
  noSuchTask: 1,
  noSuchLun: 2,
  taskAllegiant: 3,
  reassignNotSupported: 4,
  notSupported: 5,
  authorizationFailed: 6,
  rejected: 255,
} as const;

/** Async events (RFC 7143 11.9.1). */
export const ASYNC_EVENT = {
  scsi: 0,
  logoutRequested: 1,
  connectionDropped: 2,
  sessionDropped: 3,
  renegotiate: 4,
} as const;

/** Reserved value of initiator and target task tags (RFC 7143 11.2.1.8, 11.7.4). */
export const NO_TAG = 0xffff_ffff;

/** Basic header segment (RFC 7143 11.2.1). */
export const HEADER_BYTES = 48;
export const DIGEST_BYTES = 4;

/** Where the command descriptor block lies in a SCSI Command (RFC 7143 11.3). */
export const CDB_AT = 32;

/** Before any negotiation (RFC 7143 13.12). */
export const DEFAULT_MAX_RECV_BYTES = 8 * KIB;

/** What this target can take in one data segment; the framer enforces it. */
export const MAX_RECV_BYTES = 256 * KIB;

/** Longest text of one negotiation, over all PDUs with the C bit (RFC 7143 6.1 asks for 8192 at least). */
export const MAX_TEXT_BYTES = 64 * KIB;

/** Most keys in one text; there are about 30. */
export const MAX_TEXT_KEYS = 256;

/** Most request PDUs in one login: two stages of a few exchanges, more when the C bit splits them. */
export const MAX_LOGIN_REQUESTS = 64;

/** Most bytes of text in one login, over all its requests. */
export const MAX_LOGIN_BYTES = 128 * KIB;

/** Offered burst lengths (RFC 7143 13.13, 13.14): a solicited burst is one buffer of ours. */
export const MAX_BURST_BYTES = MIB;
export const FIRST_BURST_BYTES = 256 * KIB;

/** All portals belong to one portal group. */
export const PORTAL_GROUP_TAG = 1;

/** Longest iSCSI name in bytes (RFC 7143 4.2.7.1). */
export const MAX_NAME_BYTES = 223;
