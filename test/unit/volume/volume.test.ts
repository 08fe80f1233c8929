import { describe, expect, test } from 'vitest';
import { VolumeBench } from '../../support/volume-bench.ts';

describe('a volume', () => {
  test('reads zeros where nothing was written, and what was written', async () => {
    const bench = new VolumeBench();
    await bench.start();
    expect(await bench.byteOf(5)).toBe(0);
    await bench.write(5, 7);
    expect(await bench.byteOf(5)).toBe(7);
    await bench.stop();
  });

  test('reads zeros where nothing was written also while what is written beside it cannot be fetched', async () => {
    const bench = new VolumeBench();
    await bench.start();
    for (const block of [3, 4, 6]) await bench.write(block, 7);
    await bench.flushRemote();
    bench.shore.objectsAway = true;
    expect(await bench.byteOf(5)).toBe(0);
    expect(await bench.byteOf(4)).toBe(7);
    await bench.stop();
  });

  test('keeps acked writes over a crash of the process', async () => {
    const bench = new VolumeBench();
    bench.shore.away = false;
    await bench.start();
    bench.shore.away = true;
    for (let block = 0; block < 200; block++) await bench.write(block, (block % 250) + 1);
    bench.crash('process');
    bench.shore.away = false;
    await bench.start();
    for (let block = 0; block < 200; block++) expect(await bench.byteOf(block)).toBe((block % 250) + 1);
  });

  test('keeps flushed writes over a power cut', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const bench = new VolumeBench({ seed });
      await bench.start();
      bench.shore.away = true;
      for (let block = 0; block < 50; block++) await bench.write(block, 1);
      await bench.flush();
      for (let block = 0; block < 50; block++) await bench.write(block, 2);
      bench.crash('power');
      bench.shore.away = false;
      await bench.start();
      let seen = 2;
      for (let block = 0; block < 50; block++) {
        const byte = await bench.byteOf(block);
        expect([1, 2]).toContain(byte);
        expect(byte).toBeLessThanOrEqual(seen);
        seen = byte;
      }
    }
  });

  test('commits what is flushed, and a gateway with nothing local reads it', async () => {
    const bench = new VolumeBench();
    await bench.start();
    for (let block = 0; block < 300; block++) await bench.write(block, 9);
    await bench.flushRemote();
    expect(bench.volume.status().dirtyBlocks).toBe(0);
    const other = new VolumeBench({ seed: 2 });
    Object.assign(other, { shore: bench.shore });
    await other.start();
    for (const block of [0, 17, 299]) expect(await other.byteOf(block)).toBe(9);
  });

  test('goes on when far more is written than the cache holds', async () => {
    const bench = new VolumeBench({ chunks: 4 });
    await bench.start();
    for (let round = 1; round <= 3; round++)
      for (let block = 0; block < 2000; block += 50) await bench.write(block, round, 50);
    await bench.flushRemote();
    for (let block = 0; block < 2000; block += 37) expect(await bench.byteOf(block)).toBe(3);
    expect(bench.cache.status().reclaimedChunks).toBeGreaterThan(3);
    await bench.stop();
  });

  test('is not served when the remote has lost what was reclaimed here', async () => {
    const bench = new VolumeBench({ chunks: 4 });
    await bench.start();
    for (let round = 1; round <= 3; round++)
      for (let block = 0; block < 2000; block += 50) await bench.write(block, round, 50);
    await bench.flushRemote();
    expect(bench.cache.status().reclaimedChunks).toBeGreaterThan(3);
    await bench.stop();
    // A table put back from a backup of the time before the first version.
    bench.shore.lastData = undefined;
    bench.shore.blocks.clear();
    await expect(bench.start()).rejects.toMatchObject({ kind: 'damaged' });
  });
});
