import type { BlockNumber, WriteSeq } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import { KIND_UNMAP } from './descriptor.ts';
import type { ChunkGeometry } from './layout.ts';
import { placesOf, readRanges } from './logged-op.ts';
import { type KeyLimit, RecordStream, takeOp } from './record-stream.ts';
import type { BlockRange } from './unmap-payload.ts';

/** An operation as the sealer needs it. */
export type ReplayedOp =
  | {
      readonly kind: 'write';
      readonly seq: WriteSeq;
      readonly wallSeconds: number;
      readonly block: BlockNumber;
      readonly places: readonly number[];
    }
  | {
      readonly kind: 'unmap';
      readonly seq: WriteSeq;
      readonly wallSeconds: number;
      /** undefined when they are damaged. */
      readonly ranges: readonly BlockRange[] | undefined;
    };

/**
 * Tells of the operations of an attached volume above `after`, in order, until `visit` answers false. Operations that are being appended may
 * be told of too, and not whole. Rejects with `stopped` when the disk fails.
 */
export async function replay(
  chunks: readonly Chunk[],
  volume: number,
  geometry: ChunkGeometry,
  after: WriteSeq,
  limit: KeyLimit,
  visit: (op: ReplayedOp) => boolean,
): Promise<void> {
  const stream = new RecordStream(chunks, volume, geometry, 'writes', after, limit);
  if (stream.mustLoad) await stream.load();
  while (!stream.ended) {
    const op = await takeOp(stream);
    if (op.seq <= after) continue;
    const { seq, wallSeconds, block } = op;
    const goesOn =
      op.kind === KIND_UNMAP
        ? visit({ kind: 'unmap', seq, wallSeconds, ranges: await readRanges(op) })
        : visit({ kind: 'write', seq, wallSeconds, block, places: placesOf(op) });
    if (!goesOn) return;
  }
}
