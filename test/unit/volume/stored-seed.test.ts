import { describe, expect, test } from 'vitest';
import { MAX_BATCHES_IN_FLIGHT } from '../../../gateway/volume/seal-policy.ts';
import { IMAGE, VolumeBench, type BenchOptions } from '../../support/volume-bench.ts';

const BLOCKS = 2000;

/** An image in which three blocks of ten have something. */
function imageWith(blocks = BLOCKS): Buffer {
  const content = Buffer.alloc(blocks * 4096);
  for (let block = 0; block < blocks; block++)
    if (block % 10 < 3) content.fill(1 + (block % 250), block * 4096, (block + 1) * 4096);
  return content;
}

function seeded(options: BenchOptions = {}): VolumeBench {
  return new VolumeBench({ stored: true, volumeBlocks: BLOCKS, ramBlocks: 16, seedImage: imageWith(), ...options });
}

/** What the newest version has of the block: the byte that fills it, -1 for a mix. */
function byteInShore(bench: VolumeBench, block: number): number {
  const content = bench.shore.blocks.get(block);
  if (content === undefined) return 0;
  const [first = -1] = content;
  return content.subarray(1).equals(content.subarray(0, -1)) ? first : -1;
}

describe('a volume that takes over an image', () => {
  test('is that image at once, and is in the cloud as one version, without its zeros, after a while', async () => {
    const bench = seeded();
    await bench.start();
    expect(await bench.byteOf(12)).toBe(13);
    expect(await bench.byteOf(15)).toBe(0);
    expect(bench.volume.status().stored?.catchUp).toMatchObject({ why: 'seed', blocks: BLOCKS });
    await bench.flushRemote();
    expect(bench.volume.status().stored?.catchUp).toBeUndefined();
    expect(bench.shore.manifests).toHaveLength(1);
    expect(bench.shore.batches).toHaveLength(0);
    for (let block = 0; block < BLOCKS; block++)
      expect(byteInShore(bench, block)).toBe(block % 10 < 3 ? 1 + (block % 250) : 0);
    expect(bench.shore.copiedBytes).toBe((BLOCKS * 3 * 4096) / 10);
    // From here on it is a volume like any other.
    await bench.write(5, 99);
    await bench.flushRemote();
    expect(bench.shore.manifests).toHaveLength(1);
    expect(byteInShore(bench, 5)).toBe(99);
    await bench.stop();
  });

  test('has what was written and unmapped meanwhile in the same version', async () => {
    const bench = seeded();
    bench.shore.holdCommits = true;
    await bench.start();
    await bench.pass(100);
    await bench.write(0, 201);
    await bench.write(1500, 202, 8);
    await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 10, sectors: 20 }])));
    await bench.pass(10_000);
    expect(bench.shore.manifests).toHaveLength(0);
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    expect(bench.shore.manifests).toHaveLength(1);
    expect(bench.shore.batches).toHaveLength(0);
    expect([0, 1, 10, 11, 29, 30, 1500, 1507].map((block) => byteInShore(bench, block))).toEqual([
      201, 2, 0, 0, 0, 31, 202, 202,
    ]);
    await bench.stop();
  });

  test.each(['process', 'power'] as const)(
    'goes on after a crash (%s) in the middle with what was not copied yet',
    async (kind) => {
      const bench = seeded({ volumeBlocks: 20_000, seedImage: imageWith(20_000), remoteMs: 100 });
      await bench.start();
      while ((bench.volume.status().stored?.catchUp?.openBlocks ?? 0) > 5_000) await bench.pass(50);
      await bench.write(3, 77);
      await bench.flush();
      const before = bench.shore.copiedBytes;
      bench.crash(kind, { fate: 'lost' });
      await bench.start();
      expect(bench.volume.status().stored?.catchUp?.openBlocks).toBeLessThanOrEqual(5_000);
      await bench.flushRemote();
      expect(bench.shore.manifests).toHaveLength(1);
      for (let block = 0; block < 20_000; block++)
        if (byteInShore(bench, block) !== (block === 3 ? 77 : block % 10 < 3 ? 1 + (block % 250) : 0))
          throw new Error(`block ${block} is ${byteInShore(bench, block)}`);
      expect(before).toBeGreaterThan(10_000 * 0.3 * 4096);
      expect(bench.shore.copiedBytes).toBeLessThan(20_000 * 0.3 * 4096 * 1.3);
      await bench.stop();
    },
  );

  test('is closed at once in the middle, and the image is whole then', async () => {
    const bench = seeded();
    bench.shore.holdCommits = true;
    await bench.start();
    await bench.write(7, 42);
    await bench.stop();
    expect(bench.image()[7 * 4096]).toBe(42);
    bench.shore.holdCommits = false;
    await bench.start();
    await bench.flushRemote();
    expect(byteInShore(bench, 7)).toBe(42);
    expect(byteInShore(bench, 11)).toBe(12);
    await bench.stop();
  });

  test('whose image is given up before that is what the versions say, and the image stays as it is', async () => {
    const bench = seeded();
    bench.shore.holdCommits = true;
    await bench.start();
    await bench.write(7, 42);
    await bench.stop();
    const administrator = { alive: true, name: 'administrator' };
    const file = await bench.settle(bench.disk.mount(administrator).open(IMAGE, 'write'));
    await bench.settle(Promise.resolve(file.write([Buffer.alloc(4096, 99)], 0)));
    await expect(bench.start()).rejects.toMatchObject({
      kind: 'stopped',
      message: expect.stringContaining('--seed') as string,
    });
    bench.crash('process');
    bench.shore.holdCommits = false;
    await bench.start({ takeover: true });
    expect(bench.volume.status().stored).toBeUndefined();
    expect(await bench.byteOf(11)).toBe(0);
    expect(bench.image()[11 * 4096]).toBe(12);
    await bench.stop();
  });

  test('waits for an image that can’t be read here and there, and says which block it is', async () => {
    const bench = seeded();
    await bench.start();
    bench.imageFaults.read = true;
    await bench.pass(20_000);
    expect(bench.volume.status().replicationProblem).toContain('cannot be read');
    bench.imageFaults.read = false;
    await bench.flushRemote();
    expect(bench.volume.status().replicationProblem).toBeUndefined();
    expect(byteInShore(bench, 11)).toBe(12);
    await bench.stop();
  });
});

