import type { Clock, Random } from '../base/clock.ts';
import type { Disk } from '../base/disk.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { CacheLog } from '../cache/cache-log.ts';
import { CACHE_DIRECTORY } from '../cache/layout.ts';
import type { CacheSettings } from '../cache/settings.ts';
import type { CatalogueVolume } from '../catalogue.ts';
import { surrenderVolume } from '../volume/open-volume.ts';

/** Where the threads beside the main one have their parts of the state directory. */
export const THREADS_DIRECTORY = 'threads';
/** What a log cannot be understood without; it goes last. */
const POOL_STATE = 'pool.state';

export interface RetiredThreadDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The thread's part of the state directory. */
  readonly disk: Disk;
  readonly settings: CacheSettings;
}

/** Numbers of threads that have a directory and are not among the first `threads`: there were more once. */
export async function retiredThreads(disk: Disk, threads: number): Promise<readonly number[]> {
  const names = await disk.list(THREADS_DIRECTORY);
  return names
    .filter((name) => /^[1-9]\d*$/.test(name))
    .map(Number)
    .filter((number) => number >= threads)
    .sort((a, b) => a - b);
}

/**
 * Removes the cache log of a thread that has no volumes and is not started any more. What a move that was cut short left of the catalogue's `volumes` is
 * given up as at any start (see surrenderVolume); a log that has volumes nobody knows of, or cannot be read, stays as it is. Resolves with whether it is
 * gone; a crash on the way leaves what the next start goes on with. Never rejects: it is in nobody's way.
 */
export async function clearRetiredThread(
  { disk, settings, ...deps }: RetiredThreadDeps,
  volumes: readonly CatalogueVolume[],
): Promise<boolean> {
  const { log } = deps;
  try {
    if ((await disk.list(CACHE_DIRECTORY)).includes(POOL_STATE)) {
      const cache = await CacheLog.open({ disk, ...deps }, settings);
      try {
        for (const entry of volumes) {
          if (!cache.registeredVolumes.includes(entry.volume)) continue;
          const kept = await surrenderVolume({ disk, cache, log }, entry);
          log.warn(
            { volume: entry.name, kept },
            'what a former thread still had of a volume that was moved was given up',
          );
        }
        const unknown = cache.registeredVolumes;
        if (unknown.length > 0) {
          log.warn(
            { volumes: unknown },
            'a former thread has a cache log with volumes that this gateway does not have; it stays until you remove its directory, once you are sure that nobody misses them',
          );
          return false;
        }
      } finally {
        await cache.close();
      }
    }
    const names = await disk.list(CACHE_DIRECTORY);
    for (const name of names.filter((each) => each !== POOL_STATE)) await disk.remove(`${CACHE_DIRECTORY}/${name}`);
    await disk.syncDirectory(CACHE_DIRECTORY);
    await disk.remove(`${CACHE_DIRECTORY}/${POOL_STATE}`);
    return true;
  } catch (error) {
    log.warn(
      { error: describeError(error) },
      'the cache log of a former thread could not be removed; the next start tries again',
    );
    return false;
  }
}
