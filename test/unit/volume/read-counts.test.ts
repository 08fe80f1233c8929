import { expect, test } from 'vitest';
import { VolumeBench } from '../../support/volume-bench.ts';

async function countsOf(bench: VolumeBench, read: () => Promise<unknown>): Promise<[number, number, number]> {
  const before = bench.volume.status().reads;
  await read();
  const after = bench.volume.status().reads;
  return [after.ram - before.ram, after.log - before.log, after.missed - before.missed];
}

test('a read counts its blocks by where they were: in memory, in the log, or neither', async () => {
  const bench = new VolumeBench({ ramBlocks: 64 });
  for (let block = 1000; block < 1032; block++) bench.shore.blocks.set(block, Buffer.alloc(4096, 7));
  await bench.start();
  const read = (block: number, count: number) => async (): Promise<void> => {
    await bench.settle(Promise.resolve(bench.volume.read(block, count)));
  };
  await bench.write(300, 1, 4);
  await bench.write(10, 1, 4);
  expect(await countsOf(bench, read(10, 4))).toEqual([4, 0, 0]);
  const into = Buffer.alloc(4 * 4096);
  expect(await countsOf(bench, () => Promise.resolve(bench.volume.readInto(10, 4, into, 0)))).toEqual([4, 0, 0]);
  // A window of sixteen comes, and the block after it is one more miss.
  expect(await countsOf(bench, read(1000, 8))).toEqual([0, 0, 8]);
  expect(await countsOf(bench, read(1004, 2))).toEqual([2, 0, 0]);
  // What nobody has read leaves the RAM tier.
  for (let block = 100; block < 200; block++) await bench.write(block, 2);
  expect(await countsOf(bench, read(300, 1))).toEqual([0, 1, 0]);
  expect(await countsOf(bench, read(300, 4))).toEqual([1, 3, 0]);
  // Of an answer that was copied out of memory in part nothing is counted twice.
  expect(await countsOf(bench, read(199, 2))).toEqual([1, 0, 1]);
  await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 300, sectors: 4 }])));
  expect(await countsOf(bench, read(300, 4))).toEqual([4, 0, 0]);
});
