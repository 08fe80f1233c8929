import { describe, expect, test } from 'vitest';
import type { ScrubSide } from '../../../gateway/volume/scrub-pass.ts';
import type { ScrubReport } from '../../../gateway/volume/scrubber.ts';
import { recordsOn, spoilData } from '../../support/log-surgery.ts';
import { IMAGE, REF, VolumeBench } from '../../support/volume-bench.ts';

/** Of a chunk. */
const SLOTS = 384;
const OPTIONS = { stored: true, volumeBlocks: 512, ramBlocks: 16 };

function byteInImage(bench: VolumeBench, block: number): number {
  const content = bench.image().subarray(block * 4096, (block + 1) * 4096);
  const [first = -1] = content;
  return content.subarray(1).equals(content.subarray(0, -1)) ? first : -1;
}

/** A volume with something in it, cleanly stopped. */
async function stopped(): Promise<VolumeBench> {
  const bench = new VolumeBench(OPTIONS);
  await bench.start();
  await bench.write(3, 7, 5);
  await bench.flushRemote();
  await bench.stop();
  return bench;
}

/** A volume larger than the log, written full: most of it is in the image alone by now. */
async function largerThanLog(): Promise<VolumeBench> {
  const bench = new VolumeBench({ ...OPTIONS, volumeBlocks: 4096, chunks: 4 });
  await bench.start();
  for (let block = 0; block < 4000; block += 40) {
    await bench.write(block, 1 + (block % 250), 40);
    if (block % 400 === 0) await bench.flushRemote();
  }
  await bench.flushRemote();
  await bench.pass(5_000);
  return bench;
}

describe('a volume with an image', () => {
  test('has in its image what was written and unmapped a while ago, while it is served', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    await bench.write(10, 1, 20);
    await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 15, sectors: 3 }])));
    await bench.write(16, 9);
    await bench.pass(5_000);
    expect([14, 15, 16, 17, 18].map((block) => byteInImage(bench, block))).toEqual([1, 0, 9, 0, 1]);
    expect(bench.volume.status().stored).toEqual({ image: IMAGE, backlogBlocks: 0, problem: undefined });
    await bench.stop();
  });

  test('reads from the image what the log has dropped, without asking the cloud', async () => {
    const bench = await largerThanLog();
    bench.shore.away = true;
    for (let block = 0; block < 4000; block += 40) expect(await bench.byteOf(block)).toBe(1 + (block % 250));
    expect(bench.shore.reads).toBe(0);
    await bench.stop();
  });

  test.each(['write', 'sync'] as const)(
    'fails nothing while the image refuses every %s: the log keeps what is not there, an alarm says so, and it gets there in the end',
    async (what) => {
      const bench = new VolumeBench(OPTIONS);
      await bench.start();
      bench.imageFaults[what] = true;
      await bench.write(1, 1);
      await bench.flushRemote();
      await bench.pass(20_000);
      const status = bench.volume.status();
      expect(status.state).toBe('serving');
      expect(status.replicationProblem).toContain('cannot be brought to its image');
      // It is in a version, and yet the log may not drop it.
      expect(status.dirtyBlocks).toBe(1);
      expect(await bench.byteOf(1)).toBe(1);
      bench.imageFaults[what] = false;
      await bench.pass(20_000);
      expect(bench.volume.status().replicationProblem).toBeUndefined();
      expect(bench.volume.status().dirtyBlocks).toBe(0);
      expect(byteInImage(bench, 1)).toBe(1);
      await bench.stop();
    },
  );

  test('waits for an image that is not there, and loses nothing', async () => {
    const bench = await stopped();
    const mounted = bench.disk.mount(bench.life);
    bench.life.alive = true;
    await bench.settle(mounted.rename(IMAGE, 'images/elsewhere'));
    await expect(bench.start()).rejects.toMatchObject({
      kind: 'retry',
      message: expect.stringContaining('images/disk.raw') as string,
    });
    bench.crash('process');
    const again = { alive: true, name: 'administrator' };
    await bench.settle(bench.disk.mount(again).rename('images/elsewhere', IMAGE));
    await bench.start();
    expect(await bench.byteOf(4)).toBe(7);
    await bench.stop();
  });

  test('is not served from an image that somebody changed; an explicit takeover goes on without it', async () => {
    const bench = await stopped();
    const administrator = { alive: true, name: 'administrator' };
    const file = await bench.settle(bench.disk.mount(administrator).open(IMAGE, 'write'));
    await bench.settle(Promise.resolve(file.write([Buffer.alloc(4096, 99)], 0)));
    await expect(bench.start()).rejects.toMatchObject({
      kind: 'stopped',
      message: expect.stringContaining('was changed') as string,
    });
    bench.crash('process');
    await bench.start({ takeover: true });
    expect(bench.volume.status().stored).toBeUndefined();
    expect(await bench.byteOf(0)).toBe(0);
    expect(await bench.byteOf(4)).toBe(7);
    await bench.stop();
    // The image is the administrator's again.
    expect(byteInImage(bench, 0)).toBe(99);
  });

  test('lets the image go when it goes back to an older version', async () => {
    const bench = await stopped();
    await bench.start({ takeover: true, rollBackTo: 1 });
    expect(bench.volume.status().stored).toBeUndefined();
    await bench.stop();
    expect(bench.disk.paths()).not.toContain(`volumes/${REF.volume}.image.json`);
    expect(byteInImage(bench, 4)).toBe(7);
  });

  test('reads from the cloud what the disk of the image refuses', async () => {
    const bench = await largerThanLog();
    bench.imageFaults.read = true;
    for (let block = 0; block < 400; block += 40) expect(await bench.byteOf(block)).toBe(1 + (block % 250));
    expect(bench.shore.reads).toBeGreaterThan(0);
    bench.imageFaults.read = false;
    await bench.stop();
  });

  test('rewrites zeros that a failed sync may have lost, although the image reads zeros already', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    await bench.write(5, 8);
    await bench.pass(5_000);
    await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 5, sectors: 1 }])));
    // From then on the page cache has the zeros and calls them clean; whether the disk has them nobody knows.
    bench.imageFaults.sync = true;
    await bench.pass(2_000);
    expect(byteInImage(bench, 5)).toBe(0);
    const { writes } = bench.imageFaults;
    bench.imageFaults.sync = false;
    await bench.pass(20_000);
    expect(bench.imageFaults.writes).toBe(writes + 1);
    await bench.stop();
  });

  test('does not keep a stop waiting for an image that takes nothing; the next start brings it what is missing', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    bench.imageFaults.sync = true;
    await bench.write(7, 5);
    await bench.stop();
    bench.imageFaults.sync = false;
    await bench.start();
    expect(await bench.byteOf(7)).toBe(5);
    await bench.pass(5_000);
    expect(byteInImage(bench, 7)).toBe(5);
    await bench.stop();
  });
});

