import type { ReportOpcodes } from './cdb.ts';
import { cdbLength } from './cdb.ts';
import { OPCODE } from './constants.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { invalidCdbField } from './sense.ts';

interface Supported {
  readonly opcode: number;
  readonly serviceAction?: number;
  /** CDB usage data (SPC-4 6.35.3): the opcode, then a set bit for each bit that is looked at. */
  readonly usage: Buffer;
}

/**
 * What the decoder knows, in ascending order: the CDB usage data and, for the reader, the name. SCOPE and TYPE of PERSISTENT
 * RESERVE OUT (SPC-4 table 213) where they count.
 */
const USAGE_DATA = `
00 00 00 00 00 04                                TEST UNIT READY
03 01 00 00 ff 04                                REQUEST SENSE
08 1f ff ff ff 04                                READ (6)
0a 1f ff ff ff 04                                WRITE (6)
12 01 ff ff ff 04                                INQUIRY
15 11 00 00 ff 04                                MODE SELECT (6)
16 11 00 00 00 04                                RESERVE (6)
17 11 00 00 00 04                                RELEASE (6)
1a 08 ff ff ff 04                                MODE SENSE (6)
1b 01 00 00 f7 04                                START STOP UNIT
1e 00 00 00 01 04                                PREVENT ALLOW MEDIUM REMOVAL
25 00 00 00 00 00 00 00 00 04                    READ CAPACITY (10)
28 f8 ff ff ff ff 00 ff ff 04                    READ (10)
2a f8 ff ff ff ff 00 ff ff 04                    WRITE (10)
2e f6 ff ff ff ff 00 ff ff 04                    WRITE AND VERIFY (10)
2f f6 ff ff ff ff 00 ff ff 04                    VERIFY (10)
34 02 ff ff ff ff 00 ff ff 04                    PRE-FETCH (10)
35 02 ff ff ff ff 00 ff ff 04                    SYNCHRONIZE CACHE (10)
37 00 1f 00 00 00 00 ff ff 04                    READ DEFECT DATA (10)
41 f8 ff ff ff ff 00 ff ff 04                    WRITE SAME (10)
42 01 00 00 00 00 00 ff ff 04                    UNMAP
48 a1 00 00 00 00 00 ff ff 04                    SANITIZE, overwrite
48 a2 00 00 00 00 00 00 00 04                    SANITIZE, block erase
48 a3 00 00 00 00 00 00 00 04                    SANITIZE, cryptographic erase
48 bf 00 00 00 00 00 00 00 04                    SANITIZE, exit failure mode
4d 01 ff ff 00 ff ff ff ff 04                    LOG SENSE
55 11 00 00 00 00 00 ff ff 04                    MODE SELECT (10)
56 13 00 00 00 00 00 00 00 04                    RESERVE (10)
57 13 00 00 00 00 00 00 00 04                    RELEASE (10)
5a 18 ff ff 00 00 00 ff ff 04                    MODE SENSE (10)
5e 00 00 00 00 00 00 ff ff 04                    PERSISTENT RESERVE IN, read keys
5e 01 00 00 00 00 00 ff ff 04                    PERSISTENT RESERVE IN, read reservation
5e 02 00 00 00 00 00 ff ff 04                    PERSISTENT RESERVE IN, report capabilities
5e 03 00 00 00 00 00 ff ff 04                    PERSISTENT RESERVE IN, read full status
5f 00 00 00 00 ff ff ff ff 04                    PERSISTENT RESERVE OUT, register
5f 01 ff 00 00 ff ff ff ff 04                    PERSISTENT RESERVE OUT, reserve
5f 02 ff 00 00 ff ff ff ff 04                    PERSISTENT RESERVE OUT, release
5f 03 00 00 00 ff ff ff ff 04                    PERSISTENT RESERVE OUT, clear
5f 04 ff 00 00 ff ff ff ff 04                    PERSISTENT RESERVE OUT, preempt
5f 05 ff 00 00 ff ff ff ff 04                    PERSISTENT RESERVE OUT, preempt and abort
5f 06 00 00 00 ff ff ff ff 04                    PERSISTENT RESERVE OUT, register and ignore existing key
5f 07 00 00 00 ff ff ff ff 04                    PERSISTENT RESERVE OUT, register and move
83 00 00 00 00 00 00 00 00 00 ff ff ff ff 00 04  EXTENDED COPY (LID1)
84 00 ff 00 00 00 00 00 00 00 ff ff ff ff 00 04  RECEIVE COPY STATUS (LID1)
84 01 ff 00 00 00 00 00 00 00 ff ff ff ff 00 04  RECEIVE COPY DATA (LID1)
84 03 00 00 00 00 00 00 00 00 ff ff ff ff 00 04  RECEIVE COPY OPERATING PARAMETERS
84 04 ff 00 00 00 00 00 00 00 ff ff ff ff 00 04  RECEIVE COPY FAILURE DETAILS (LID1)
88 f8 ff ff ff ff ff ff ff ff ff ff ff ff 00 04  READ (16)
89 f8 ff ff ff ff ff ff ff ff 00 00 00 ff 00 04  COMPARE AND WRITE
8a f8 ff ff ff ff ff ff ff ff ff ff ff ff 00 04  WRITE (16)
8b f8 ff ff ff ff ff ff ff ff ff ff ff ff 00 04  ORWRITE (16)
8e f6 ff ff ff ff ff ff ff ff ff ff ff ff 00 04  WRITE AND VERIFY (16)
8f f6 ff ff ff ff ff ff ff ff ff ff ff ff 00 04  VERIFY (16)
90 02 ff ff ff ff ff ff ff ff ff ff ff ff 00 04  PRE-FETCH (16)
91 02 ff ff ff ff ff ff ff ff ff ff ff ff 00 04  SYNCHRONIZE CACHE (16)
93 f9 ff ff ff ff ff ff ff ff ff ff ff ff 00 04  WRITE SAME (16)
9c f8 ff ff ff ff ff ff ff ff ff ff ff ff 00 04  WRITE ATOMIC (16)
9e 10 00 00 00 00 00 00 00 00 ff ff ff ff 00 04  READ CAPACITY (16)
9e 12 ff ff ff ff ff ff ff ff ff ff ff ff 00 04  GET LBA STATUS
a0 00 ff 00 00 00 ff ff ff ff 00 04              REPORT LUNS
a3 ea 00 00 00 00 ff ff ff ff 00 04              REPORT TARGET PORT GROUPS
a3 0c 87 ff ff ff ff ff ff ff 00 04              REPORT SUPPORTED OPERATION CODES
a3 0d 80 00 00 00 ff ff ff ff 00 04              REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
a8 f8 ff ff ff ff ff ff ff ff 00 04              READ (12)
aa f8 ff ff ff ff ff ff ff ff 00 04              WRITE (12)
ae f6 ff ff ff ff ff ff ff ff 00 04              WRITE AND VERIFY (12)
af f6 ff ff ff ff ff ff ff ff 00 04              VERIFY (12)
b7 1f 00 00 00 00 ff ff ff ff 00 04              READ DEFECT DATA (12)
`;

