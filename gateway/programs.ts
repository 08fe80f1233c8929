import { pino } from 'pino';
import { systemClock } from './base/clock.ts';
import type { Log } from './base/log.ts';
import type { CloudOptions } from './admin/cli.ts';
import type { Settings } from './config.ts';
import { startEmbeddedCloud } from './embedded/embedded-cloud.ts';
import { startGateway } from './main.ts';
import { endHung, type HungThread } from './threads/end-hung.ts';

/** A second signal while stopping ends the process at once. */
const FORCED_EXIT_CODE = 130;

/** Structured log on stderr; stdout belongs to results. */
function makeLog(level: string): Log {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
}

/** `farshore serve`: until SIGINT or SIGTERM, then a clean stop. */
export async function serve(settings: Settings): Promise<void> {
  const log = makeLog(settings.logLevel);
  const asked = stopSignal();
  const onHung = (hung: HungThread): void => {
    void endHung(hung, systemClock, log, {
      exit: (code) => process.exit(code),
      kill: () => process.kill(process.pid, 'SIGKILL'),
    });
  };
  const gateway = await startGateway(settings, log, { stop: asked, onHung });
  process.stdout.write(`serving on ${gateway.portals().join(', ')}\n`);
  const why = await Promise.race([asked, gateway.failed]);
  log.info({ why }, 'stopping');
  await gateway.close();
  log.info({}, 'stopped');
  if (why instanceof Error) throw why;
}

/** `farshore cloud`: until SIGINT or SIGTERM. */
export async function serveEmbeddedCloud(options: CloudOptions): Promise<void> {
  const log = makeLog('info');
  const asked = stopSignal();
  const cloud = await startEmbeddedCloud({ ...options, log });
  process.stdout.write(`s3Endpoint: ${cloud.s3Endpoint}\ndynamodbEndpoint: ${cloud.dynamodbEndpoint}\n`);
  await asked;
  await cloud.close();
}

/** Resolves with the name of the signal that asks the process to stop. */
function stopSignal(): Promise<string> {
  return new Promise((resolve) => {
    let stopping = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (stopping && signal === 'SIGINT') process.exit(FORCED_EXIT_CODE);
        stopping = true;
        resolve(signal);
      });
    }
  });
}
