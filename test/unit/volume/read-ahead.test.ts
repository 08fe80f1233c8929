import { describe, expect, test } from 'vitest';
import { ReadAheadBudget } from '../../../gateway/cache/read-ahead-budget.ts';
import { ReadAhead } from '../../../gateway/volume/read-ahead.ts';
import { SimRandom } from '../../sim/sim-random.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const REMOTE_MS = 50;
const VOLUME_BLOCKS = 8192;

/** A volume that is all in the remote; block n is filled with (n mod 200) + 1. */
async function remoteVolume(ramBlocks: number): Promise<VolumeBench> {
  const bench = new VolumeBench({
    chunks: 16,
    chunkSlots: 1024,
    ramBlocks,
    volumeBlocks: VOLUME_BLOCKS,
    remoteMs: REMOTE_MS,
  });
  const contents = Array.from({ length: 200 }, (_, index) => Buffer.alloc(4096, index + 1));
  for (let block = 0; block < VOLUME_BLOCKS; block++) {
    const content = contents[block % 200];
    if (content !== undefined) bench.shore.blocks.set(block, content);
  }
  await bench.start();
  return bench;
}

/** Reads one run after the other, `short`: by way of readInto where that can; answers how many round trips of the remote that took. */
async function readThrough(
  bench: VolumeBench,
  first: number,
  blocks: number,
  run: number,
  short = false,
): Promise<number> {
  const before = bench.clock.monotonicMs();
  for (let block = first; block < first + blocks; block += run) {
    const into = Buffer.alloc(run * 4096);
    const isShort = short && bench.volume.readInto(block, run, into, 0);
    const data = isShort ? into : Buffer.concat(await bench.settle(Promise.resolve(bench.volume.read(block, run))));
    expect([data[0], data.at(-1)]).toEqual([(block % 200) + 1, ((block + run - 1) % 200) + 1]);
  }
  return (bench.clock.monotonicMs() - before) / REMOTE_MS;
}

describe('reading a remote volume from one end to the other', () => {
  test.each([
    ['stretches of 8 KiB', 2],
    ['stretches of 64 KiB', 16],
    ['stretches of 256 KiB', 64],
    ['stretches of 8 KiB, on the short way', 2, true],
    ['stretches of 256 KiB, on the short way', 64, true],
  ] as const)('waits for a few round trips, in %s', async (_, run, short?: boolean) => {
    const bench = await remoteVolume(4096);
    // Without read-ahead, every frame of 64 KiB is a round trip: 256 of them, or one for each longer read.
    const trips = await readThrough(bench, 0, 4096, run, short);
    expect(trips).toBeLessThan(20);
    expect(bench.cache.status().readAhead).toMatchObject({ wasted: 0 });
    expect(bench.cache.status().readAhead.used).toBeGreaterThan(3800);
    await bench.stop();
  });

  test('waits for few of them also without a RAM tier', async () => {
    const bench = await remoteVolume(0);
    expect(await readThrough(bench, 0, 4096, 16)).toBeLessThan(30);
    await bench.stop();
  });

  test('reads ahead in the background, and hurries that as soon as the reader has come there', async () => {
    const bench = await remoteVolume(4096);
    await readThrough(bench, 0, 1024, 16);
    const { patientReads, reads, hurried } = bench.shore;
    expect(patientReads).toBeGreaterThan(0);
    // Those that made the stream were waited for from the beginning.
    expect(reads - patientReads).toBeGreaterThanOrEqual(3);
    expect(hurried.length).toBeGreaterThan(0);
    // Told once of each.
    expect(new Set(hurried.map(({ block }) => block)).size).toBe(hurried.length);
    await bench.stop();
  });

  test('asks for nothing behind the end, and for nothing twice', async () => {
    const bench = await remoteVolume(4096);
    await readThrough(bench, VOLUME_BLOCKS - 2048, 2048, 16);
    await bench.pass(1000);
    expect(bench.cache.status().readAhead.fetched).toBeLessThanOrEqual(2048);
    expect(bench.cache.status().fills).toBeLessThanOrEqual(2048);
    await bench.stop();
  });

  test('fetches what was written meanwhile neither into the RAM tier nor into the log', async () => {
    const bench = await remoteVolume(4096);
    await readThrough(bench, 0, 256, 16);
    // Some of these are being read ahead now.
    for (let block = 256; block < 512; block += 3) await bench.write(block, 222);
    await bench.pass(1000);
    for (let block = 256; block < 512; block++) {
      expect(await bench.byteOf(block)).toBe((block - 256) % 3 === 0 ? 222 : (block % 200) + 1);
    }
    await bench.stop();
  });
});

