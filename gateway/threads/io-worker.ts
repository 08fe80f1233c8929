import { parentPort, workerData } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { AccessControl } from '../access/access-control.ts';
import { systemClock, systemRandom } from '../base/clock.ts';
import { describeError, FarshoreError, invariant } from '../base/errors.ts';
import { NodeDisk } from '../base/node-disk.ts';
import { collectAtRest } from '../base/rest-collection.ts';
import { IscsiTargetServer } from '../iscsi/server.ts';
import { ProcessFigures } from '../process-figures.ts';
import { portLog } from '../replication/port-log.ts';
import { RpcClient } from '../replication/rpc.ts';
import { BoundedTeller } from '../replication/told-bounded.ts';
import type { WorkerThread } from '../replication/worker-client.ts';
import { connectReplication } from '../replication/worker-client.ts';
import { AccessMirror } from './access-mirror.ts';
import { auditByMessages } from './audit-by-messages.ts';
import { tellMain } from './events.ts';
import { ioHere } from './io-here.ts';
import { IoHost } from './io-host.ts';
import type { IoThreadSettings } from './start-io-thread.ts';
import { threadDisk } from './thread-disk.ts';
import { handlesOf, iscsiSettings, openCache, openSecrets, reportDirty, threadDirectory } from './thread-parts.ts';

/** Entry of an I/O thread: its parts are wired together here, as `main.ts` does for the main thread. */
invariant(parentPort !== null, 'an I/O thread runs in a thread of its own');
const port = parentPort;
const { number, threads, settings, gateway, document, replication, unheard } = workerData as IoThreadSettings; // as startIoThread passes it
const teller = new BoundedTeller(port, unheard);
const log = portLog(teller, { thread: number });
const tools = { clock: systemClock, random: systemRandom };

try {
  const figures = new ProcessFigures(systemClock);
  const stopCollecting = collectAtRest(systemClock);
  const disk = threadDisk(threadDirectory(settings.stateDir, number));
  const cache = await openCache(disk, settings, threads, log);
  const worker = connectReplication(replication, log.child({ part: 'replication' }), endOf(replication));
  const secrets = await openSecrets(settings, new NodeDisk(settings.stateDir));
  const mirror = new AccessMirror(document, async (volume, state) => {
    await main.call(0, 'saveUnitState', [volume, state]);
  });
  const control = new AccessControl({
    book: mirror,
    secrets,
    audit: auditByMessages(teller),
    mirrored: async (volume) => {
      await main.call(0, 'mirrored', [volume]);
    },
    random: systemRandom,
    log: log.child({ part: 'access' }),
  });
  const server = new IscsiTargetServer({
    ...tools,
    log: log.child({ part: 'iscsi' }),
    targets: control,
    settings: iscsiSettings(settings, threads),
    handles: handlesOf(number, threads),
  });
  control.servedBy(server);
  const stopReporting = reportDirty(worker, cache);
  const io = ioHere({
    number,
    settings,
    gateway,
    disk,
    cache,
    replication: worker,
    server,
    control,
    processFigures: figures,
    log,
  });
  const close = async (): Promise<void> => {
    stopReporting();
    figures.close();
    stopCollecting();
    await worker.close();
    await cache.close();
  };
  // Both in one turn: what the main thread has sent by now is waiting at the port.
  const host = new IoHost({ io, server, control, mirror, secrets, close }, port);
  const main = new RpcClient(port, (name, _target, detail) => {
    host.told(name, detail);
  });
  tellMain(port, 'started', { failure: undefined });
} catch (error) {
  const kind = error instanceof FarshoreError ? error.kind : 'bug';
  tellMain(port, 'started', { failure: { kind, message: describeError(error) } });
}

/** The replication worker as the thread at the other end of a port: all that is heard of its end is that the port is closed. */
function endOf(end: MessagePort): WorkerThread {
  const thread: WorkerThread = {
    on: (event: 'error' | 'exit', listener: (argument: never) => void) => {
      if (event === 'exit') end.on('close', listener as () => void);
      return thread;
    },
    terminate: () => {
      end.close();
      return Promise.resolve();
    },
  };
  return thread;
}
