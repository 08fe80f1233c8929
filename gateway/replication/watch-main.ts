import { writeSync } from 'node:fs';
import { systemClock } from '../base/clock.ts';
import { HUNG_AFTER_MS, ThreadWatch } from '../base/thread-watch.ts';
import { RpcClient, type RpcPort } from './rpc.ts';

const STDERR = 2;

/**
 * Watches the main thread from the replication worker, which there is always one of: with the main thread everything stands still, and nobody else would notice.
 * It cannot be closed from here, and Node would wait for it at an exit; so the process ends as a power cut would end it, which it is made for.
 */
export function watchMain(port: RpcPort): ThreadWatch {
  const main = new RpcClient(port, () => undefined);
  return new ThreadWatch({
    clock: systemClock,
    ask: () => main.call(0, 'ping', []),
    onHung: () => {
      const msg = `the main thread has not answered for ${HUNG_AFTER_MS / 1000} s; the process ends itself, to be started again`;
      // Who writes the log is who hangs.
      writeSync(STDERR, `${JSON.stringify({ level: 50, time: new Date(systemClock.now()).toISOString(), msg })}\n`);
      process.kill(process.pid, 'SIGKILL');
    },
  });
}
