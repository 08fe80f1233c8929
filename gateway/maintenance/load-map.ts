import { assertNever } from '../base/errors.ts';
import type { ByteCount, VersionNumber } from '../base/units.ts';
import { enterSegment } from './enter-changes.ts';
import type { InlineImages } from './inline-images.ts';
import type { CheckpointMap, MapSource } from './map-reader.ts';
import { mapParallel } from './parallel.ts';
import { loadChanges } from './payload.ts';
import type { VersionChanges } from './payload.ts';
import { VolumeMap } from './volume-map.ts';
import type { TailRecord } from './walk.ts';

/** Segment headers read at a time. */
export const PARALLEL_HEADERS = 16;

/**
 * The map as of the last of `records`, which follow the checkpoint in the log. Headers are read 16 at a time. `entered` is told of each
 * version in order. Rejects with `not-found` (an object is missing), `damaged`, `retry`.
 */
export async function loadMap(
  source: MapSource,
  checkpoint: CheckpointMap,
  records: readonly TailRecord[],
  images: InlineImages,
  shardCacheBytes: ByteCount,
  entered: (n: VersionNumber, version: VersionChanges) => void = () => undefined,
): Promise<VolumeMap> {
  const map = new VolumeMap(checkpoint, shardCacheBytes);
  for (let at = 0; at < records.length; at += PARALLEL_HEADERS) {
    const part = records.slice(at, at + PARALLEL_HEADERS);
    const loaded = await mapParallel(part, PARALLEL_HEADERS, (record) => loadChanges(source, record));
    part.forEach(({ record: { n } }, index) => {
      const version = loaded[index];
      if (version === undefined) return;
      enterVersion(map, images, n, version);
      entered(n, version);
    });
  }
  return map;
}

/** Enters a committed version in the map. */
export function enterVersion(map: VolumeMap, images: InlineImages, n: VersionNumber, version: VersionChanges): void {
  switch (version.kind) {
    case 'none':
      return;
    case 'segment':
      map.commit(n, (changes) => {
        enterSegment(changes, version.header, n);
      });
      return;
    case 'inline': {
      const header = { ...version.header, number: images.add(n, version.image) };
      map.commit(n, (changes) => {
        enterSegment(changes, header, n);
      });
      return;
    }
    case 'manifest':
      map.commitManifest(n, version.run);
      return;
    default:
      assertNever(version);
  }
}
