import type { MessagePort } from 'node:worker_threads';
import type { AccessDocument } from '../access/document.ts';
import type { AuditLog } from '../access/audit-log.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { systemClock } from '../base/clock.ts';
import { startThread } from '../base/start-thread.ts';
import { HUNG_AFTER_MS, ThreadWatch } from '../base/thread-watch.ts';
import type { Settings } from '../config.ts';
import { writeTold } from '../replication/port-log.ts';
import { RpcClient, serveCalls } from '../replication/rpc.ts';
import { newUnheard, type Unheard } from '../replication/told-bounded.ts';
import { enterTold } from './audit-by-messages.ts';
import { type IoProxy, ioProxy, unlessGone } from './io-proxy.ts';
import { type FromThread, THREAD } from './messages.ts';

/** What an I/O thread is started with; plain data, and the port to the replication worker, which moves there. */
export interface IoThreadSettings {
  readonly number: number;
  /** How many there are, the main one included. */
  readonly threads: number;
  readonly settings: Settings;
  /** Identity of the gateway. */
  readonly gateway: string;
  readonly document: AccessDocument;
  readonly replication: MessagePort;
  /** Bounds what the thread tells and the main one has not taken up yet (see told-bounded). */
  readonly unheard: Unheard;
}

/** What an I/O thread asks of the main one. */
export interface MainThread {
  readonly log: Log;
  readonly audit: Pick<AuditLog, 'session' | 'note' | 'missed'>;
  /** See AccessInForce.saveUnitState: durable, and told to the threads, when it resolves. */
  saveUnitState(volume: string, state: string): Promise<void>;
  /** See AccessSync.mirrored. */
  mirrored(volume: string): Promise<void>;
  /** The thread does not answer any more (see ThreadWatch), and will not be closed: nobody knows what it might still do. */
  onHung(error: FarshoreError): void;
}

export interface RunningIoThread extends IoProxy {
  /** Resolves when the thread is gone without having been closed: nobody serves its volumes any more. */
  readonly died: Promise<FarshoreError>;
  /** Syncs its log and ends it; its volumes are closed by then. Idempotent. */
  close(): Promise<void>;
  /** Ends it as it is; does not resolve while it waits in the system. */
  terminate(): Promise<unknown>;
}

/** All of them side by side; those that did start are ended by `cleanups`, also when another one did not. */
export async function startIoThreads(
  given: readonly Omit<IoThreadSettings, 'unheard'>[],
  main: MainThread,
  cleanups: (() => Promise<void> | void)[],
): Promise<readonly RunningIoThread[]> {
  const threads: RunningIoThread[] = [];
  const failures: unknown[] = [];
  for (const start of await Promise.allSettled(given.map((each) => startIoThread(each, main)))) {
    if (start.status === 'rejected') {
      failures.push(start.reason);
      continue;
    }
    threads.push(start.value);
    cleanups.push(() => start.value.close());
  }
  if (failures.length > 0) throw failures[0];
  return threads;
}

/** Rejects with what the thread could not start for: `damaged` (its cache log), `stopped` (disk), `input`. */
async function startIoThread(settings: Omit<IoThreadSettings, 'unheard'>, main: MainThread): Promise<RunningIoThread> {
  const given: IoThreadSettings = { ...settings, unheard: newUnheard() };
  const { number, unheard } = given;
  const worker = startThread('io', new URL('./io-worker.ts', import.meta.url), given, [given.replication]);
  let started: (failure: FarshoreError | undefined) => void = () => undefined;
  const isUp = new Promise<FarshoreError | undefined>((resolve) => {
    started = resolve;
  });
  serveCalls(worker, async (_target, method, args) => {
    const [volume, state] = args as readonly [string, string];
    if (method === 'saveUnitState') await main.saveUnitState(volume, state);
    else if (method === 'mirrored') await main.mirrored(volume);
    else throw new FarshoreError('bug', `the main thread has no '${method}'`);
    return { value: undefined };
  });
  const client = new RpcClient(worker, (name, target, detail) => {
    if (writeTold(main.log, unheard, name, detail) || enterTold(main.audit, unheard, name, detail)) return;
    if (name === 'started') {
      const { failure } = detail as FromThread['started'];
      started(failure && new FarshoreError(failure.kind, failure.message));
    } else proxy.told(name, target, detail);
  });
  const proxy = ioProxy(number, client, worker, systemClock);
  let closing: Promise<void> | undefined;
  const died = new Promise<FarshoreError>((resolve) => {
    const gone = (why: string): void => {
      const error =
        closing === undefined
          ? new FarshoreError('retry', `I/O thread ${number} has stopped: ${why}`)
          : new FarshoreError('stopped', `I/O thread ${number} was closed`);
      client.end(error);
      started(error);
      if (closing === undefined) resolve(error);
    };
    worker.on('error', (error) => {
      main.log.error({ err: error, thread: number }, 'an I/O thread failed');
      gone(describeError(error));
    });
    worker.on('exit', (code) => {
      gone(`exit code ${code}`);
    });
  });
  let endWatch = (): void => undefined;
  const shutDown = async (): Promise<void> => {
    try {
      // For as long as it takes: a log that is not synced is not closed.
      await unlessGone(client.call(THREAD, 'close', []));
    } finally {
      endWatch();
      await worker.terminate();
    }
  };
  const close = (): Promise<void> => (closing ??= shutDown());
  const failure = await isUp;
  if (failure !== undefined) {
    closing = Promise.resolve();
    await worker.terminate();
    throw failure;
  }
  const watch = new ThreadWatch({
    clock: systemClock,
    ask: () => client.call(THREAD, 'ping', []),
    onHung: () => {
      const last = `I/O thread ${number} has not answered for ${HUNG_AFTER_MS / 1000} s, and its volumes are served to nobody`;
      main.onHung(new FarshoreError('stopped', last));
    },
  });
  endWatch = () => {
    watch.close();
  };
  void died.then(endWatch);
  return { ...proxy, died, close, terminate: () => worker.terminate() };
}
