import { describe, expect, test } from 'vitest';
import { recordsOn, spoilData } from '../../support/log-surgery.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const SLOTS = 384;
const OPTIONS = { stored: true, volumeBlocks: 512, ramBlocks: 16 };

describe('the image of a volume', () => {
  test('is let go when its log is gone, although the new log has the same number', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    await bench.write(3, 1);
    await bench.flushRemote();
    await bench.pass(20_000);
    // In a version, and not in the image.
    bench.imageFaults.write = true;
    await bench.write(3, 7);
    await bench.flushRemote();
    bench.crash('process');
    bench.imageFaults.write = false;
    const admin = bench.disk.mount({ alive: true, name: 'administrator' });
    for (const path of bench.disk.paths()) if (path.startsWith('cache/')) await bench.settle(admin.remove(path));
    await bench.start({ takeover: true });
    expect(await bench.byteOf(3)).toBe(7);
    await bench.stop();
  });

  test('is not taken for whole at its first start here when others have written to the volume before', async () => {
    const bench = new VolumeBench(OPTIONS);
    bench.shore.blocks.set(3, Buffer.alloc(4096, 7));
    bench.shore.lastData = { epoch: 0, logId: 'other', throughSeq: 5 };
    await bench.start({ takeover: true });
    expect(await bench.byteOf(3)).toBe(7);
    await bench.stop();
  });

  test('never shows what the image had before a block that the log lost, after a crash right behind the round', async () => {
    const bench = new VolumeBench({ ...OPTIONS, ramBlocks: 0, chunkSlots: SLOTS, chunks: 4, volumeBlocks: 4096 });
    await bench.start();
    await bench.write(11, 1);
    await bench.flushRemote();
    await bench.pass(20_000);
    await bench.write(11, 2);
    const found = recordsOn(bench.disk, SLOTS).findLast(({ block }) => block === 11);
    if (found === undefined) throw new Error('block 11 is in the log');
    await bench.flushRemote();
    spoilData(bench.disk, found);
    const isInLog = (): boolean => recordsOn(bench.disk, SLOTS).some(({ seq }) => seq === found.seq);
    // The round that cannot bring it to the image, and soon behind it the reclaim of its chunk.
    for (let round = 0; round < 20 && isInLog(); round++) {
      for (let block = 100; block < 900; block += 40) {
        await bench.write(block, 9, 40);
        await bench.flushRemote();
      }
      await bench.pass(300);
    }
    expect(isInLog()).toBe(false);
    expect(await bench.byteOf(11)).toBe(2);
    bench.crash('process');
    await bench.start();
    expect(await bench.byteOf(11)).toBe(2);
    await bench.stop();
  });

  test('has nothing dirty in the end, however long its image took nothing', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    bench.imageFaults.write = true;
    for (let block = 0; block < 300; block++) {
      await bench.write(block, 1 + (block % 200));
      await bench.flushRemote();
    }
    bench.imageFaults.write = false;
    await bench.pass(60_000);
    expect(bench.volume.status().replicationProblem).toBeUndefined();
    expect(bench.volume.status().dirtyBlocks).toBe(0);
    await bench.stop();
  });
});

describe('a discard of everything', () => {
  test.each(['first', 'second'])('writes nothing to an image that reads zeros, at the %s start', async (which) => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    if (which === 'second') {
      await bench.flushRemote();
      await bench.stop();
      await bench.start();
    }
    const { writes } = bench.imageFaults;
    await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 0, sectors: 512 }])));
    await bench.pass(5_000);
    expect(bench.volume.status().stored?.problem).toBeUndefined();
    expect(bench.imageFaults.writes - writes).toBe(0);
    await bench.stop();
  });

  test('writes zeros where a process before this one may have lost some in a failed sync', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    await bench.write(5, 8);
    await bench.pass(5_000);
    await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 5, sectors: 1 }])));
    bench.imageFaults.sync = true;
    await bench.pass(2_000);
    bench.crash('process');
    bench.imageFaults.sync = false;
    await bench.start();
    const { writes } = bench.imageFaults;
    await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 0, sectors: 512 }])));
    await bench.pass(5_000);
    // Block 5, and nothing beside it.
    expect(bench.imageFaults.writes - writes).toBe(1);
    await bench.stop();
  });
});

describe('an unmap on its way into the log', () => {
  test('is no reason to let the log drop a write that the image was spared because of it', async () => {
    const bench = new VolumeBench({ stored: true, chunks: 4, volumeBlocks: 4096, rpoMs: 600_000, ramBlocks: 0 });
    await bench.start();
    await bench.write(11, 1);
    await bench.flushRemote();
    await bench.pass(20_000);
    await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 11, sectors: 1 }])));
    await bench.write(5, 2);
    await bench.write(11, 2);
    await bench.flushRemote();
    // The round has passed over block 11 among what is unmapped, because it was written again, and reads block 5: now, before that write's turn, comes an
    // unmap. It is staged, and does not get into the log before the machine ends.
    const { cache, volume } = bench;
    const readRun = cache.readRun.bind(cache);
    const late: unknown[] = [];
    cache.readRun = (log, place, count, block, into, fromDisk) => {
      if (block === 5) {
        cache.readRun = readRun;
        cache.append = () => undefined;
        late.push(volume.unmap([{ lba: 11, sectors: 1 }]));
      }
      return readRun(log, place, count, block, into, fromDisk);
    };
    await bench.pass(3_000);
    expect(late).toHaveLength(1);
    // The image has neither zeros nor the write, so the round has to wait for the unmap; block 5 waits with it.
    expect(volume.status().dirtyBlocks).toBe(1);
    bench.crash('power', { fate: 'lost' });
    await bench.start();
    expect(await bench.byteOf(11)).toBe(2);
    // Until the log has dropped what it had.
    for (let block = 100; block < 3000; block += 40) {
      await bench.write(block, 9, 40);
      await bench.flushRemote();
      if (block % 400 === 100) await bench.pass(1_200);
    }
    expect(await bench.byteOf(11)).toBe(2);
    await bench.stop();
  });
});
