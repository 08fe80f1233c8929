import { describe, expect, it } from 'vitest';
import type { Disk } from '../../../gateway/base/disk.ts';
import type { Log } from '../../../gateway/base/log.ts';
import type { CatalogueVolume } from '../../../gateway/catalogue.ts';
import { clearRetiredThread, retiredThreads } from '../../../gateway/threads/retired-threads.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { REF, VolumeBench } from '../../support/volume-bench.ts';

const MOVED: CatalogueVolume = { name: 'moved', ...REF };

/** The directory of a thread that had a volume, with some of it in no version; `clear` is what the next start without the thread does. */
async function former() {
  const bench = new VolumeBench({ chunkSlots: 384, chunks: 8, remoteMs: 3_600_000 });
  await bench.start();
  await bench.write(7, 9, 600);
  await bench.flush();
  bench.crash('process');
  const life = { alive: true, name: 'next start' };
  const disk: Disk = bench.disk.mount(life);
  const told: string[] = [];
  const warn = (fields: object, message: string): void => {
    told.push(`${message} ${JSON.stringify(fields)}`);
  };
  const log: Log = { debug: () => undefined, info: () => undefined, warn, error: warn, child: () => log };
  const deps = { clock: bench.clock.forLife(life, 0), random: bench.random, log, disk };
  const clear = (volumes: readonly CatalogueVolume[]): Promise<boolean> =>
    bench.settle(clearRetiredThread({ ...deps, settings: { ...bench.settings, sizeBytes: 4 * 384 * 4096 } }, volumes));
  const list = async (path: string): Promise<readonly string[]> => (await bench.settle(disk.list(path))).sort();
  return { bench, clear, list, told };
}

describe('the directory of a thread that there is no more', () => {
  it('is found by its number', async () => {
    const disk = new MemoryDisk();
    disk.list = () => Promise.resolve(['1', '2', '3', '10', 'notes', '0']);
    expect(await retiredThreads(disk, 2)).toEqual([2, 3, 10]);
    expect(await retiredThreads(disk, 16)).toEqual([]);
  });

  it('loses its cache log; what a move that was cut short left in it is kept in a salvage file first', async () => {
    const { clear, list, told } = await former();
    expect(await clear([MOVED])).toBe(true);
    expect(await list('cache')).toEqual([]);
    const [salvage = ''] = await list('salvage');
    expect(salvage).toMatch(/\.fsv$/);
    expect(told).toEqual([expect.stringContaining(`"kept":"salvage/${salvage}"`)]);
    // Nothing is there any more, and that is said of nobody.
    expect(await clear([MOVED])).toBe(true);
    expect(told.length).toBe(1);
  });

  it('stays as it is when it has a volume that this gateway knows nothing of', async () => {
    const { bench, clear, list, told } = await former();
    expect(await clear([{ ...MOVED, volume: 'another' }])).toBe(false);
    expect(told).toEqual([expect.stringContaining(REF.volume)]);
    expect((await list('cache')).length).toBeGreaterThan(2);
    // All of it: with the thread back, the volume opens with what it had acked.
    Object.assign(bench.options, { remoteMs: 5 });
    await bench.start();
    expect(await bench.byteOf(606)).toBe(9);
  });

  it('stays as it is when it cannot be read, and the start goes on', async () => {
    const { bench, clear, list, told } = await former();
    const disk = bench.disk.mount({ alive: true, name: 'damage' });
    const file = await bench.settle(disk.open('cache/pool.state', 'write'));
    for (const at of [0, 512 * 1024]) await bench.settle(Promise.resolve(file.write([Buffer.alloc(4096, 1)], at)));
    await bench.settle(file.close());
    const before = await list('cache');
    expect(await clear([MOVED])).toBe(false);
    expect(told).toEqual([expect.stringContaining('the next start tries again')]);
    expect(await list('cache')).toEqual(before);
  });
});
