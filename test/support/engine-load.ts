/**
 * npm run bench:engine [-- case ...]: what the storage half alone costs on a real disk, in microseconds of the thread per operation (the least
 * of several rounds, because others use the machine too). No network, no uploads; a temporary directory.
 */
import { performance } from 'node:perf_hooks';
import type { WriteEnd } from '../../gateway/base/block-device.ts';
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

/** Operations from `next` until `count` are done, `depth` at a time; `perTurn` start together, as PDUs of one received chunk do. */
type Start = (index: number, end: WriteEnd) => void;

async function run(count: number, depth: number, perTurn: number, start: Start): Promise<void> {
  let started = 0;
  let done = 0;
  let wake: (() => void) | undefined;
  const end: WriteEnd = {
    writeEnded: (error) => {
      if (error !== undefined) throw error;
      done++;
      if (started - done <= depth - perTurn || done === count) wake?.();
    },
  };
  while (done < count) {
    for (let i = 0; i < perTurn && started < count && started - done < depth; i++) start(started++, end);
    await new Promise<void>((resolve) => {
      wake = resolve;
      if (started - done <= depth - perTurn && started < count) resolve();
      if (done === count) resolve();
    });
    await new Promise((resolve) => setImmediate(resolve));
  }
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
  const data = [systemRandom.bytes(BLOCK_SIZE)];
  const long = Array.from({ length: 5 }, (_, at) => systemRandom.bytes(at === 4 ? 4096 : 63 * 1024));
  const order = shuffled(VOLUME_BLOCKS);
  const block = (index: number): number => order[index % VOLUME_BLOCKS] ?? 0;
  const plain = { fua: false };
  const isWanted = (name: string): boolean => wanted.length === 0 || wanted.includes(name);
  const write4k: Start = (index, end) => {
    volume.startWrite(block(index), data, plain, end);
  };

  if (isWanted('write')) {
    await measure('write 4K, 16 a turn', 20_000, () => run(20_000, 32, 16, write4k));
    await measure('write 4K, depth 1', 10_000, () => run(10_000, 1, 1, write4k));
  }
  if (isWanted('long')) {
    await measure(
      'write 256K, depth 8',
      400,
      () =>
        run(400, 8, 1, (index, end) => {
          volume.startWrite((index * LONG_BLOCKS) % VOLUME_BLOCKS, long, plain, end);
        }),
      LONG_BLOCKS * BLOCK_SIZE,
    );
  }
  if (isWanted('flush')) {
    await measure('write 4K + flush, depth 8', 2000, async () => {
      const one = async (index: number): Promise<void> => {
        await volume.write(block(index), data, plain);
        await volume.flush();
      };
      let next = 0;
      const chain = async (): Promise<void> => {
        while (next < 2000) await one(next++);
      };
      await Promise.all(Array.from({ length: 8 }, chain));
    });
  }
  if (isWanted('read')) {
    for (let at = 0; at < VOLUME_BLOCKS; at += LONG_BLOCKS) await volume.write(at, long, plain);
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
