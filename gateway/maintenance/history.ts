import type { BlockCount, ByteCount, Epoch, VersionNumber, WallMillis } from '../base/units.ts';
import type { VersionLog, VolumeRef } from '../cloud/version-log.ts';
import type { VersionKind } from '../format/version-record.ts';
import { tailRecord, WALK_PAGE } from './walk.ts';

/** Versions listed by one call. */
export const MAX_LISTED_VERSIONS = 100_000;

export interface ListedVersion {
  readonly n: VersionNumber;
  readonly epoch: Epoch;
  readonly kind: VersionKind;
  readonly blocks: BlockCount;
  readonly bytes: ByteCount;
  readonly newestWriteAt: WallMillis;
  readonly sealedAt: WallMillis;
}

/**
 * The newest `limit` versions up to `through`, newest first; those that are no longer in the table are left out. `through` must be
 * known to be committed: what lies at or below such an n is history.
 */
export async function newestVersions(
  versions: VersionLog,
  ref: VolumeRef,
  through: VersionNumber,
  limit: number,
): Promise<ListedVersion[]> {
  const listed: ListedVersion[] = [];
  let from = Math.max(1, through - Math.min(limit, MAX_LISTED_VERSIONS) + 1);
  while (from <= through) {
    const page = await versions.listVersions(ref.volume, from, Math.min(WALK_PAGE, through - from + 1));
    const last = page.at(-1);
    if (last === undefined) break;
    for (const item of page) {
      if (item.n > through) break;
      const { n, epoch, kind, blocks, bytes, newestWriteAt, sealedAt } = tailRecord(ref, item).record;
      listed.push({ n, epoch, kind, blocks, bytes, newestWriteAt, sealedAt });
    }
    from = last.n + 1;
  }
  return listed.reverse();
}
