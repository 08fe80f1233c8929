import type { BadCdb, Command, CopyResults, Sanitize } from './cdb.ts';
import { flag } from './cdb-fields.ts';
import { OPCODE, SERVICE_ACTION } from './constants.ts';

type Decoded = Command | BadCdb;

/** MODE SELECT (6), (10): SPC-4 6.11, 6.12. Pages have the standard's format whatever PF says, and none can be saved. */
export function decodeModeSelect(cdb: Buffer): Decoded {
  const ten = cdb.readUInt8(0) === OPCODE.modeSelect10;
  if (flag(cdb, 1, 0)) return { kind: 'invalid-field', byte: 1, bit: 0 };
  return { kind: 'mode-select', ten, parameterBytes: ten ? cdb.readUInt16BE(7) : cdb.readUInt8(4) };
}

/** LOG SENSE: SPC-4 6.8. No parameters can be saved, and only cumulative values are kept. */
export function decodeLogSense(cdb: Buffer): Decoded {
  if (flag(cdb, 1, 0)) return { kind: 'invalid-field', byte: 1, bit: 0 };
  return {
    kind: 'log-sense',
    pageControl: cdb.readUInt8(2) >> 6,
    page: cdb.readUInt8(2) & 0x3f,
    subpage: cdb.readUInt8(3),
    parameterPointer: cdb.readUInt16BE(5),
    allocationLength: cdb.readUInt16BE(7),
  };
}

/** READ DEFECT DATA (10), (12): SBC-3. */
export function decodeReadDefectData(cdb: Buffer): Decoded {
  const twelve = cdb.readUInt8(0) === OPCODE.readDefectData12;
  const request = cdb.readUInt8(twelve ? 1 : 2);
  return {
    kind: 'read-defect-data',
    twelve,
    lists: request & 0x18,
    format: request & 0x07,
    allocationLength: twelve ? cdb.readUInt32BE(6) : cdb.readUInt16BE(7),
  };
}

/** START STOP UNIT: SBC-3. */
export function decodeStartStop(cdb: Buffer): Decoded {
  return {
    kind: 'start-stop',
    powerCondition: cdb.readUInt8(4) >> 4,
    noFlush: flag(cdb, 4, 2),
    eject: flag(cdb, 4, 1),
    start: flag(cdb, 4, 0),
  };
}

/** Sanitize methods by their service actions. */
const SANITIZE_ACTIONS: ReadonlyMap<number, Sanitize['action']> = new Map([
  [SERVICE_ACTION.sanitizeOverwrite, 'overwrite'],
  [SERVICE_ACTION.sanitizeBlockErase, 'block-erase'],
  [SERVICE_ACTION.sanitizeCryptographicErase, 'cryptographic-erase'],
  [SERVICE_ACTION.sanitizeExitFailureMode, 'exit-failure-mode'],
] as const);

/** SANITIZE: SBC-3. What is reserved must be 0: nobody should lose data over a bit we took for noise. */
export function decodeSanitize(cdb: Buffer): Decoded {
  const action = SANITIZE_ACTIONS.get(cdb.readUInt8(1) & 0x1f);
  if (action === undefined) return { kind: 'invalid-field', byte: 1, bit: 4 };
  if (flag(cdb, 1, 6)) return { kind: 'invalid-field', byte: 1, bit: 6 };
  for (let byte = 2; byte < 7; byte += 1) {
    if (cdb.readUInt8(byte) !== 0) return { kind: 'invalid-field', byte, bit: 7 };
  }
  const parameterBytes = cdb.readUInt16BE(7);
  // Only OVERWRITE brings parameters (SBC-3).
  if (action !== 'overwrite' && parameterBytes !== 0) return { kind: 'invalid-field', byte: 7, bit: 7 };
  return { kind: 'sanitize', action, immediate: flag(cdb, 1, 7), mayFail: flag(cdb, 1, 5), parameterBytes };
}

/** EXTENDED COPY (LID1): SPC-4 6.5. */
export function decodeExtendedCopy(cdb: Buffer): Decoded {
  if ((cdb.readUInt8(1) & 0x1f) !== SERVICE_ACTION.extendedCopyLid1) return { kind: 'invalid-field', byte: 1, bit: 4 };
  return { kind: 'extended-copy', parameterBytes: cdb.readUInt32BE(10) };
}

const COPY_RESULTS: ReadonlyMap<number, CopyResults['results']> = new Map([
  [SERVICE_ACTION.copyStatusLid1, 'status'],
  [SERVICE_ACTION.copyDataLid1, 'data'],
  [SERVICE_ACTION.copyOperatingParameters, 'operating-parameters'],
  [SERVICE_ACTION.failedSegmentDetails, 'failed-segment'],
] as const);

/** RECEIVE COPY RESULTS: the service actions about LID1 (SPC-4 6.21 - 6.25). */
export function decodeReceiveCopyResults(cdb: Buffer): Decoded {
  const results = COPY_RESULTS.get(cdb.readUInt8(1) & 0x1f);
  if (results === undefined) return { kind: 'invalid-field', byte: 1, bit: 4 };
  const listId = results === 'operating-parameters' ? 0 : cdb.readUInt8(2);
  return { kind: 'copy-results', results, listId, allocationLength: cdb.readUInt32BE(10) };
}
