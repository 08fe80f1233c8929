import { basename, dirname, join } from 'node:path';
import { SecretBox } from '../access/secret-box.ts';
import { systemClock, systemRandom } from '../base/clock.ts';
import type { Disk } from '../base/disk.ts';
import type { Log } from '../base/log.ts';
import { NodeDisk } from '../base/node-disk.ts';
import { usableProcessors } from '../base/processors.ts';
import { BLOCK_SIZE, MIB } from '../base/units.ts';
import { CacheLog } from '../cache/cache-log.ts';
import { cacheSettings } from '../cache/settings.ts';
import type { Portal, Settings } from '../config.ts';
import { ALL_HANDLES, type HandleRange } from '../iscsi/session-table.ts';
import { DEFAULT_ISCSI_SETTINGS, type IscsiSettings } from '../iscsi/settings.ts';
import { THREADS_DIRECTORY } from './retired-threads.ts';
import type { ReplicationWorker } from '../replication/worker-client.ts';

/** How often the heartbeat's figures are refreshed. */
const DIRTY_REPORT_MS = 5_000;
/** No thread gets less for data in flight, however many there are. */
const LEAST_IN_FLIGHT = 64 * MIB;

/** The part of the state directory that is a thread's: that of the main one is the whole. */
export function threadDirectory(stateDir: string, number: number): string {
  return number === 0 ? stateDir : join(stateDir, THREADS_DIRECTORY, String(number));
}

/** The portals of a thread: the same addresses, the port further by its number (0 stays any free one). */
export function portalsOf(portals: readonly Portal[], number: number): readonly Portal[] {
  const moved = (port: number): number => (port === 0 ? 0 : port + number);
  return portals.map(({ host, port, advertise }) => ({
    host,
    port: moved(port),
    ...(advertise === undefined
      ? {}
      : { advertise: advertise.map((told) => ({ host: told.host, port: moved(told.port) })) }),
  }));
}

/** The cache log of one of so many threads, which share what is configured for all. */
export function openCache(disk: Disk, settings: Settings, threads: number, log: Log): Promise<CacheLog> {
  return CacheLog.open(
    { disk, clock: systemClock, random: systemRandom, log: log.child({ part: 'cache' }) },
    cacheSettings({
      sizeBytes: Math.floor(settings.cacheBytes / threads),
      ramBytes: Math.floor(settings.ramBytes / threads),
    }),
  );
}

/**
 * Whether the replication worker has a processor of its own at times, however busy initiators keep the threads. Where it has not, it does not stand back, and
 * nobody waits awake: its uploads would fall behind without end, and what is not uploaded is in one place. A single thread has the first claim always, as
 * it has nothing beside it that it could be starved with.
 */
export function leavesAProcessor(threads: number, processors = usableProcessors()): boolean {
  return threads === 1 || processors > threads;
}

/** The target server of one of so many threads. */
export function iscsiSettings({ limits }: Settings, threads: number): IscsiSettings {
  const defaults = DEFAULT_ISCSI_SETTINGS;
  const shared = (bytes: number): number => Math.max(LEAST_IN_FLIGHT, Math.floor(bytes / threads));
  return {
    ...defaults,
    mayPoll: leavesAProcessor(threads),
    writeBytesInFlight: shared(defaults.writeBytesInFlight),
    readBytesInFlight: shared(defaults.readBytesInFlight),
    maxConnections: limits.maxConnections ?? defaults.maxConnections,
    maxConnectionsPerAddress: limits.maxConnectionsPerAddress ?? defaults.maxConnectionsPerAddress,
    maxLogins: limits.maxLogins ?? defaults.maxLogins,
    maxLoginsPerAddress: limits.maxLoginsPerAddress ?? defaults.maxLoginsPerAddress,
    maxSessionsPerInitiator: limits.maxSessionsPerInitiator ?? defaults.maxSessionsPerInitiator,
  };
}

/** The session handles that a thread gives out, so that one handle says which session of the gateway is meant. */
export function handlesOf(number: number, threads: number): HandleRange {
  if (threads === 1) return ALL_HANDLES;
  const each = Math.floor(ALL_HANDLES.last / threads);
  return { first: number * each + 1, last: (number + 1) * each };
}

/** Keys of CHAP secrets, from where they are configured to be. */
export function openSecrets({ accessKeyFile }: Settings, disk: Disk): Promise<SecretBox> {
  return accessKeyFile === undefined
    ? SecretBox.open(disk, 'access.key', systemRandom)
    : SecretBox.open(new NodeDisk(dirname(accessKeyFile)), basename(accessKeyFile), systemRandom);
}

/** Tells the heartbeat how much of the cache log is in no version yet, until the answer is called. */
export function reportDirty(worker: ReplicationWorker, cache: CacheLog): () => void {
  let cancel: () => void = () => undefined;
  const tick = (): void => {
    worker.reportDirty(cache.status().dirtyBytes / BLOCK_SIZE);
    cancel = systemClock.startTimer(DIRTY_REPORT_MS, tick);
  };
  tick();
  return () => {
    cancel();
  };
}
