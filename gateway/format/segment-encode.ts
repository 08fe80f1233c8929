import { createHash } from 'node:crypto';
import { crc32 } from '../base/crc32.ts';
import { invariant } from '../base/errors.ts';
import { ByteWriter } from './bytes.ts';
import { ENVELOPE_BYTES, sealEnvelope } from './envelope.ts';
import { FRAME_ALIGN, frameBlocks } from './frame.ts';
import type { BlockRange } from './ids.ts';
import { MAX_SEGMENT_NUMBER } from './ids.ts';
import type { EncodedSegment, SegmentExtent, SegmentFrame, SegmentIdentity } from './segment-layout.ts';
import {
  alignToFrame,
  COUNTS_BYTES,
  EXTENT_BYTES,
  FRAME_LENGTH_BYTES,
  MAX_SEGMENT_BLOCKS,
  MAX_SEGMENT_UNMAPS,
  overlapProblem,
  SEGMENT_KIND,
} from './segment-layout.ts';
import { RANGE_BYTES, writeRanges } from './ranges.ts';
import { identityBytes, writeIdentity } from './version-identity.ts';

/**
 * `blocks` (ascending, at most 1,984) are the blocks of the encoded `frames` one after the other; `unmaps` (ascending, at most 16,384)
 * overlap neither each other nor `blocks`. Breaking that is a `bug`.
 */
export function encodeSegment(
  identity: SegmentIdentity,
  blocks: Float64Array,
  unmaps: readonly BlockRange[],
  frames: readonly Buffer[],
): EncodedSegment {
  invariant(identity.number >= 0 && identity.number <= MAX_SEGMENT_NUMBER, 'a segment number has 36 bits');
  invariant(blocks.length <= MAX_SEGMENT_BLOCKS, `a segment has at most ${MAX_SEGMENT_BLOCKS} blocks`);
  invariant(unmaps.length <= MAX_SEGMENT_UNMAPS, `a segment has at most ${MAX_SEGMENT_UNMAPS} unmap ranges`);
  const extents = extentsOf(blocks, frames);
  const problem = overlapProblem(extents, unmaps);
  invariant(problem === undefined, `segment: ${problem ?? ''}`);
  const writer = new ByteWriter(
    alignToFrame(
      ENVELOPE_BYTES +
        COUNTS_BYTES +
        identityBytes(identity) +
        frames.length * FRAME_LENGTH_BYTES +
        extents.length * EXTENT_BYTES +
        unmaps.length * RANGE_BYTES,
    ),
  );
  const headerBytes = writer.bytes.length;
  writer.position = ENVELOPE_BYTES;
  writer.u64(identity.number).u32(blocks.length).u16(frames.length).u16(extents.length).u32(unmaps.length);
  writeIdentity(writer, identity);
  const placed: SegmentFrame[] = [];
  let objectBytes = headerBytes;
  for (const frame of frames) {
    const length = frame.length / FRAME_ALIGN;
    writer.u16(length);
    placed.push({ offset: objectBytes / FRAME_ALIGN, length });
    objectBytes += frame.length;
  }
  for (const extent of extents) writer.u48(extent.block).u16(extent.frame).u8(extent.index).u8(extent.count);
  writeRanges(writer, unmaps);
  let bodyCrc = 0;
  for (const frame of frames) bodyCrc = crc32(frame, bodyCrc);
  sealEnvelope(writer.bytes, SEGMENT_KIND, objectBytes, bodyCrc);

  const pieces = [writer.bytes, ...frames];
  const hash = createHash('sha256');
  let objectCrc = 0;
  for (const piece of pieces) {
    hash.update(piece);
    objectCrc = crc32(piece, objectCrc);
  }
  const header = { ...identity, frames: placed, extents, unmaps, blocks: blocks.length, headerBytes, objectBytes };
  return { pieces, header, crc32: objectCrc, digest: hash.digest() };
}

/** The longest runs of consecutive blocks that stay in one frame. Checks that the frames hold just these blocks. */
function extentsOf(blocks: Float64Array, frames: readonly Buffer[]): SegmentExtent[] {
  const extents: SegmentExtent[] = [];
  let at = 0;
  frames.forEach((bytes, frame) => {
    const held = frameBlocks(bytes);
    let index = 0;
    while (index < held.length) {
      const block = held[index] ?? -1;
      let count = 1;
      while (index + count < held.length && held[index + count] === block + count) count++;
      for (let ahead = 0; ahead < count; ahead++) {
        invariant(blocks[at + ahead] === block + ahead, 'the frames of a segment hold its blocks in order');
      }
      extents.push({ block, count, frame, index });
      at += count;
      index += count;
    }
  });
  invariant(at === blocks.length, 'every block of a segment is in a frame');
  return extents;
}
