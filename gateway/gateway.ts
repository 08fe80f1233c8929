import type { Clock, Random } from './base/clock.ts';
import { sleep } from './base/clock.ts';
import { describeError, FarshoreError, isKind } from './base/errors.ts';
import type { Log } from './base/log.ts';
import type { VersionNumber, WallMillis } from './base/units.ts';
import type {
  ArgumentsOf,
  CatalogueEntry,
  Finding,
  GatewayApi,
  GatewayReport,
  Operation,
  Progress,
  Results,
  VolumeReport,
} from './admin/gateway-api.ts';
import type { Catalogue, CatalogueVolume } from './catalogue.ts';
import type { ObjectStore } from './cloud/object-store.ts';
import type { VersionLog, VolumeItem, VolumeRef } from './cloud/version-log.ts';
import type { Settings } from './config.ts';
import { KEEP_DELETED_MS, purgeVolume } from './maintenance/purge.ts';
import { checkVolumeSize, defaultTarget, newNaa } from './naming.ts';
import { SerialByKey } from './serial.ts';
import { ServedVolume, type OpenVolume, type TargetDirectory } from './served-volume.ts';
import { VERSION } from './version.ts';
import type { Volume } from './volume/volume.ts';

export interface GatewayDeps {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly catalogue: Catalogue;
  readonly table: VersionLog;
  readonly store: ObjectStore;
  readonly targets: TargetDirectory;
  readonly openVolume: OpenVolume;
  /** Forgets what the state directory holds of a volume that is gone for ever. */
  readonly forgetVolume: (ref: VolumeRef) => Promise<void>;
  readonly cacheReport: () => GatewayReport['cache'];
  readonly cloudReport: () => Promise<GatewayReport['cloud']>;
  readonly portals: () => readonly string[];
  readonly examine: () => Promise<Finding[]>;
}

/** Deleted volumes are looked through this often for ones whose week is over. */
const PURGE_INTERVAL_MS = 3600 * 1000;
/** A deletion gives up when what was acked is not in the cloud after this long. */
const DELETE_FLUSH_MS = 60_000;
const FLUSH_PROGRESS_MS = 250;
/** How long a start waits for its volumes before it opens the portals. */
const START_PATIENCE_MS = 10_000;
/** Volumes opened side by side at a start. */
const OPEN_DEPTH = 8;

/** `retainedFrom` of a volume whose purge has begun: no version of it can be restored any more. */
const PURGING = Number.MAX_SAFE_INTEGER;

type Handler<Op extends Operation> = (
  args: ArgumentsOf<Op>,
  onProgress: (progress: Progress) => void,
) => Promise<Results[Op]>;

/** What one gateway does with volumes, as its administrator asks for it. Works on one volume follow one another. */
export class Gateway implements GatewayApi {
  readonly #deps: GatewayDeps;
  readonly #served = new Map<string, ServedVolume>();
  readonly #serial = new SerialByKey();
  readonly #startedAt: WallMillis;
  readonly #closing = new AbortController();