/** Blocks 10 to 13 are in the image, and block 11 is damaged in the log; nobody has read them for their version yet. */
async function lostBeforeItsVersion(): Promise<VolumeBench> {
  const bench = new VolumeBench({ ...OPTIONS, ramBlocks: 0, chunkSlots: SLOTS });
  await bench.start();
  bench.shore.holdCommits = true;
  // What is read for a version waits behind the one before.
  await bench.write(50, 9);
  await bench.pass(5_000);
  await bench.write(10, 1, 4);
  await bench.pass(5_000);
  spoilBlock(bench, 11);
  return bench;
}

function spoilBlock(bench: VolumeBench, block: number): void {
  const found = recordsOn(bench.disk, SLOTS).findLast((each) => each.block === block);
  if (found === undefined) throw new Error(`block ${block} is not in the log`);
  spoilData(bench.disk, found);
}

describe('a block that is damaged in the log before a version has it', () => {
  test('is read from the image, and a version has it in the end', async () => {
    const bench = await lostBeforeItsVersion();
    expect(await bench.byteOf(11)).toBe(1);
    expect(bench.volume.status().damagedBlocks).toBe(0);
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    await bench.pass(1_000);
    await bench.flushRemote();
    expect(bench.shore.lost.size).toBe(0);
    expect(bench.shore.blocks.get(11)?.[7]).toBe(1);
    expect(await bench.byteOf(11)).toBe(1);
    await bench.stop();
  });

  test('is read from the image after a restart too', async () => {
    const bench = await lostBeforeItsVersion();
    bench.crash('power');
    await bench.start();
    await bench.pass(5_000);
    expect(await bench.byteOf(11)).toBe(1);
    await bench.stop();
  });

  test('is not read from an image that has an older content of it', async () => {
    const bench = await lostBeforeItsVersion();
    bench.imageFaults.write = true;
    await bench.write(12, 2);
    spoilBlock(bench, 12);
    await expect(bench.byteOf(12)).rejects.toMatchObject({ kind: 'damaged' });
    bench.imageFaults.write = false;
    await bench.pass(20_000);
    // It has tried, and knows that it never got there.
    await expect(bench.byteOf(12)).rejects.toMatchObject({ kind: 'damaged' });
    await bench.write(12, 3);
    expect(await bench.byteOf(12)).toBe(3);
    await bench.stop();
  });
});

