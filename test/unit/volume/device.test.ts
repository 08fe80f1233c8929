import { describe, expect, test } from 'vitest';
import { VolumeBench } from '../../support/volume-bench.ts';

async function settled<T>(bench: VolumeBench, work: T | Promise<T>): Promise<T> {
  return bench.settle(Promise.resolve(work));
}

describe('a device of 512-byte sectors', () => {
  async function device(): Promise<VolumeBench> {
    const bench = new VolumeBench({ sectorSize: 512, ramBlocks: 8 });
    await bench.start();
    return bench;
  }

  test('writes a sector without touching its neighbours', async () => {
    const bench = await device();
    await bench.write(3, 1);
    await settled(bench, bench.volume.write(3 * 8 + 2, [Buffer.alloc(512, 2)], { fua: false }));
    const block = await bench.readBlock(3);
    expect([block[1023], block[1024], block[1535], block[1536]]).toEqual([1, 2, 2, 1]);
  });

  test('writes across blocks from the middle of one to the middle of another, in pieces of any size', async () => {
    const bench = await device();
    await bench.write(0, 1, 4);
    const data = Buffer.alloc(512 * 20, 2);
    const pieces = [data.subarray(0, 700), data.subarray(700, 5000), data.subarray(5000)];
    await settled(bench, bench.volume.write(5, pieces, { fua: false }));
    const all = Buffer.concat(await settled(bench, bench.volume.read(0, 32)));
    for (let sector = 0; sector < 32; sector++) expect(all[sector * 512]).toBe(sector >= 5 && sector < 25 ? 2 : 1);
  });

  test('loses no update when many sectors of a block are written at once', async () => {
    const bench = await device();
    const writes = Array.from({ length: 8 }, (_, sector) =>
      Promise.resolve(bench.volume.write(80 + sector, [Buffer.alloc(512, sector + 1)], { fua: false })),
    );
    await bench.settle(Promise.all(writes));
    const block = await bench.readBlock(10);
    for (let sector = 0; sector < 8; sector++) expect(block[sector * 512]).toBe(sector + 1);
  });

  test('keeps a whole-block write that comes while a part of the block is being written', async () => {
    const bench = await device();
    bench.shore.blocks.set(10, Buffer.alloc(4096, 9));
    const part = Promise.resolve(bench.volume.write(80, [Buffer.alloc(512, 1)], { fua: false }));
    const whole = Promise.resolve(bench.volume.write(80, [Buffer.alloc(4096, 2)], { fua: false }));
    await bench.settle(Promise.all([part, whole]));
    expect(await bench.byteOf(10)).toBe(2);
  });

  test('reads what the remote has when a part of the block is written', async () => {
    const bench = await device();
    bench.shore.blocks.set(10, Buffer.alloc(4096, 9));
    await settled(bench, bench.volume.write(81, [Buffer.alloc(512, 1)], { fua: false }));
    const block = await bench.readBlock(10);
    expect([block[0], block[512], block[1024]]).toEqual([9, 1, 9]);
  });

  test('zeroes the parts of blocks at the ends of an unmapped range', async () => {
    const bench = await device();
    await bench.write(0, 1, 4);
    await settled(bench, bench.volume.unmap([{ lba: 5, sectors: 20 }]));
    const all = Buffer.concat(await settled(bench, bench.volume.read(0, 32)));
    for (let sector = 0; sector < 32; sector++) expect(all[sector * 512]).toBe(sector >= 5 && sector < 25 ? 0 : 1);
  });

  // One block of memory and of the log for each edge: all at once, a single command of 65 KB would take 32 MiB and the whole thread.
  test('zeroes the edges of a thousand ranges a few at a time', async () => {
    const bench = new VolumeBench({ sectorSize: 512, ramBlocks: 8 });
    await bench.start();
    const RANGES = 1000;
    for (let block = 0; block < RANGES * 2; block++) bench.shore.blocks.set(block, Buffer.alloc(4096, 9));
    const ranges = Array.from({ length: RANGES }, (_, index) => ({ lba: index * 16 + 5, sectors: 6 }));
    await settled(bench, bench.volume.unmap(ranges));
    expect(bench.shore.mostReads).toBeGreaterThan(1);
    expect(bench.shore.mostReads).toBeLessThanOrEqual(32);
    for (let index = 0; index < RANGES; index += 111) {
      const pair = Buffer.concat(await settled(bench, bench.volume.read(index * 16, 16)));
      for (let sector = 0; sector < 16; sector++) expect(pair[sector * 512]).toBe(sector >= 5 && sector < 11 ? 0 : 9);
    }
  });

  test('unmaps within one block', async () => {
    const bench = await device();
    await bench.write(0, 1, 2);
    await settled(bench, bench.volume.unmap([{ lba: 7, sectors: 2 }]));
    const all = Buffer.concat(await settled(bench, bench.volume.read(0, 16)));
    for (let sector = 0; sector < 16; sector++) expect(all[sector * 512]).toBe(sector === 7 || sector === 8 ? 0 : 1);
  });
});

