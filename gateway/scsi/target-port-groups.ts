import { RELATIVE_TARGET_PORT, TARGET_PORT_GROUP } from './constants.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';

const ACTIVE_OPTIMIZED = 0x0;
/** AO_SUP: no other state is ever entered. */
const ACTIVE_OPTIMIZED_SUPPORTED = 0x01;

/** PARAMETER DATA FORMAT 001b: the header is longer (SPC-4 6.37). */
const EXTENDED_HEADER = Buffer.from([0x10, 0, 0, 0]);

/** REPORT TARGET PORT GROUPS (SPC-4 6.37): one group of one port, always active/optimized; TPGS is 01b, implicit. */
export function reportTargetPortGroups(command: {
  readonly extended: boolean;
  readonly allocationLength: number;
}): ScsiResult {
  const group = Buffer.alloc(12);
  group[0] = ACTIVE_OPTIMIZED;
  group[1] = ACTIVE_OPTIMIZED_SUPPORTED;
  group.writeUInt16BE(TARGET_PORT_GROUP, 2);
  group[7] = 1; // target port count
  group.writeUInt16BE(RELATIVE_TARGET_PORT, 10);
  const body = command.extended ? Buffer.concat([EXTENDED_HEADER, group]) : group;
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length, 0);
  return parameterData(Buffer.concat([length, body]), command.allocationLength);
}