describe('reading blocks here and there', () => {
  test('reads nothing ahead', async () => {
    const bench = await remoteVolume(4096);
    const random = new SimRandom('here and there');
    for (let read = 0; read < 400; read++) await bench.byteOf(random.between(0, VOLUME_BLOCKS - 1));
    expect(bench.cache.status().readAhead).toEqual({ fetched: 0, used: 0, wasted: 0 });
    await bench.stop();
  });

  test('hardly matters to a reader in between who goes on', async () => {
    const bench = await remoteVolume(4096);
    const random = new SimRandom('in between');
    let trips = 0;
    for (let block = 0; block < 2048; block += 64) {
      trips += await readThrough(bench, block, 64, 16);
      await bench.byteOf(random.between(4096, VOLUME_BLOCKS - 1));
    }
    expect(trips).toBeLessThan(20);
    await bench.stop();
  });
});

describe('the windows of a stream', () => {
  function watched(volumeBlocks: number, ramBlocks = 0): { ahead: ReadAhead; windows: [number, number][] } {
    const windows: [number, number][] = [];
    const ahead = new ReadAhead({
      fetch: (first, count) => windows.push([first, count]),
      volumeBlocks: () => volumeBlocks,
      ramBlocks: () => ramBlocks,
    });
    return { ahead, windows };
  }

  test('begin with the third miss in a row, double up to 4 MiB, and end with the volume', () => {
    const { ahead, windows } = watched(4000);
    ahead.missed(0, 16);
    ahead.missed(16, 32);
    expect(windows).toEqual([]);
    ahead.missed(32, 48);
    for (let block = 48; block < 4000; block++) ahead.met(block, block + 1);
    expect(windows).toEqual([
      [48, 64],
      [112, 128],
      [240, 256],
      [496, 512],
      [1008, 1024],
      [2032, 1024],
      [3056, 944],
    ]);
  });

  test('are no larger than a sixteenth of the RAM tier', () => {
    const { ahead, windows } = watched(4000, 1600);
    for (let block = 0; block < 48; block += 16) ahead.missed(block, block + 16);
    for (let block = 48; block < 300; block++) ahead.met(block, block + 1);
    expect(windows.map(([, count]) => count)).toEqual([64, 100, 100, 100]);
  });

  test('are of the streams read last, eight of them', () => {
    const { ahead, windows } = watched(1_000_000);
    for (const round of [0, 16, 32])
      for (let stream = 0; stream < 9; stream++) ahead.missed(stream * 5000 + round, stream * 5000 + round + 16);
    expect(windows).toEqual([]);
    for (const round of [48, 64, 80])
      for (let stream = 1; stream < 9; stream++) ahead.missed(stream * 5000 + round, stream * 5000 + round + 16);
    expect(windows).toHaveLength(8);
  });
});

test('the volumes of a gateway read 16 MiB ahead at a time, together', () => {
  const budget = new ReadAheadBudget();
  expect(budget.take(4000)).toBe(true);
  expect(budget.take(100)).toBe(false);
  budget.give(4000);
  expect(budget.take(100)).toBe(true);
  expect(budget.fetched).toBe(4100);
});
