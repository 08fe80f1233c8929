import { beforeEach, describe, expect, it } from 'vitest';
import { replaceFile, readWhole, type Disk, type DiskFile } from '../../../gateway/base/disk.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { SimDisk } from '../../sim/sim-disk.ts';
import { SimRandom } from '../../sim/sim-random.ts';

interface Setup {
  readonly clock: SimClock;
  readonly disk: SimDisk;
  readonly life: { name: string; alive: boolean };
  readonly mounted: Disk;
}

function setUp(seed: number): Setup {
  const random = new SimRandom(seed);
  const clock = new SimClock(random.split('clock'));
  const disk = new SimDisk('d', clock, random.split('disk'));
  const life = { name: 'g', alive: true };
  return { clock, disk, life, mounted: disk.mount(life) };
}

/** A file whose first `sectors` sectors are durable and hold `fill`. */
async function durableFile({ clock, mounted }: Setup, path: string, sectors: number, fill: number): Promise<DiskFile> {
  const file = await clock.settle(mounted.open(path, 'create'));
  await clock.settle(file.write([Buffer.alloc(sectors * 512, fill)], 0));
  await clock.settle(file.sync());
  await clock.settle(mounted.syncDirectory(''));
  return file;
}

async function contentAfterRestart({ clock, disk }: Setup, path: string): Promise<Buffer | undefined> {
  return clock.settle(readWhole(disk.mount({ name: 'next', alive: true }), path, 1 << 20));
}

