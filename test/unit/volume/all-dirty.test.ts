import { describe, expect, test } from 'vitest';
import { VolumeBench } from '../../support/volume-bench.ts';

const MAX_WAIT_MS = 2000;
/** Blocks that only the cloud has. */
const FAR = { first: 3000, count: 256 };

function outcome(work: unknown): Promise<string> {
  return Promise.resolve(work).then(
    () => 'done',
    (error: unknown) => (error instanceof Error && 'kind' in error ? String(error.kind) : String(error)),
  );
}

/** Every chunk of the cache holds blocks that the cloud does not take, and one more write is refused. */
async function fullOfDirt(ramBlocks: number): Promise<VolumeBench> {
  const bench = new VolumeBench({ chunks: 4, ramBlocks, maxWaitMs: MAX_WAIT_MS, sectorSize: 512, remoteMs: 3 });
  for (let block = FAR.first; block < FAR.first + FAR.count; block++)
    bench.shore.blocks.set(block, Buffer.alloc(4096, 1 + (block % 200)));
  await bench.start();
  bench.shore.holdCommits = true;
  let last = 'done';
  for (let block = 0; last === 'done' && block < 2800; block += 16)
    last = await bench.settle(outcome(bench.volume.write(block * 8, [Buffer.alloc(16 * 4096, 7)], { fua: false })));
  // What is left of the open chunk.
  for (last = 'done'; last === 'done';)
    last = await bench.settle(outcome(bench.volume.write(0, [Buffer.alloc(4096, 7)], { fua: false })));
  expect([last, bench.cache.status().freeBytes]).toEqual(['busy', 0]);
  return bench;
}

describe.each([0, 64])('with every block of the cache dirty, no upload and a RAM tier of %i blocks', (ramBlocks) => {
  test('what is not cached is read, read ahead and filled up as fast as the cloud answers, and nothing waits for room that only commits make', async () => {
    const bench = await fullOfDirt(ramBlocks);
    const { volume, cache } = bench;
    const { fills } = cache.status();
    const from = bench.clock.monotonicMs();
    for (let at = 0; at < FAR.count; at += 4) {
      const data = Buffer.concat(await bench.settle(Promise.resolve(volume.read((FAR.first + at) * 8, 4 * 8))));
      for (let each = 0; each < 4; each++) expect(data[each * 4096]).toBe(1 + ((FAR.first + at + each) % 200));
    }
    // One trip to the cloud for each read at most.
    expect(bench.clock.monotonicMs() - from).toBeLessThan((FAR.count / 4) * 10);
    await bench.pass(100);
    expect(cache.status()).toMatchObject({ fills, reservedBytes: 0, waitingWrites: 0, state: { kind: 'serving' } });
    expect(cache.aheadBudget.underWay).toBe(0);
    expect(volume.status().state).toBe('serving');
  });

  test('writes of parts of blocks that have to be fetched are refused in time, in the middle of reads, and nothing is left over of them', async () => {
    const bench = await fullOfDirt(ramBlocks);
    const { volume, cache } = bench;
    const from = bench.clock.monotonicMs();
    const answers = Array.from({ length: 32 }, (_, at) => {
      const lba = (FAR.first + at * 8) * 8;
      const write = outcome(volume.write(lba + 1, [Buffer.alloc(512, 9)], { fua: false }));
      return [write, outcome(volume.read(lba, 8)), outcome(volume.unmap([{ lba: lba + 3, sectors: 2 }]))];
    });
    const told = await bench.settle(Promise.all(answers.map((each) => Promise.all(each))));
    for (const each of told) expect(each).toEqual(['busy', 'done', 'busy']);
    expect(bench.clock.monotonicMs() - from).toBeLessThan(2 * MAX_WAIT_MS);
    expect(cache.status()).toMatchObject({ reservedBytes: 0, waitingWrites: 0 });
    expect((await bench.readBlock(FAR.first))[512]).toBe(1 + (FAR.first % 200));
  });

  test('everything drains when uploads work again, and then fills go into the log once more', async () => {
    const bench = await fullOfDirt(ramBlocks);
    const { volume, cache } = bench;
    const readers = Array.from({ length: 32 }, (_, at) => outcome(volume.read((FAR.first + at * 8) * 8, 8)));
    const writers = Array.from({ length: 32 }, (_, at) =>
      outcome(volume.write((FAR.first + at * 8) * 8 + 1, [Buffer.alloc(512, 9)], { fua: false })),
    );
    await bench.pass(MAX_WAIT_MS / 4);
    bench.shore.holdCommits = false;
    expect(new Set(await bench.settle(Promise.all([...readers, ...writers])))).toEqual(new Set(['done']));
    await bench.flushRemote();
    expect(volume.status()).toMatchObject({ dirtyBlocks: 0, lagSeconds: 0, damagedBlocks: 0 });
    expect(cache.status()).toMatchObject({ reservedBytes: 0, waitingWrites: 0, dirtyBytes: 0 });
    const block = await bench.readBlock(FAR.first);
    expect([block[0], block[512], block[1024]]).toEqual([1 + (FAR.first % 200), 9, 1 + (FAR.first % 200)]);
    const { fills } = cache.status();
    // Twice: what was in the RAM tier the first time is fetched when it has left it.
    for (let at = 0; at < 2 * FAR.count; at++) await bench.readBlock(FAR.first + (at % FAR.count));
    await bench.pass(1000);
    expect(cache.status().fills).toBeGreaterThan(fills);
    const { reads } = bench.shore;
    for (let at = 0; at < FAR.count; at++) await bench.readBlock(FAR.first + at);
    expect(bench.shore.reads).toBe(reads);
  });
});
