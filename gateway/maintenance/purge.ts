import { FarshoreError } from '../base/errors.ts';
import type { VolumeItem, VersionLog } from '../cloud/version-log.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import { lineagePrefix, volumePrefix } from '../format/keys.ts';

/** How long a deleted volume comes back with undelete. */
export const KEEP_DELETED_MS = 7 * 24 * 3600 * 1000;
const PAGE = 1000;

/** `retainedFrom` of a volume whose purge has begun: no version of it can be restored or cloned any more. */
export const PURGING = Number.MAX_SAFE_INTEGER;

/**
 * Removes a deleted volume for ever: its objects, then its name, then its item. The records of its log stay as a few hundred bytes
 * each (rule 4: a takeover record fences for ever, so a forgotten gateway can still not extend it). Running it again goes on where it stopped: the
 * name and item, without which nobody finds the rest, go last. Returns how many objects were removed.
 *
 * The segments belong to the lineage: while another volume of it is there (a clone, or what this one is a clone of), only the volume's own maps go,
 * and the purge of the last one takes the rest. A clone that is being made meanwhile is no danger: its item is written before it reads the
 * source's for the last time, and ours was marked PURGING before the volumes are listed here, so one of the two sees the other.
 * Rejects with `input` when the volume is not deleted, `in-use` when it changed hands meanwhile, `retry`.
 */
export async function purgeVolume(
  ports: { readonly store: ObjectStore; readonly log: VersionLog },
  item: VolumeItem,
  onProgress: (objects: number) => void,
): Promise<{ readonly objects: number }> {
  if (item.deletedAt === undefined) {
    throw new FarshoreError(
      'input',
      `volume ${item.name} is not deleted; delete it first with: farshore volume delete ${item.name}`,
    );
  }
  const others = (await ports.log.listVolumes(item.lineage)).filter(
    ({ volume, retainedFrom }) => volume !== item.volume && retainedFrom !== PURGING,
  );
  const prefix = others.length === 0 ? lineagePrefix(item.lineage) : volumePrefix(item.lineage, item.volume);
  let objects = 0;
  for (;;) {
    const page = await ports.store.list(prefix, PAGE);
    if (page.objects.length === 0) break;
    await ports.store.delete(page.objects.map((object) => object.key));
    objects += page.objects.length;
    onProgress(objects);
  }
  const ref = { lineage: item.lineage, volume: item.volume };
  if (
    (await ports.log.removeVolume(ref, item.epoch)) === 'conflict' &&
    (await ports.log.getVolume(ref)) !== undefined
  ) {
    throw new FarshoreError(
      'in-use',
      `volume ${item.name} was taken over or undeleted while it was being purged; its objects are gone`,
    );
  }
  await ports.log.releaseName(item.name, ref);
  return { objects };
}
