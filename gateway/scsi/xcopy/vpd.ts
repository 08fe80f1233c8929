import { OPCODE, SERVICE_ACTION } from '../constants.ts';
import {
  BLOCK_TO_BLOCK,
  IDENTIFICATION,
  MAX_CONCURRENT_COPIES,
  MAX_CSCD_DESCRIPTORS,
  MAX_DESCRIPTOR_LIST_BYTES,
  MAX_SEGMENT_BYTES,
  MAX_SEGMENT_DESCRIPTORS,
  OWN_UNIT,
  SEGMENT_GRANULARITY_LOG2,
} from './limits.ts';

/** Third-party copy descriptor types (SPC-4). */
const SUPPORTED_COMMANDS = 0x0001;
const PARAMETER_DATA = 0x0004;
const SUPPORTED_DESCRIPTORS = 0x0008;
const SUPPORTED_CSCD_IDS = 0x000c;
const GENERAL_COPY_OPERATIONS = 0x8001;

/** The body of VPD page 8Fh, third-party copy (SPC-4). */
export function thirdPartyCopy(): Buffer {
  return Buffer.concat([
    descriptor(SUPPORTED_COMMANDS, supportedCommands()),
    descriptor(PARAMETER_DATA, parameterData()),
    descriptor(SUPPORTED_DESCRIPTORS, Buffer.from([2, BLOCK_TO_BLOCK, IDENTIFICATION])),
    descriptor(SUPPORTED_CSCD_IDS, Buffer.from([0, 2, OWN_UNIT >> 8, OWN_UNIT & 0xff])),
    descriptor(GENERAL_COPY_OPERATIONS, generalCopyOperations()),
  ]);
}

/** Padded to a multiple of four. */
function descriptor(type: number, body: Buffer): Buffer {
  const bytes = Buffer.alloc(4 + ((body.length + 3) & ~3));
  bytes.writeUInt16BE(type, 0);
  bytes.writeUInt16BE(bytes.length - 4, 2);
  body.copy(bytes, 4);
  return bytes;
}

/** For each operation code how many service actions, and which. */
function supportedCommands(): Buffer {
  const list = Buffer.from([
    ...[OPCODE.extendedCopy, 1, SERVICE_ACTION.extendedCopyLid1],
    ...[OPCODE.receiveCopyResults, 4, SERVICE_ACTION.copyStatusLid1, SERVICE_ACTION.copyDataLid1],
    ...[SERVICE_ACTION.copyOperatingParameters, SERVICE_ACTION.failedSegmentDetails],
  ]);
  return Buffer.concat([Buffer.from([list.length]), list]);
}

function parameterData(): Buffer {
  const body = Buffer.alloc(28);
  body.writeUInt16BE(MAX_CSCD_DESCRIPTORS, 4);
  body.writeUInt16BE(MAX_SEGMENT_DESCRIPTORS, 6);
  body.writeUInt32BE(MAX_DESCRIPTOR_LIST_BYTES, 8);
  return body;
}

function generalCopyOperations(): Buffer {
  const body = Buffer.alloc(32);
  body.writeUInt32BE(MAX_CONCURRENT_COPIES, 0);
  body.writeUInt32BE(MAX_CONCURRENT_COPIES, 4);
  body.writeUInt32BE(MAX_SEGMENT_BYTES, 8);
  body[12] = SEGMENT_GRANULARITY_LOG2;
  return body;
}
