import { describe, expect, test } from 'vitest';
import { VolumeBench } from '../../support/volume-bench.ts';
import type { BenchOptions } from '../../support/volume-bench.ts';

function salvageFiles(bench: VolumeBench): string[] {
  return bench.disk.paths().filter((path) => path.startsWith('salvage/'));
}

/** A gateway that has written 1 to block 1, which the remote has. */
async function withOneCommitted(options?: BenchOptions): Promise<VolumeBench> {
  const bench = new VolumeBench(options);
  await bench.start();
  await bench.write(1, 1);
  await bench.flushRemote();
  return bench;
}

/** The remote commits again, and has `fill` in the block once it has everything. */
async function expectCommitted(bench: VolumeBench, block: number, fill: number): Promise<void> {
  bench.shore.holdCommits = false;
  await bench.flushRemote();
  expect(bench.shore.blocks.get(block)?.[0]).toBe(fill);
}

/** A second gateway on the same shore. */
function neighbour(bench: VolumeBench, seed: number): VolumeBench {
  const other = new VolumeBench({ ...bench.options, seed });
  Object.assign(other, { shore: bench.shore });
  return other;
}

describe('a start', () => {
  test('goes on with its own uncommitted writes', async () => {
    const bench = await withOneCommitted();
    bench.shore.holdCommits = true;
    await bench.write(2, 2);
    for (let life = 0; life < 3; life++) {
      bench.crash('process');
      await bench.start();
      expect([await bench.byteOf(1), await bench.byteOf(2)]).toEqual([1, 2]);
    }
    await expectCommitted(bench, 2, 2);
    expect(salvageFiles(bench)).toEqual([]);
  });

  test('after a roll-back has everything in the remote: a flush has nothing to wait for', async () => {
    const bench = await withOneCommitted();
    await bench.stop();
    await bench.start({ takeover: true, rollBackTo: 1 });
    for (let life = 0; life < 2; life++) {
      bench.crash('process');
      await bench.start();
      await bench.flushRemote();
    }
    await bench.write(2, 2);
    await expectCommitted(bench, 2, 2);
  });

  test('keeps its warm cache when everything is committed', async () => {
    const bench = new VolumeBench({ ramBlocks: 0 });
    await bench.start();
    await bench.write(0, 1, 200);
    await bench.flushRemote();
    await bench.stop();
    await bench.start();
    const { reads } = bench.shore;
    for (let block = 0; block < 200; block += 9) expect(await bench.byteOf(block)).toBe(1);
    expect(bench.shore.reads).toBe(reads);
  });

  test('keeps fetched blocks over a restart too', async () => {
    const bench = new VolumeBench({ ramBlocks: 0 });
    for (let block = 0; block < 64; block++) bench.shore.blocks.set(block, Buffer.alloc(4096, block));
    await bench.start();
    for (let block = 0; block < 64; block++) expect(await bench.byteOf(block)).toBe(block);
    await bench.pass(100);
    await bench.stop();
    await bench.start();
    const { reads } = bench.shore;
    for (let block = 0; block < 64; block++) expect(await bench.byteOf(block)).toBe(block);
    expect(bench.shore.reads).toBe(reads);
  });

  test('after somebody else wrote serves what they wrote, and keeps its own tail for salvage', async () => {
    const bench = await withOneCommitted();
    bench.shore.holdCommits = true;
    await bench.write(1, 2);
    await bench.write(7, 7);
    bench.crash('process');
    bench.shore.holdCommits = false;
    const other = neighbour(bench, 2);
    await other.start();
    expect(await other.byteOf(1)).toBe(1);
    await other.write(1, 3);
    await other.flushRemote();
    await other.stop();
    await bench.start();
    expect([await bench.byteOf(1), await bench.byteOf(7)]).toEqual([3, 0]);
    expect(salvageFiles(bench)).toEqual(['salvage/vol-1.fsv']);
    const file = bench.disk.file('salvage/vol-1.fsv');
    const content = Buffer.alloc(file?.size ?? 0);
    file?.read(content, 0);
    expect(content.subarray(0, 8).toString()).toBe('FSSALV01');
    // Header, the writes with their data, the end. The first one was in a version, but that this was so is not known here any more.
    expect(content.length).toBe(16 + content.readUInt32LE(8) + 3 * (32 + 4096) + 32);
    await bench.write(1, 4);
    await expectCommitted(bench, 1, 4);
  });

  test('after somebody else took over but wrote nothing loses nothing', async () => {
    const bench = await withOneCommitted();
    bench.shore.holdCommits = true;
    await bench.write(1, 2);
    bench.crash('process');
    const other = neighbour(bench, 2);
    await other.start();
    await other.stop();
    await bench.start();
    expect(await bench.byteOf(1)).toBe(2);
    expect(salvageFiles(bench)).toEqual([]);
  });

  test('from a rolled-back state directory drops what is old and serves the remote', async () => {
    const bench = new VolumeBench({ ramBlocks: 0 });
    await bench.start();
    await bench.write(1, 1, 5);
    await bench.flushRemote();
    const snapshot = bench.disk.copy('snapshot');
    await bench.write(2, 2);
    await bench.write(9, 9);
    await bench.flushRemote();
    bench.crash('process');
    bench.disk = snapshot;
    bench.disk.crash('power');
    await bench.start();
    expect([await bench.byteOf(1), await bench.byteOf(2), await bench.byteOf(9)]).toEqual([1, 2, 9]);
    // Sequences go on above what the remote has seen.
    await bench.write(2, 3);
    await bench.flushRemote();
    expect(bench.shore.lastData?.throughSeq).toBe(4);
    bench.crash('process');
    await bench.start();
    expect(await bench.byteOf(2)).toBe(3);
  });

  test('without the cache directory refuses, until a takeover accepts the loss', async () => {
    const bench = await withOneCommitted();
    await bench.stop();
    const life = { alive: true, name: 'gateway' };
    const disk = bench.disk.mount(life);
    for (const path of bench.disk.paths()) if (path.startsWith('cache/')) await bench.settle(disk.remove(path));
    await expect(bench.start()).rejects.toMatchObject({ kind: 'damaged' });
    bench.crash('process');
    await bench.start({ takeover: true });
    expect(await bench.byteOf(1)).toBe(1);
  });

  test('refuses when the remote has lost a history it had', async () => {
    const bench = await withOneCommitted();
    await bench.stop();
    await bench.start();
    await bench.stop();
    bench.shore.lastData = undefined;
    bench.shore.blocks.clear();
    await expect(bench.start()).rejects.toMatchObject({ kind: 'damaged' });
  });

  test('that rolls back drops the local copy, and a restart afterwards keeps what was written since', async () => {
    const bench = await withOneCommitted({ ramBlocks: 0 });
    await bench.stop();
    bench.shore.blocks.set(1, Buffer.alloc(4096, 77));
    await bench.start({ rollBackTo: 1 });
    expect(await bench.byteOf(1)).toBe(77);
    expect(bench.volume.status().committedN).toBe(bench.shore.n);
    bench.shore.holdCommits = true;
    await bench.write(2, 2);
    bench.crash('process');
    await bench.start();
    expect([await bench.byteOf(1), await bench.byteOf(2)]).toEqual([77, 2]);
    await expectCommitted(bench, 2, 2);
  });

  test('that crashes anywhere can be tried again', async () => {
    for (let ms = 0; ms < 40; ms += 2) {
      const bench = new VolumeBench({ seed: ms + 1 });
      await bench.start();
      bench.shore.holdCommits = true;
      await bench.write(1, 1, 9);
      await bench.flush();
      bench.crash('power');
      const attempt = bench.start().catch(() => undefined);
      await bench.pass(ms);
      bench.crash(ms % 4 === 0 ? 'power' : 'process');
      void attempt;
      await bench.start();
      for (let block = 1; block < 10; block++) expect(await bench.byteOf(block)).toBe(1);
    }
  });
});

