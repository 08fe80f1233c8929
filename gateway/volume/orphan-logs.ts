import type { Disk } from '../base/disk.ts';
import type { Log } from '../base/log.ts';
import type { Epoch } from '../base/units.ts';
import type { CacheLog } from '../cache/cache-log.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import { salvageTail } from './salvage.ts';

/**
 * Keeps what the cache log still has of a volume whose state file is damaged or gone: nobody can tell any more how it goes on, and nobody else may have it.
 * What the pool knows to be in a version is left out; what else there is goes to a salvage file each, durably. Nothing is released here. Answers the paths.
 */
export async function salvageOrphans(
  { disk, cache, log }: { readonly disk: Disk; readonly cache: CacheLog; readonly log: Log },
  ref: VolumeRef,
  epoch: Epoch,
): Promise<string[]> {
  const paths: string[] = [];
  for (const localNumber of cache.numbersOf(ref.volume)) {
    await cache.recover(localNumber, undefined);
    const after = cache.committedAtLeast(localNumber);
    const request = { ref, epoch, logId: 'unknown', localNumber, after, name: `${ref.volume}-${epoch}-${localNumber}` };
    const saved = await salvageTail(disk, cache, request);
    if (saved === undefined) continue;
    paths.push(saved.path);
    log.error(
      { volume: ref.volume, ...saved },
      'the state file of the volume is damaged or gone, so the writes in the cache log here are not part of the volume any more; those that may be in no version are kept in a salvage file',
    );
  }
  return paths;
}
