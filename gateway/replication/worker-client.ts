import { sleep, systemClock } from '../base/clock.ts';
import { startThread } from '../base/start-thread.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import { inTime } from '../base/in-time.ts';
import type { Log } from '../base/log.ts';
import type { BlockCount } from '../base/units.ts';
import type { CloudMeter } from '../cloud/metered.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { VersionLog, VolumeRef } from '../cloud/version-log.ts';
import type { CloudHealth } from './lease.ts';
import { writeTold } from './port-log.ts';
import { portProxy, remoteVolumeProxy } from './remote-volume-proxy.ts';
import type { RemoteVolume } from './remote-volume.ts';
import { BUCKET, FIRST_VOLUME, HOST, TABLE } from './replication-host.ts';
import type { CloudCircuits } from './replication-host.ts';
import type { RpcPort } from './rpc.ts';
import { RpcClient, serveCalls } from './rpc.ts';
import { newUnheard, type Unheard } from './told-bounded.ts';
import type { Direction, LineRate } from './throttle.ts';
import type { WorkerSettings } from './worker-settings.ts';

/** How long a worker that was asked to close may take before it is ended. */
const CLOSE_TIMEOUT_MS = 5_000;

/** How long it may take to tell how things stand. */
const ANSWER_WITHIN_MS = 3_000;

const TABLE_METHODS: readonly (keyof VersionLog)[] = [
  'getVolume',
  'createVolume',
  'listVolumes',
  'raiseEpoch',
  'changeVolume',
  'raiseMaintenanceEpoch',
  'publishCheckpoint',
  'raiseFloor',
  'removeVolume',
  'getAccess',
  'putAccess',
  'removeAccess',
  'putVersion',
  'getVersion',
  'listVersions',
  'deleteVersions',
  'allocateNumbers',
  'claimName',
  'resolveName',
  'rebindName',
  'releaseName',
  'listNames',
  'beat',
  'notify',
  'clearNotices',
];
const BUCKET_METHODS: readonly (keyof ObjectStore)[] = ['put', 'get', 'head', 'list', 'delete'];

/** The replication half of a gateway, seen from the thread that serves initiators. */
export interface ReplicationWorker {
  /**
   * A volume whose engine runs in the worker. `onFenced` is called once when another gateway has taken it over, also when
   * nothing is under way. To open a volume again after it was closed or fenced, ask for a new one.
   */
  openVolume(onFenced: (error: FarshoreError) => void): RemoteVolume;
  /** Called with volumes that other gateways offer to this one; not before it is set. */
  onOffer: ((ref: VolumeRef) => void) | undefined;
  /** The table and the bucket, for administration. */
  readonly table: VersionLog;
  readonly store: ObjectStore;
  /** Resolves when the worker has turned its loop. */
  isThere(): Promise<void>;
  /** Requests made and bytes moved since the worker started, all volumes and maintenance together. */
  traffic(): Promise<CloudMeter>;
  /** What the last lease renewal said of the cloud; asking makes no request. */
  health(): Promise<CloudHealth>;
  /** How S3 and DynamoDB stand; asking makes no request. */
  circuits(): Promise<CloudCircuits | undefined>;
  /** Transfers that wait because of their limit. */
  waiting(): Promise<Readonly<Record<Direction, number>>>;
  /** All volumes together, from now on; see UploadThrottle and DownloadThrottle. */
  limit(direction: Direction, rate: LineRate): Promise<void>;
  /** For the gateway's heartbeat. */
  reportDirty(blocks: BlockCount): void;
  /**
   * Resolves when the worker is gone without having been closed: everything under way has rejected with `retry`. What follows
   * is a new worker, in which every volume is opened anew, with new epochs (rule 5).
   */
  readonly crashed: Promise<FarshoreError>;
  /** Ends it; what is under way rejects with `stopped`, what was sent may still land. Idempotent. */
  close(): Promise<void>;
}

