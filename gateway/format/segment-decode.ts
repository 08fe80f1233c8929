import { createHash } from 'node:crypto';
import { crc32 } from '../base/crc32.ts';
import type { ByteReader } from './bytes.ts';
import { damaged } from './bytes.ts';
import type { NeedBytes } from './envelope.ts';
import { openEnvelope, openWhole, truncated } from './envelope.ts';
import { FRAME_ALIGN, MAX_FRAME_BLOCKS, MAX_FRAME_BYTES } from './frame.ts';
import { MAX_SEGMENT_NUMBER } from './ids.ts';
import { packEntry } from './map-entry.ts';
import { readRanges } from './ranges.ts';
import type { SegmentExtent, SegmentFrame, SegmentHeader } from './segment-layout.ts';
import {
  EXTENT_BYTES,
  FRAME_LENGTH_BYTES,
  MAX_SEGMENT_BLOCKS,
  MAX_SEGMENT_UNMAPS,
  overlapProblem,
  recordOfSegment,
  SEGMENT_KIND,
} from './segment-layout.ts';
import { readIdentity } from './version-identity.ts';
import type { VersionRecord } from './version-record.ts';

/**
 * Given the first bytes of a segment (any number of them, up to all): its header, or how many bytes it takes. An object that
 * has fewer bytes than are asked for is damaged. Frames are not looked at.
 */
export function decodeSegmentHeader(prefix: Buffer): SegmentHeader | NeedBytes {
  const envelope = openEnvelope(prefix, SEGMENT_KIND);
  if ('needBytes' in envelope) return envelope;
  const { reader, headerBytes, objectBytes } = envelope;
  reader.check(headerBytes % FRAME_ALIGN === 0 && objectBytes % FRAME_ALIGN === 0, 'its parts are not aligned');
  const number = reader.u64('segment number');
  reader.check(number <= MAX_SEGMENT_NUMBER, `segment number ${number}`);
  const blocks = reader.u32('blocks');
  const frameCount = reader.u16('frames');
  const extentCount = reader.u16('extents');
  const unmapCount = reader.u32('unmap ranges');
  reader.check(blocks <= MAX_SEGMENT_BLOCKS, `${blocks} blocks`);
  reader.check(unmapCount <= MAX_SEGMENT_UNMAPS, `${unmapCount} unmap ranges`);
  reader.check(frameCount <= extentCount && extentCount <= blocks, `${frameCount} frames, ${extentCount} extents`);
  const identity = readIdentity(reader);
  const frames = readFrames(reader, frameCount, headerBytes, objectBytes);
  const extents = readExtents(reader, extentCount, frameCount, blocks);
  const unmaps = readRanges(reader, unmapCount);
  const problem = overlapProblem(extents, unmaps);
  if (problem !== undefined) throw damaged(SEGMENT_KIND.what, problem);
  reader.check(reader.end - reader.position < FRAME_ALIGN, 'more padding than alignment needs');
  while (reader.position < reader.end) reader.check(reader.u8('padding') === 0, 'padding that is not zero');
  return { ...identity, number, frames, extents, unmaps, blocks, headerBytes, objectBytes };
}

function readFrames(reader: ByteReader, count: number, headerBytes: number, objectBytes: number): SegmentFrame[] {
  const start = reader.take(count * FRAME_LENGTH_BYTES, 'frame lengths');
  const frames: SegmentFrame[] = [];
  let offset = headerBytes / FRAME_ALIGN;
  for (let frame = 0; frame < count; frame++) {
    const length = reader.bytes.readUInt16LE(start + frame * FRAME_LENGTH_BYTES);
    reader.check(length >= 1 && length * FRAME_ALIGN <= MAX_FRAME_BYTES, `frame ${frame} of ${length} units`);
    frames.push({ offset, length });
    offset += length;
  }
  reader.check(offset * FRAME_ALIGN === objectBytes, `frames that end at byte ${offset * FRAME_ALIGN}`);
  return frames;
}

/** Extents fill frame after frame from index 0 on, without a gap. */
function readExtents(reader: ByteReader, count: number, frames: number, blocks: number): SegmentExtent[] {
  const start = reader.take(count * EXTENT_BYTES, 'extents');
  const { bytes } = reader;
  const extents: SegmentExtent[] = [];
  let frame = -1;
  let index = 0;
  let total = 0;
  let endBlock = -1;
  for (let extent = 0; extent < count; extent++) {
    const at = start + extent * EXTENT_BYTES;
    const block = bytes.readUIntLE(at, 6);
    const itsFrame = bytes.readUInt16LE(at + 6);
    const itsIndex = bytes.readUInt8(at + 8);
    const itsCount = bytes.readUInt8(at + 9);
    const follows = itsFrame === frame && itsIndex === index && block !== endBlock;
    reader.check(
      follows || (itsFrame === frame + 1 && itsIndex === 0),
      `extent ${extent} is not where the frames go on`,
    );
    reader.check(itsCount >= 1 && itsIndex + itsCount <= MAX_FRAME_BLOCKS, `extent ${extent} of ${itsCount} blocks`);
    extents.push({ block, count: itsCount, frame: itsFrame, index: itsIndex });
    frame = itsFrame;
    index = itsIndex + itsCount;
    endBlock = block + itsCount;
    total += itsCount;
  }
  reader.check(frame + 1 === frames && total === blocks, `${total} blocks in ${frame + 1} frames`);
  return extents;
}

export interface SegmentEntries {
  /** Every block of the segment, ascending. */
  readonly blocks: Float64Array;
  /** Two words per block (see map-entry), in the same order. */
  readonly entries: Uint32Array;
}

/** The map entries that a numbered segment gives its blocks. */
export function segmentEntries(header: SegmentHeader): SegmentEntries {
  if (header.number === 0) throw damaged(SEGMENT_KIND.what, 'an inline image, which the map cannot point into');
  const blocks = new Float64Array(header.blocks);
  const entries = new Uint32Array(header.blocks * 2);
  let at = 0;
  for (const extent of header.extents) {
    const frame = header.frames[extent.frame];
    if (frame === undefined) throw damaged(SEGMENT_KIND.what, `no frame ${extent.frame}`);
    packEntry({ segment: header.number, ...frame, index: extent.index }, entries, at * 2);
    const high = entries[at * 2] ?? 0;
    const low = entries[at * 2 + 1] ?? 0;
    // The index has the lowest bits, and stays below 16 throughout an extent.
    for (let ahead = 0; ahead < extent.count; ahead++, at++) {
      blocks[at] = extent.block + ahead;
      entries[at * 2] = high;
      entries[at * 2 + 1] = low + ahead;
    }
  }
  return { blocks, entries };
}

/** A whole segment: header, and the bytes of each of its frames (views). The frames' own checks are up to decodeFrame. */
export function decodeSegment(bytes: Buffer): { readonly header: SegmentHeader; readonly frames: readonly Buffer[] } {
  openWhole(bytes, SEGMENT_KIND);
  const header = decodeSegmentHeader(bytes);
  if ('needBytes' in header) throw truncated(SEGMENT_KIND.what, bytes.length, header);
  const frames = header.frames.map(({ offset, length }) =>
    bytes.subarray(offset * FRAME_ALIGN, (offset + length) * FRAME_ALIGN),
  );
  return { header, frames };
}

/** The version record that a whole segment object was made for, from nothing but its bytes. */
export function rebuildRecord(bytes: Buffer): VersionRecord {
  const { header } = decodeSegment(bytes);
  return recordOfSegment(header, crc32(bytes), createHash('sha256').update(bytes).digest());
}
