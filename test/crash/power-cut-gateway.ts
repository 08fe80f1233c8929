import { pino } from 'pino';
import { loadSettings } from '../../gateway/config.ts';
import { startGateway } from '../../gateway/main.ts';
import { PowerCutDisk } from './power-cut-disk.ts';
import { setFateOfThreads } from './power-cut-thread-disk.ts';

/**
 * `farshore serve` on a disk that SIGKILL cuts the power of, those of its I/O threads included: node power-cut-gateway.js CONFIG JOURNAL SEED [lying].
 * `lying`: its disk answers that it has synced what it has not, which the drill must find.
 * Everything else is the gateway as it is shipped.
 */
const [config = '', journal = '', seed = '', lying] = process.argv.slice(2);
const log = pino({ level: 'info', base: null }, pino.destination({ dest: 2, sync: true }));
const asked = new Promise((resolve) => {
  process.once('SIGTERM', resolve);
});
setFateOfThreads({ journal, seed, isLying: lying === 'lying' });
const gateway = await startGateway(loadSettings(config), log, {
  stop: asked,
  diskAt: (stateDir) => new PowerCutDisk(stateDir, journal, seed, lying === 'lying'),
});
process.stdout.write(`serving on ${gateway.portals().join(', ')}\n`);
await Promise.race([asked, gateway.failed]);
await gateway.close();
