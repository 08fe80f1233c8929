import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { AccessAdmin } from './access/access-admin.ts';
import { AccessBook } from './access/access-book.ts';
import { AccessControl } from './access/access-control.ts';
import { AccessSync } from './access/access-sync.ts';
import { AuditLog } from './access/audit-log.ts';
import { SecretBox } from './access/secret-box.ts';
import { warningsAbout } from './access/standing.ts';
import { ControlServer } from './admin/control-server.ts';
import type { GatewayReport } from './admin/gateway-api.ts';
import { sleep, systemClock, systemRandom } from './base/clock.ts';
import type { Disk } from './base/disk.ts';
import { describeError, FarshoreError, isKind } from './base/errors.ts';
import type { Log } from './base/log.ts';
import { makePrivateDirectory, NodeDisk } from './base/node-disk.ts';
import { NodeImages } from './base/node-images.ts';
import { lockForThisProcess } from './base/process-lock.ts';
import { formatDuration } from './base/size.ts';
import { BLOCK_SIZE, MIB } from './base/units.ts';
import { CacheLog } from './cache/cache-log.ts';
import { cacheSettings } from './cache/settings.ts';
import { Announcement } from './announcement.ts';
import { Catalogue } from './catalogue.ts';
import type { VolumeRef } from './cloud/version-log.ts';
import type { Portal, Settings } from './config.ts';
import { credentialsOf, examine, timeOf } from './doctor.ts';
import { Gateway } from './gateway.ts';
import { IscsiTargetServer } from './iscsi/server.ts';
import { DEFAULT_ISCSI_SETTINGS, type IscsiSettings } from './iscsi/settings.ts';
import { ProcessFigures } from './process-figures.ts';
import { sessionsHere } from './sessions-control.ts';
import type { RemoteVolume } from './replication/remote-volume.ts';
import { type ReplicationWorker, startReplicationWorker } from './replication/worker-client.ts';
import type { OpenVolume } from './served-volume.ts';
import { prepareImage } from './volume/stored/prepare-image.ts';
import { VolumeTargets } from './target-directory.ts';
import { UploadLimit, uploadRateOf } from './upload-limit.ts';
import { VERSION } from './version.ts';
import { directControl } from './volume-control.ts';
import { forgetVolume, surrenderVolume } from './volume/open-volume.ts';
import { Volume } from './volume/volume.ts';

export interface RunningGateway {
  /** address:port of each portal, as opened. */
  portals(): readonly string[];
  /** Resolves when the gateway cannot go on by itself; close it then. */
  readonly failed: Promise<FarshoreError>;
  /** Tells the sessions, syncs the log, gives the directory up. */
  close(): Promise<void>;
}

/** Memory of the replication worker for maps and decoded frames, over all volumes. */
const IMAGES = new NodeImages();
const SHARD_CACHE_BYTES = 64 * MIB;
const FRAME_CACHE_BYTES = 16 * MIB;
/** How long a start waits to hear that bucket and table are there. */
const CLOUD_CHECK_MS = 5_000;
/** How often the heartbeat's figures are refreshed. */
const DIRTY_REPORT_MS = 5_000;

/**
 * Builds and starts a gateway: the only place where its parts are wired together. Rejects with `in-use` (state directory or portal),
 * `input` (bucket or table not there, no permission), `damaged` (state directory), `stopped` (disk). A cloud that is merely away is no
 * reason not to start: volumes open when it is back. `stop` resolves when it shall end, also while it is still starting: nothing is waited
 * for then, and `close` is to be called as ever.
 */
