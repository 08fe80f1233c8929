import { FarshoreError } from '../base/errors.ts';
import type { ErrorKind } from '../base/errors.ts';
import { STATUS } from './constants.ts';
import { failed, plainStatus } from './result.ts';
import type { ScsiResult } from './result.ts';

/** Sense key, additional sense code and qualifier (SPC-4 4.5, annex D). */
export interface Sense {
  readonly key: number;
  readonly asc: number;
  readonly ascq: number;
  /** INFORMATION field: an LBA or an offset, by the sense code. */
  readonly information?: number;
  /** Progress indication: how much of 65536 is done (SPC-4 4.5.2.4.4). */
  readonly progress?: number;
  /** D_SENSE asks for descriptor format. */
  readonly inDescriptorFormat?: boolean;
  /** Byte of the CDB (or of the parameter list, or of a segment descriptor in it) that is in error. */
  readonly field?: {
    readonly inCdb: boolean;
    readonly byte: number;
    readonly bit?: number;
    /** Which segment descriptor of an EXTENDED COPY the byte is in, from 0. */
    readonly segment?: number;
  };
}

/** Sense keys (SPC-4 table 48). */
export const KEY = {
  noSense: 0x0,
  notReady: 0x2,
  mediumError: 0x3,
  hardwareError: 0x4,
  illegalRequest: 0x5,
  unitAttention: 0x6,
  dataProtect: 0x7,
  copyAborted: 0xa,
  abortedCommand: 0xb,
  miscompare: 0xe,
} as const;

