import { sleep, type Clock } from '../base/clock.ts';
import { describeError, isKind } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { BLOCK_SIZE, type BlockNumber } from '../base/units.ts';
import type { BlockState } from './block-state.ts';
import type { ReadPath } from './read-path.ts';
import { checkedRead } from './scrub-walk.ts';
import { rescueFromImage } from './stored/rescue.ts';

export interface ScrubTools {
  readonly blocks: BlockState;
  readonly reads: ReadPath;
  readonly clock: Clock;
  readonly diary: Log;
  readonly writeAgain: (block: BlockNumber, content: Buffer, isNewest: () => boolean) => Promise<void>;
  readonly signal: AbortSignal;
}

/** `harmless`: it was overwritten meanwhile, or another reading found it whole. */
export type Mended = 'harmless' | 'repaired' | 'unrepairable';

/** A place is read so often before its block is taken for damaged: it may have been reused under the first reading. */
const READINGS = 2;
const BETWEEN_READINGS_MS = 1_000;
/** While the cloud is away. */
const RETRY_MS = 5_000;

/**
 * A place of the log did not hold its block. Clean: it is fetched again. Dirty, so nowhere else: it is written again from the RAM tier, or said
 * to be damaged, as a read of it would have it.
 */
export async function mendLocal(tools: ScrubTools, block: BlockNumber, place: number): Promise<Mended> {
  const { blocks, reads, clock, diary, signal } = tools;
  const { index } = blocks.log;
  const isThere = (): boolean => blocks.stagedFor(block) === undefined && index.place(block) === place;
  let found: 'good' | 'bad' | 'refused' = 'bad';
  for (let reading = 0; reading < READINGS; reading++) {
    await sleep(clock, BETWEEN_READINGS_MS, signal);
    if (signal.aborted || !isThere()) return 'harmless';
    found = await checkedRead(blocks, block, place, Buffer.allocUnsafe(BLOCK_SIZE));
    if (found === 'good' || !isThere()) return 'harmless';
  }
  const inMemory = blocks.cache.ram.get(blocks.log.number, block);
  if (index.isDirty(block)) {
    const generation = blocks.cache.generationAt(place);
    if (inMemory !== undefined) return writeFrom(tools, { block, place, generation, content: Buffer.from(inMemory) });
    // Of an open chunk memory still has the descriptor: then the data may be whole.
    const content = Buffer.allocUnsafe(BLOCK_SIZE);
    if ((await checkedRead(blocks, block, place, content, false)) === 'good') {
      return writeFrom(tools, { block, place, generation, content });
    }
    const rescued = isThere() ? await rescueFromImage(blocks, block, place) : undefined;
    if (rescued !== undefined) return writeFrom(tools, { block, place, generation, content: rescued });
    if (!isThere()) return 'harmless';
    // While it was read once more it may have got into a version: then it is fetched like any other.
    if (index.isDirty(block)) {
      diary.error({ block, found }, 'a block that was not replicated yet is damaged in the cache log');
      // The disk may yet change its mind about a block that it only refuses.
      if (found === 'bad') blocks.noteDamaged(block);
      return 'unrepairable';
    }
  }
  index.clearIfAt(block, place);
  reads.repaired++;
  diary.warn({ block }, 'a damaged block of the cache is fetched again');
  for (;;) {
    try {
      return (await reads.refetch(block)) ? 'repaired' : 'unrepairable';
    } catch (error) {
      if (!isKind(error, 'retry', 'busy')) {
        diary.error({ block, reason: describeError(error) }, 'a damaged block of the cache cannot be fetched again');
        return 'unrepairable';
      }
    }
    await sleep(clock, RETRY_MS, signal);
    // From now on it is the cloud's to answer for, like any block that is not cached.
    if (signal.aborted) return 'repaired';
  }
}

/**
 * S3 cannot give a block of the newest version. Objects are never overwritten, so the same content is written once more, as the next version's;
 * what is dirty here will be in that one anyway. Older versions stay as damaged as they are. Rejects with `retry`, `busy` while the cloud is away.
 */
export async function mendRemote(tools: ScrubTools, block: BlockNumber): Promise<Mended> {
  const { blocks, diary } = tools;
  const { index } = blocks.log;
  // With an image, what is dirty may be in the damaged version already, and only wait for the image.
  if (blocks.stagedFor(block) !== undefined || (index.isDirty(block) && !blocks.hasImage)) return 'repaired';
  if (blocks.hasImage && blocks.isRemote(block)) await fetchFromImage(tools, block);
  const place = index.place(block);
  const generation = blocks.cache.generationAt(place);
  const inMemory = blocks.isDamaged(block) ? undefined : blocks.cache.ram.get(blocks.log.number, block);
  if (inMemory !== undefined) return writeFrom(tools, { block, place, generation, content: Buffer.from(inMemory) });
  const content = Buffer.allocUnsafe(BLOCK_SIZE);
  if (place !== 0 && (await checkedRead(blocks, block, place, content)) === 'good') {
    return writeFrom(tools, { block, place, generation, content });
  }
  diary.error({ block }, 'a block of the newest version cannot be read from S3, and nothing here has it');
  return 'unrepairable';
}

/** Into the RAM tier, if the image has the block as the volume has it; what is written or unmapped meanwhile does not go there. */
async function fetchFromImage({ blocks, reads, diary }: ScrubTools, block: BlockNumber): Promise<void> {
  if (blocks.cache.ram.has(blocks.log.number, block)) return;
  try {
    await reads.refetch(block);
  } catch (error) {
    if (!isKind(error, 'damaged', 'not-found')) throw error;
    diary.warn({ block, reason: describeError(error) }, 'the image does not have the block either');
  }
}

/** What was found at a place whose chunk was of this generation then. */
interface Found {
  readonly block: BlockNumber;
  readonly place: number;
  readonly generation: number | undefined;
  readonly content: Buffer;
}

/** Writes the block as if an initiator had, unless one has meanwhile: then what it wrote is what counts. */
async function writeFrom(tools: ScrubTools, { block, place, generation, content }: Found): Promise<Mended> {
  const { blocks, diary, writeAgain } = tools;
  const { cache, log } = blocks;
  // A place says nothing any more once its chunk was reused; whoever unmaps a block takes it out of both.
  const isNewest = (): boolean =>
    blocks.stagedFor(block) === undefined &&
    log.index.place(block) === place &&
    (place === 0
      ? cache.ram.get(log.number, block)?.equals(content) === true
      : cache.generationAt(place) === generation);
  // Read before this turn: it may be old already.
  if (!isNewest()) return 'harmless';
  try {
    await writeAgain(block, content, isNewest);
    diary.warn({ block }, 'a damaged block is written again');
    return 'repaired';
  } catch (error) {
    diary.error({ block, reason: describeError(error) }, 'a damaged block could not be written again');
    return 'unrepairable';
  }
}
