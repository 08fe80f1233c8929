import { invariant } from '../base/errors.ts';
import type { BlockCount, BlockNumber, ByteCount, SegmentNumber } from '../base/units.ts';
import { MIB } from '../base/units.ts';
import type { ObjectKind } from './envelope.ts';
import { ENVELOPE_BYTES } from './envelope.ts';
import { FRAME_ALIGN, MAX_FRAME_BLOCKS, MAX_FRAME_BYTES } from './frame.ts';
import type { BlockRange } from './ids.ts';
import { isBlockRange } from './ids.ts';
import { MAX_OBJECT_UNITS } from './map-entry.ts';
import { RANGE_BYTES } from './ranges.ts';
import type { VersionIdentity } from './version-identity.ts';
import { MAX_IDENTITY_BYTES, recordFields } from './version-identity.ts';
import type { VersionRecord } from './version-record.ts';

export interface SegmentIdentity extends VersionIdentity {
  /** 0 only in an inline image, which has no object of its own. */
  readonly number: SegmentNumber;
}

/** `count` consecutive blocks from `block` on, at `index` and following of one frame. */
export interface SegmentExtent {
  readonly block: BlockNumber;
  readonly count: BlockCount;
  readonly frame: number;
  readonly index: number;
}

/** In units of 256 bytes from the start of the object. */
export interface SegmentFrame {
  readonly offset: number;
  readonly length: number;
}

export interface SegmentHeader extends SegmentIdentity {
  /** One after the other, from the end of the header to the end of the object. */
  readonly frames: readonly SegmentFrame[];
  /** Ascending by block over the whole list, and filling the frames in order. */
  readonly extents: readonly SegmentExtent[];
  /** Ascending, disjoint, and disjoint from the extents. */
  readonly unmaps: readonly BlockRange[];
  /** Blocks in all extents. */
  readonly blocks: BlockCount;
  readonly headerBytes: ByteCount;
  readonly objectBytes: ByteCount;
}

export interface EncodedSegment {
  /** Header and frames; their concatenation is the object. */
  readonly pieces: readonly Buffer[];
  readonly header: SegmentHeader;
  readonly crc32: number;
  /** SHA-256 of all bytes. */
  readonly digest: Buffer;
}

export const MAX_SEGMENT_BYTES = 8 * MIB;
export const MAX_SEGMENT_BLOCKS = 1984;
export const MAX_SEGMENT_UNMAPS = 16_384;
export const EXTENT_BYTES = 10;
export const FRAME_LENGTH_BYTES = 2;
/** Segment number, blocks, frames, extents, unmap ranges. */
export const COUNTS_BYTES = 8 + 4 + 2 + 2 + 4;
const MAX_HEADER_BYTES = alignToFrame(
  ENVELOPE_BYTES +
    COUNTS_BYTES +
    MAX_IDENTITY_BYTES +
    MAX_SEGMENT_BLOCKS * (FRAME_LENGTH_BYTES + EXTENT_BYTES) +
    MAX_SEGMENT_UNMAPS * RANGE_BYTES,
);

export const SEGMENT_KIND: ObjectKind = {
  what: 'segment',
  magic: 'FSSG',
  maxHeaderBytes: MAX_HEADER_BYTES,
  maxObjectBytes: MAX_SEGMENT_BYTES,
};

invariant(MAX_SEGMENT_BYTES === MAX_OBJECT_UNITS * FRAME_ALIGN, 'an offset reaches every frame of a segment');
invariant(
  (MAX_SEGMENT_BLOCKS / MAX_FRAME_BLOCKS) * MAX_FRAME_BYTES +
    alignToFrame(
      ENVELOPE_BYTES +
        COUNTS_BYTES +
        MAX_IDENTITY_BYTES +
        (MAX_SEGMENT_BLOCKS / MAX_FRAME_BLOCKS) * FRAME_LENGTH_BYTES +
        MAX_SEGMENT_BLOCKS * EXTENT_BYTES +
        MAX_SEGMENT_UNMAPS * RANGE_BYTES,
    ) <=
    MAX_SEGMENT_BYTES,
  'a segment of incompressible blocks in full frames fits 8 MiB with all its unmaps',
);

export function alignToFrame(bytes: number): number {
  return Math.ceil(bytes / FRAME_ALIGN) * FRAME_ALIGN;
}

/** Why two ascending lists of ranges are not ascending, disjoint and disjoint from each other; undefined when they are. */
export function overlapProblem(extents: readonly BlockRange[], unmaps: readonly BlockRange[]): string | undefined {
  let end = 0;
  for (const extent of extents) {
    if (!isBlockRange(extent.block, extent.count) || extent.block < end) return `extent at block ${extent.block}`;
    end = extent.block + extent.count;
  }
  end = 0;
  let at = 0;
  for (const unmap of unmaps) {
    if (!isBlockRange(unmap.block, unmap.count) || unmap.block < end) return `unmap range at block ${unmap.block}`;
    end = unmap.block + unmap.count;
    for (let extent = extents[at]; extent !== undefined && extent.block < end; extent = extents[at]) {
      if (extent.block + extent.count > unmap.block) return `block ${extent.block} is both written and unmapped`;
      at++;
    }
  }
  return undefined;
}

/** In place of a segment's number where the version item itself has the bytes. */
export const INLINE_NUMBER = 0;

/**
 * The record of the version a segment was made for: everything in it comes from the object (and the chain before is in the header).
 * A segment made by maintenance has none: `damaged`.
 */
export function recordOfSegment(header: SegmentHeader, objectCrc32: number, digest: Buffer): VersionRecord {
  const { headerBytes, objectBytes, number } = header;
  const payload: VersionRecord['payload'] =
    number === INLINE_NUMBER
      ? { kind: 'inline', bytes: objectBytes, crc32: objectCrc32, digest }
      : { kind: 'segment', number, headerBytes, objectBytes, crc32: objectCrc32, digest };
  return { ...recordFields(header), payload, blocks: header.blocks, bytes: objectBytes };
}
