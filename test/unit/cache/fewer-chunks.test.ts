import { describe, expect, it } from 'vitest';
import { VolumeBench } from '../../support/volume-bench.ts';

const BEFORE = 12;
const AFTER = 6;
/** Data slots of a chunk, a few less. */
const A_CHUNK = 380;

/** A log of twelve chunks, full; then its part of `cache.size` becomes six, because the gateway was given another thread. */
async function filled(): Promise<VolumeBench> {
  const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: 384, chunks: BEFORE, volumeBlocks: 8192 });
  await bench.start();
  for (let block = 0; block < BEFORE * A_CHUNK; block += 64) await bench.write(block, 1 + (block % 200), 64);
  await bench.flushRemote();
  return bench;
}

const within = (bench: VolumeBench): boolean => {
  const { allocatedBytes, maxBytes } = bench.cache.status();
  return allocatedBytes <= maxBytes;
};

const files = async (bench: VolumeBench): Promise<number> =>
  (await bench.settle(bench.disk.mount(bench.life).list('cache'))).filter((name) => name.endsWith('.chunk')).length;

describe('a cache log that is to be smaller than it was', () => {
  it('gives the disk back what is too much, beginning with the oldest, and everything can be read', async () => {
    const bench = await filled();
    expect(await files(bench)).toBe(BEFORE);
    await bench.stop();
    Object.assign(bench.options, { chunks: AFTER });
    await bench.start();
    await bench.pass(60_000);
    expect([within(bench), await files(bench)]).toEqual([true, AFTER]);
    for (let block = 0; block < 3 * A_CHUNK; block += 64) await bench.write(block, 3, 64);
    for (let block = 0; block < BEFORE * A_CHUNK; block += 37)
      expect(await bench.byteOf(block)).toBe(block < 3 * A_CHUNK + 12 ? 3 : 1 + ((block - (block % 64)) % 200));
    await bench.flushRemote();
    await bench.pass(60_000);
    expect([within(bench), await files(bench)]).toEqual([true, AFTER]);
    await bench.stop();
    await bench.start();
    expect(await files(bench)).toBe(AFTER);
  });

  it('keeps what is in no version, and becomes smaller when it is', async () => {
    const bench = new VolumeBench({
      ramBlocks: 0,
      chunkSlots: 384,
      chunks: BEFORE,
      volumeBlocks: 8192,
      remoteMs: 3_600_000,
    });
    await bench.start();
    for (let block = 0; block < 8 * A_CHUNK; block += 64) await bench.write(block, 1 + (block % 200), 64);
    await bench.flush();
    bench.crash('power');
    Object.assign(bench.options, { chunks: AFTER, remoteMs: 5 });
    // The first attempt is made before anything of it was uploaded.
    await bench.start();
    expect(await files(bench)).toBeGreaterThan(AFTER);
    for (let block = 0; block < 8 * A_CHUNK; block += 41)
      expect(await bench.byteOf(block)).toBe(1 + ((block - (block % 64)) % 200));
    await bench.flushRemote();
    await bench.pass(120_000);
    expect([within(bench), await files(bench)]).toEqual([true, AFTER]);
    for (let block = 0; block < 8 * A_CHUNK; block += 41)
      expect(await bench.byteOf(block)).toBe(1 + ((block - (block % 64)) % 200));
  });

  it.each(['process', 'power'] as const)('loses nothing to a crash in the midst of it (%s)', async (kind) => {
    const bench = await filled();
    await bench.write(20, 201);
    await bench.write(8000, 202);
    await bench.flush();
    await bench.stop();
    Object.assign(bench.options, { chunks: AFTER });
    const found = new Set<number>();
    // As long as the start that makes it smaller takes, each time anew.
    for (let afterMs = 1; afterMs < 60; afterMs += 4) {
      bench.launch().catch(() => undefined); // it does not come to its end
      await bench.pass(afterMs);
      bench.crash(kind);
      bench.life = { alive: true, name: 'between two starts' };
      found.add(await files(bench));
      bench.life.alive = false;
    }
    expect(found.size).toBeGreaterThan(3);
    await bench.start();
    await bench.pass(60_000);
    expect(within(bench)).toBe(true);
    expect([await bench.byteOf(20), await bench.byteOf(8000)]).toEqual([201, 202]);
    for (let block = 1; block < BEFORE * A_CHUNK; block += 50)
      expect(await bench.byteOf(block)).toBe(1 + ((block - (block % 64)) % 200));
  });

  it('answers a read that its disk refuses when the chunk has gone meanwhile', async () => {
    const bench = await filled();
    await bench.stop();
    Object.assign(bench.options, { chunks: AFTER });
    await bench.start();
    expect(within(bench)).toBe(false);
    // In the one chunk that is still to go.
    const block = 8 * A_CHUNK + 200;
    bench.disk.faults.slowness = 1e5;
    const first = bench.disk.calls;
    const reading = Promise.resolve(bench.volume.read(block, 2));
    const last = bench.disk.calls;
    expect(last - first).toBe(2);
    bench.disk.faults.slowness = 1;
    bench.disk.setProbe({ fault: ({ n }) => (n > first && n <= last ? 'EIO' : undefined) });
    const content = Buffer.concat(await bench.settle(reading));
    expect(within(bench)).toBe(true);
    const expected = [block, block + 1].map((each) => 1 + ((each - (each % 64)) % 200));
    expect([content[0], content[4096]]).toEqual(expected);
  });

  it('writes nothing into a chunk whose file is gone, although the disk could not say that it is', async () => {
    const bench = await filled();
    await bench.stop();
    Object.assign(bench.options, { chunks: AFTER });
    let isRemoved = false;
    bench.disk.setProbe({
      done: ({ kind, path }) => {
        isRemoved ||= kind === 'rm' && path.endsWith('.chunk');
      },
      fault: ({ kind, path }) => (isRemoved && kind === 'syncdir' && path === 'cache' ? 'ENOSPC' : undefined),
    });
    await bench.start();
    expect(isRemoved).toBe(true);
    for (let block = 0; block < 6 * A_CHUNK; block += 64) await bench.write(block, 7, 64);
    await bench.flush();
    bench.crash('process');
    bench.disk.setProbe(undefined);
    await bench.start();
    for (let block = 0; block < 6 * A_CHUNK; block += 64)
      expect([block, await bench.byteOf(block)]).toEqual([block, 7]);
    await bench.pass(60_000);
    expect(within(bench)).toBe(true);
  });
});
