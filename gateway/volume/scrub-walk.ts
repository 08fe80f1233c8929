import { isKind } from '../base/errors.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber } from '../base/units.ts';
import { chunkOfPlace } from '../cache/layout.ts';
import { LEAF_BLOCKS } from '../cache/leaf-slab.ts';
import { LOST_BLOCK, type RemoteBlocks, type RemoteVolume } from '../replication/remote-volume.ts';
import type { BlockState } from './block-state.ts';

/** Read at once: a quarter of a MiB of memory, and little enough to make way for an initiator's read. */
const RUN_BLOCKS: BlockCount = 64;

/** Blocks that lie one behind the other, in the volume and in the log. */
export interface LocalRun {
  readonly first: BlockNumber;
  readonly place: number;
  readonly count: BlockCount;
}

/** The runs of one leaf of the index, from `from` on; asked again for each, because it changes while it is walked. */
export function* localRuns(state: BlockState, leafStart: BlockNumber, from: BlockNumber): Generator<LocalRun> {
  const { index } = state.log;
  const end = leafStart + LEAF_BLOCKS;
  for (let block = Math.max(leafStart, from); block < end;) {
    const place = index.place(block);
    if (place === 0 || state.isDamaged(block)) {
      block++;
      continue;
    }
    let count = 1;
    while (
      count < RUN_BLOCKS &&
      block + count < end &&
      index.place(block + count) === place + count &&
      chunkOfPlace(place + count) === chunkOfPlace(place)
    )
      count++;
    yield { first: block, place, count };
    block += count;
  }
}

/** Reads a run and answers those of its blocks whose places do not hold them (they may have moved on meanwhile). */
export async function checkLocal(
  state: BlockState,
  { first, place, count }: LocalRun,
): Promise<{ readonly block: BlockNumber; readonly place: number }[]> {
  const { cache, log } = state;
  let bad: readonly number[];
  try {
    bad = await cache.readRun(log, place, count, first, Buffer.allocUnsafe(count * BLOCK_SIZE), true);
  } catch (error) {
    if (!isKind(error, 'stopped', 'damaged') || cache.stoppedBy !== undefined) throw error;
    // Each by itself: mending reads it again.
    bad = Array.from({ length: count }, (_, at) => at);
  }
  return bad.map((at) => ({ block: first + at, place: place + at }));
}

export interface RemoteCheck {
  /** Blocks looked at, and where to go on. */
  readonly count: BlockCount;
  readonly next: BlockNumber;
  /**
   * `unreadable`: an object is missing or damaged. `lost`: the version says so itself. `different`: whole, and not what the cache has of the
   * same version.
   */
  readonly bad: readonly { readonly block: BlockNumber; readonly what: 'unreadable' | 'lost' | 'different' }[];
}

/**
 * Reads the next mapped blocks from `from` on back from S3 (every frame is checked as it is decoded, and must be where the map says), and
 * compares them with what the cache has of the same version. undefined at the end. Rejects with `retry` while the cloud is away.
 */
export async function checkRemote(
  state: BlockState,
  remote: RemoteVolume,
  from: BlockNumber,
): Promise<RemoteCheck | undefined> {
  const mapped = (await remote.nextMapped(from, RUN_BLOCKS))?.blocks;
  const first = mapped?.[0];
  if (mapped === undefined || first === undefined) return undefined;
  let count = 1;
  while (mapped[count] === first + count) count++;
  const bad: { block: BlockNumber; what: 'unreadable' | 'lost' | 'different' }[] = [];
  for (const run of await readRuns(state, remote, first, count)) {
    if (run.answer === undefined) bad.push({ block: run.first, what: 'unreadable' });
    else bad.push(...(await compare(state, run.first, run.answer, run.places)));
  }
  return { count, next: first + count, bad };
}

interface RemoteRun {
  readonly first: BlockNumber;
  readonly answer: RemoteBlocks | undefined;
  /** Where the cache had each block, clean, before S3 was asked; 0 for none. */
  readonly places: readonly number[];
}

/** In one go, or block by block when that fails. */
async function readRuns(
  state: BlockState,
  remote: RemoteVolume,
  first: BlockNumber,
  count: BlockCount,
): Promise<RemoteRun[]> {
  const places = Array.from({ length: count }, (_, at) => cleanPlace(state, first + at));
  try {
    return [{ first, answer: await remote.read(first, count, { fresh: true, background: true }), places }];
  } catch (error) {
    if (!isKind(error, 'damaged', 'not-found')) throw error;
  }
  if (count === 1) return [{ first, answer: undefined, places }];
  const runs: RemoteRun[] = [];
  for (let at = 0; at < count; at++) runs.push(...(await readRuns(state, remote, first + at, 1)));
  return runs;
}

async function compare(
  state: BlockState,
  first: BlockNumber,
  { data, present }: RemoteBlocks,
  places: readonly number[],
): Promise<{ block: BlockNumber; what: 'lost' | 'different' }[]> {
  const bad: { block: BlockNumber; what: 'lost' | 'different' }[] = [];
  const here = Buffer.allocUnsafe(BLOCK_SIZE);
  let at = 0;
  for (const [index, place] of places.entries()) {
    const block = first + index;
    if (present[index] === LOST_BLOCK) bad.push({ block, what: 'lost' });
    if (present[index] !== 1) continue;
    const there = data.subarray(at, at + BLOCK_SIZE);
    at += BLOCK_SIZE;
    if (place === 0 || (await checkedRead(state, block, place, here)) !== 'good') continue;
    // Whoever wrote it meanwhile has moved it.
    if (cleanPlace(state, block) === place && !here.equals(there)) bad.push({ block, what: 'different' });
  }
  return bad;
}

/** `fromDisk`: see readRun. `refused`: the disk does not give it now, and may yet. */
export async function checkedRead(
  { cache, log }: BlockState,
  block: BlockNumber,
  place: number,
  into: Buffer,
  fromDisk = true,
): Promise<'good' | 'bad' | 'refused'> {
  try {
    return (await cache.readRun(log, place, 1, block, into, fromDisk)).length === 0 ? 'good' : 'bad';
  } catch (error) {
    if (!isKind(error, 'stopped', 'damaged') || cache.stoppedBy !== undefined) throw error;
    return 'refused';
  }
}

/** Where the cache has the block as the newest version has it; 0 for nowhere. */
function cleanPlace(state: BlockState, block: BlockNumber): number {
  const { index } = state.log;
  if (state.image?.isMarked(block) === true) return 0;
  return state.stagedFor(block) === undefined && !index.isDirty(block) ? index.place(block) : 0;
}