/** Where a service action, in the low bits of byte 1, tells commands apart. */
const WITH_SERVICE_ACTIONS: ReadonlySet<number> = new Set([
  OPCODE.sanitize,
  OPCODE.persistentReserveIn,
  OPCODE.persistentReserveOut,
  OPCODE.extendedCopy,
  OPCODE.receiveCopyResults,
  OPCODE.serviceActionIn16,
  OPCODE.maintenanceIn,
]);

function supported(line: string): Supported {
  const usage = Buffer.from(/^(?:[0-9a-f]{2} )+/.exec(line)?.[0].replaceAll(' ', '') ?? '', 'hex');
  const opcode = usage.readUInt8(0);
  if (usage.length !== cdbLength(opcode)) throw new Error(`CDB usage data of opcode ${opcode} has a wrong length`);
  if (!WITH_SERVICE_ACTIONS.has(opcode)) return { opcode, usage };
  return { opcode, serviceAction: usage.readUInt8(1) & 0x1f, usage };
}

/** As REPORT SUPPORTED OPERATION CODES lists it. */
export const SUPPORTED_COMMANDS: readonly Supported[] = USAGE_DATA.trim().split('\n').map(supported);

/** Reporting options (SPC-4 6.35.1). */
const ALL_COMMANDS = 0;
const ONE_OPCODE = 1;
const ONE_SERVICE_ACTION = 2;
const EITHER = 3;

