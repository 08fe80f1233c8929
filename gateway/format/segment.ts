/** Segments: what they are made of, bytes from values, values from bytes. */
export type { EncodedSegment } from './segment-layout.ts';
export { MAX_SEGMENT_BLOCKS, MAX_SEGMENT_BYTES, MAX_SEGMENT_UNMAPS, recordOfSegment } from './segment-layout.ts';
export { encodeSegment } from './segment-encode.ts';
export { decodeSegment, decodeSegmentHeader, rebuildRecord, segmentEntries } from './segment-decode.ts';
