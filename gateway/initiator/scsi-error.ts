import { FarshoreError } from '../base/errors.ts';
import type { ErrorKind } from '../base/errors.ts';

/** SAM-5 5.3.1. */
export const SCSI_STATUS = {
  good: 0x00,
  checkCondition: 0x02,
  busy: 0x08,
  reservationConflict: 0x18,
  taskSetFull: 0x28,
} as const;

/** SPC-4 table 27; the index is the sense key. */
const SENSE_KEYS = [
  'NO SENSE',
  'RECOVERED ERROR',
  'NOT READY',
  'MEDIUM ERROR',
  'HARDWARE ERROR',
  'ILLEGAL REQUEST',
  'UNIT ATTENTION',
  'DATA PROTECT',
  'BLANK CHECK',
  'VENDOR SPECIFIC',
  'COPY ABORTED',
  'ABORTED COMMAND',
  'reserved',
  'VOLUME OVERFLOW',
  'MISCOMPARE',
  'COMPLETED',
] as const;

export const SENSE_KEY = {
  notReady: 0x2,
  mediumError: 0x3,
  hardwareError: 0x4,
  illegalRequest: 0x5,
  unitAttention: 0x6,
  dataProtect: 0x7,
  abortedCommand: 0xb,
  miscompare: 0xe,
} as const;

export interface Sense {
  readonly key: number;
  readonly asc: number;
  readonly ascq: number;
}

/** Decodes fixed (70h, 71h) and descriptor (72h, 73h) format sense data (SPC-4 4.5); undefined for anything else. */
export function decodeSense(bytes: Buffer): Sense | undefined {
  const responseCode = (bytes[0] ?? 0) & 0x7f;
  switch (responseCode) {
    case 0x70:
    case 0x71:
      if (bytes.length < 3) return undefined;
      return { key: (bytes[2] ?? 0) & 0xf, asc: bytes[12] ?? 0, ascq: bytes[13] ?? 0 };
    case 0x72:
    case 0x73:
      if (bytes.length < 4) return undefined;
      return { key: (bytes[1] ?? 0) & 0xf, asc: bytes[2] ?? 0, ascq: bytes[3] ?? 0 };
    default:
      return undefined;
  }
}

/** A command that ended with a status other than GOOD. */
export class ScsiError extends FarshoreError {
  readonly status: number;
  readonly sense: Sense | undefined;

  constructor(what: string, status: number, sense: Sense | undefined) {
    super(kindOf(status, sense), `${what} failed: ${describe(status, sense)}`);
    this.name = 'ScsiError';
    this.status = status;
    this.sense = sense;
  }
}

/** What the caller must do about a status and its sense key. */
function kindOf(status: number, sense: Sense | undefined): ErrorKind {
  if (status === SCSI_STATUS.busy || status === SCSI_STATUS.taskSetFull) return 'busy';
  if (status === SCSI_STATUS.reservationConflict) return 'in-use';
  switch (sense?.key) {
    case SENSE_KEY.illegalRequest:
    case SENSE_KEY.miscompare:
      return 'input';
    case SENSE_KEY.mediumError:
      return 'damaged';
    case SENSE_KEY.hardwareError:
      return 'stopped';
    case SENSE_KEY.dataProtect:
      return 'fenced';
    default:
      return 'retry';
  }
}

function describe(status: number, sense: Sense | undefined): string {
  if (sense !== undefined) {
    return `${SENSE_KEYS[sense.key] ?? 'reserved'}, additional sense ${hex(sense.asc)} ${hex(sense.ascq)}`;
  }
  switch (status) {
    case SCSI_STATUS.busy:
      return 'BUSY';
    case SCSI_STATUS.taskSetFull:
      return 'TASK SET FULL';
    case SCSI_STATUS.reservationConflict:
      return 'RESERVATION CONFLICT';
    default:
      return `SCSI status ${hex(status)}`;
  }
}

function hex(byte: number): string {
  return `${byte.toString(16).padStart(2, '0')}h`;
}
