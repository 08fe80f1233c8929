import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { AccessAdmin } from './access/access-admin.ts';
import { AccessBook } from './access/access-book.ts';
import { AccessControl } from './access/access-control.ts';
import { AccessSync } from './access/access-sync.ts';
import { AuditLog } from './access/audit-log.ts';
import { sharesTarget } from './access/one-thread.ts';
import type { SecretBox } from './access/secret-box.ts';
import { warningsAbout } from './access/standing.ts';
import { ControlServer } from './admin/control-server.ts';
import type { GatewayReport } from './admin/gateway-api.ts';
import { sleep, systemClock, systemRandom } from './base/clock.ts';
import { NodeImages } from './base/node-images.ts';
import type { Disk } from './base/disk.ts';
import { describeError, FarshoreError, isKind } from './base/errors.ts';
import type { Log } from './base/log.ts';
import { HUNG_AFTER_MS, ThreadWatch } from './base/thread-watch.ts';
import { newMeter } from './cloud/metered.ts';
import { makePrivateDirectory, NodeDisk, removeEmptyDirectory } from './base/node-disk.ts';
import { lockForThisProcess } from './base/process-lock.ts';
import { collectAtRest } from './base/rest-collection.ts';
import { formatDuration } from './base/size.ts';
import { MIB } from './base/units.ts';
import { cacheSettings } from './cache/settings.ts';
import { Announcement } from './announcement.ts';
import { Catalogue } from './catalogue.ts';
import type { Portal, Settings } from './config.ts';
import { loadCompression } from './format/compression.ts';
import { askCloudTime } from './cloud/cloud-time.ts';
import { proxyRule } from './cloud/proxy.ts';
import { trustedRoots } from './cloud/trusted-roots.ts';
import { credentialsOf, examine } from './doctor.ts';
import { Gateway } from './gateway.ts';
import type { OpenPortal } from './iscsi/target-registry.ts';
import { IscsiTargetServer } from './iscsi/server.ts';
import { ProcessFigures } from './process-figures.ts';
import type { Direction } from './replication/throttle.ts';
import { type ReplicationWorker, startReplicationWorker } from './replication/worker-client.ts';
import { sizeOfImage } from './volume/stored/prepare-image.ts';
import { VolumeTargets } from './target-directory.ts';
import { AccessEverywhere } from './threads/access-everywhere.ts';
import type { HungThread } from './threads/end-hung.ts';
import { ioHere } from './threads/io-here.ts';
import { clearRetiredThread, retiredThreads, THREADS_DIRECTORY } from './threads/retired-threads.ts';
import { IoThreads, threadsNeeded } from './threads/io-threads.ts';
import { startIoThreads } from './threads/start-io-thread.ts';
import {
  handlesOf,
  iscsiSettings,
  leavesAProcessor,
  openCache,
  openSecrets,
  portalsOf,
  reportDirty,
  threadDirectory,
} from './threads/thread-parts.ts';
import { lineRateNow, RateLimits } from './rate-limits.ts';
import { VERSION } from './version.ts';

export interface RunningGateway {
  /** address:port of each portal, as opened. */
  portals(): readonly string[];
  /** Resolves when the gateway cannot go on by itself; close it then. */
  readonly failed: Promise<FarshoreError>;
  /** Tells the sessions, syncs the log, gives the directory up. */
  close(): Promise<void>;
}