describe('the simulated disk', () => {
  let setup: Setup;
  beforeEach(() => {
    setup = setUp(7);
  });

  it('reads what was written, across page and sector borders', async () => {
    const { clock, mounted } = setup;
    const file = await clock.settle(mounted.open('a', 'create'));
    const bytes = new SimRandom(1).bytes(10_000);
    await clock.settle(file.write([bytes.subarray(0, 3), bytes.subarray(3, 5000), bytes.subarray(5000)], 777));
    const back = Buffer.alloc(10_000);
    await clock.settle(file.read(back, 777));
    expect(back.equals(bytes)).toBe(true);
    await expect(clock.settle(file.read(Buffer.alloc(2), 10_776))).rejects.toMatchObject({ kind: 'damaged' });
  });

  it('keeps every answered write over the death of the process', async () => {
    const { clock, disk, life, mounted } = setup;
    const file = await clock.settle(mounted.open('a', 'create'));
    await clock.settle(file.write([Buffer.alloc(8192, 3)], 0));
    life.alive = false;
    disk.crash('process');
    expect((await contentAfterRestart(setup, 'a'))?.equals(Buffer.alloc(8192, 3))).toBe(true);
  });

  it('keeps what was synced, and any subset of the sectors that were not, over a power cut', async () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 200; seed++) {
      const one = setUp(seed);
      const file = await durableFile(one, 'a', 4, 1);
      await one.clock.settle(file.write([Buffer.alloc(1024, 2)], 512));
      one.life.alive = false;
      one.disk.crash('power');
      const content = await contentAfterRestart(one, 'a');
      const sectors = [0, 1, 2, 3].map((sector) => content?.subarray(sector * 512, (sector + 1) * 512));
      for (const sector of sectors) expect(new Set(sector).size).toBe(1);
      outcomes.add(sectors.map((sector) => sector?.[0]).join(''));
    }
    expect([...outcomes].sort()).toEqual(['1111', '1121', '1211', '1221']);
  });

  it('does not cover with a sync what was written after it began', async () => {
    const lost = new Set<number | undefined>();
    for (let seed = 0; seed < 50; seed++) {
      const one = setUp(seed);
      const file = await durableFile(one, 'a', 1, 1);
      const sync = file.sync();
      const write = file.write([Buffer.alloc(512, 2)], 0);
      await one.clock.settle(Promise.all([sync, write]));
      one.life.alive = false;
      one.disk.crash('power');
      lost.add((await contentAfterRestart(one, 'a'))?.[0]);
    }
    expect(lost).toEqual(new Set([1, 2]));
  });

  it('may lose what a failed sync should have covered, although later syncs succeed', async () => {
    const seen = new Set<number | undefined>();
    for (let seed = 0; seed < 50; seed++) {
      const one = setUp(seed);
      const file = await durableFile(one, 'a', 1, 1);
      await one.clock.settle(file.write([Buffer.alloc(512, 2)], 0));
      one.disk.faults.syncError = 1;
      await expect(one.clock.settle(file.sync())).rejects.toMatchObject({ kind: 'stopped' });
      one.disk.faults.syncError = 0;
      await one.clock.settle(file.sync());
      one.life.alive = false;
      one.disk.crash('power');
      seen.add((await contentAfterRestart(one, 'a'))?.[0]);
    }
    expect(seen).toEqual(new Set([1, 2]));
  });

  it('forgets a created file, or undoes a rename, when the directory was not synced', async () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 100; seed++) {
      const one = setUp(seed);
      await durableFile(one, 'a', 1, 1);
      const file = await one.clock.settle(one.mounted.open('b', 'create'));
      await one.clock.settle(file.write([Buffer.alloc(512, 2)], 0));
      await one.clock.settle(file.sync());
      await one.clock.settle(one.mounted.rename('b', 'a'));
      one.life.alive = false;
      one.disk.crash('power');
      const [a, b] = [await contentAfterRestart(one, 'a'), await contentAfterRestart(one, 'b')];
      seen.add(`a=${String(a?.[0])} b=${String(b?.[0])}`);
    }
    expect([...seen].sort()).toEqual(['a=1 b=2', 'a=1 b=undefined', 'a=2 b=undefined']);
  });

  it('shows the old or the new content of a replaced file, whenever the power fails', async () => {
    for (let seed = 0; seed < 200; seed++) {
      const one = setUp(seed);
      await one.clock.settle(replaceFile(one.mounted, 'state', Buffer.from('old')));
      const replaced = { done: false };
      void replaceFile(one.mounted, 'state', Buffer.from('new')).then(() => (replaced.done = true));
      await one.clock.run({ untilMs: one.clock.monotonicMs() + new SimRandom(seed).fraction() * 5 });
      one.life.alive = false;
      one.disk.crash('power');
      const content = (await contentAfterRestart(one, 'state'))?.toString();
      expect(replaced.done ? ['new'] : ['old', 'new']).toContain(content);
    }
  });

  it('never answers a process that has died', async () => {
    const { clock, disk, life, mounted } = setup;
    const file = await clock.settle(mounted.open('a', 'create'));
    let answered = 0;
    const count = (): void => {
      answered++;
    };
    Promise.resolve(file.write([Buffer.alloc(512)], 0)).then(count, count);
    life.alive = false;
    disk.crash('process');
    file.sync().then(count, count);
    mounted.list('').then(count, count);
    await clock.run();
    expect(answered).toBe(0);
  });

  it('fails reads, syncs and writes when told to', async () => {
    const { clock, disk, mounted } = setup;
    const file = await durableFile(setup, 'a', 2, 1);
    Object.assign(disk.faults, { readError: 1, noSpace: 1 });
    await expect(clock.settle(file.read(Buffer.alloc(1), 0))).rejects.toMatchObject({ kind: 'stopped' });
    await expect(clock.settle(file.write([Buffer.alloc(512)], 0))).rejects.toMatchObject({ kind: 'busy' });
    disk.heal();
    await expect(clock.settle(mounted.open('a', 'create'))).rejects.toMatchObject({ kind: 'in-use' });
    await expect(clock.settle(mounted.open('none', 'write'))).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('is full in every place where something new is to be kept, and changes nothing then', async () => {
    const { clock, disk, mounted } = setup;
    await durableFile(setup, 'a', 1, 1);
    disk.faults.noSpace = 1;
    const refusals: (() => Promise<unknown>)[] = [
      () => mounted.open('b', 'create'),
      () => mounted.makeDirectory('d'),
      () => mounted.rename('a', 'c'),
      () => mounted.syncDirectory(''),
    ];
    for (const refused of refusals) await expect(clock.settle(refused())).rejects.toMatchObject({ kind: 'busy' });
    expect(disk.paths()).toEqual(['a']);
    await clock.settle(mounted.remove('a'));
    expect(disk.paths()).toEqual([]);
  });

  it('has no handles left when told to', async () => {
    const { clock, disk, mounted } = setup;
    await durableFile(setup, 'a', 1, 1);
    disk.faults.noHandles = 1;
    await expect(clock.settle(mounted.open('a', 'read'))).rejects.toMatchObject({ kind: 'busy' });
    await expect(clock.settle(mounted.syncDirectory(''))).rejects.toMatchObject({ kind: 'busy' });
  });

  it('reads a bad sector again only after it was written, or after the disk was healed', async () => {
    const { clock, disk } = setup;
    const file = await durableFile(setup, 'a', 4, 1);
    const read = (sector: number, count = 1): Promise<void> =>
      clock.settle(file.read(Buffer.alloc(512 * count), 512 * sector));
    disk.faults.badSector = 1;
    await expect(read(2)).rejects.toMatchObject({ kind: 'stopped' });
    disk.faults.badSector = 0;
    await expect(read(0, 4)).rejects.toMatchObject({ kind: 'stopped' });
    await read(0, 2);
    await read(3);
    await clock.settle(file.write([Buffer.alloc(512, 7)], 1024));
    await read(0, 4);
    disk.faults.badSector = 1;
    await expect(read(1)).rejects.toMatchObject({ kind: 'stopped' });
    disk.heal();
    await read(0, 4);
  });

  it('answers in the same turn when told to, and dies at any call its probe chooses, before or after its effect', async () => {
    for (const moment of ['begun', 'done'] as const) {
      const one = setUp(1);
      const file = await durableFile(one, 'a', 1, 1);
      one.disk.faults.sameTurn = 1;
      const before = one.clock.monotonicMs();
      expect(file.write([Buffer.alloc(512, 2)], 0)).toBeUndefined();
      expect(one.clock.monotonicMs()).toBe(before);
      const n = one.disk.calls + 1;
      one.disk.setProbe({
        [moment]: (call: { readonly n: number }) => {
          if (call.n !== n) return;
          one.life.alive = false;
          one.disk.crash('process', { late: 0 });
        },
      });
      let isAnswered = false;
      void Promise.resolve(file.write([Buffer.alloc(512, 3)], 0)).then(() => (isAnswered = true));
      await one.clock.run();
      one.disk.setProbe(undefined);
      expect(isAnswered).toBe(false);
      expect((await contentAfterRestart(one, 'a'))?.[0]).toBe(moment === 'begun' ? 2 : 3);
    }
  });

  it('tears a write at any sector', async () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 300; seed++) {
      const one = setUp(seed);
      const file = await durableFile(one, 'a', 3, 1);
      one.disk.faults.noSpace = 1;
      await expect(one.clock.settle(file.write([Buffer.alloc(1536, 2)], 0))).rejects.toMatchObject({ kind: 'busy' });
      const content = await contentAfterRestart(one, 'a');
      outcomes.add([0, 1, 2].map((sector) => content?.[sector * 512]).join(''));
    }
    expect([...outcomes].sort()).toEqual(['111', '112', '121', '122', '211', '212', '221', '222']);
  });

  it('tells when bits are not what was written, at rest or on their way', async () => {
    const { clock, disk } = setup;
    let doubts = 0;
    disk.onDoubt = () => doubts++;
    const file = await durableFile(setup, 'a', 8, 1);
    disk.damage(['a'], 1);
    expect([disk.damages, doubts]).toEqual([1, 1]);
    disk.faults.flipOnWrite = 1;
    await clock.settle(file.write([Buffer.alloc(4096, 2)], 0));
    const back = Buffer.alloc(4096);
    await clock.settle(file.read(back, 0));
    expect(back.filter((byte) => byte !== 2)).toHaveLength(1);
    expect([disk.damages, doubts]).toEqual([2, 2]);
  });

  it('copies as a snapshot that later writes leave alone', async () => {
    const { clock, disk } = setup;
    const file = await durableFile(setup, 'a', 1, 1);
    const copy = disk.copy('copy');
    await clock.settle(file.write([Buffer.alloc(512, 9)], 0));
    const content = await clock.settle(readWhole(copy.mount({ name: 'other', alive: true }), 'a', 1 << 20));
    expect(content?.equals(Buffer.alloc(512, 1))).toBe(true);
  });

  it('keeps large runs of zeros cheaply and lets them overwrite data', async () => {
    const { clock } = setup;
    const file = await durableFile(setup, 'a', 100, 5);
    await clock.settle(file.write([Buffer.alloc(32 << 20)], 0));
    const back = Buffer.alloc(4096, 1);
    await clock.settle(file.read(back, 8192));
    expect(back.equals(Buffer.alloc(4096))).toBe(true);
    expect(await clock.settle(file.size())).toBe(32 << 20);
  });
});