export async function startGateway(
  settings: Settings,
  log: Log,
  options: {
    readonly stop?: Promise<unknown>;
    /** The disk that the state directory lies on; tests have others. */
    readonly diskAt?: (stateDir: string) => Disk;
  } = {},
): Promise<RunningGateway> {
  makePrivateDirectory(settings.stateDir);
  const cleanups: (() => Promise<void> | void)[] = [];
  const undo = async (): Promise<void> => {
    const failures: unknown[] = [];
    for (const cleanup of cleanups.splice(0).reverse()) {
      // One part that can't be ended properly must not keep the log from being synced.
      try {
        await cleanup();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  };
  try {
    const diskAt = options.diskAt ?? ((stateDir) => new NodeDisk(stateDir));
    return await start(settings, log, cleanups, undo, { stop: options.stop, diskAt });
  } catch (error) {
    await undo();
    throw error;
  }
}

async function start(
  settings: Settings,
  log: Log,
  cleanups: (() => Promise<void> | void)[],
  close: () => Promise<void>,
  { stop, diskAt }: { readonly stop: Promise<unknown> | undefined; readonly diskAt: (stateDir: string) => Disk },
): Promise<RunningGateway> {
  const clock = systemClock;
  const random = systemRandom;
  const figures = new ProcessFigures(clock);
  cleanups.push(() => {
    figures.close();
  });
  const lock = lockForThisProcess(join(settings.stateDir, 'lock'), `the state directory ${settings.stateDir}`);
  cleanups.push(() => {
    lock.release();
  });
  const disk = diskAt(settings.stateDir);
  const catalogue = await Catalogue.open(disk, random);
  const cache = await CacheLog.open(
    { disk, clock, random, log: log.child({ part: 'cache' }) },
    cacheSettings({ sizeBytes: settings.cacheBytes, ramBytes: settings.ramBytes }),
  );
  cleanups.push(() => cache.close());
  const worker = startReplicationWorker(
    {
      cloud: settings.cloud,
      stateDir: settings.stateDir,
      gateway: catalogue.gateway,
      host: hostname(),
      version: VERSION,
      shardCacheBytes: SHARD_CACHE_BYTES,
      frameCacheBytes: FRAME_CACHE_BYTES,
      uploadRate: uploadRateOf(settings.uploadLimit),
    },
    log.child({ part: 'replication' }),
  );
  cleanups.push(() => worker.close());
  const uploadLimit = new UploadLimit(worker, settings.uploadLimit);
  await checkCloud(worker, stop, log);
  // Before any volume is taken over: a mistyped address must not cost them an epoch.
  for (const portal of settings.portals) await probePortal(portal);

  const access = await openAccess(settings, { disk, worker, log }, cleanups);
  const { audit, book, control: accessControl, secrets, sync } = access;
  const server = new IscsiTargetServer({
    log: log.child({ part: 'iscsi' }),
    clock,
    random,
    targets: accessControl,
    settings: iscsiSettings(settings),
  });
  accessControl.servedBy(server);
  const announce = new Announcement();
  const targets = new VolumeTargets({
    book,
    control: accessControl,
    sync,
    changed: () => {
      announce.changed();
    },
  });
  let portals: readonly string[] = [];
  const gateway = new Gateway({
    settings,
    clock,
    random,
    log,
    catalogue,
    table: worker.table,
    store: worker.store,
    targets,
    access: {
      admin: new AccessAdmin({ book, secrets, control: accessControl, audit, disk, clock, iqn: settings.iqn }),
      control: accessControl,
      audit,
      sessions: sessionsHere(server, accessControl),
      warnings: (concerns, isElsewhere) => warningsAbout({ book, sync }, concerns, isElsewhere),
      volumeName: (volume) => book.document.volumes.find((part) => part.volume === volume)?.name ?? volume,
      targetsChanged: () => {
        announce.changed();
      },
    },
    openVolume: volumeOpener(settings, catalogue.gateway, { disk, cache, worker, log }),
    prepareImage: (ref, request) => prepareImage({ disk, images: IMAGES }, ref, request),
    forgetVolume: (ref: VolumeRef) => forgetVolume(disk, cache, ref),
    surrenderVolume: (ref) => surrenderVolume(disk, cache, ref),
    isnsReport: () => announce.report(),
    cacheReport: () => {
      const status = cache.status();
      return {
        bytes: status.maxBytes,
        usedBytes: status.cachedBytes,
        dirtyBytes: status.dirtyBytes,
        indexBytes: status.indexBytes,
        ramBytes: status.ramBytes,
        counts: {
          ramHits: cache.ram.hits,
          fills: status.fills,
          moved: status.movedBlocks,
          evicted: status.evictedBlocks,
          reclaimedChunks: status.reclaimedChunks,
          readAhead: status.readAhead,
        },
        dirtyShare: status.dirtyShare,
        secondsUntilFull: status.secondsUntilFull,
        writeDelayMs: status.writeDelayMs,
        waitingWrites: status.waitingWrites,
        busyWrites: status.busyWrites,
        state: status.state.kind === 'stopped' ? `stopped: ${status.state.reason}` : (status.problem ?? 'serving'),
      };
    },
    cloudReport: () => cloudReport(worker, uploadLimit),
    uploadLimit,
    processReport: (newInterval) => figures.report(newInterval),
    portals: () => portals,
    examine: () =>
      examine({
        settings,
        clock,
        random,
        disk,
        store: worker.store,
        table: worker.table,
        cloudTime: () => timeOf(settings.cloud),
        credentials: () => credentialsOf(settings.cloud),
        cacheAllocatedBytes: () => cache.status().allocatedBytes,
        access: () => ({ document: book.document, problems: accessControl.problems(), auditProblem: audit.problem }),
      }),
  });
  cleanups.push(() => gateway.close());
  let isStarting = true;
  // Later, initiators are told first (see below).
  stop
    ?.then(() => (isStarting ? gateway.close() : undefined))
    .catch((error: unknown) => {
      log.error({ err: error }, 'the start could not be given up cleanly');
    });
  cleanups.push(reportDirty(worker, () => cache.status().dirtyBytes / BLOCK_SIZE));
  const control = await ControlServer.listen(settings.stateDir, gateway, log.child({ part: 'control' }));
  cleanups.push(() => control.close());
  await gateway.start();
  isStarting = false;
  const opened = await server.listen(settings.portals);
  // Initiators are told before the volumes close under them.
  cleanups.push(() => server.close(true));
  portals = opened.map(({ host, port }) => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`));
  announce.start(settings, opened, accessControl, log);
  cleanups.push(() => announce.close());
  log.info({ gateway: catalogue.gateway, portals, stateDir: settings.stateDir }, 'gateway is up');
  return { portals: () => portals, failed: worker.crashed, close };
}

interface Access {
  readonly audit: AuditLog;
  readonly secrets: SecretBox;
  readonly book: AccessBook;
  readonly sync: AccessSync;
  readonly control: AccessControl;
}

/** Access control of the state directory; damaged files are told before anything is served. */
async function openAccess(
  settings: Settings,
  parts: { readonly disk: Disk; readonly worker: ReplicationWorker; readonly log: Log },
  cleanups: (() => Promise<void> | void)[],
): Promise<Access> {
  const { disk, worker } = parts;
  const tools = { clock: systemClock, random: systemRandom, log: parts.log.child({ part: 'access' }) };
  const { accessKeyFile } = settings;
  const audit = await AuditLog.open({ disk, ...tools });
  cleanups.push(() => audit.close());
  const secrets =
    accessKeyFile === undefined
      ? await SecretBox.open(disk, 'access.key', tools.random)
      : await SecretBox.open(new NodeDisk(dirname(accessKeyFile)), basename(accessKeyFile), tools.random);
  const sync = new AccessSync({ table: worker.table, ...tools });
  const book = await AccessBook.open({ disk, audit, epochOf: (volume) => sync.epochOf(volume) });
  sync.follow(book);
  cleanups.push(() => {
    sync.close();
  });
  const control = new AccessControl({ book, secrets, audit, mirrored: (volume) => sync.mirrored(volume), ...tools });
  return { audit, secrets, book, sync, control };
}

function iscsiSettings({ limits }: Settings): IscsiSettings {
  const defaults = DEFAULT_ISCSI_SETTINGS;
  return {
    ...defaults,
    maxConnections: limits.maxConnections ?? defaults.maxConnections,
    maxConnectionsPerAddress: limits.maxConnectionsPerAddress ?? defaults.maxConnectionsPerAddress,
    maxLogins: limits.maxLogins ?? defaults.maxLogins,
    maxLoginsPerAddress: limits.maxLoginsPerAddress ?? defaults.maxLoginsPerAddress,
    maxSessionsPerInitiator: limits.maxSessionsPerInitiator ?? defaults.maxSessionsPerInitiator,
  };
}

/** Opens a volume with an engine of its own in the worker; a notice from the lease reaches the volume. */
function volumeOpener(
  settings: Settings,
  gateway: string,
  parts: { readonly disk: Disk; readonly cache: CacheLog; readonly worker: ReplicationWorker; readonly log: Log },
): OpenVolume {
  const { disk, cache, worker, log } = parts;
  return async (ref, { takeover, rollBackTo, signal }) => {
    let volume: Volume | undefined;
    let early: FarshoreError | undefined;
    const engine = worker.openVolume((error) => {
      early = error;
      volume?.onFenced(error.message);
    });
    const remote: RemoteVolume = {
      ...engine,
      open: (request) => unlessAborted(engine.open(request), signal),
      rollBackTo: (n) => unlessAborted(engine.rollBackTo(n), signal),
    };
    try {
      volume = await Volume.open(
        {
          disk,
          clock: systemClock,
          random: systemRandom,
          log: log.child({ part: 'volume' }),
          cache,
          remote,
          images: IMAGES,
          settings: { rpoMs: settings.rpoSeconds * 1000, hydrate: true, scrub: settings.scrub },
        },
        { ref, gateway, takeover, rollBackTo },
      );
    } catch (error) {
      await remote.close();
      throw error;
    }
    if (early !== undefined) volume.onFenced(early.message);
    return directControl(volume, remote);
  };
}

/** The answer, or `stopped` at once when the signal aborts; then nobody hears what becomes of the work. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = (): void => {
      reject(new FarshoreError('stopped', 'the volume was not opened, because it is being closed'));
    };
    if (signal.aborted) giveUp();
    signal.addEventListener('abort', giveUp, { once: true });
    const end = (): void => {
      signal.removeEventListener('abort', giveUp);
    };
    work.then(resolve, reject).finally(end);
  });
}

/**
 * A bucket or table that isn't there is a mistake to be told at once; a cloud that is away, or hangs for longer than
 * CLOUD_CHECK_MS, is not: the volumes open when it is back.
 */
async function checkCloud(worker: ReplicationWorker, stop: Promise<unknown> | undefined, log: Log): Promise<void> {
  const check = async (): Promise<void> => {
    for (const answer of await Promise.allSettled([worker.table.listNames(), worker.store.head('farshore')])) {
      if (answer.status === 'rejected' && !isKind(answer.reason, 'retry')) throw answer.reason;
    }
  };
  const checked = check();
  const enough = new AbortController();
  await Promise.race([
    checked,
    sleep(systemClock, CLOUD_CHECK_MS, enough.signal),
    ...(stop === undefined ? [] : [stop]),
  ]);
  enough.abort();
  checked.catch((error: unknown) => {
    log.error({ error: describeError(error) }, 'the cloud refuses this gateway');
  });
}

/** From the lease and the counters there are anyway: asking for the status costs no request. */
async function cloudReport(worker: ReplicationWorker, limit: UploadLimit): Promise<GatewayReport['cloud']> {
  const [{ answeredAt, problem }, requests, { waiting }] = await Promise.all([
    worker.health(),
    worker.traffic(),
    worker.uploads(),
  ]);
  const told = { requests, uploads: { limit: limit.current, waiting } };
  const ago = answeredAt === undefined ? undefined : formatDuration(Math.max(0, systemClock.now() - answeredAt));
  if (problem !== undefined) {
    return {
      reachable: false,
      detail: `away${ago === undefined ? '' : `, last answered ${ago} ago`}: ${problem}`,
      ...told,
    };
  }
  return ago === undefined
    ? { reachable: undefined, detail: 'not asked yet', ...told }
    : { reachable: true, detail: `answered ${ago} ago`, ...told };
}

function reportDirty(worker: ReplicationWorker, dirtyBlocks: () => number): () => void {
  let cancel: () => void = () => undefined;
  const tick = (): void => {
    worker.reportDirty(dirtyBlocks());
    cancel = systemClock.startTimer(DIRTY_REPORT_MS, tick);
  };
  tick();
  return () => {
    cancel();
  };
}

/** Opens the portal and closes it again. Rejects with `in-use`, or `input` when the address is not this machine's. */
async function probePortal({ host, port }: Portal): Promise<void> {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
  } catch (error) {
    const isTaken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
    throw new FarshoreError(
      isTaken ? 'in-use' : 'input',
      `the portal ${host}:${port} cannot be opened (${describeError(error)}); ${isTaken ? 'stop what listens there, or choose another port' : 'portals must be addresses of this machine'}`,
      { cause: error },
    );
  }
  await new Promise((resolve) => server.close(resolve));
}