/** Memory of the replication worker for maps and decoded frames, over all volumes. */
const SHARD_CACHE_BYTES = 64 * MIB;
const FRAME_CACHE_BYTES = 16 * MIB;
/** How long a start waits to hear that bucket and table are there. */
const CLOUD_CHECK_MS = 5_000;

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
    /** Told when a thread hangs: the process cannot be closed then, and ends. Without it that is only in the log. */
    readonly onHung?: (hung: HungThread) => void;
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
    return await start(settings, log, cleanups, undo, { ...options, diskAt });
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
  {
    stop,
    onHung,
    diskAt,
  }: {
    readonly stop?: Promise<unknown>;
    readonly onHung?: (hung: HungThread) => void;
    readonly diskAt: (stateDir: string) => Disk;
  },
): Promise<RunningGateway> {
  const clock = systemClock;
  const random = systemRandom;
  const figures = new ProcessFigures(clock);
  cleanups.push(() => {
    figures.close();
  });
  cleanups.push(collectAtRest(clock));
  const lock = lockForThisProcess(join(settings.stateDir, 'lock'), `the state directory ${settings.stateDir}`);
  cleanups.push(() => {
    lock.release();
  });
  const disk = diskAt(settings.stateDir);
  const catalogue = await Catalogue.open(disk, random);
  cleanups.push(() => catalogue.close());
  const threads = threadsNeeded(settings.threads, catalogue.volumes);
  const cache = await openCache(disk, settings, threads, log);
  cleanups.push(() => cache.close());
  const links = Array.from({ length: threads - 1 }, (_, index) => linkTo(settings.stateDir, index + 1));
  if (links.length > 0) {
    // What is flushed into a directory must not be lost with it.
    await disk.syncDirectory(THREADS_DIRECTORY);
    await disk.syncDirectory('');
  }
  await clearRetired(settings, threads, { disk, catalogue, diskAt, log });
  // Mistakes are told here, where somebody reads them; the worker would end by them.
  proxyRule(settings.cloud.proxy, process.env);
  trustedRoots(settings.cloud.caFile, process.env);
  const worker = startReplicationWorker(
    {
      cloud: settings.cloud,
      stateDir: settings.stateDir,
      gateway: catalogue.gateway,
      host: hostname(),
      version: VERSION,
      shardCacheBytes: SHARD_CACHE_BYTES,
      frameCacheBytes: FRAME_CACHE_BYTES,
      rates: {
        upload: lineRateNow(settings.limitPlans.upload, clock),
        download: lineRateNow(settings.limitPlans.download, clock),
      },
      standsBack: leavesAProcessor(threads),
      watchMain: onHung !== undefined,
      links: links.map(({ far, stateDir }) => ({ port: far, stateDir })),
    },
    log.child({ part: 'replication' }),
  );
  cleanups.push(() => worker.close());
  const apply = worker.limit.bind(worker);
  const limits = new RateLimits({ clock, log, apply }, settings.limitPlans);
  cleanups.push(() => {
    limits.close();
  });
  await checkCloud(worker, stop, log);
  // Before any volume is taken over: a mistyped address must not cost them an epoch.
  for (let number = 0; number < threads; number += 1)
    for (const portal of portalsOf(settings.portals, number)) await probePortal(portal);

  const access = await openAccess(settings, { disk, worker, log }, cleanups);
  const { audit, book, control: accessControl, secrets, sync } = access;
  const server = new IscsiTargetServer({
    log: log.child({ part: 'iscsi' }),
    clock,
    random,
    targets: accessControl,
    settings: iscsiSettings(settings, threads),
    handles: handlesOf(0, threads),
  });
  accessControl.servedBy(server);
  const parts = { number: 0, settings, gateway: catalogue.gateway, disk, cache, replication: worker, server, log };
  const here = ioHere({ ...parts, control: accessControl, processFigures: figures });
  const threadEnds: (() => Promise<unknown>)[] = [() => worker.close()];
  const hangs = (error: FarshoreError): void => {
    if (onHung === undefined) log.error({ error: error.message }, 'a thread hangs');
    else onHung({ error, ends: threadEnds });
  };
  const given = { threads, settings, gateway: catalogue.gateway, document: book.document };
  const others = await startIoThreads(
    links.map(({ number, near }) => ({ ...given, number, replication: near })),
    {
      log,
      audit,
      saveUnitState: (volume, state) => book.saveUnitState(volume, state),
      mirrored: (volume) => sync.mirrored(volume),
      onHung: hangs,
    },
    cleanups,
  );
  threadEnds.push(...others.map((other) => () => other.terminate()));
  const everywhere = new AccessEverywhere(
    accessControl,
    others.map((other) => other.access),
  );
  everywhere.follow(book, secrets);
  const io = new IoThreads([here, ...others.map((other) => other.io)], settings.threads, catalogue);
  const announce = new Announcement();
  const targets = new VolumeTargets({
    book,
    access: everywhere,
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
      admin: new AccessAdmin({
        book,
        secrets,
        control: {
          contested: () => accessControl.contested(),
          apart: () => accessControl.apart(),
          enforced: () => everywhere.enforced(),
          keysChanged: () => {
            everywhere.keysChanged(secrets);
          },
        },
        audit,
        disk,
        clock,
        iqn: settings.iqn,
        threadOf: (volume) => io.numberOf(volume),
      }),
      control: accessControl,
      audit,
      sessions: io,
      warnings: (concerns, isElsewhere) => warningsAbout({ book, sync }, concerns, isElsewhere),
      volumeName: (volume) => book.document.volumes.find((part) => part.volume === volume)?.name ?? volume,
      targetsChanged: () => {
        announce.changed();
      },
    },
    salvage: {
      maintenance: async () => ({
        ...{ store: worker.store, versions: worker.table, compression: await loadCompression(), clock, random },
        log: log.child({ part: 'salvage' }),
      }),
      table: worker.table,
      catalogue,
      iqn: settings.iqn,
      disk,
      diskAt: (directory) => new NodeDisk(directory),
      images: new NodeImages(),
      io,
      openRemote: () => worker.openVolume(() => undefined),
      isTaken: (name) => targets.isTaken(name),
    },
    io,
    sharesTarget: (volume) => sharesTarget(book.document, volume),
    sizeOfImage: (path) => sizeOfImage(new NodeImages(), path),
    isnsReport: () => announce.report(),
    cloudReport: () => cloudReport(worker, limits),
    limits,
    portals: () => portals,
    examine: () =>
      examine({
        settings,
        clock,
        random,
        disk,
        store: worker.store,
        table: worker.table,
        cloudTime: () => askCloudTime(settings.cloud),
        credentials: () => credentialsOf(settings.cloud),
        cacheAllocatedBytes: () => io.allocatedBytes(),
        access: () => ({ document: book.document, problems: accessControl.problems(), auditProblem: audit.problem }),
      }),
  });
  cleanups.push(() => gateway.close());
  worker.onOffer = (ref) => {
    void gateway.takeHandover(ref);
  };
  let isStarting = true;
  // Later, initiators are told first (see below).
  stop
    ?.then(() => (isStarting ? gateway.close() : undefined))
    .catch((error: unknown) => {
      log.error({ err: error }, 'the start could not be given up cleanly');
    });
  cleanups.push(reportDirty(worker, cache));
  const control = await ControlServer.listen(settings.stateDir, gateway, log.child({ part: 'control' }));
  cleanups.push(() => control.close());
  await gateway.start();
  isStarting = false;
  // It is up by now, however much it had to load.
  const watch = new ThreadWatch({
    clock,
    ask: () => worker.isThere(),
    onHung: () => {
      const last = `the replication worker has not answered for ${HUNG_AFTER_MS / 1000} s, and nothing is uploaded`;
      hangs(new FarshoreError('stopped', last));
    },
  });
  cleanups.push(() => {
    watch.close();
  });
  // Initiators are told before the volumes close under them.
  cleanups.push(async () => {
    await Promise.all([server.close(true), ...others.map((other) => other.closeServer())]);
  });
  const elsewhere: OpenPortal[] = [];
  for (const other of others) {
    const { number } = other.io;
    const open = await other.listen(portalsOf(settings.portals, number));
    everywhere.servedAt(number, open);
    elsewhere.push(...open);
  }
  const opened = await server.listen(settings.portals);
  everywhere.servedAt(0, opened);
  portals = opened.map(({ host, port }) => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`));
  announce.start(settings, { main: opened, others: elsewhere }, accessControl, log);
  cleanups.push(() => announce.close());
  log.info({ gateway: catalogue.gateway, portals, stateDir: settings.stateDir }, 'gateway is up');
  return {
    portals: () => portals,
    failed: Promise.race([worker.crashed, ...others.map((other) => other.died)]),
    close,
  };
}

/** The channel between an I/O thread and the replication worker, and the thread's part of the state directory. */
function linkTo(
  mainDirectory: string,
  number: number,
): { readonly number: number; readonly near: MessagePort; readonly far: MessagePort; readonly stateDir: string } {
  const stateDir = threadDirectory(mainDirectory, number);
  makePrivateDirectory(dirname(stateDir));
  makePrivateDirectory(stateDir);
  const { port1: near, port2: far } = new MessageChannel();
  return { number, near, far, stateDir };
}

/** What there is of threads that are not started any more goes; those that are started only for their volumes are told. */
async function clearRetired(
  settings: Settings,
  threads: number,
  { disk, catalogue, diskAt, log }: { disk: Disk; catalogue: Catalogue; diskAt: (stateDir: string) => Disk; log: Log },
): Promise<void> {
  for (const { name, thread = 0 } of catalogue.volumes) {
    if (thread < settings.threads) continue;
    const mend = `farshore volume move ${name} --thread 0`;
    log.warn({ volume: name, thread, mend }, 'an I/O thread more than configured is started, because it has a volume');
  }
  for (const number of await retiredThreads(disk, threads)) {
    const directory = threadDirectory(settings.stateDir, number);
    const parts = {
      disk: diskAt(directory),
      clock: systemClock,
      random: systemRandom,
      log: log.child({ thread: number }),
    };
    // As small as can be: it is only looked through.
    const least = cacheSettings({ sizeBytes: 256 * MIB, ramBytes: MIB });
    if (!(await clearRetiredThread({ ...parts, settings: least }, catalogue.volumes))) continue;
    for (const part of ['cache', 'volumes', '']) removeEmptyDirectory(join(directory, part));
  }
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
  const audit = await AuditLog.open({ disk, ...tools });
  cleanups.push(() => audit.close());
  const secrets = await openSecrets(settings, disk);
  const sync = new AccessSync({ table: worker.table, ...tools });
  const book = await AccessBook.open({ disk, audit, epochOf: (volume) => sync.epochOf(volume) });
  sync.follow(book);
  cleanups.push(() => {
    sync.close();
  });
  const control = new AccessControl({ book, secrets, audit, mirrored: (volume) => sync.mirrored(volume), ...tools });
  return { audit, secrets, book, sync, control };
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
async function cloudReport(worker: ReplicationWorker, limits: RateLimits): Promise<GatewayReport['cloud']> {
  const answers = await Promise.all([worker.health(), worker.traffic(), worker.waiting(), worker.circuits()]).catch(
    (error: unknown) => {
      if (isKind(error, 'retry')) return error;
      throw error;
    },
  );
  if (answers instanceof FarshoreError) {
    const { message: detail } = answers;
    const told = lines(limits, { upload: 0, download: 0 });
    return { reachable: undefined, detail, requests: newMeter(), circuits: undefined, ...told };
  }
  const [{ answeredAt, problem }, requests, waiting, circuits] = answers;
  const told = { requests, circuits, ...lines(limits, waiting) };
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

function lines(
  limits: RateLimits,
  { upload, download }: Readonly<Record<Direction, number>>,
): Pick<GatewayReport['cloud'], 'uploads' | 'downloads'> {
  return {
    uploads: { ...limits.report('upload'), waiting: upload },
    downloads: { ...limits.report('download'), waiting: download },
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
