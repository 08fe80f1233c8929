import { crc32 } from '../base/crc32.ts';
import { isKind } from '../base/errors.ts';
import { placeOf, SLOT_BYTES, slotPosition } from './layout.ts';
import type { LoggedOp } from './record-stream.ts';
import { decodeUnmap, type BlockRange } from './unmap-payload.ts';

/** Where each block of a write lies. Where a record is missing, the reader of the log will find that nothing is there. */
export function placesOf(op: LoggedOp): number[] {
  return op.records.map((record, at) => {
    if (record !== undefined) return placeOf(record.chunk.number, record.slot);
    // The slots of an operation lie in a row, but for a change of chunk.
    const before = op.records[at - 1];
    return before === undefined ? placeOf(0, 1) : placeOf(before.chunk.number, before.slot + 1);
  });
}

/** The ranges of an unmap; undefined when they are damaged. Rejects with `stopped` when the disk fails. */
export async function readRanges(op: LoggedOp): Promise<BlockRange[] | undefined> {
  const record = op.records[0];
  if (record === undefined) return undefined;
  const slot = Buffer.allocUnsafe(SLOT_BYTES);
  try {
    await record.chunk.file.read(slot, slotPosition(record.slot));
    return crc32(slot) === record.dataCrc ? decodeUnmap(slot) : undefined;
  } catch (error) {
    if (isKind(error, 'damaged')) return undefined;
    throw error;
  }
}
