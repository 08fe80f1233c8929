import type { ByteReader, ByteWriter } from './bytes.ts';
import type { BlockRange } from './ids.ts';

/** A range in an object: 6 bytes of first block, 6 bytes of count. */
export const RANGE_BYTES = 12;

export function writeRanges(writer: ByteWriter, ranges: readonly BlockRange[]): void {
  for (const { block, count } of ranges) writer.u48(block).u48(count);
}

/** The caller checks what they say. */
export function readRanges(reader: ByteReader, count: number): BlockRange[] {
  const start = reader.take(count * RANGE_BYTES, 'block ranges');
  const ranges: BlockRange[] = [];
  for (let at = start; at < start + count * RANGE_BYTES; at += RANGE_BYTES) {
    ranges.push({ block: reader.bytes.readUIntLE(at, 6), count: reader.bytes.readUIntLE(at + 6, 6) });
  }
  return ranges;
}
