import type { Random } from '../base/clock.ts';
import type { Disk } from '../base/disk.ts';
import { FarshoreError } from '../base/errors.ts';
import { CACHE_DIRECTORY, chunkOfName, type ChunkGeometry } from './layout.ts';
import { PoolState } from './pool-state.ts';

/**
 * The pool's state, or a new one for an empty cache directory. Rejects with `damaged` when there are chunks without one, and `input` when the
 * chunks are of another size.
 */
export async function openState(disk: Disk, random: Random, { slots }: ChunkGeometry): Promise<PoolState> {
  const state = (await PoolState.open(disk)) ?? (await createState(disk, random, slots));
  if (state.slots !== slots) {
    throw new FarshoreError('input', `the cache was made with chunks of ${state.slots} slots, not ${slots}`);
  }
  return state;
}

async function createState(disk: Disk, random: Random, slots: number): Promise<PoolState> {
  const names = await disk.list(CACHE_DIRECTORY);
  if (names.some((name) => chunkOfName(name) !== undefined)) {
    throw new FarshoreError(
      'damaged',
      'the cache directory has chunks but no pool.state; put it back, or move the state directory aside and restore the volumes with --takeover',
    );
  }
  return PoolState.create(disk, random, slots);
}