describe('a device', () => {
  test('writes of 8 MiB arrive whole', async () => {
    const bench = new VolumeBench({ chunks: 12, volumeBlocks: 4096 });
    await bench.start();
    const data = Buffer.alloc(2048 * 4096);
    for (let block = 0; block < 2048; block++) data.writeUInt32LE(block, block * 4096);
    await settled(bench, bench.volume.write(100, [data], { fua: true }));
    const back = Buffer.concat(await settled(bench, bench.volume.read(100, 2048)));
    expect(back.equals(data)).toBe(true);
  });

  test('a write with FUA survives a power cut', async () => {
    for (let seed = 1; seed < 10; seed++) {
      const bench = new VolumeBench({ seed });
      await bench.start();
      bench.shore.holdCommits = true;
      await settled(bench, bench.volume.write(7, [Buffer.alloc(4096, 5)], { fua: true }));
      bench.crash('power');
      await bench.start();
      expect(await bench.byteOf(7)).toBe(5);
    }
  });

  test('answers reads of blocks in RAM at once', async () => {
    const bench = new VolumeBench();
    await bench.start();
    await bench.write(7, 5, 3);
    expect(bench.volume.read(7, 3)).not.toBeInstanceOf(Promise);
  });

  test('a flush with nothing to sync is answered at once', async () => {
    const bench = new VolumeBench();
    await bench.start();
    await bench.write(7, 5);
    expect(bench.volume.flush()).toBeInstanceOf(Promise);
    await bench.flush();
    expect(bench.volume.flush()).toBeUndefined();
  });

  test('flushes that come together share one sync', async () => {
    const bench = new VolumeBench();
    await bench.start();
    bench.shore.holdCommits = true;
    const writes = Array.from({ length: 20 }, (_, block) =>
      Promise.resolve(bench.volume.write(block, [Buffer.alloc(4096, 1)], { fua: true })),
    );
    await bench.settle(Promise.all(writes));
    for (let block = 0; block < 20; block++) expect(await bench.byteOf(block)).toBe(1);
  });

  test('unmapped blocks read zeros before and after the commit, also when the remote has them', async () => {
    const bench = new VolumeBench({ ramBlocks: 0 });
    bench.shore.blocks.set(20, Buffer.alloc(4096, 9));
    await bench.start();
    await bench.write(19, 1, 3);
    await bench.flushRemote();
    await settled(bench, bench.volume.unmap([{ lba: 19, sectors: 2 }]));
    expect([await bench.byteOf(19), await bench.byteOf(20), await bench.byteOf(21)]).toEqual([0, 0, 1]);
    bench.crash('process');
    await bench.start();
    expect([await bench.byteOf(19), await bench.byteOf(20), await bench.byteOf(21)]).toEqual([0, 0, 1]);
    await bench.flushRemote();
    expect([...bench.shore.blocks.keys()]).toEqual([21]);
    expect([await bench.byteOf(19), await bench.byteOf(20), await bench.byteOf(21)]).toEqual([0, 0, 1]);
  });

  test('a whole-disk unmap is one record and one range of a batch', async () => {
    const bench = new VolumeBench({ volumeBlocks: 2 ** 30 });
    await bench.start();
    await bench.write(5, 1, 3);
    await settled(bench, bench.volume.unmap([{ lba: 0, sectors: 2 ** 30 }]));
    await bench.write(6, 2);
    await bench.flushRemote();
    expect([...(bench.shore.batches.at(-1)?.unmaps ?? [])]).toEqual([0, 6, 7, 2 ** 30 - 7]);
    expect([await bench.byteOf(5), await bench.byteOf(6), await bench.byteOf(7)]).toEqual([0, 2, 0]);
  });

  test('provisioning tells what is mapped here, unmapped here and mapped there', async () => {
    const bench = new VolumeBench();
    for (const block of [40, 41, 42]) bench.shore.blocks.set(block, Buffer.alloc(4096, 1));
    await bench.start();
    await bench.write(10, 1, 5);
    await settled(
      bench,
      bench.volume.unmap([
        { lba: 12, sectors: 2 },
        { lba: 42, sectors: 1 },
      ]),
    );
    const at = async (lba: number): Promise<unknown> => settled(bench, bench.volume.provisioning(lba, 1000));
    expect(await at(10)).toEqual({ mapped: true, sectors: 2 });
    expect(await at(12)).toEqual({ mapped: false, sectors: 2 });
    expect(await at(14)).toEqual({ mapped: true, sectors: 1 });
    expect(await at(15)).toEqual({ mapped: false, sectors: 25 });
    expect(await at(40)).toEqual({ mapped: true, sectors: 2 });
    expect(await at(42)).toEqual({ mapped: false, sectors: 1 });
  });

  test('concurrent misses of the same blocks ask the remote once', async () => {
    const bench = new VolumeBench();
    for (let block = 0; block < 64; block++) bench.shore.blocks.set(block, Buffer.alloc(4096, block + 1));
    await bench.start();
    const reads = Array.from({ length: 16 }, (_, block) => Promise.resolve(bench.volume.read(block, 1)));
    const answers = await bench.settle(Promise.all(reads));
    answers.forEach((pieces, block) => {
      expect(pieces[0]?.[0]).toBe(block + 1);
    });
    expect(bench.shore.reads).toBe(1);
    await bench.pass(100);
    expect(bench.volume.status().cachedBlocks).toBe(16);
  });
});