/** Every sense code this device answers with, by name. */
export const SENSE = {
  none: { key: KEY.noSense, asc: 0x00, ascq: 0x00 },
  becomingReady: { key: KEY.notReady, asc: 0x04, ascq: 0x01 },
  manualInterventionRequired: { key: KEY.notReady, asc: 0x04, ascq: 0x03 },
  initializingCommandRequired: { key: KEY.notReady, asc: 0x04, ascq: 0x02 },
  sanitizeInProgress: { key: KEY.notReady, asc: 0x04, ascq: 0x1b },
  mediumNotPresent: { key: KEY.notReady, asc: 0x3a, ascq: 0x00 },
  sanitizeFailed: { key: KEY.mediumError, asc: 0x31, ascq: 0x03 },
  unrecoveredReadError: { key: KEY.mediumError, asc: 0x11, ascq: 0x00 },
  unitCommunicationFailure: { key: KEY.hardwareError, asc: 0x08, ascq: 0x00 },
  internalTargetFailure: { key: KEY.hardwareError, asc: 0x44, ascq: 0x00 },
  invalidOpcode: { key: KEY.illegalRequest, asc: 0x20, ascq: 0x00 },
  lbaOutOfRange: { key: KEY.illegalRequest, asc: 0x21, ascq: 0x00 },
  invalidFieldInCdb: { key: KEY.illegalRequest, asc: 0x24, ascq: 0x00 },
  lunNotSupported: { key: KEY.illegalRequest, asc: 0x25, ascq: 0x00 },
  wrongDataLength: { key: KEY.illegalRequest, asc: 0x0e, ascq: 0x03 },
  parameterListLength: { key: KEY.illegalRequest, asc: 0x1a, ascq: 0x00 },
  invalidFieldInParameters: { key: KEY.illegalRequest, asc: 0x26, ascq: 0x00 },
  operationInProgress: { key: KEY.illegalRequest, asc: 0x00, ascq: 0x16 },
  tooManyTargetDescriptors: { key: KEY.illegalRequest, asc: 0x26, ascq: 0x06 },
  unsupportedTargetDescriptor: { key: KEY.illegalRequest, asc: 0x26, ascq: 0x07 },
  tooManySegmentDescriptors: { key: KEY.illegalRequest, asc: 0x26, ascq: 0x08 },
  unsupportedSegmentDescriptor: { key: KEY.illegalRequest, asc: 0x26, ascq: 0x09 },
  inlineDataLengthExceeded: { key: KEY.illegalRequest, asc: 0x26, ascq: 0x0b },
  mediumRemovalPrevented: { key: KEY.illegalRequest, asc: 0x53, ascq: 0x02 },
  invalidRelease: { key: KEY.illegalRequest, asc: 0x26, ascq: 0x04 },
  insufficientRegistrationResources: { key: KEY.illegalRequest, asc: 0x55, ascq: 0x04 },
  savingNotSupported: { key: KEY.illegalRequest, asc: 0x39, ascq: 0x00 },
  invalidMessage: { key: KEY.illegalRequest, asc: 0x49, ascq: 0x00 },
  // POWER ON, RESET, OR BUS DEVICE RESET OCCURRED: the one libiscsi takes for what every new nexus is told.
  powerOn: { key: KEY.unitAttention, asc: 0x29, ascq: 0x00 },
  busDeviceReset: { key: KEY.unitAttention, asc: 0x29, ascq: 0x03 },
  nexusLoss: { key: KEY.unitAttention, asc: 0x29, ascq: 0x07 },
  modeParametersChanged: { key: KEY.unitAttention, asc: 0x2a, ascq: 0x01 },
  reservationsPreempted: { key: KEY.unitAttention, asc: 0x2a, ascq: 0x03 },
  reservationsReleased: { key: KEY.unitAttention, asc: 0x2a, ascq: 0x04 },
  registrationsPreempted: { key: KEY.unitAttention, asc: 0x2a, ascq: 0x05 },
  capacityChanged: { key: KEY.unitAttention, asc: 0x2a, ascq: 0x09 },
  commandsCleared: { key: KEY.unitAttention, asc: 0x2f, ascq: 0x00 },
  softThresholdReached: { key: KEY.unitAttention, asc: 0x38, ascq: 0x07 },
  inquiryChanged: { key: KEY.unitAttention, asc: 0x3f, ascq: 0x03 },
  lunsChanged: { key: KEY.unitAttention, asc: 0x3f, ascq: 0x0e },
  writeProtected: { key: KEY.dataProtect, asc: 0x27, ascq: 0x00 },
  spaceAllocationFailed: { key: KEY.dataProtect, asc: 0x27, ascq: 0x07 },
  softwareWriteProtected: { key: KEY.dataProtect, asc: 0x27, ascq: 0x02 },
  copyAborted: { key: KEY.copyAborted, asc: 0x00, ascq: 0x00 },
  copyThirdPartyFailure: { key: KEY.copyAborted, asc: 0x0d, ascq: 0x01 },
  inexactSegment: { key: KEY.copyAborted, asc: 0x26, ascq: 0x0a },
  copyTargetNotReachable: { key: KEY.copyAborted, asc: 0x0d, ascq: 0x02 },
  miscompare: { key: KEY.miscompare, asc: 0x1d, ascq: 0x00 },
  unexpectedUnsolicitedData: { key: KEY.abortedCommand, asc: 0x0c, ascq: 0x0c },
  protocolCrcError: { key: KEY.abortedCommand, asc: 0x47, ascq: 0x05 },
  dataPhaseError: { key: KEY.abortedCommand, asc: 0x4b, ascq: 0x00 },
} as const satisfies Record<string, Sense>;

/** CHECK CONDITION with this sense. */
export function checkCondition(sense: Sense): ScsiResult {
  return failed(STATUS.checkCondition, sense);
}

/** ILLEGAL REQUEST, INVALID FIELD IN CDB, pointing at the byte (and bit) in error. */
export function invalidCdbField(byte: number, bit?: number): ScsiResult {
  return checkCondition({
    ...SENSE.invalidFieldInCdb,
    field: bit === undefined ? { inCdb: true, byte } : { inCdb: true, byte, bit },
  });
}

/** ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST. */
export function invalidParameterField(byte: number): ScsiResult {
  return checkCondition({ ...SENSE.invalidFieldInParameters, field: { inCdb: false, byte } });
}