/** Starts the worker thread. Its failures to start (no cache directory, no credentials) show in the first calls. */
export function startReplicationWorker(given: Omit<WorkerSettings, 'unheard'>, log: Log): ReplicationWorker {
  const settings: WorkerSettings = { ...given, unheard: newUnheard() };
  const worker = startThread(
    'replication',
    new URL('./worker.ts', import.meta.url),
    settings,
    settings.links?.map(({ port }) => port),
  );
  // All it asks of this thread is whether it is there.
  serveCalls(worker, () => Promise.resolve({ value: undefined }));
  return connectReplication(worker, log, worker, settings.unheard);
}

/** What a client has to know of the thread at the other end. */
export interface WorkerThread {
  on(event: 'error', listener: (error: unknown) => void): unknown;
  on(event: 'exit', listener: (code: number) => void): unknown;
  terminate(): Promise<unknown>;
}

/** The client's end over any port; `startReplicationWorker` gives it a thread's. */
export function connectReplication(
  port: RpcPort,
  log: Log,
  thread: WorkerThread,
  unheard: Unheard = newUnheard(),
): ReplicationWorker {
  const fencedBy = new Map<number, (error: FarshoreError) => void>();
  const client = new RpcClient(port, (name, target, detail) => {
    if (writeTold(log, unheard, name, detail)) return;
    if (name === 'offered') {
      replication.onOffer?.(detail as VolumeRef); // as replication-host sends it
      return;
    }
    if (name === 'fenced') {
      const { message } = detail as { readonly message: string }; // as replication-host sends it
      fencedBy.get(target)?.(new FarshoreError('fenced', message));
      fencedBy.delete(target);
    }
  });
  let nextVolume = FIRST_VOLUME;
  const closed = new FarshoreError('stopped', 'the replication worker was closed');
  let closing: Promise<void> | undefined;
  const crashed = new Promise<FarshoreError>((resolve) => {
    const gone = (why: string): void => {
      if (closing !== undefined) {
        client.end(closed);
        return;
      }
      const error = new FarshoreError('retry', `the replication worker has stopped: ${why}`);
      client.end(error);
      resolve(error);
    };
    thread.on('error', (error) => {
      log.error({ err: error }, 'the replication worker failed');
      gone(describeError(error));
    });
    thread.on('exit', (code) => {
      gone(`exit code ${code}`);
    });
  });
  const shutDown = async (): Promise<void> => {
    const answered = new AbortController();
    // The system's clock: this is about a thread of the operating system that may hang.
    const timeout = sleep(systemClock, CLOSE_TIMEOUT_MS, answered.signal);
    await Promise.race([client.call(HOST, 'close', []).catch(() => undefined), timeout]);
    answered.abort();
    client.end(closed);
    await thread.terminate();
  };
  // Nothing is done for these answers that takes time. The system's clock, as above.
  const ask = (method: string): Promise<unknown> =>
    inTime(
      systemClock,
      ANSWER_WITHIN_MS,
      client.call(HOST, method, []),
      () => new FarshoreError('retry', 'the replication worker does not answer'),
    );
  const replication: ReplicationWorker = {
    onOffer: undefined,
    openVolume: (onFenced) => {
      const target = nextVolume;
      nextVolume += 1;
      fencedBy.set(target, onFenced);
      const volume = remoteVolumeProxy(client, target);
      return {
        ...volume,
        close: () => {
          fencedBy.delete(target);
          return volume.close();
        },
      };
    },
    table: portProxy<VersionLog>(client, TABLE, TABLE_METHODS),
    store: portProxy<ObjectStore>(client, BUCKET, BUCKET_METHODS),
    traffic: async () => (await ask('traffic')) as CloudMeter,
    health: async () => (await ask('health')) as CloudHealth,
    circuits: async () => (await ask('circuits')) as CloudCircuits | undefined,
    waiting: async () => (await ask('waiting')) as Readonly<Record<Direction, number>>,
    isThere: async () => {
      await client.call(HOST, 'ping', []);
    },
    limit: async (direction, rate) => {
      await client.call(HOST, 'limit', [direction, rate]);
    },
    reportDirty: (blocks) => {
      // A report that is lost with its worker is not missed.
      client.call(HOST, 'dirty', [blocks]).catch(() => undefined);
    },
    crashed,
    close: () => (closing ??= shutDown()),
  };
  return replication;
}
