import { invariant } from '../base/errors.ts';
import type { SegmentNumber } from '../base/units.ts';
import { MAX_SEGMENT_NUMBER } from './ids.ts';

/** Offsets and lengths in a segment are counted in units of this many bytes. */
export const UNIT_BYTES = 256;
/** An offset has 15 bits, so a segment has at most 8 MiB. */
export const MAX_OBJECT_UNITS = 2 ** 15;
const MAX_LENGTH_UNITS = 2 ** 9 - 1;
const MAX_INDEX = 15;

/** Where a block lies: bits, from the highest: segment 36, offset 15, length 9, index 4. All zero is "never written". */
export interface MapEntry {
  readonly segment: SegmentNumber;
  /** Of the frame from the start of the object, in units of 256 bytes. */
  readonly offset: number;
  /** Of the frame, in units of 256 bytes. */
  readonly length: number;
  /** Of the block in the frame. */
  readonly index: number;
}

/** Writes the entry as [high 32 bits, low 32 bits] at `into[at]`. */
export function packEntry(entry: MapEntry, into: Uint32Array, at: number): void {
  const { segment, offset, length, index } = entry;
  invariant(segment >= 1 && segment <= MAX_SEGMENT_NUMBER, 'a mapped block lies in a numbered segment');
  invariant(
    offset >= 1 && length >= 1 && length <= MAX_LENGTH_UNITS && offset + length <= MAX_OBJECT_UNITS,
    'a frame lies within its segment, after the header',
  );
  invariant(index >= 0 && index <= MAX_INDEX, 'a frame has at most 16 blocks');
  invariant(at >= 0 && at + 1 < into.length, 'an entry fits the array it is packed into');
  into[at] = Math.floor(segment / 16);
  into[at + 1] = (((segment % 16) << 28) | (offset << 13) | (length << 4) | index) >>> 0;
}

/** Undefined for a block never written. The words are valid ones (`isEntry`). */
export function unpackEntry(high: number, low: number): MapEntry | undefined {
  if (high === 0 && low === 0) return undefined;
  return {
    segment: entrySegment(high, low),
    offset: (low >>> 13) & 0x7fff,
    length: (low >>> 4) & 0x1ff,
    index: low & 0xf,
  };
}

/** The segment of an entry without unpacking the rest; 0 for never written. */
export function entrySegment(high: number, low: number): SegmentNumber {
  return high * 16 + (low >>> 28);
}

/** Whether the two words are "never written" or an entry that can exist. */
export function isEntry(high: number, low: number): boolean {
  if (high === 0 && low === 0) return true;
  const offset = (low >>> 13) & 0x7fff;
  const length = (low >>> 4) & 0x1ff;
  return entrySegment(high, low) >= 1 && offset >= 1 && length >= 1 && offset + length <= MAX_OBJECT_UNITS;
}