/** What an initiator is told about each kind of failure of the device. A `bug` has no answer: it must crash. */
const ANSWER_BY_KIND: Readonly<Record<ErrorKind, ScsiResult | undefined>> = {
  busy: plainStatus(STATUS.busy),
  retry: checkCondition(SENSE.becomingReady),
  fenced: checkCondition(SENSE.manualInterventionRequired),
  full: checkCondition(SENSE.spaceAllocationFailed),
  unreplicated: checkCondition(SENSE.unitCommunicationFailure),
  stopped: checkCondition(SENSE.internalTargetFailure),
  damaged: checkCondition(SENSE.unrecoveredReadError),
  'not-found': checkCondition(SENSE.unrecoveredReadError),
  input: checkCondition(SENSE.internalTargetFailure),
  'in-use': checkCondition(SENSE.internalTargetFailure),
  bug: undefined,
};

/** The answer to a command whose device call failed; rethrows what is not an operating error. */
export function resultOfError(error: unknown): ScsiResult {
  const result = error instanceof FarshoreError ? ANSWER_BY_KIND[error.kind] : undefined;
  if (result === undefined) throw error;
  return result;
}

/** Sense data in the format that the logical unit's D_SENSE bit asks for (SPC-4 7.5.8). */
export function encodeSense(sense: Sense): Buffer {
  return sense.inDescriptorFormat === true ? descriptorSense(sense) : fixedSense(sense);
}

/** Fixed format sense data, 18 bytes (SPC-4 4.5.3). */
export function fixedSense(sense: Sense): Buffer {
  const bytes = Buffer.alloc(18);
  bytes[0] = 0x70;
  bytes[2] = sense.key;
  bytes[7] = 10;
  bytes[12] = sense.asc;
  bytes[13] = sense.ascq;
  if (sense.information !== undefined && sense.information <= 0xffff_ffff) {
    bytes[0] = 0xf0;
    bytes.writeUInt32BE(sense.information, 3);
  }
  // COMMAND-SPECIFIC INFORMATION: its third and fourth byte.
  if (sense.field?.segment !== undefined) bytes.writeUInt16BE(sense.field.segment, 10);
  writeKeySpecific(bytes, 15, sense);
  return bytes;
}

/** Descriptor format sense data (SPC-4 4.5.2), used where D_SENSE or DESC asks for it. */
export function descriptorSense(sense: Sense): Buffer {
  const descriptors: Buffer[] = [];
  if (sense.information !== undefined) {
    const information = Buffer.from([0x00, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    information.writeBigUInt64BE(BigInt(sense.information), 4);
    descriptors.push(information);
  }
  if (sense.field?.segment !== undefined) {
    const command = Buffer.from([0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    command.writeUInt16BE(sense.field.segment, 6);
    descriptors.push(command);
  }
  if (sense.field !== undefined || sense.progress !== undefined) {
    const specific = Buffer.from([0x02, 0x06, 0, 0, 0, 0, 0, 0]);
    writeKeySpecific(specific, 4, sense);
    descriptors.push(specific);
  }
  const length = descriptors.reduce((sum, descriptor) => sum + descriptor.length, 0);
  return Buffer.concat([Buffer.from([0x72, sense.key, sense.asc, sense.ascq, 0, 0, 0, length]), ...descriptors]);
}

/** Sense-key specific bytes: a field pointer or a progress indication (SPC-4 4.5.2.4.2, 4.5.2.4.4). */
function writeKeySpecific(bytes: Buffer, at: number, sense: Sense): void {
  if (sense.progress !== undefined) {
    bytes[at] = 0x80;
    bytes.writeUInt16BE(Math.min(Math.max(Math.floor(sense.progress), 0), 0xffff), at + 1);
    return;
  }
  if (sense.field === undefined) return;
  const { inCdb, byte, bit, segment } = sense.field;
  bytes[at] = 0x80 | (inCdb ? 0x40 : 0) | (segment === undefined ? 0 : 0x20) | (bit === undefined ? 0 : 0x08 | bit);
  bytes.writeUInt16BE(byte, at + 1);
}
