import type { Clock } from './base/clock.ts';
import { sleep } from './base/clock.ts';
import { describeError, FarshoreError, isKind } from './base/errors.ts';
import type { Log } from './base/log.ts';
import type { Progress } from './admin/gateway-api.ts';
import type { AuditLog } from './access/audit-log.ts';
import type { Catalogue, CatalogueVolume } from './catalogue.ts';
import type { ObjectStore } from './cloud/object-store.ts';
import type { VersionLog, VolumeItem, VolumeRef } from './cloud/version-log.ts';
import { KEEP_DELETED_MS, purgeVolume, PURGING } from './maintenance/purge.ts';
import type { SerialByKey } from './serial.ts';

export interface PurgerDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly catalogue: Catalogue;
  readonly table: VersionLog;
  readonly store: ObjectStore;
  readonly audit: AuditLog;
  /** Forgets what the state directory holds of a volume that is gone for ever, its access control included. */
  readonly forgetVolume: (ref: VolumeRef) => Promise<void>;
  /** Works on one volume follow one another. */
  readonly serial: SerialByKey;
  /** Whether the volume of this name is here and will not open by itself any more. */
  readonly hasFailed: (name: string) => boolean;
}

/** Deleted volumes are looked through this often for ones whose week is over. */
const PURGE_INTERVAL_MS = 3600 * 1000;

/** Removes deleted volumes for ever: when their week is over, or when told to. */
export class Purger {
  readonly #deps: PurgerDeps;

  constructor(deps: PurgerDeps) {
    this.#deps = deps;
  }

  /** Rejects with `fenced` when another gateway has it, or has brought it back. */
  async purge(item: VolumeItem, onProgress: (progress: Progress) => void): Promise<{ readonly objects: number }> {
    const { store, table, catalogue, forgetVolume } = this.#deps;
    // Marked before the first object goes: an undelete, here or elsewhere, must never bring back half a volume.
    if ((await table.changeVolume(item, item.epoch, { retainedFrom: PURGING })) === 'conflict') {
      throw new FarshoreError(
        'fenced',
        `volume ${item.name} was taken over by another gateway meanwhile; nothing was changed`,
      );
    }
    // Before the volume's item and name: without those nobody would find it any more.
    await table.removeAccess(item, item.epoch);
    const result = await purgeVolume({ store, log: table }, item, (done) => {
      onProgress({ phase: 'removing objects', done, total: 0, unit: 'steps' });
    });
    await forgetVolume(item);
    await catalogue.remove(item.volume);
    return result;
  }

  /** Goes on until `signal` aborts. */
  async runOnSchedule(signal: AbortSignal): Promise<void> {
    const { clock, catalogue, log, serial, hasFailed } = this.#deps;
    while (!signal.aborted) {
      for (const entry of catalogue.volumes) {
        const due = entry.deletedAt !== undefined && clock.now() >= entry.deletedAt + KEEP_DELETED_MS;
        // A deletion that was cut short is in the table but not here; the volume does not open any more.
        const unsure = entry.deletedAt === undefined && hasFailed(entry.name);
        if (!due && !unsure) continue;
        try {
          await serial.run(entry.name, () => this.#purgeExpired(entry));
        } catch (error) {
          if (!isKind(error, 'retry', 'in-use'))
            log.error({ volume: entry.name, error: describeError(error) }, 'a deleted volume could not be purged');
        }
      }
      await sleep(clock, PURGE_INTERVAL_MS, signal);
    }
  }

  /** Looks again: it may have been undeleted, or purged, while we waited for our turn. */
  async #purgeExpired(entry: CatalogueVolume): Promise<void> {
    const { table, catalogue, clock, log, audit } = this.#deps;
    const item = await table.getVolume(entry);
    if (item === undefined) {
      await catalogue.remove(entry.volume);
      return;
    }
    if (item.deletedAt !== undefined && entry.deletedAt === undefined) {
      await catalogue.put({ ...entry, deletedAt: item.deletedAt });
    }
    if (
      item.deletedAt === undefined ||
      clock.now() < item.deletedAt + KEEP_DELETED_MS ||
      item.owner !== catalogue.gateway
    )
      return;
    await audit.change({ event: 'volume-purge', by: 'gateway', volume: entry.name, reason: 'deleted a week ago' });
    const { objects } = await this.purge(item, () => undefined);
    audit.note({ event: 'volume-purge-done', by: 'gateway', volume: entry.name, objects });
    log.info({ volume: entry.name, objects }, 'a volume deleted a week ago was purged');
  }
}

/** Throws `in-use` for a volume whose purge has begun. */
export function refuseIfPurging({ name, retainedFrom }: VolumeItem): void {
  if (retainedFrom !== PURGING) return;
  throw new FarshoreError(
    'in-use',
    `volume ${name} is being removed for ever and cannot come back; farshore volume delete ${name} --purge --confirm ${name} finishes it`,
  );
}
