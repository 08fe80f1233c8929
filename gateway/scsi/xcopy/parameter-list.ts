import type { ByteCount, Lba } from '../../base/units.ts';
import { SENSE, checkCondition, invalidParameterField } from '../sense.ts';
import type { ScsiResult } from '../result.ts';
import {
  BLOCK_TO_BLOCK,
  CSCD_DESCRIPTOR_BYTES,
  IDENTIFICATION,
  MAX_CSCD_DESCRIPTORS,
  MAX_DESCRIPTOR_LIST_BYTES,
  MAX_SEGMENT_DESCRIPTORS,
  SEGMENT_DESCRIPTOR_BYTES,
} from './limits.ts';

/** A copy source or destination: the designator it goes by, undefined when it is of a kind that no unit here has. */
export interface Cscd {
  readonly naa: Buffer | undefined;
  /** DISK BLOCK LENGTH; 0 when the initiator does not say. */
  readonly sectorSize: ByteCount;
  /** Whether it is said to be a direct access block device. */
  readonly isDisk: boolean;
}

/** A block device to block device segment (SPC-4 6.4). */
export interface Segment {
  readonly sourceId: number;
  readonly destinationId: number;
  /** DC: `count` counts blocks of the destination and not of the source. */
  readonly countsDestination: boolean;
  readonly count: number;
  readonly sourceLba: Lba;
  readonly destinationLba: Lba;
}

export interface CopyRequest {
  readonly listId: number;
  /** Whether the initiator may ask for the outcome under the list identifier. */
  readonly keepsOutcome: boolean;
  readonly cscds: readonly Cscd[];
  readonly segments: readonly Segment[];
}

const HEADER_BYTES: ByteCount = 16;

/** LIST ID USAGE (SPC-4): 01b is reserved; 11b: there is no list identifier. */
const RESERVED_USAGE = 1;
const NO_LIST_ID = 3;

const NAA_BYTES: ByteCount = 16;

type Parsed =
  | { readonly kind: 'request'; readonly request: CopyRequest }
  | { readonly kind: 'refused'; readonly result: ScsiResult };

/** The parameter list of EXTENDED COPY (LID1) (SPC-4 6.5); everything in it is checked before anything is copied. */
export function parseCopyRequest(list: Buffer): Parsed {
  if (list.length < HEADER_BYTES) return refused(checkCondition(SENSE.parameterListLength));
  const usage = (list.readUInt8(1) >> 3) & 0x03;
  const listId = list.readUInt8(0);
  if (usage === RESERVED_USAGE) return refused(invalidParameterField(1));
  if (usage === NO_LIST_ID && listId !== 0) return refused(invalidParameterField(0));
  const cscdBytes = list.readUInt16BE(2);
  const segmentBytes = list.readUInt32BE(8);
  const inlineBytes = list.readUInt32BE(12);
  if (HEADER_BYTES + cscdBytes + segmentBytes + inlineBytes > list.length) {
    return refused(checkCondition(SENSE.parameterListLength));
  }
  if (cscdBytes + segmentBytes > MAX_DESCRIPTOR_LIST_BYTES) return refused(checkCondition(SENSE.parameterListLength));
  if (inlineBytes > 0) return refused(checkCondition(SENSE.inlineDataLengthExceeded));
  const segmentsAt = HEADER_BYTES + cscdBytes;
  const cscds = parseCscds(list.subarray(HEADER_BYTES, segmentsAt));
  if (!Array.isArray(cscds)) return refused(cscds); // an array or a result
  const segments = parseSegments(list.subarray(segmentsAt, segmentsAt + segmentBytes), segmentsAt);
  if (!Array.isArray(segments)) return refused(segments);
  return { kind: 'request', request: { listId, keepsOutcome: usage !== NO_LIST_ID, cscds, segments } };
}

function refused(result: ScsiResult): Parsed {
  return { kind: 'refused', result };
}

function parseCscds(bytes: Buffer): Cscd[] | ScsiResult {
  if (bytes.length % CSCD_DESCRIPTOR_BYTES !== 0) return invalidParameterField(2);
  if (bytes.length / CSCD_DESCRIPTOR_BYTES > MAX_CSCD_DESCRIPTORS)
    return checkCondition(SENSE.tooManyTargetDescriptors);
  const cscds: Cscd[] = [];
  for (let at = 0; at < bytes.length; at += CSCD_DESCRIPTOR_BYTES) {
    if (bytes[at] !== IDENTIFICATION) return checkCondition(SENSE.unsupportedTargetDescriptor);
    cscds.push(parseCscd(bytes.subarray(at, at + CSCD_DESCRIPTOR_BYTES)));
  }
  return cscds;
}

/** Identification descriptor CSCD descriptor (SPC-4 6.4): the binary NAA designator of a logical unit. */
function parseCscd(bytes: Buffer): Cscd {
  const isBinary = (bytes.readUInt8(4) & 0x0f) === 1;
  const isNaaOfUnit = (bytes.readUInt8(5) & 0x3f) === 3;
  const length = bytes.readUInt8(7);
  return {
    naa: isBinary && isNaaOfUnit && length === NAA_BYTES ? bytes.subarray(8, 8 + NAA_BYTES) : undefined,
    sectorSize: bytes.readUIntBE(29, 3),
    isDisk: (bytes.readUInt8(1) & 0x1f) === 0,
  };
}

function parseSegments(bytes: Buffer, listAt: ByteCount): Segment[] | ScsiResult {
  const segments: Segment[] = [];
  for (let at = 0; at < bytes.length; at += SEGMENT_DESCRIPTOR_BYTES) {
    if (bytes[at] !== BLOCK_TO_BLOCK) return checkCondition(SENSE.unsupportedSegmentDescriptor);
    if (at + SEGMENT_DESCRIPTOR_BYTES > bytes.length) return checkCondition(SENSE.parameterListLength);
    if (bytes.readUInt16BE(at + 2) !== SEGMENT_DESCRIPTOR_BYTES - 4) return invalidParameterField(listAt + at + 2);
    if (segments.length === MAX_SEGMENT_DESCRIPTORS) return checkCondition(SENSE.tooManySegmentDescriptors);
    segments.push({
      countsDestination: (bytes.readUInt8(at + 1) & 0x02) !== 0,
      sourceId: bytes.readUInt16BE(at + 4),
      destinationId: bytes.readUInt16BE(at + 6),
      count: bytes.readUInt16BE(at + 10),
      sourceLba: Number(bytes.readBigUInt64BE(at + 12)),
      destinationLba: Number(bytes.readBigUInt64BE(at + 20)),
    });
  }
  return segments;
}