/** REPORT SUPPORTED OPERATION CODES (SPC-4 6.35). */
export function reportSupportedOpcodes(command: ReportOpcodes): ScsiResult {
  const { options, opcode, serviceAction, timeouts, allocationLength } = command;
  const sameOpcode = SUPPORTED_COMMANDS.filter((entry) => entry.opcode === opcode);
  const hasServiceActions = sameOpcode.some((entry) => entry.serviceAction !== undefined);
  switch (options) {
    case ALL_COMMANDS:
      return parameterData(encodeAll(timeouts), allocationLength);
    case ONE_OPCODE:
      if (hasServiceActions) return invalidCdbField(2, 2);
      return parameterData(encodeOne(sameOpcode[0], timeouts), allocationLength);
    case ONE_SERVICE_ACTION:
      if (sameOpcode.length > 0 && !hasServiceActions) return invalidCdbField(2, 2);
      break;
    case EITHER:
      break;
    default:
      return invalidCdbField(2, 2);
  }
  const found = sameOpcode.find((entry) => (entry.serviceAction ?? 0) === serviceAction);
  return parameterData(encodeOne(found, timeouts), allocationLength);
}

/** What a command may have to wait for: blocks that are only in the cloud, a cache that is full. */
const RECOMMENDED_SECONDS = 60;
const RECOMMENDED_COPY_SECONDS = 300;

/**
 * Command timeouts descriptor (SPC-4 6.35.4): the recommended one, 0 where there can be none, for a SANITIZE takes as long as the
 * medium is large. A nominal processing time is not given.
 */
function timeoutsOf({ opcode }: Supported): Buffer {
  const descriptor = Buffer.from([0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  if (opcode === OPCODE.extendedCopy) descriptor.writeUInt32BE(RECOMMENDED_COPY_SECONDS, 8);
  else if (opcode !== OPCODE.sanitize) descriptor.writeUInt32BE(RECOMMENDED_SECONDS, 8);
  return descriptor;
}

/** All_commands parameter data (SPC-4 6.35.2). */
function encodeAll(timeouts: boolean): Buffer {
  const descriptors = SUPPORTED_COMMANDS.map((entry) => {
    const descriptor = Buffer.alloc(8);
    descriptor[0] = entry.opcode;
    descriptor.writeUInt16BE(entry.serviceAction ?? 0, 2);
    descriptor[5] = (timeouts ? 0x02 : 0) | (entry.serviceAction === undefined ? 0 : 0x01);
    descriptor.writeUInt16BE(entry.usage.length, 6);
    return timeouts ? Buffer.concat([descriptor, timeoutsOf(entry)]) : descriptor;
  });
  const body = Buffer.concat(descriptors);
  const header = Buffer.alloc(4);
  header.writeUInt32BE(body.length, 0);
  return Buffer.concat([header, body]);
}

/** One_command parameter data (SPC-4 6.35.3). */
function encodeOne(entry: Supported | undefined, timeouts: boolean): Buffer {
  if (entry === undefined) return Buffer.from([0, 0x01, 0, 0]);
  const header = Buffer.from([0, timeouts ? 0x83 : 0x03, 0, entry.usage.length]);
  return Buffer.concat(timeouts ? [header, entry.usage, timeoutsOf(entry)] : [header, entry.usage]);
}

/**
 * REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 6.36): ABORT TASK, ABORT TASK SET, CLEAR TASK SET,
 * LOGICAL UNIT RESET, TARGET RESET (obsolete there, but iSCSI has it).
 */
export function reportTaskManagement(command: {
  readonly extended: boolean;
  readonly allocationLength: number;
}): ScsiResult {
  const data = Buffer.alloc(command.extended ? 16 : 4);
  data[0] = 0x80 | 0x40 | 0x10 | 0x08 | 0x02;
  if (command.extended) data[3] = 12;
  return parameterData(data, command.allocationLength);
}

for (const [index, { opcode }] of SUPPORTED_COMMANDS.entries()) {
  const previous = SUPPORTED_COMMANDS[index - 1];
  if (previous !== undefined && previous.opcode > opcode) throw new Error('SUPPORTED_COMMANDS is out of order');
}
