import { isKind } from '../../base/errors.ts';
import { BLOCK_SIZE, type BlockNumber } from '../../base/units.ts';
import type { BlockState } from '../block-state.ts';

/**
 * The log has lost the dirty block that it had at `place`: answers what the image has of it, when that is the same, on stable storage. undefined when there
 * is no such image, its disk can't read the block, or something newer is there by now. The RAM tier has it then too.
 */
export async function rescueFromImage(
  state: BlockState,
  block: BlockNumber,
  place: number,
): Promise<Buffer | undefined> {
  const { image, log, cache } = state;
  if (image === undefined || image.isBehind(block)) return undefined;
  const content = Buffer.allocUnsafe(BLOCK_SIZE);
  try {
    await image.read(block, content);
  } catch (error) {
    if (!isKind(error, 'stopped')) throw error;
    return undefined;
  }
  // Whoever writes or unmaps the block takes it away from its place, so it was not being overwritten while it was read.
  if (state.stagedFor(block) !== undefined || log.index.place(block) !== place) return undefined;
  cache.ram.put(log.number, block, [content], 0);
  return content;
}
