import type { Clock, Random } from './base/clock.ts';
import { sleep } from './base/clock.ts';
import { describeError, FarshoreError } from './base/errors.ts';
import type { Log } from './base/log.ts';
import type { ByteCount, VersionNumber, WallMillis } from './base/units.ts';
import { accessOperations, type AccessOperationsDeps } from './access-operations.ts';
import type {
  ArgumentsOf,
  Caller,
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
import { KEEP_DELETED_MS } from './maintenance/purge.ts';
import { changeReplication } from './change-replication.ts';
import { changeQuota } from './change-quota.ts';
import { flushInTime, flushTelling } from './flush-in-time.ts';
import { newVolumeItem } from './new-volume.ts';
import { Purger, refuseIfPurging } from './purger.ts';
import { parsePlanFor, type RateLimits } from './rate-limits.ts';
import { sampleVolumes, sumOfReads } from './read-report.ts';
import { handOver, takeHandover, type HandoverDeps } from './handover.ts';
import { resizeServed } from './resize-served.ts';
import { salvageHere, salvageOperations, type SalvageDeps } from './salvage/salvage-operations.ts';
import { SerialByKey } from './serial.ts';
import { ServedVolume } from './served-volume.ts';
import type { VolumeTargets } from './target-directory.ts';
import type { IoThreads } from './threads/io-threads.ts';
import { moveVolume } from './threads/move-volume.ts';
import { VERSION } from './version.ts';
import { claimName, itemOf, requireVersion, resolveVolume, unlessFenced } from './volume-lookup.ts';

export interface GatewayDeps {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly catalogue: Catalogue;
  readonly table: VersionLog;
  readonly store: ObjectStore;
  readonly targets: VolumeTargets;
  readonly access: AccessOperationsDeps;
  readonly salvage: SalvageDeps;
  /** The threads that have the volumes. */
  readonly io: IoThreads;
  /** Names of other volumes that initiators find at a target of this one (by identifier). */
  readonly sharesTarget: (volume: string) => readonly string[];
  /** Of an image or device that a volume is to be seeded from. */
  readonly sizeOfImage: (path: string) => Promise<ByteCount>;
  readonly cloudReport: () => Promise<GatewayReport['cloud']>;
  readonly limits: RateLimits;
  readonly isnsReport: () => GatewayReport['isns'];
  readonly portals: () => readonly string[];
  readonly examine: () => Promise<Finding[]>;
}

/** How long a start waits for its volumes before it opens the portals. */
const START_PATIENCE_MS = 10_000;
/** Volumes opened side by side at a start. */
const OPEN_DEPTH = 8;

/** Longest that a close waits for changes that are being made. */
const CHANGES_SETTLE_MS = 5_000;

type OnProgress = (progress: Progress) => void;
interface Named {
  readonly name: string;
}

/** Operations that change what volumes there are; each is in the audit log. */
const VOLUME_CHANGES: ReadonlySet<Operation> = new Set([
  'volume-create',
  'volume-delete',
  'volume-undelete',
  'volume-purge',
  'volume-forget',
  'volume-resize',
  'volume-quota',
  'volume-set',
  'volume-move',
  'handover',
  'salvage-export',
  'salvage-import',
  'salvage-remove',
  'restore',
]);

type Handler<Op extends Operation> = (
  args: ArgumentsOf<Op>,
  onProgress: (progress: Progress) => void,
  caller: Caller,
) => Promise<Results[Op]>;

/** Of calls that come from within. */
const NOBODY: Caller = { by: 'unknown' };

/** What one gateway does with volumes, as its administrator asks for it. Works on one volume follow one another. */
export class Gateway implements GatewayApi {
  readonly #deps: GatewayDeps;
  readonly #served = new Map<string, ServedVolume>();
  readonly #serial = new SerialByKey();
  readonly #startedAt: WallMillis;
  readonly #closing = new AbortController();

  readonly #purger: Purger;
  readonly #handlers: { readonly [Op in Operation]: Handler<Op> };

  constructor(deps: GatewayDeps) {
    this.#deps = deps;
    this.#startedAt = deps.clock.now();
    this.#purger = new Purger({
      ...deps,
      audit: deps.access.audit,
      forgetVolume: (ref) => this.#forgetLocally(ref),
      serial: this.#serial,
      hasFailed: (name) => this.#served.get(name)?.hasFailed() === true,
    });
    const requireOwned = (name: string): void => this.#served.get(name)?.requireOwned();
    const isElsewhere = (name: string): boolean => this.#served.get(name)?.isElsewhere() === true;
    const salvage = salvageOperations(deps.salvage, {
      served: (name) => this.#served.get(name),
      reopen: (entry) => this.#serve(entry),
      closing: this.#closing.signal,
    });
    this.#handlers = {
      ...this.#volumeHandlers(),
      ...salvage,
      ...accessOperations(deps.access, requireOwned, isElsewhere),
    };
  }

  readonly #volumeHandlers = () => ({
    status: ({ newInterval }: ArgumentsOf<'status'>) => this.#status(newInterval === true),
    'volume-create': (args: ArgumentsOf<'volume-create'>) => this.#create(args),
    'volume-list': () => this.#list(),
    'volume-show': ({ name }: Named) => this.#require(name).report(),
    'volume-delete': ({ name }: Named) => this.#delete(name),
    'volume-undelete': ({ name }: Named) => this.#undelete(name),
    'volume-purge': ({ name, confirm }: ArgumentsOf<'volume-purge'>, onProgress: OnProgress) =>
      this.#purge(name, confirm, onProgress),
    'volume-forget': ({ name }: Named) => this.#forget(name),
    'volume-resize': ({ name, bytes, force }: ArgumentsOf<'volume-resize'>) =>
      resizeServed(this.#deps, this.#require(name), bytes, force),
    'volume-set': (args: ArgumentsOf<'volume-set'>) =>
      changeReplication(this.#deps.table, this.#require(args.name), args),
    'volume-quota': ({ name, bytes }: ArgumentsOf<'volume-quota'>) =>
      changeQuota(this.#deps.table, this.#require(name), bytes),
    'volume-move': ({ name, thread }: ArgumentsOf<'volume-move'>) => this.#move(name, thread),
    handover: ({ name, to }: ArgumentsOf<'handover'>) => this.#handOver(name, to),
    flush: ({ name }: Named, onProgress: OnProgress) =>
      flushTelling(this.#deps.clock, this.#require(name).serving(), onProgress),
    limit: (args: ArgumentsOf<'limit'>, _: OnProgress, caller: Caller) => this.#limit(args, caller),
    versions: ({ name, limit }: ArgumentsOf<'versions'>) => this.#require(name).serving().remote.versions(limit),
    fold: ({ name }: Named) => this.#require(name).serving().remote.fold(),
    restore: ({ name, version }: ArgumentsOf<'restore'>) => this.#restore(name, version),
    verify: ({ name }: Named) => this.#require(name).serving().remote.verify(),
    scrub: ({ name, sides, now }: ArgumentsOf<'scrub'>, onProgress: OnProgress) => {
      const volume = this.#require(name).serving();
      return volume.scrub(sides, now, (side, { total, [side]: pass }) => {
        onProgress({ phase: `scrubbing ${side}`, done: pass?.position ?? 0, total, unit: 'blocks' });
      });
    },
    doctor: () => this.#deps.examine(),
  });

  call<Op extends Operation>(
    op: Op,
    args: ArgumentsOf<Op>,
    onProgress: OnProgress,
    caller: Caller = NOBODY,
  ): Promise<Results[Op]> {
    const run = (): Promise<Results[Op]> => this.#handlers[op](args, onProgress, caller);
    if (!VOLUME_CHANGES.has(op) || !('name' in args) || args.name === undefined) return run();
    const { name, ...detail } = args;
    return this.#serial.run(name, () => {
      this.#requireRunning(`${op} of volume ${name} was not begun`);
      return this.#audited({ event: op, by: caller.by, volume: name, ...detail }, run);
    });
  }

  /** What is to be done is in the audit log before it is begun, and what became of it afterwards. */
  async #audited<T>(entry: { event: string; by: string; volume: string }, run: () => Promise<T>): Promise<T> {
    const { audit } = this.#deps.access;
    const { event, by, volume } = entry;
    await audit.change(entry);
    try {
      const result = await run();
      audit.note({ event: `${event}-done`, by, volume });
      return result;
    } catch (error) {
      audit.note({ event: `${event}-failed`, by, volume, reason: describeError(error) });
      throw error;
    }
  }

  /**
   * Opens every volume of the catalogue; resolves when each was tried once, or after START_PATIENCE_MS: initiators of one volume
   * do not wait for another's. What the cloud cannot answer now is tried on.
   */
  async start(): Promise<void> {
    const { catalogue, io, log } = this.#deps;
    await io.clearLeftovers((entry, thread, kept) => {
      log.warn({ volume: entry.name, thread, kept }, 'what a thread still had of a volume that was moved was given up');
    });
    const waiting = catalogue.volumes.filter((entry) => entry.deletedAt === undefined);
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
    void this.#purger.runOnSchedule(this.#closing.signal);
    void sampleVolumes(this.#deps.clock, () => this.#served.values(), this.#closing.signal);
  }

  /**
   * Closes every volume: the log is synced, nothing acked is lost. What is being changed (a move, say) is waited for as long as it is worth it: it
   * finds its volume closed, and what hangs on the cloud beyond that finds the catalogue closed (see Catalogue.close).
   */
  async close(): Promise<void> {
    const { clock, log } = this.#deps;
    this.#closing.abort();
    await Promise.all([...this.#served.values()].map((served) => served.close()));
    const enough = new AbortController();
    await Promise.race([this.#serial.settled(), sleep(clock, CHANGES_SETTLE_MS, enough.signal)]);
    enough.abort();
    const volumes = this.#serial.keys();
    if (volumes.length > 0) log.warn({ volumes }, 'changes of volumes were cut short by the stop of the gateway');
  }

  #requireRunning(what: string): void {
    if (!this.#closing.signal.aborted) return;
    throw new FarshoreError('stopped', `${what}, because the gateway is being stopped`);
  }

  #serve(
    entry: CatalogueVolume,
    how: { readonly takeover?: boolean; readonly rollBackTo?: VersionNumber } = {},
  ): ServedVolume {
    const { clock, log, catalogue, io, targets, store, settings } = this.#deps;
    this.#requireRunning(`volume ${entry.name} was not opened`);
    const { openVolume } = io.of(entry);
    const served = new ServedVolume(
      {
        ...{ clock, log, openVolume, targets, gateway: catalogue.gateway, rpoSeconds: settings.rpoSeconds },
        list: (prefix, limit, startAfter) => store.list(prefix, limit, startAfter),
      },
      entry,
      how,
    );
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

  /** Until the next start; recorded, since a gateway that does not upload keeps the only copy. */
  async #limit({ set }: ArgumentsOf<'limit'>, caller: Caller): Promise<Results['limit']> {
    const { limits, access } = this.#deps;
    if (set !== undefined) {
      const { direction, plan } = set;
      const parsed = plan === undefined ? undefined : parsePlanFor(direction, plan, `the ${direction} limit`);
      await access.audit.change({ event: 'limit', by: caller.by, direction, plan: plan ?? 'configured' });
      await limits.set(direction, parsed);
    }
    return { upload: limits.report('upload'), download: limits.report('download') };
  }

  async #status(newInterval: boolean): Promise<GatewayReport> {
    const { settings, catalogue, io, cloudReport, portals } = this.#deps;
    // Side by side: a thread that does not answer is waited for once.
    const [{ cache, process, threads }, cloud, ...volumes] = await Promise.all([
      io.report(newInterval),
      cloudReport(),
      ...[...this.#served.values()].map((served) => served.report()),
    ]);
    return {
      gateway: catalogue.gateway,
      version: VERSION,
      stateDir: settings.stateDir,
      portals: portals(),
      startedAt: this.#startedAt,
      cache,
      cloud,
      access: { problems: this.#accessProblems() },
      isns: this.#deps.isnsReport(),
      volumes,
      salvage: await salvageHere(this.#deps.salvage),
      reads: sumOfReads(volumes.flatMap(({ reads }) => reads ?? [])),
      process,
      ...(threads === undefined ? {} : { threads }),
    };
  }

  #accessProblems(): readonly string[] {
    const { audit, control } = this.#deps.access;
    const cannotRecord =
      audit.problem === undefined ? [] : [`the audit log cannot be written, so no change is made: ${audit.problem}`];
    return [...cannotRecord, ...control.problems()];
  }

  async #create(args: ArgumentsOf<'volume-create'>): Promise<VolumeReport> {
    const { catalogue, io } = this.#deps;
    const { stored, seed = false, thread } = args;
    const bytes = args.bytes ?? (stored === undefined || !seed ? undefined : await this.#deps.sizeOfImage(stored));
    if (bytes === undefined) throw new FarshoreError('input', 'how large is it to be? Say --size, like 100M, 10G, 16T');
    if (seed && stored === undefined)
      throw new FarshoreError('input', '--seed takes over what is in an image or on a device; name it with --stored');
    const item = newVolumeItem(this.#deps, { ...args, bytes });
    const { name, lineage, volume } = item;
    const entry = { name, lineage, volume, ...io.placeFor(volume, thread) };
    if (stored === undefined) return this.#createItem(item, entry);
    const image = await io.of(entry).prepareImage({ lineage, volume }, { path: stored, bytes, seed });
    try {
      return await this.#createItem(item, entry);
    } catch (error) {
      // Once it is in the catalogue the image belongs to it, whatever its first start says.
      if (!catalogue.volumes.some((each) => each.volume === volume)) await image.undo();
      throw error;
    }
  }

  async #createItem(item: VolumeItem, entry: CatalogueVolume): Promise<VolumeReport> {
    const { catalogue, table } = this.#deps;
    const { name, volume, lineage } = item;
    const ref = { lineage, volume };
    await claimName(table, name, ref);
    // Before the volume is made: of what a full disk cannot take, nothing must be left in the table. A name without a volume is free.
    await catalogue.put(entry);
    try {
      if (
        (await table.createVolume(item)) === 'conflict' &&
        (await table.getVolume(ref))?.naa.equals(item.naa) !== true
      ) {
        throw new FarshoreError('bug', `a fresh volume id, ${volume}, was taken already`);
      }
    } catch (error) {
      // Where that fails as well, a later start finds no volume, and removes the entry.
      await catalogue.remove(volume).catch(() => undefined);
      throw error;
    }
    return this.#firstReport(this.#serve(entry));
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
      const report = await served?.report();
      const isOpen = report !== undefined && served?.isServing() === true;
      const image = report?.stored?.image;
      const elsewhere = item.owner === '' ? 'unowned' : 'elsewhere';
      entries.push({
        name,
        id: item.volume,
        bytes: isOpen ? report.bytes : item.bytes,
        quotaBytes: item.quotaBytes,
        owner: item.owner,
        here: item.owner === catalogue.gateway,
        state: item.deletedAt !== undefined ? 'deleted' : (report?.state ?? elsewhere),
        purgeAfter: item.deletedAt === undefined ? undefined : item.deletedAt + KEEP_DELETED_MS,
        kind: isOpen ? (image === undefined ? 'cached' : 'stored') : undefined,
        image,
      });
    }
    return entries;
  }

  async #handOver(name: string, to: string): Promise<VolumeReport> {
    const gone = await handOver(this.#handoverDeps(), this.#require(name), to);
    return gone.report();
  }

  /** Another gateway offers it: it is opened here once it is released there. */
  async takeHandover(ref: VolumeRef): Promise<void> {
    const { table, log, access } = this.#deps;
    try {
      const { name, owner } = await itemOf(table, ref);
      await this.#serial.run(name, async () => {
        this.#requireRunning(`the handover of volume ${name} was not accepted`);
        await access.audit.change({ event: 'handover-accept', by: 'gateway', volume: name, from: owner });
        await takeHandover(this.#handoverDeps(), ref, (each) => this.#served.get(each));
      });
    } catch (error) {
      log.error({ volume: ref.volume, reason: describeError(error) }, 'a handover to this gateway has failed');
    }
  }

  #handoverDeps(): HandoverDeps {
    return { ...this.#deps, reopen: (entry) => this.#serve(entry), closing: this.#closing.signal };
  }

  /** Brings it to another thread; resolves when it has opened there once, or could not. */
  async #move(name: string, thread: number): Promise<VolumeReport> {
    const served = this.#require(name);
    const moved = await moveVolume({ ...this.#deps, reopen: (entry) => this.#serve(entry) }, served, thread);
    return this.#firstReport(moved);
  }

  /**
   * Everything acked is made a version first, so that undelete brings all of it back. While the cloud does not answer nothing
   * changes: initiators lose the target only when little is left to send, and get it back if that little does not arrive.
   */
  async #delete(name: string): Promise<{ readonly purgeAfter: WallMillis }> {
    const { clock, table } = this.#deps;
    const served = this.#require(name);
    const volume = served.serving();
    await itemOf(this.#deps.table, served.entry);
    await flushInTime(this.#deps, served.entry, volume, 'deleted');
    await served.withdraw();
    try {
      await flushInTime(this.#deps, served.entry, volume, 'deleted');
      const item = await itemOf(this.#deps.table, served.entry);
      const deletedAt = clock.now();
      await unlessFenced(table.changeVolume(served.entry, item.epoch, { deletedAt }), name);
      await this.#enter({ ...served.entry, deletedAt }, () =>
        table.changeVolume(served.entry, item.epoch, { deletedAt: null }),
      );
      await served.close();
      this.#served.delete(name);
      // It is in the table, and comes back from there with an undelete, here or elsewhere.
      await this.#deps.targets.forget(served.entry);
      return { purgeAfter: deletedAt + KEEP_DELETED_MS };
    } catch (error) {
      await served.offer();
      throw error;
    }
  }

  /** By any gateway: the one that had the volume may be gone, and that is when it is needed. */
  async #undelete(name: string): Promise<VolumeReport> {
    const { table, catalogue, io } = this.#deps;
    const found = await this.#deletedItem(name);
    const item = found.owner === catalogue.gateway || found.owner === '' ? found : await this.#takeDeleted(found);
    await unlessFenced(table.changeVolume(item, item.epoch, { deletedAt: null }), name);
    const { lineage, volume } = item;
    const entry = { name, lineage, volume, ...io.placeFor(volume) };
    await this.#enter(entry, () => table.changeVolume(item, item.epoch, { deletedAt: item.deletedAt ?? null }));
    return this.#firstReport(this.#serve(entry));
  }

  /** Enters what was just done to the volume in the catalogue; where that cannot be (a full disk), takes it back in the table. */
  async #enter(entry: CatalogueVolume, takeBack: () => Promise<unknown>): Promise<void> {
    try {
      await this.#deps.catalogue.put(entry);
    } catch (error) {
      await takeBack();
      throw error;
    }
  }

  /**
   * Raises the epoch, so that a purge by the last owner cannot begin any more; one that has begun shows in the item read afterwards.
   */
  async #takeDeleted(found: VolumeItem): Promise<VolumeItem> {
    const { table, catalogue } = this.#deps;
    await unlessFenced(table.raiseEpoch(found, found.epoch, found.epoch + 1, catalogue.gateway), found.name);
    const item = await itemOf(this.#deps.table, found);
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
    return this.#purger.purge(item, onProgress);
  }

  async #forgetLocally(ref: VolumeRef): Promise<void> {
    await this.#deps.io.forgetVolume(ref);
    await this.#deps.targets.forget(ref);
  }

  /** Gives up what is kept here of a volume that was lost to another gateway, or removed by one. */
  async #forget(name: string): Promise<{ readonly salvage: string | undefined }> {
    const { catalogue, table, io } = this.#deps;
    const entry = catalogue.volumes.find((each) => each.name === name);
    if (entry === undefined) {
      throw new FarshoreError('not-found', `nothing of a volume ${name} is kept here; farshore status shows what is`);
    }
    const item = await table.getVolume(entry);
    if (item !== undefined && (item.owner === catalogue.gateway || item.owner === '')) {
      throw new FarshoreError(
        'input',
        `volume ${name} belongs to this gateway; to remove it: farshore volume delete ${name}. Only what another gateway has taken over can be forgotten`,
      );
    }
    await this.#served.get(name)?.close();
    this.#served.delete(name);
    const salvage = await io.of(entry).surrenderVolume(entry);
    await this.#deps.targets.forget(entry);
    await catalogue.remove(entry.volume);
    return { salvage };
  }

  async #deletedItem(name: string, { toPurge = false } = {}): Promise<VolumeItem> {
    const item = await itemOf(this.#deps.table, await resolveVolume(this.#deps.table, name));
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
    const { catalogue, io } = this.#deps;
    const ref = await resolveVolume(this.#deps.table, name);
    const item = await itemOf(this.#deps.table, ref);
    if (item.deletedAt !== undefined) {
      throw new FarshoreError(
        'input',
        `volume ${name} is deleted; bring it back first with: farshore volume undelete ${name}`,
      );
    }
    if (version !== undefined) await requireVersion(this.#deps.table, item, version);
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
    const entry = { name, ...ref, ...io.placeFor(ref.volume) };
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
}