  readonly #handlers: { readonly [Op in Operation]: Handler<Op> } = {
    status: () => this.#status(),
    'volume-create': (args) => this.#create(args),
    'volume-list': () => this.#list(),
    'volume-show': ({ name }) => this.#require(name).report(),
    'volume-delete': ({ name }) => this.#delete(name),
    'volume-undelete': ({ name }) => this.#undelete(name),
    'volume-purge': ({ name, confirm }, onProgress) => this.#purge(name, confirm, onProgress),
    flush: ({ name }, onProgress) => this.#flush(this.#require(name).serving(), onProgress),
    versions: ({ name, limit }) => this.#require(name).remote().versions(limit),
    fold: ({ name }) => this.#require(name).remote().fold(),
    restore: ({ name, version }) => this.#restore(name, version),
    verify: ({ name }) => this.#require(name).remote().verify(),
    doctor: () => this.#deps.examine(),
  };

  constructor(deps: GatewayDeps) {
    this.#deps = deps;
    this.#startedAt = deps.clock.now();
  }

  call<Op extends Operation>(
    op: Op,
    args: ArgumentsOf<Op>,
    onProgress: (progress: Progress) => void,
  ): Promise<Results[Op]> {
    return this.#changes.has(op) && 'name' in args
      ? this.#serial.run(args.name, () => this.#handlers[op](args, onProgress))
      : this.#handlers[op](args, onProgress);
  }

  readonly #changes: ReadonlySet<Operation> = new Set([
    'volume-create',
    'volume-delete',
    'volume-undelete',
    'volume-purge',
    'restore',
  ]);

  /**
   * Opens every volume of the catalogue; resolves when each was tried once, or after START_PATIENCE_MS: initiators of one volume
   * do not wait for another's. What the cloud cannot answer now is tried on.
   */
  async start(): Promise<void> {
    const waiting = this.#deps.catalogue.volumes.filter((entry) => entry.deletedAt === undefined);
    const openNext = async (): Promise<void> => {
      for (let entry = waiting.shift(); entry !== undefined; entry = waiting.shift()) {
        if (this.#closing.signal.aborted) return;
        await this.#serve(entry).firstAttempt;
      }
    };
    const patience = new AbortController();
    await Promise.race([
      Promise.all(Array.from({ length: OPEN_DEPTH }, openNext)),
      sleep(this.#deps.clock, START_PATIENCE_MS, patience.signal),
    ]);
    patience.abort();
    void this.#purgeOnSchedule();
  }

  /** Closes every volume: the log is synced, nothing acked is lost. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#served.values()].map((served) => served.close()));
  }

  #serve(
    entry: CatalogueVolume,
    how: { readonly takeover?: boolean; readonly rollBackTo?: VersionNumber } = {},
  ): ServedVolume {
    const { clock, log, catalogue, openVolume, targets } = this.#deps;
    const served = new ServedVolume({ clock, log, openVolume, targets, gateway: catalogue.gateway }, entry, how);
    this.#served.set(entry.name, served);
    return served;
  }

  #require(name: string): ServedVolume {
    const served = this.#served.get(name);
    if (served !== undefined) return served;
    throw new FarshoreError(
      'not-found',
      `volume ${name} is not served by this gateway; farshore volume list shows where it is, farshore restore ${name} --takeover brings it here`,
    );
  }

  async #status(): Promise<GatewayReport> {
    const { settings, catalogue, cacheReport, cloudReport, portals } = this.#deps;
    return {
      gateway: catalogue.gateway,
      version: VERSION,
      stateDir: settings.stateDir,
      portals: portals(),
      startedAt: this.#startedAt,
      cache: cacheReport(),
      cloud: await cloudReport(),
      volumes: await Promise.all([...this.#served.values()].map((served) => served.report())),
    };
  }

  async #create({ name, bytes, sectorSize, replication }: ArgumentsOf<'volume-create'>): Promise<VolumeReport> {
    const { settings, clock, random, catalogue, table } = this.#deps;
    checkVolumeSize(bytes);
    if (replication !== 'async') {
      throw new FarshoreError(
        'input',
        `replication ${replication} is not in this release; create the volume with --replication async`,
      );
    }
    const volume = random.bytes(8).toString('hex');
    const item: VolumeItem = {
      lineage: volume,
      volume,
      name,
      bytes,
      sectorSize,
      replication,
      targetName: defaultTarget(settings.iqn, name),
      naa: newNaa(random),
      createdAt: clock.now(),
      epoch: 0,
      owner: '',
      floor: 0,
      checkpoint: undefined,
      maintenanceEpoch: 0,
      retainedFrom: 0,
      deletedAt: undefined,
    };
    const ref = { lineage: item.lineage, volume };
    await this.#claim(name, ref);
    if (
      (await table.createVolume(item)) === 'conflict' &&
      (await table.getVolume(ref))?.naa.equals(item.naa) !== true
    ) {
      throw new FarshoreError('bug', `a fresh volume id, ${volume}, was taken already`);
    }
    const entry = { name, ...ref };
    await catalogue.put(entry);
    return this.#firstReport(this.#serve(entry));
  }

  /** Binds the name; one left by a creation that died before its volume was made is taken over. */
  async #claim(name: string, ref: VolumeRef): Promise<void> {
    const { table } = this.#deps;
    if ((await table.claimName(name, ref)) === 'ok') return;
    const other = await table.resolveName(name);
    if (other?.volume === ref.volume) return; // our own attempt, whose answer was lost
    const item = other === undefined ? undefined : await table.getVolume(other);
    if (other !== undefined && item === undefined && (await table.rebindName(name, other, ref)) === 'ok') return;
    throw new FarshoreError(
      'in-use',
      item?.deletedAt === undefined
        ? `there is a volume ${name} already; choose another name`
        : `a deleted volume ${name} is still kept; bring it back with: farshore volume undelete ${name}, or remove it for ever with: farshore volume delete ${name} --purge --confirm ${name}`,
    );
  }

  async #firstReport(served: ServedVolume): Promise<VolumeReport> {
    await served.firstAttempt;
    return served.report();
  }

  async #list(): Promise<CatalogueEntry[]> {
    const { table, catalogue } = this.#deps;
    const entries: CatalogueEntry[] = [];
    for (const { name, ref } of await table.listNames()) {
      const item = await table.getVolume(ref);
      if (item === undefined) continue; // a creation that died, or a purge under way
      const served = this.#served.get(name);
      const elsewhere = item.owner === '' ? 'unowned' : 'elsewhere';
      entries.push({
        name,
        id: item.volume,
        bytes: item.bytes,
        owner: item.owner,
        here: item.owner === catalogue.gateway,
        state:
          item.deletedAt !== undefined ? 'deleted' : served === undefined ? elsewhere : (await served.report()).state,
        purgeAfter: item.deletedAt === undefined ? undefined : item.deletedAt + KEEP_DELETED_MS,
      });
    }
    return entries;
  }

  /** Tells how much of what was dirty at the call is in the cloud; with the cloud away that is where it stays. */
  async #flush(volume: Volume, onProgress: (progress: Progress) => void): Promise<{ readonly n: VersionNumber }> {
    const total = volume.status().lagBytes;
    const over = new AbortController();
    const watch = async (): Promise<void> => {
      while (!over.signal.aborted) {
        const done = Math.max(0, total - volume.status().lagBytes);
        onProgress({ phase: 'replicating', done, total, unit: 'bytes' });
        await sleep(this.#deps.clock, FLUSH_PROGRESS_MS, over.signal);
      }
    };
    const watching = watch();
    try {
      const { n } = await volume.flushRemote();
      return { n };
    } finally {
      over.abort();
      await watching;
    }
  }

  /**
   * Everything acked is made a version first, so that undelete brings all of it back. While the cloud does not answer nothing
   * changes: initiators lose the target only when little is left to send, and get it back if that little does not arrive.
   */
  async #delete(name: string): Promise<{ readonly purgeAfter: WallMillis }> {
    const { clock, table, catalogue } = this.#deps;
    const served = this.#require(name);
    const volume = served.serving();
    await this.#itemOf(served.entry);
    await this.#flushInTime(name, volume);
    await served.withdraw();
    try {
      await this.#flushInTime(name, volume);
      const item = await this.#itemOf(served.entry);
      const deletedAt = clock.now();
      await this.#changed(table.changeVolume(served.entry, item.epoch, { deletedAt }), name);
      await catalogue.put({ ...served.entry, deletedAt });
      await served.close();
      this.#served.delete(name);
      return { purgeAfter: deletedAt + KEEP_DELETED_MS };
    } catch (error) {
      served.offer();
      throw error;
    }
  }

  async #flushInTime(name: string, volume: Volume): Promise<void> {
    const timeUp = new AbortController();
    const late = sleep(this.#deps.clock, DELETE_FLUSH_MS, timeUp.signal).then(() => {
      if (timeUp.signal.aborted) return;
      throw new FarshoreError(
        'retry',
        `volume ${name} still has data that is not in the cloud, and it is not getting there; it was not deleted. See farshore status, then try again`,
      );
    });
    try {
      await Promise.race([volume.flushRemote(), late]);
    } finally {
      timeUp.abort();
    }
  }

  /** By any gateway: the one that had the volume may be gone, and that is when it is needed. */
  async #undelete(name: string): Promise<VolumeReport> {
    const { table, catalogue } = this.#deps;
    const found = await this.#deletedItem(name);
    const item = found.owner === catalogue.gateway || found.owner === '' ? found : await this.#takeDeleted(found);
    await this.#changed(table.changeVolume(item, item.epoch, { deletedAt: null }), name);
    const entry = { name, lineage: item.lineage, volume: item.volume };
    await catalogue.put(entry);
    return this.#firstReport(this.#serve(entry));
  }

  /**
   * Raises the epoch, so that a purge by the last owner cannot begin any more; one that has begun shows in the item read afterwards.
   */
  async #takeDeleted(found: VolumeItem): Promise<VolumeItem> {
    const { table, catalogue } = this.#deps;
    await this.#changed(table.raiseEpoch(found, found.epoch, found.epoch + 1, catalogue.gateway), found.name);
    const item = await this.#itemOf(found);
    refuseIfPurging(item);
    return item;
  }

  async #purge(
    name: string,
    confirm: string,
    onProgress: (progress: Progress) => void,
  ): Promise<{ readonly objects: number }> {
    if (confirm !== name) {
      throw new FarshoreError(
        'input',
        `purging removes every version of ${name} for ever; repeat its name to say you mean it: --purge --confirm ${name}`,
      );
    }
    const item = await this.#deletedItem(name, { toPurge: true });
    if (item.owner !== this.#deps.catalogue.gateway && item.owner !== '') {
      throw new FarshoreError(
        'in-use',
        `volume ${name} was deleted on gateway ${item.owner}; purge it there, or undelete it here and delete it again first`,
      );
    }
    return this.#purgeItem(item, onProgress);
  }

  async #purgeItem(item: VolumeItem, onProgress: (progress: Progress) => void): Promise<{ readonly objects: number }> {
    const { store, table, catalogue, forgetVolume } = this.#deps;
    // Marked before the first object goes: an undelete, here or elsewhere, must never bring back half a volume.
    await this.#changed(table.changeVolume(item, item.epoch, { retainedFrom: PURGING }), item.name);
    const result = await purgeVolume({ store, log: table }, item, (done) => {
      onProgress({ phase: 'removing objects', done, total: 0, unit: 'steps' });
    });
    await forgetVolume(item);
    await catalogue.remove(item.volume);
    return result;
  }

  async #deletedItem(name: string, { toPurge = false } = {}): Promise<VolumeItem> {
    const item = await this.#itemOf(await this.#resolve(name));
    if (item.deletedAt === undefined) {
      throw new FarshoreError(
        'input',
        `volume ${name} is not deleted${toPurge ? `; delete it first with: farshore volume delete ${name}` : ''}`,
      );
    }
    if (!toPurge) refuseIfPurging(item);
    return item;
  }

  async #restore(name: string, version: VersionNumber | undefined): Promise<VolumeReport> {
    const { catalogue } = this.#deps;
    const ref = await this.#resolve(name);
    const item = await this.#itemOf(ref);
    if (item.deletedAt !== undefined) {
      throw new FarshoreError(
        'input',
        `volume ${name} is deleted; bring it back first with: farshore volume undelete ${name}`,
      );
    }
    if (version !== undefined) await this.#requireVersion(item, version);
    const present = this.#served.get(name);
    const before = catalogue.volumes.find((each) => each.volume === ref.volume);
    if (present !== undefined) {
      if (version === undefined && present.isServing()) {
        throw new FarshoreError(
          'in-use',
          `volume ${name} is served here already; name a version to roll back to with --version N`,
        );
      }
      await present.close();
    }
    const entry = { name, ...ref };
    await catalogue.put(entry);
    const served = this.#serve(entry, { takeover: true, ...(version === undefined ? {} : { rollBackTo: version }) });
    const failure = await served.firstAttempt;
    if (failure === undefined) return served.report();
    // Whoever gave the command was told that it failed: nothing goes on behind their back.
    await served.close();
    this.#served.delete(name);
    if (before === undefined) await catalogue.remove(ref.volume);
    else this.#serve(before);
    throw failure;
  }

  /** A mistyped version must not take the volume away from whoever serves it; whether it can be restored shows only after the takeover. */
  async #requireVersion(item: VolumeItem, version: VersionNumber): Promise<void> {
    const folded = item.checkpoint !== undefined && version <= item.checkpoint.n;
    if (version >= 1 && (folded || (await this.#deps.table.getVersion(item.volume, version)) !== undefined)) return;
    throw new FarshoreError(
      'input',
      `volume ${item.name} has no version ${version}; nothing was changed. farshore versions ${item.name}, on the gateway that serves it, lists them`,
    );
  }

  async #resolve(name: string): Promise<VolumeRef> {
    const ref = await this.#deps.table.resolveName(name);
    if (ref === undefined)
      throw new FarshoreError(
        'not-found',
        `there is no volume ${name} in this table; farshore volume list shows them all`,
      );
    return ref;
  }

  async #itemOf(ref: VolumeRef): Promise<VolumeItem> {
    const item = await this.#deps.table.getVolume(ref);
    if (item === undefined)
      throw new FarshoreError('not-found', `volume ${ref.volume} is not in this table (any more)`);
    return item;
  }

  async #changed(change: Promise<'ok' | 'conflict'>, name: string): Promise<void> {
    if ((await change) === 'conflict')
      throw new FarshoreError(
        'fenced',
        `volume ${name} was taken over by another gateway meanwhile; nothing was changed`,
      );
  }

  async #purgeOnSchedule(): Promise<void> {
    const { clock, catalogue, log } = this.#deps;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      for (const entry of catalogue.volumes) {
        const due = entry.deletedAt !== undefined && clock.now() >= entry.deletedAt + KEEP_DELETED_MS;
        // A deletion that was cut short is in the table but not here; the volume does not open any more.
        const unsure = entry.deletedAt === undefined && this.#served.get(entry.name)?.hasFailed() === true;
        if (!due && !unsure) continue;
        try {
          await this.#serial.run(entry.name, () => this.#purgeExpired(entry));
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
    const { table, catalogue, clock, log } = this.#deps;
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
    const { objects } = await this.#purgeItem(item, () => undefined);
    log.info({ volume: entry.name, objects }, 'a volume deleted a week ago was purged');
  }
}

function refuseIfPurging({ name, retainedFrom }: VolumeItem): void {
  if (retainedFrom !== PURGING) return;
  throw new FarshoreError(
    'in-use',
    `volume ${name} is being removed for ever and cannot come back; farshore volume delete ${name} --purge --confirm ${name} finishes it`,
  );
}
