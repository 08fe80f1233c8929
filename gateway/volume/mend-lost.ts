import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BlockNumber } from '../base/units.ts';
import type { BlockState } from './block-state.ts';
import { rescueFromImage } from './stored/rescue.ts';

export interface LostTools {
  readonly blocks: BlockState;
  readonly diary: Log;
  readonly writeAgain: (block: BlockNumber, content: Buffer, isNewest: () => boolean) => Promise<void>;
}

/**
 * A version says that the block, read from this place of the log, is lost. What memory or the image still has of it is written again; otherwise it can't
 * be read until somebody writes it. Never rejects.
 */
export async function mendLost(tools: LostTools, block: BlockNumber, place: number): Promise<void> {
  const { blocks, diary, writeAgain } = tools;
  const { cache, log } = blocks;
  const generation = cache.generationAt(place);
  // Where somebody is waited for, the chunk may be used anew, and a newer write of the block lie at that very place.
  const isThere = (): boolean => log.index.place(block) === place && cache.generationAt(place) === generation;
  const isNewest = (): boolean => blocks.stagedFor(block) === undefined && isThere();
  try {
    let found = isNewest() ? cache.ram.get(log.number, block) : undefined;
    // Without an image nothing is waited for: reads know at once.
    if (found === undefined && blocks.hasImage && isNewest()) found = await rescueFromImage(blocks, block, place);
    if (found === undefined) {
      if (isThere()) blocks.noteLost(block, place);
      return;
    }
    const content = Buffer.from(found);
    diary.warn({ block }, 'a damaged block of the cache log is written again');
    // It may have to wait, behind writes of initiators that must not be undone.
    const isStillNewest = (): boolean =>
      blocks.stagedFor(block) === undefined &&
      (isThere() || cache.ram.get(log.number, block)?.equals(content) === true);
    await writeAgain(block, content, isStillNewest);
  } catch (error) {
    diary.error({ block, reason: describeError(error) }, 'a damaged block could not be written again');
    if (isThere()) blocks.noteLost(block, place);
  }
}
