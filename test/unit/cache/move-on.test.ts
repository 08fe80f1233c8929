import { describe, expect, test } from 'vitest';
import { VolumeBench } from '../../support/volume-bench.ts';

/** 380 blocks of data each. */
const CHUNK_SLOTS = 384;
const CHUNKS = 10;
const POOL_BLOCKS = CHUNKS * 380;
const VOLUME_BLOCKS = 8 * POOL_BLOCKS;

/** A volume eight times the cache, without a RAM tier; block n of the far side holds (n mod 200) + 1. */
async function largeVolume(): Promise<VolumeBench> {
  const bench = new VolumeBench({
    chunks: CHUNKS,
    chunkSlots: CHUNK_SLOTS,
    ramBlocks: 0,
    volumeBlocks: VOLUME_BLOCKS,
  });
  for (let block = 0; block < VOLUME_BLOCKS; block++) bench.shore.blocks.set(block, filled((block % 200) + 1));
  await bench.start();
  return bench;
}

const contents = new Map<number, Buffer>();

function filled(byte: number): Buffer {
  const content = contents.get(byte) ?? Buffer.alloc(4096, byte);
  contents.set(byte, content);
  return content;
}

async function scan(bench: VolumeBench, from: number, blocks: number): Promise<void> {
  for (let block = from; block < from + blocks; block += 64) {
    await bench.settle(Promise.resolve(bench.volume.read(block, 64)));
  }
  await bench.pass(200);
}

async function readAll(bench: VolumeBench, blocks: readonly number[]): Promise<number> {
  const before = bench.shore.reads;
  for (const block of blocks) expect(await bench.byteOf(block)).toBe((block % 200) + 1);
  return bench.shore.reads - before;
}

/** Far enough apart that none comes along with another, or is read ahead. */
const HOT = Array.from({ length: 40 }, (_, index) => index * 48);

describe('what reclaim moves on', () => {
  test('is what was read again: a scan of twice the cache leaves it there', async () => {
    const bench = await largeVolume();
    await readAll(bench, HOT);
    await bench.pass(500);
    expect(await readAll(bench, HOT)).toBe(0);
    await scan(bench, 2000, 2 * POOL_BLOCKS);
    expect(bench.cache.status().movedBlocks).toBeGreaterThanOrEqual(HOT.length);
    expect(bench.cache.status().evictedBlocks).toBeGreaterThan(POOL_BLOCKS);
    expect(await readAll(bench, HOT)).toBe(0);
    await bench.stop();
  });

  test('is also what comes back soon after it has left unread', async () => {
    const bench = await largeVolume();
    await readAll(bench, HOT);
    await scan(bench, 2000, POOL_BLOCKS);
    expect(await readAll(bench, HOT)).toBe(HOT.length);
    await scan(bench, 8000, POOL_BLOCKS);
    // The ghosts forget a few too early; which ones depends on how fills fall together. Without ghosts none would be there.
    expect(await readAll(bench, HOT)).toBeLessThan(HOT.length / 4);
    await bench.stop();
  });

  test('survives a restart in its new place', async () => {
    const bench = await largeVolume();
    await readAll(bench, HOT);
    await bench.pass(500);
    await readAll(bench, HOT);
    await scan(bench, 2000, 2 * POOL_BLOCKS);
    bench.crash('process');
    await bench.start();
    expect(await readAll(bench, HOT)).toBe(0);
    await bench.stop();
  });

  test('never takes the place of a write that came between two chunks that were open at a time', async () => {
    const bench = await largeVolume();
    await readAll(bench, HOT);
    await scan(bench, 2000, POOL_BLOCKS);
    for (let write = 0; write < 5; write++) await bench.write(30_000 + write, 9);
    await bench.byteOf(25_000);
    await bench.pass(100);
    await bench.write(30_005, 9);
    // Back from the ghosts into main, while the other open chunk has older keys already and will have newer ones.
    const [block = 0] = HOT;
    await bench.byteOf(block);
    await bench.pass(100);
    await bench.write(block, 222);
    await bench.byteOf(25_100);
    await bench.pass(100);
    await bench.flush();
    bench.crash('process');
    await bench.start();
    expect(await bench.byteOf(block)).toBe(222);
    await bench.stop();
  });

  test('does not come back once it was overwritten and the newer copy is gone', async () => {
    const bench = await largeVolume();
    await readAll(bench, HOT);
    await bench.pass(500);
    await readAll(bench, HOT);
    await scan(bench, 2000, POOL_BLOCKS);
    expect(bench.cache.status().movedBlocks).toBeGreaterThanOrEqual(HOT.length);
    for (const block of HOT) await bench.write(block, 222);
    // Push the writes out of the log with others.
    for (let at = 0; at < 2 * POOL_BLOCKS; at += 190) {
      await bench.write(5000 + (at % 20_000), 9, 190);
      if (at % 1900 === 0) await bench.flushRemote();
    }
    await bench.flushRemote();
    await bench.pass(500);
    bench.crash('process');
    await bench.start();
    for (const block of HOT) expect(await bench.byteOf(block)).toBe(222);
    await bench.stop();
  });
});
