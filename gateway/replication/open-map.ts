import { FarshoreError, isKind } from '../base/errors.ts';
import type { ByteCount } from '../base/units.ts';
import type { VolumeItem } from '../cloud/version-log.ts';
import type { InlineImages } from '../maintenance/inline-images.ts';
import { loadMap } from '../maintenance/load-map.ts';
import type { MaintenanceDeps } from '../maintenance/maintenance-deps.ts';
import { CheckpointMap } from '../maintenance/map-reader.ts';
import type { VolumeMap } from '../maintenance/volume-map.ts';
import type { TailRecord } from '../maintenance/walk.ts';
import type { FoldBacklog } from './fold-backlog.ts';
import type { LogOrigin } from './remote-volume.ts';
import { volumeName } from './volume-name.ts';

/** What a takeover found in the log. */
export interface FoundLog {
  readonly item: VolumeItem;
  /** Every version after the checkpoint, the takeover itself not among them. */
  readonly tail: readonly TailRecord[];
}

/** The map of a volume in memory, and who wrote its last data. */
export interface OpenedMap {
  readonly map: VolumeMap;
  readonly lastData: LogOrigin | undefined;
}

/** The map of what a takeover found. Rejects with `retry`, `damaged` (also for an object that is missing). */
export async function openMap(
  deps: MaintenanceDeps,
  { item, tail }: FoundLog,
  images: InlineImages,
  backlog: FoldBacklog,
  shardCacheBytes: ByteCount,
): Promise<OpenedMap> {
  const ref = { lineage: item.lineage, volume: item.volume };
  const source = { store: deps.store, compression: deps.compression, ref };
  try {
    const checkpoint = await CheckpointMap.load(source, item.checkpoint);
    const map = await loadMap(source, checkpoint, tail, images, shardCacheBytes, (n, version) => {
      backlog.add(n, version);
    });
    return { map, lastData: lastDataOf(tail) ?? checkpoint.checkpoint?.lastData };
  } catch (error) {
    // Nothing is deleted while it is part of the history: a missing object is damage.
    if (!isKind(error, 'not-found')) throw error;
    throw new FarshoreError('damaged', `${volumeName(ref, item.name)} cannot be opened: ${error.message}`, {
      cause: error,
    });
  }
}

function lastDataOf(tail: readonly TailRecord[]): LogOrigin | undefined {
  const data = tail.findLast(({ record }) => record.kind === 'write' || record.kind === 'restore')?.record;
  return data && { epoch: data.epoch, logId: data.logId, throughSeq: data.throughSeq };
}
