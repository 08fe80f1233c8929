import type { Sense } from './sense.ts';
import { STATUS } from './constants.ts';

/** The outcome of a command: status, sense if any, and the data for the initiator. */
export interface ScsiResult {
  readonly status: number;
  readonly sense: Sense | undefined;
  /** Pieces whose concatenation is the data; valid as long as BlockDevice.read promises for its pieces. */
  readonly dataIn: readonly Buffer[];
  /** Sum of the pieces. */
  readonly dataInBytes: number;
}

const NO_DATA: readonly Buffer[] = [];

/** GOOD, no data. One object: the hot path of writes allocates nothing. */
export const GOOD: ScsiResult = { status: STATUS.good, sense: undefined, dataIn: NO_DATA, dataInBytes: 0 };

/** A status without sense or data (BUSY, TASK SET FULL, RESERVATION CONFLICT …). */
export function plainStatus(status: number): ScsiResult {
  return { status, sense: undefined, dataIn: NO_DATA, dataInBytes: 0 };
}

export function failed(status: number, sense: Sense): ScsiResult {
  return { status, sense, dataIn: NO_DATA, dataInBytes: 0 };
}

/** GOOD with medium data as the device gave it: `bytes` were asked for, the pieces have at least what the initiator takes. */
export function mediumData(pieces: readonly Buffer[], bytes: number): ScsiResult {
  return { status: STATUS.good, sense: undefined, dataIn: pieces, dataInBytes: bytes };
}

/** GOOD with parameter data cut to the allocation length (SPC-4). */
export function parameterData(data: Buffer, allocationLength: number): ScsiResult {
  const bytes = Math.min(data.length, allocationLength);
  return {
    status: STATUS.good,
    sense: undefined,
    dataIn: bytes === 0 ? NO_DATA : [data.subarray(0, bytes)],
    dataInBytes: bytes,
  };
}
