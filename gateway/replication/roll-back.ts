import { FarshoreError } from '../base/errors.ts';
import type { BlockCount, ByteCount, VersionNumber } from '../base/units.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import { entrySegment } from '../format/map-entry.ts';
import { SHARD_BLOCKS } from '../format/run.ts';
import type { RunSection } from '../format/run.ts';
import type { TakeoverProof } from '../format/version-identity.ts';
import { isInline } from '../maintenance/inline-images.ts';
import type { MaintenanceDeps } from '../maintenance/maintenance-deps.ts';
import { lowest } from '../maintenance/map-reader.ts';
import { loadPastMap, relocatePast } from '../maintenance/past-map.ts';
import type { RunReader } from '../maintenance/run-reader.ts';
import type { VolumeMap } from '../maintenance/volume-map.ts';
import { commitManifest } from './commit-manifest.ts';
import { volumeName } from './volume-name.ts';
import type { VersionWriter } from './version-writer.ts';

/** Blocks that may have changed since the version gone back to (64 GiB): their entries are held in memory until the manifest is written. */
export const MAX_ROLLBACK_BLOCKS: BlockCount = 2 ** 24;

export interface RollBackRequest {
  readonly ref: VolumeRef;
  readonly writer: VersionWriter;
  /** The present map. */
  readonly map: VolumeMap;
  readonly takeover: TakeoverProof | undefined;
  readonly signal: AbortSignal;
}

export interface RollBack {
  readonly n: VersionNumber;
  /** Size of the volume as of then. */
  readonly volumeBytes: ByteCount;
  /** The manifest. */
  readonly run: RunReader;
}

/**
 * Commits one version whose manifest maps every block that changed after version n back to where it was then. The data is not copied, the
 * history stays. Rejects with `input` for a version that does not exist (any more) or lies too far back.
 */
export async function rollBack(deps: MaintenanceDeps, request: RollBackRequest, n: VersionNumber): Promise<RollBack> {
  const { ref, writer, map } = request;
  const newest = writer.lastCommitted().n;
  if (!Number.isSafeInteger(n) || n < 1 || n > newest) {
    throw new FarshoreError(
      'input',
      `${volumeName(ref, writer.item.name)} has no version ${n}; its newest one is ${newest}.`,
    );
  }
  if (n < writer.item.retainedFrom) {
    throw new FarshoreError(
      'input',
      `version ${n} of ${volumeName(ref, writer.item.name)} is older than the oldest one kept, ${writer.item.retainedFrom}.`,
    );
  }
  const past = await loadPastMap(deps, writer.item, n);
  // A manifest can only point into segments.
  await relocatePast(deps, past, { owner: writer.item, volume: writer.item.volume, signal: request.signal });
  const sections = await differences(past.map, map, ref);
  const { volumeBytes } = past;
  const { n: made, run } = await commitManifest(deps, {
    ...{ ref, writer, takeover: request.takeover, signal: request.signal, sections, volumeBytes },
    kind: 'restore',
    ranges: [],
    firstSeq: 0,
    throughSeq: 0,
    newestWriteAt: 0,
  });
  return { n: made, volumeBytes, run };
}

/** Per shard the blocks whose entry now is not the one of then, with the one of then. */
async function differences(then: VolumeMap, now: VolumeMap, ref: VolumeRef): Promise<RunSection[]> {
  const sections: RunSection[] = [];
  let changed: BlockCount = 0;
  for (let from = 0; ;) {
    const shard = lowest(await then.nextShard(from), await now.nextShard(from));
    if (shard === undefined) return sections;
    const [before, after] = await Promise.all([then.shardEntries(shard), now.shardEntries(shard)]);
    const blocks: number[] = [];
    const entries: number[] = [];
    for (let index = 0; index < SHARD_BLOCKS; index += 1) {
      const high = before[2 * index] ?? 0;
      const low = before[2 * index + 1] ?? 0;
      if (high === after[2 * index] && low === after[2 * index + 1]) continue;
      if (isInline(entrySegment(high, low)))
        throw new FarshoreError('bug', 'an inline payload was not moved into a segment');
      blocks.push(index);
      entries.push(high, low);
    }
    if (blocks.length > 0)
      sections.push({ shard, blocks: Uint16Array.from(blocks), entries: Uint32Array.from(entries) });
    changed += blocks.length;
    if (changed > MAX_ROLLBACK_BLOCKS) {
      throw new FarshoreError(
        'input',
        `more than ${MAX_ROLLBACK_BLOCKS} blocks of volume ${ref.volume} have changed since; that is too much to go back in place.`,
      );
    }
    from = shard + 1;
  }
}
