/**
 * How long a gateway with a full cache takes to serve again after SIGKILL, and what the cache costs in memory.
 *   npm run bench:start -- [--size 2G] [--io 4096] [--out FILE]
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { describeError } from '../gateway/base/errors.ts';
import { formatSize, parseSize } from '../gateway/base/size.ts';
import { GIB, MIB } from '../gateway/base/units.ts';
import {
  CloudProcess,
  GatewayProcess,
  makeSiteDirectory,
  removeSiteDirectory,
} from '../test/support/gateway-process.ts';
import { LoadProcess } from './load-process.ts';
import { machineData } from './machine.ts';

const VOLUME = 'start';
/** Of the cache; the rest is what the log needs to go round. */
const FILLED_SHARE = 0.8;
const RAM_BYTES = 256 * MIB;
/** After this long without work V8 has made its heaps small. */
const IDLE_MS = 60_000;
/** The cache that the targets are about. */
const TARGET_GIB = 20;
const TARGET_START_SECONDS = 10;
const TARGET_INDEX_BYTES_PER_GIB = (1.1 * GIB) / 1024;
const TARGET_RSS_ABOVE_RAM = 200 * MIB;

async function main(cacheBytes: number, ioBytes: number, out: string): Promise<void> {
  const directory = makeSiteDirectory();
  const load = new LoadProcess();
  const machine = machineData();
  const cloud = await CloudProcess.start(directory);
  let gateway: GatewayProcess | undefined;
  try {
    const options = { directory, cloud, cacheSize: String(cacheBytes), ramSize: String(RAM_BYTES) };
    gateway = await GatewayProcess.start(options);
    await gateway.end();
    // The program is read from the disk then as well, as it is after the fill.
    dropPageCache();
    const emptySeconds = await seconds(() => start(gateway));
    const lunBytes = Math.floor((cacheBytes * FILLED_SHARE) / MIB) * MIB;
    const target = gateway.createVolume(VOLUME, String(lunBytes));
    console.log(`filling ${formatSize(lunBytes)} in writes of ${formatSize(ioBytes)}`);
    await load.fill({ host: gateway.host, port: gateway.port, target, lun: 0 }, lunBytes, ioBytes);
    await gateway.call('flush', { name: VOLUME });
    const rssFilled = rssOf(gateway);
    await pause(IDLE_MS);
    const rssIdle = rssOf(gateway);
    const { cache } = await gateway.call('status', {});
    await gateway.end('SIGKILL');
    const isCold = dropPageCache();
    const fullSeconds = await seconds(() => start(gateway));
    const rssStarted = rssOf(gateway);
    const startCpuSeconds = (await gateway.call('status', {})).process.cpuMs / 1000;
    const cachedGib = cache.usedBytes / GIB;
    const perGib = (fullSeconds - emptySeconds) / cachedGib;
    const figures = {
      cachedBytes: cache.usedBytes,
      ioBytes,
      pageCacheDropped: isCold,
      startEmptySeconds: emptySeconds,
      startFullSeconds: fullSeconds,
      startCpuSeconds,
      startSecondsPerCachedGib: perGib,
      startSecondsAtTargetExtrapolated: emptySeconds + perGib * TARGET_GIB,
      indexBytes: cache.indexBytes,
      indexBytesPerCachedGib: cache.indexBytes / cachedGib,
      rssFilledBytes: rssFilled,
      rssIdleBytes: rssIdle,
      rssStartedBytes: rssStarted,
      ramBytes: RAM_BYTES,
    };
    const extrapolated = figures.startSecondsAtTargetExtrapolated;
    console.log(
      [
        `start with an empty cache            ${emptySeconds.toFixed(2)} s`,
        `start after SIGKILL, ${formatSize(cache.usedBytes)} cached   ${fullSeconds.toFixed(2)} s${isCold ? '' : ' (page cache warm: not root)'}, ${startCpuSeconds.toFixed(2)} s of CPU`,
        `extrapolated to ${TARGET_GIB} GiB cached        ${extrapolated.toFixed(1)} s: target ${TARGET_START_SECONDS} s ${verdict(extrapolated <= TARGET_START_SECONDS)}`,
        `index per TiB cached                 ${formatSize(figures.indexBytesPerCachedGib * 1024)}: target 1.1 GiB ${verdict(figures.indexBytesPerCachedGib <= TARGET_INDEX_BYTES_PER_GIB)}`,
        `RSS filled, idle, started again      ${formatSize(rssFilled)}, ${formatSize(rssIdle)}, ${formatSize(rssStarted)}: target ${formatSize(RAM_BYTES + TARGET_RSS_ABOVE_RAM)} ${verdict(rssIdle <= RAM_BYTES + TARGET_RSS_ABOVE_RAM)}`,
      ].join('\n'),
    );
    mkdirSync(dirname(out), { recursive: true });
    writeFileSync(out, `${JSON.stringify({ at: new Date().toISOString(), machine, ...figures }, null, 2)}\n`);
    console.log(`Written to ${out}`);
  } finally {
    load.stop();
    await gateway?.end();
    await cloud.end();
    removeSiteDirectory(directory);
  }
}

async function start(gateway: GatewayProcess | undefined): Promise<void> {
  await gateway?.start();
}

async function seconds(work: () => Promise<void>): Promise<number> {
  const from = performance.now();
  await work();
  return (performance.now() - from) / 1000;
}

/** proc(5). */
function rssOf(gateway: GatewayProcess): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${gateway.pid() ?? 'none'}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1024;
}

/** Only root may; the disk is synced first, since only clean pages go. False when they stay. */
function dropPageCache(): boolean {
  if (process.getuid?.() !== 0) return false;
  console.log('dropping the page cache of this machine (echo 3 > /proc/sys/vm/drop_caches)');
  execFileSync('sync');
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    return true;
  } catch (error) {
    console.log(`not possible here: ${describeError(error)}`);
    return false;
  }
}

function verdict(met: boolean): string {
  return met ? 'met' : 'NOT MET';
}

try {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '2G' },
      io: { type: 'string', default: '4096' },
      out: { type: 'string' },
    },
  });
  const day = new Date().toISOString().slice(0, 10);
  const file = values.out ?? join(resolve(import.meta.dirname, '../docs/bench'), `${day}-start.json`);
  await main(parseSize(values.size, '--size'), parseSize(values.io, '--io'), file);
} catch (error) {
  console.error(`bench:start: ${describeError(error)}`);
  process.exitCode = 1;
}
