import { crc32 } from '../base/crc32.ts';
import { isKind } from '../base/errors.ts';
import type { BlockNumber, WriteSeq } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import { KIND_UNMAP } from './descriptor.ts';
import { SLOT_BYTES, slotPosition, type ChunkGeometry } from './layout.ts';
import { type KeyLimit, RecordStream, takeOp } from './record-stream.ts';
import { decodeUnmap, type BlockRange } from './unmap-payload.ts';

/** An operation as it is salvaged; blocks that can't be read any more are undefined. */
export type TailOp =
  | {
      readonly kind: 'write';
      readonly seq: WriteSeq;
      readonly block: BlockNumber;
      readonly data: readonly (Buffer | undefined)[];
    }
  | { readonly kind: 'unmap'; readonly seq: WriteSeq; readonly ranges: readonly BlockRange[] | undefined };

/** Tells of every operation of the volume above `after`, in order; the volume's log has been recovered and is not being written. */
export async function readTail(
  chunks: readonly Chunk[],
  volume: number,
  geometry: ChunkGeometry,
  after: WriteSeq,
  limit: KeyLimit,
  visit: (op: TailOp) => Promise<void>,
): Promise<void> {
  const stream = new RecordStream(chunks, volume, geometry, 'writes', after, limit);
  if (stream.mustLoad) await stream.load();
  while (!stream.ended) {
    const op = await takeOp(stream);
    if (op.seq <= after) continue;
    const data: (Buffer | undefined)[] = [];
    for (const record of op.records) {
      data.push(record === undefined ? undefined : await readSlot(record.chunk, record.slot, record.dataCrc));
    }
    if (op.kind === KIND_UNMAP) {
      const slot = data[0];
      await visit({ kind: 'unmap', seq: op.seq, ranges: slot === undefined ? undefined : decodeUnmap(slot) });
    } else await visit({ kind: 'write', seq: op.seq, block: op.block, data });
  }
}

async function readSlot(chunk: Chunk, slot: number, dataCrc: number): Promise<Buffer | undefined> {
  const data = Buffer.allocUnsafe(SLOT_BYTES);
  try {
    await chunk.file.read(data, slotPosition(slot));
  } catch (error) {
    if (isKind(error, 'stopped', 'damaged')) return undefined;
    throw error;
  }
  return crc32(data) === dataCrc ? data : undefined;
}