describe('a scrub of a volume with an image', () => {
  const scrub = (bench: VolumeBench, side: ScrubSide): Promise<ScrubReport> =>
    bench.settle(bench.volume.scrub([side], true, () => undefined));

  test('takes the image for a damaged place of the log, asks the cloud for nothing and adds nothing to the log', async () => {
    const bench = new VolumeBench({ ...OPTIONS, ramBlocks: 0, chunkSlots: SLOTS });
    await bench.start();
    await bench.write(10, 1, 4);
    await bench.flushRemote();
    await bench.pass(5_000);
    spoilBlock(bench, 11);
    bench.shore.away = true;
    const { cachedBlocks } = bench.volume.status();
    expect((await scrub(bench, 'local')).local).toMatchObject({ found: 1, repaired: 1, unrepairable: 0 });
    await bench.pass(5_000);
    expect(bench.volume.status()).toMatchObject({ damagedBlocks: 0, cachedBlocks: cachedBlocks - 1 });
    expect(await bench.byteOf(11)).toBe(1);
    expect(bench.shore.reads).toBe(0);
    bench.shore.away = false;
    await bench.stop();
  });

  test('writes again from the image what the log has lost before a version had it', async () => {
    const bench = await lostBeforeItsVersion();
    expect((await scrub(bench, 'local')).local).toMatchObject({ found: 1, repaired: 1, unrepairable: 0 });
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    expect(bench.shore.lost.size).toBe(0);
    expect(bench.shore.blocks.get(11)?.[7]).toBe(1);
    await bench.stop();
  });

  test('gives S3 again, from the image, what it cannot give and the log has dropped', async () => {
    const bench = new VolumeBench({ ...OPTIONS, volumeBlocks: 4096, chunks: 4, ramBlocks: 128 });
    await bench.start();
    for (let block = 0; block < 4000; block += 40) {
      await bench.write(block, 1 + (block % 250), 40);
      if (block % 400 === 0) await bench.flushRemote();
    }
    await bench.flushRemote();
    await bench.pass(5_000);
    expect(bench.volume.status().cachedBlocks).toBeLessThan(3_000);
    const damaged = [3, 404, 2_000, 3_999];
    for (const block of damaged) bench.shore.unreadable.add(block);
    expect((await scrub(bench, 'remote')).remote).toMatchObject({ found: 4, repaired: 4, unrepairable: 0 });
    await bench.flushRemote();
    expect([...bench.shore.unreadable]).toEqual([]);
    for (const block of damaged)
      expect(bench.shore.blocks.get(block)?.[0]).toBe(1 + ((Math.floor(block / 40) * 40) % 250));
    await bench.stop();
  });

  test('gives S3 again what is in its version and only waits for the image', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    bench.imageFaults.sync = true;
    await bench.write(10, 1);
    await bench.flushRemote();
    bench.shore.unreadable.add(10);
    expect((await scrub(bench, 'remote')).remote).toMatchObject({ found: 1, repaired: 1 });
    await bench.flushRemote();
    expect([...bench.shore.unreadable]).toEqual([]);
    bench.imageFaults.sync = false;
    await bench.stop();
    expect(byteInImage(bench, 10)).toBe(1);
  });

  test('never brings back from the image what was unmapped', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    await bench.write(10, 1, 2);
    await bench.flushRemote();
    await bench.pass(5_000);
    bench.shore.unreadable.add(10);
    bench.shore.holdCommits = true;
    bench.imageFaults.write = true;
    await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 10, sectors: 1 }])));
    await scrub(bench, 'remote');
    bench.imageFaults.write = false;
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    expect([await bench.byteOf(10), await bench.byteOf(11)]).toEqual([0, 1]);
    expect(bench.shore.blocks.has(10)).toBe(false);
    await bench.stop();
    expect([byteInImage(bench, 10), byteInImage(bench, 11)]).toEqual([0, 1]);
  });
});
