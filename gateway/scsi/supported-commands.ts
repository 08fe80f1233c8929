import type { ReportOpcodes } from './cdb.ts';
import { cdbLength } from './cdb.ts';
import { OPCODE, SERVICE_ACTION } from './constants.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { invalidCdbField } from './sense.ts';

interface Supported {
  readonly opcode: number;
  readonly serviceAction?: number;
  /** CDB usage data (SPC-4 6.35.3): the opcode, then a set bit for each bit that is looked at. */
  readonly usage: Buffer;
}

function supported(usage: string, serviceAction?: number): Supported {
  const bytes = Buffer.from(usage.replaceAll(' ', ''), 'hex');
  const opcode = bytes.readUInt8(0);
  if (bytes.length !== cdbLength(opcode)) throw new Error(`CDB usage data of opcode ${opcode} has a wrong length`);
  return serviceAction === undefined ? { opcode, usage: bytes } : { opcode, serviceAction, usage: bytes };
}

/** What the decoder knows, as REPORT SUPPORTED OPERATION CODES lists it, in ascending order. */
export const SUPPORTED_COMMANDS: readonly Supported[] = [
  supported('00 00 00 00 00 04'),
  supported('03 01 00 00 ff 04'),
  supported('08 1f ff ff ff 04'),
  supported('0a 1f ff ff ff 04'),
  supported('12 01 ff ff ff 04'),
  supported('15 11 00 00 ff 04'),
  supported('16 11 00 00 00 04'),
  supported('17 11 00 00 00 04'),
  supported('1a 08 ff ff ff 04'),
  supported('1b 01 00 00 f7 04'),
  supported('1e 00 00 00 01 04'),
  supported('25 00 00 00 00 00 00 00 00 04'),
  supported('28 f8 ff ff ff ff 00 ff ff 04'),
  supported('2a f8 ff ff ff ff 00 ff ff 04'),
  supported('2e f6 ff ff ff ff 00 ff ff 04'),
  supported('2f f6 ff ff ff ff 00 ff ff 04'),
  supported('34 02 ff ff ff ff 00 ff ff 04'),
  supported('35 02 ff ff ff ff 00 ff ff 04'),
  supported('37 00 1f 00 00 00 00 ff ff 04'),
  supported('41 f8 ff ff ff ff 00 ff ff 04'),
  supported('42 01 00 00 00 00 00 ff ff 04'),
  supported('48 a1 00 00 00 00 00 ff ff 04', SERVICE_ACTION.sanitizeOverwrite),
  supported('48 a2 00 00 00 00 00 00 00 04', SERVICE_ACTION.sanitizeBlockErase),
  supported('48 a3 00 00 00 00 00 00 00 04', SERVICE_ACTION.sanitizeCryptographicErase),
  supported('48 bf 00 00 00 00 00 00 00 04', SERVICE_ACTION.sanitizeExitFailureMode),
  supported('4d 01 ff ff 00 ff ff ff ff 04'),
  supported('55 11 00 00 00 00 00 ff ff 04'),
  supported('56 13 00 00 00 00 00 00 00 04'),
  supported('57 13 00 00 00 00 00 00 00 04'),
  supported('5a 18 ff ff 00 00 00 ff ff 04'),
  // PERSISTENT RESERVE IN and OUT by service action (SPC-4 tables 201 and 213); SCOPE and TYPE where they count
  supported('5e 00 00 00 00 00 00 ff ff 04', 0x00),
  supported('5e 01 00 00 00 00 00 ff ff 04', 0x01),
  supported('5e 02 00 00 00 00 00 ff ff 04', 0x02),
  supported('5e 03 00 00 00 00 00 ff ff 04', 0x03),
  supported('5f 00 00 00 00 ff ff ff ff 04', 0x00),
  supported('5f 01 ff 00 00 ff ff ff ff 04', 0x01),
  supported('5f 02 ff 00 00 ff ff ff ff 04', 0x02),
  supported('5f 03 00 00 00 ff ff ff ff 04', 0x03),
  supported('5f 04 ff 00 00 ff ff ff ff 04', 0x04),
  supported('5f 05 ff 00 00 ff ff ff ff 04', 0x05),
  supported('5f 06 00 00 00 ff ff ff ff 04', 0x06),
  supported('5f 07 00 00 00 ff ff ff ff 04', 0x07),
  supported('83 00 00 00 00 00 00 00 00 00 ff ff ff ff 00 04', SERVICE_ACTION.extendedCopyLid1),
  supported('84 00 ff 00 00 00 00 00 00 00 ff ff ff ff 00 04', SERVICE_ACTION.copyStatusLid1),
  supported('84 01 ff 00 00 00 00 00 00 00 ff ff ff ff 00 04', SERVICE_ACTION.copyDataLid1),
  supported('84 03 00 00 00 00 00 00 00 00 ff ff ff ff 00 04', SERVICE_ACTION.copyOperatingParameters),
  supported('84 04 ff 00 00 00 00 00 00 00 ff ff ff ff 00 04', SERVICE_ACTION.failedSegmentDetails),
  supported('88 f8 ff ff ff ff ff ff ff ff ff ff ff ff 00 04'),
  supported('89 f8 ff ff ff ff ff ff ff ff 00 00 00 ff 00 04'),
  supported('8a f8 ff ff ff ff ff ff ff ff ff ff ff ff 00 04'),
  supported('8b f8 ff ff ff ff ff ff ff ff ff ff ff ff 00 04'),
  supported('8e f6 ff ff ff ff ff ff ff ff ff ff ff ff 00 04'),
  supported('8f f6 ff ff ff ff ff ff ff ff ff ff ff ff 00 04'),
  supported('90 02 ff ff ff ff ff ff ff ff ff ff ff ff 00 04'),
  supported('91 02 ff ff ff ff ff ff ff ff ff ff ff ff 00 04'),
  supported('93 f9 ff ff ff ff ff ff ff ff ff ff ff ff 00 04'),
  supported('9c f8 ff ff ff ff ff ff ff ff ff ff ff ff 00 04'),
  supported('9e 10 00 00 00 00 00 00 00 00 ff ff ff ff 00 04', SERVICE_ACTION.readCapacity16),
  supported('9e 12 ff ff ff ff ff ff ff ff ff ff ff ff 00 04', SERVICE_ACTION.getLbaStatus),
  supported('a0 00 ff 00 00 00 ff ff ff ff 00 04'),
  supported('a3 ea 00 00 00 00 ff ff ff ff 00 04', SERVICE_ACTION.reportTargetPortGroups),
  supported('a3 0c 87 ff ff ff ff ff ff ff 00 04', SERVICE_ACTION.reportSupportedOperationCodes),
  supported('a3 0d 80 00 00 00 ff ff ff ff 00 04', SERVICE_ACTION.reportSupportedTaskManagement),
  supported('a8 f8 ff ff ff ff ff ff ff ff 00 04'),
  supported('aa f8 ff ff ff ff ff ff ff ff 00 04'),
  supported('ae f6 ff ff ff ff ff ff ff ff 00 04'),
  supported('af f6 ff ff ff ff ff ff ff ff 00 04'),
  supported('b7 1f 00 00 00 00 ff ff ff ff 00 04'),
];

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
