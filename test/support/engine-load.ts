/**
 * npm run bench:engine [-- case ...]: what the storage half alone costs on a real disk, in microseconds of the thread per operation (the least
 * of several rounds, because others use the machine too). No network, no uploads; a temporary directory.
 */
import { performance } from 'node:perf_hooks';
import { systemClock, systemRandom } from '../../gateway/base/clock.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { NodeDisk } from '../../gateway/base/node-disk.ts';
import { BLOCK_SIZE, MIB } from '../../gateway/base/units.ts';
import { CacheLog } from '../../gateway/cache/cache-log.ts';
import { openLogReader } from '../../gateway/cache/log-reader.ts';
import { cacheSettings } from '../../gateway/cache/settings.ts';
import { Volume } from '../../gateway/volume/volume.ts';
import { makeTemporaryDirectory, removeTemporaryDirectory } from './leftovers.ts';
import { MemoryRemote, MemoryShore } from './memory-remote.ts';
import { REF } from './volume-bench.ts';

const VOLUME_BLOCKS = 65_536;
const ROUNDS = 5;
const LONG_BLOCKS = 64;
const PLAIN = { fua: false };

/** `count` operations in turns of `perTurn`: as the PDUs of one received chunk, they are gathered, and logged together. */
async function gathered(
  volume: Volume,
  count: number,
  perTurn: number,
  lba: (index: number) => number,
  data: Buffer,
): Promise<void> {
  for (let done = 0; done < count;) {
    for (let turn = 0; turn < perTurn && done < count; turn += 1, done += 1)
      if (!volume.gatherWrite(lba(done), data)) await volume.write(lba(done), [data], PLAIN);
    await volume.logGathered();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** `count` operations one after the other in each of `depth` chains. */
async function chained(count: number, depth: number, one: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const chain = async (): Promise<void> => {
    while (next < count) await one(next++);
  };
  await Promise.all(Array.from({ length: depth }, chain));
}

async function measure(name: string, count: number, work: () => Promise<void>, bytes = BLOCK_SIZE): Promise<void> {
  let cpu = Infinity;
  let wall = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.cpuUsage();
    const from = performance.now();
    await work();
    const { user, system } = process.cpuUsage(before);
    cpu = Math.min(cpu, (user + system) / count);
    wall = Math.min(wall, ((performance.now() - from) * 1000) / count);
  }
  const rate = ((bytes / wall) * 1e6) / MIB;
  console.log(
    `${name.padEnd(34)} ${cpu.toFixed(1).padStart(7)} µs CPU ${wall.toFixed(1).padStart(7)} µs ${rate.toFixed(0).padStart(6)} MiB/s`,
  );
}

function shuffled(count: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  for (let at = count - 1; at > 0; at--) {
    const other = Math.floor(systemRandom.fraction() * (at + 1));
    [order[at], order[other]] = [order[other] ?? 0, order[at] ?? 0];
  }
  return order;
}

const wanted = process.argv.slice(2);
const root = makeTemporaryDirectory('farshore-engine-');
try {
  const disk = new NodeDisk(root);
  const settings = cacheSettings({ sizeBytes: 1900 * MIB, ramBytes: 64 * MIB });
  const deps = { disk, clock: systemClock, random: systemRandom, log: silentLog };
  const cache = await CacheLog.open(deps, settings);
  const shore = new MemoryShore(VOLUME_BLOCKS * BLOCK_SIZE, 4096);
  shore.holdCommits = true;
  const remote = new MemoryRemote(shore, openLogReader(disk), systemClock, () => 1);
  const volume = await Volume.open(
    { ...deps, cache, remote, settings: { rpoMs: 5000, hydrate: false } },
    { ref: REF, gateway: 'bench' },
  );
  const data = systemRandom.bytes(BLOCK_SIZE);
  const long = Array.from({ length: 5 }, (_, at) => systemRandom.bytes(at === 4 ? 4096 : 63 * 1024));
  const order = shuffled(VOLUME_BLOCKS);
  const block = (index: number): number => order[index % VOLUME_BLOCKS] ?? 0;
  const isWanted = (name: string): boolean => wanted.length === 0 || wanted.includes(name);

  if (isWanted('write')) {
    await measure('write 4K, 16 a turn', 20_000, () => gathered(volume, 20_000, 16, block, data));
    await measure('write 4K, depth 1', 10_000, () => gathered(volume, 10_000, 1, block, data));
  }
  if (isWanted('long')) {
    const write = async (index: number): Promise<void> => {
      await volume.write((index * LONG_BLOCKS) % VOLUME_BLOCKS, long, PLAIN);
    };
    await measure('write 256K, depth 8', 400, () => chained(400, 8, write), LONG_BLOCKS * BLOCK_SIZE);
  }
  if (isWanted('flush')) {
    const writeAndFlush = async (index: number): Promise<void> => {
      await volume.write(block(index), [data], PLAIN);
      await volume.flush();
    };
    await measure('write 4K + flush, depth 8', 2000, () => chained(2000, 8, writeAndFlush));
  }
  if (isWanted('read')) {
    for (let at = 0; at < VOLUME_BLOCKS; at += LONG_BLOCKS) await volume.write(at, long, PLAIN);
    const reads = async (count: number, among: number): Promise<void> => {
      for (let index = 0; index < count;) {
        const waiting: unknown[] = [];
        for (let i = 0; i < 16; i++) {
          const answer = volume.read(among === 0 ? block(index++) : index++ % among, 1);
          if (answer instanceof Promise) waiting.push(answer);
        }
        await Promise.all(waiting);
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    await measure('read 4K from the log, 16 a turn', 20_000, () => reads(20_000, 0));
    await reads(4000, 4000);
    await measure('read 4K from RAM, 16 a turn', 20_000, () => reads(20_000, 4000));
  }
  await volume.close();
  await cache.close();
} finally {
  removeTemporaryDirectory(root);
}