describe('a volume with an image whose log is full of what no version has', () => {
  const OPTIONS = { stored: true, volumeBlocks: 9_000, chunks: 12, ramBlocks: 16, maxWaitMs: 2_000 };

  test('goes on at the image’s speed, keeps the last version, and catches up with one', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    await bench.write(0, 1, 8);
    await bench.flushRemote();
    bench.shore.holdCommits = true;
    // What is on its way when the line goes stays pinned in the log; in a cache this small it must not be much.
    for (let batch = 0; batch < MAX_BATCHES_IN_FLIGHT; batch++) {
      await bench.write(8_100 + batch, 1);
      // No batch gathers for longer than the target.
      await bench.pass(1_000);
    }
    expect(bench.volume.status().batchesInFlight).toBe(MAX_BATCHES_IN_FLIGHT);
    let slowestMs = 0;
    for (let block = 0; block < 8_000; block += 40) {
      const startedMs = bench.clock.monotonicMs();
      await bench.write(block, 1 + ((block / 40) % 250), 40);
      slowestMs = Math.max(slowestMs, bench.clock.monotonicMs() - startedMs);
    }
    // One that looks only when the image has got everything is held back for 140 ms in between.
    expect(slowestMs).toBeLessThan(50);
    await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 400, sectors: 40 }])));
    expect(bench.volume.status().stored?.catchUp).toMatchObject({ why: 'overflow' });
    expect(bench.volume.status().lagBytes).toBeGreaterThan(7_000 * 4096);
    expect(byteInShore(bench, 0)).toBe(1);
    expect(bench.shore.manifests).toHaveLength(0);
    for (let block = 0; block < 8_000; block += 400)
      expect(await bench.byteOf(block)).toBe(block === 400 ? 0 : 1 + ((block / 40) % 250));
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    expect(bench.shore.manifests).toHaveLength(1);
    expect(bench.volume.status().stored?.catchUp).toBeUndefined();
    for (let block = 0; block < 8_000; block++)
      expect(byteInShore(bench, block)).toBe(block >= 400 && block < 440 ? 0 : 1 + (Math.floor(block / 40) % 250));
    await bench.write(3, 250);
    await bench.flushRemote();
    expect(byteInShore(bench, 3)).toBe(250);
    await bench.pass(5_000);
    expect(bench.volume.status().lagBytes).toBe(0);
    await bench.stop();
  });

  test('is not served from what is left in the log when the record of the image is gone; a takeover goes back to the last version', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    await bench.write(0, 1, 8);
    await bench.flushRemote();
    bench.shore.holdCommits = true;
    for (let block = 0; block < 8_000; block += 40) await bench.write(block, 9, 40);
    await bench.stop();
    const administrator = bench.disk.mount({ alive: true, name: 'administrator' });
    await bench.settle(administrator.remove('volumes/vol.image.json'));
    await expect(bench.start()).rejects.toMatchObject({ kind: 'damaged' });
    bench.crash('process');
    bench.shore.holdCommits = false;
    await bench.start({ takeover: true });
    for (let block = 0; block < 8_000; block += 100) expect(await bench.byteOf(block)).toBe(block < 8 ? 1 : 0);
    await bench.stop();
  });

  test.each(['process', 'power'] as const)('finds its marks after a crash (%s)', async (kind) => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    bench.shore.holdCommits = true;
    for (let block = 0; block < 8_000; block += 40) await bench.write(block, 1 + ((block / 40) % 250), 40);
    await bench.flush();
    bench.crash(kind);
    await bench.start();
    for (let block = 0; block < 8_000; block += 200) expect(await bench.byteOf(block)).toBe(1 + ((block / 40) % 250));
    for (let block = 40; block < 1600; block += 40) await bench.write(block, 251, 40);
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    for (let block = 0; block < 8_000; block++)
      expect(byteInShore(bench, block)).toBe(block >= 40 && block < 1600 ? 251 : 1 + (Math.floor(block / 40) % 250));
    await bench.stop();
  });

  // The state that names the marks is on the disk although it could not be said so; who begins marks anew must not begin with the same file.
  test('leaves alone the marks that a state may name whose outcome is not known', async () => {
    const bench = new VolumeBench(OPTIONS);
    await bench.start();
    bench.shore.holdCommits = true;
    const made: string[] = [];
    let failure: 'due' | 'next' | 'over' = 'due';
    bench.disk.setProbe({
      fault: ({ kind, path }) => {
        if (failure === 'due' && kind === 'mv' && path === 'volumes/vol.image.json.new' && made.length > 0)
          failure = 'next';
        if (failure !== 'next' || kind !== 'syncdir' || path !== 'volumes') return undefined;
        failure = 'over';
        return 'ENOSPC';
      },
      done: ({ kind, path }) => {
        if (kind !== 'create' || !path.startsWith('volumes/vol.marks-')) return;
        made.push(path);
        if (made.length === 1) return;
        bench.life.alive = false;
        bench.disk.crash('process', { late: 0 });
      },
    });
    const written = new Map<number, number>();
    for (let block = 0; bench.life.alive; block += 40) {
      const fill = 1 + ((block / 40) % 250);
      const write = bench.volume.write(block, [Buffer.alloc(40 * 4096, fill)], { fua: false });
      const seen = { acked: false };
      void Promise.resolve(write).then(() => (seen.acked = true));
      await bench.clock.run({ when: () => seen.acked || !bench.life.alive });
      if (seen.acked) written.set(block, fill);
    }
    bench.disk.setProbe(undefined);
    await bench.start();
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    for (const [block, fill] of written) expect([block, byteInShore(bench, block)]).toEqual([block, fill]);
    await bench.stop();
  });
});
