import { expect, test } from 'vitest';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import { SimRandom } from '../../sim/sim-random.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const SECTOR = 512;
const PER_BLOCK = BLOCK_SIZE / SECTOR;

/** What `readInto` puts into the middle of a buffer; undefined when it answers false. Checks that nothing beside it was touched. */
function readInto({ volume }: VolumeBench, lba: number, sectors: number): Buffer | undefined {
  const into = Buffer.alloc(sectors * SECTOR + 96, 0xee);
  if (!volume.readInto(lba, sectors, into, 48)) return undefined;
  expect(into.subarray(0, 48).equals(Buffer.alloc(48, 0xee))).toBe(true);
  expect(into.subarray(-48).equals(Buffer.alloc(48, 0xee))).toBe(true);
  return into.subarray(48, -48);
}

async function read(bench: VolumeBench, lba: number, sectors: number): Promise<Buffer> {
  return Buffer.concat(await bench.settle(Promise.resolve(bench.volume.read(lba, sectors))));
}

test('what is copied out of memory is what a read gives, from any sector to any other, logged or still on its way', async () => {
  const bench = new VolumeBench({ ramBlocks: 64, sectorSize: SECTOR });
  await bench.start();
  const random = new SimRandom(3);
  for (let block = 0; block < 16; block += 1) await bench.write(block, block + 1);
  let copied = 0;
  for (let round = 0; round < 200; round += 1) {
    const writing = random.chance(0.5)
      ? Promise.resolve(
          bench.volume.write(random.between(0, 15) * PER_BLOCK, [Buffer.alloc(BLOCK_SIZE, round)], { fua: false }),
        )
      : undefined;
    const lba = random.between(0, 16 * PER_BLOCK - 1);
    const sectors = random.between(1, Math.min(40, 16 * PER_BLOCK - lba));
    const got = readInto(bench, lba, sectors);
    const wanted = await read(bench, lba, sectors);
    if (got !== undefined) {
      copied += 1;
      expect(got.equals(wanted)).toBe(true);
    }
    if (writing !== undefined) await bench.settle(writing);
  }
  expect(copied).toBeGreaterThan(150);
  await bench.stop();
});

test('what is not in memory as a whole is not copied, nor what a volume has that is closed', async () => {
  const bench = new VolumeBench({ ramBlocks: 64, sectorSize: SECTOR });
  await bench.start();
  await bench.write(1, 7);
  const { volume } = bench;
  expect(readInto(bench, PER_BLOCK, PER_BLOCK)?.equals(Buffer.alloc(BLOCK_SIZE, 7))).toBe(true);
  expect(readInto(bench, PER_BLOCK, PER_BLOCK + 1)).toBeUndefined();
  expect(readInto(bench, PER_BLOCK - 1, 2)).toBeUndefined();
  await bench.stop();
  expect(volume.readInto(PER_BLOCK, PER_BLOCK, Buffer.alloc(BLOCK_SIZE), 0)).toBe(false);
});

test('a volume that was taken over gives nothing out of its memory', async () => {
  const bench = new VolumeBench({ ramBlocks: 64, sectorSize: SECTOR });
  await bench.start();
  await bench.write(1, 7);
  bench.volume.onFenced('by a test');
  expect(readInto(bench, PER_BLOCK, PER_BLOCK)).toBeUndefined();
});
