import type { WriteSeq } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import type { ChunkGeometry } from './layout.ts';
import { MAX_ENDS, type PoolState } from './pool-state.ts';
import type { KeyLimit } from './record-stream.ts';
import { finishCuts } from './recover-tail.ts';

/**
 * What recoverTail calls when the records of a volume behind `lastSeq` are cut off: the pool's state remembers it durably, for chunks of earlier
 * processes (below `firstGeneration`), until the answer is called. Cuts that were never finished are finished when there are too many.
 */
export function cutsIn(
  state: PoolState,
  number: number,
  firstGeneration: number,
  chunks: readonly Chunk[],
  geometry: ChunkGeometry,
  limit: KeyLimit,
): (lastSeq: WriteSeq) => Promise<() => void> {
  return async (lastSeq) => {
    if (state.cuts(number) >= MAX_ENDS) {
      await finishCuts(chunks, number, geometry, limit);
      state.forgetEnds(number);
    }
    const end = { beforeGeneration: firstGeneration, lastSeq };
    await state.cutOff(number, end, Math.min(...chunks.map(({ generation }) => generation)));
    return () => {
      state.forgetEnd(number, end);
    };
  };
}
