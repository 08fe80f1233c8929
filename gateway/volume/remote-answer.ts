import { FarshoreError } from '../base/errors.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber } from '../base/units.ts';
import { LOST_BLOCK, type RemoteBlocks } from '../replication/remote-volume.ts';
import { STALE_BLOCK } from './block-state.ts';

/**
 * Copies `count` blocks from index `from` of the answer on; blocks never written are zeros. Answers which of them have to be read anew. Throws
 * `damaged` at one that is lost.
 */
export function copyBlocks(
  { data, present }: RemoteBlocks,
  first: BlockNumber,
  from: number,
  count: BlockCount,
  into: Buffer,
): readonly number[] {
  const stale: number[] = [];
  let at = 0;
  for (let index = 0; index < from; index++)
    if (present[index] === 1 || present[index] === STALE_BLOCK) at += BLOCK_SIZE;
  for (let index = 0; index < count; index++) {
    if (present[from + index] === 1) {
      data.copy(into, index * BLOCK_SIZE, at, at + BLOCK_SIZE);
      at += BLOCK_SIZE;
    } else if (present[from + index] === STALE_BLOCK) {
      stale.push(index);
      at += BLOCK_SIZE;
    } else if (present[from + index] === LOST_BLOCK) throw damagedBlock(first + from + index);
    else into.fill(0, index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE);
  }
  return stale;
}

/** Of a block that is nowhere else. */
export function damagedBlock(block: BlockNumber): FarshoreError {
  return new FarshoreError(
    'damaged',
    `block ${block} was damaged in the cache log before any version had it; writing it again mends it`,
  );
}
