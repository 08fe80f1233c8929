import type { BadCdb, Command } from '../cdb.ts';
import { flag } from '../cdb-fields.ts';
import type { ReserveInAction } from './parameter-data.ts';
import type { ReserveOutAction } from './requests.ts';

/** By service action (SPC-4 table 201). */
const IN_ACTIONS: readonly ReserveInAction[] = [
  'read-keys',
  'read-reservation',
  'report-capabilities',
  'read-full-status',
];

/** By service action (SPC-4 table 213). REPLACE LOST RESERVATION is not supported (RLR_C is 0). */
const OUT_ACTIONS: readonly ReserveOutAction[] = [
  'register',
  'reserve',
  'release',
  'clear',
  'preempt',
  'preempt-and-abort',
  'register-and-ignore',
  'register-and-move',
];

const UNKNOWN_ACTION: BadCdb = { kind: 'invalid-field', byte: 1, bit: 4 };

/** PERSISTENT RESERVE IN (SPC-4 6.15.1). */
export function decodeReserveIn(cdb: Buffer): Command | BadCdb {
  const action = IN_ACTIONS[cdb.readUInt8(1) & 0x1f];
  if (action === undefined) return UNKNOWN_ACTION;
  return { kind: 'persistent-reserve-in', action, allocationLength: cdb.readUInt16BE(7) };
}

/** PERSISTENT RESERVE OUT (SPC-4 6.16.1). */
export function decodeReserveOutCdb(cdb: Buffer): Command | BadCdb {
  const action = OUT_ACTIONS[cdb.readUInt8(1) & 0x1f];
  if (action === undefined) return UNKNOWN_ACTION;
  const scopeAndType = cdb.readUInt8(2);
  const parameterBytes = cdb.readUInt32BE(5);
  return {
    kind: 'persistent-reserve-out',
    action,
    scope: scopeAndType >> 4,
    type: scopeAndType & 0x0f,
    parameterBytes,
  };
}

/** RESERVE and RELEASE (6): SPC-2 7.21, 7.16. For a third party, or of an extent, they are long obsolete. */
export function decodeLegacy6(kind: 'reserve' | 'release', cdb: Buffer): Command | BadCdb {
  if (flag(cdb, 1, 4)) return { kind: 'invalid-field', byte: 1, bit: 4 };
  return flag(cdb, 1, 0) ? { kind: 'invalid-field', byte: 1, bit: 0 } : { kind };
}

/** RESERVE and RELEASE (10): SPC-2 7.22, 7.17. LONGID is for third parties. */
export function decodeLegacy10(kind: 'reserve' | 'release', cdb: Buffer): Command | BadCdb {
  if (flag(cdb, 1, 1)) return { kind: 'invalid-field', byte: 1, bit: 1 };
  return decodeLegacy6(kind, cdb);
}