describe('hydration', () => {
  test('brings everything the remote has into the cache, and says how far it is', async () => {
    const bench = new VolumeBench({ hydrate: true, ramBlocks: 0, chunks: 12 });
    for (let block = 0; block < 700; block += 3) bench.shore.blocks.set(block, Buffer.alloc(4096, block));
    await bench.start();
    expect(bench.volume.status().hydration?.finished).toBe(false);
    await bench.pass(5000);
    expect(bench.volume.status().hydration).toEqual({ done: 4096, total: 4096, finished: true });
    expect(bench.volume.status().cachedBlocks).toBe(234);
    const { reads } = bench.shore;
    for (let block = 0; block < 700; block += 21) expect(await bench.byteOf(block)).toBe(block & 255);
    expect(bench.shore.reads).toBe(reads);
  });

  test('ends when the cache would have to drop something', async () => {
    const bench = new VolumeBench({ hydrate: true, ramBlocks: 0, chunks: 4, chunkSlots: 1536, volumeBlocks: 9000 });
    for (let block = 0; block < 9000; block++) bench.shore.blocks.set(block, Buffer.alloc(4096, block));
    await bench.start();
    await bench.pass(60_000);
    expect(bench.volume.status().hydration?.finished).toBe(true);
    expect(bench.volume.status().hydrator?.state).toBe('full');
    expect(bench.cache.status().reclaimedChunks).toBeLessThanOrEqual(1);
    expect(bench.volume.status().cachedBlocks).toBeGreaterThan(1500);
  });

  test('does not bring back what was written or unmapped meanwhile', async () => {
    for (let seed = 1; seed < 12; seed++) {
      const bench = new VolumeBench({ hydrate: true, ramBlocks: 0, chunks: 12, seed });
      for (let block = 0; block < 300; block++) bench.shore.blocks.set(block, Buffer.alloc(4096, 9));
      await bench.start();
      for (let block = 0; block < 300; block += 10) {
        await bench.write(block, 1);
        await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: block + 1, sectors: 1 }])));
      }
      await bench.pass(3000);
      bench.crash('process');
      await bench.start();
      for (let block = 0; block < 300; block += 10) {
        expect([await bench.byteOf(block), await bench.byteOf(block + 1), await bench.byteOf(block + 2)]).toEqual([
          1, 0, 9,
        ]);
      }
    }
  });
});
