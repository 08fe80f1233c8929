import { describe, expect, test } from 'vitest';
import { FarshoreError, isKind } from '../../gateway/base/errors.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { VolumeBench } from '../support/volume-bench.ts';

const SEEDS = Number(process.env['FARSHORE_DRILL_SEEDS'] ?? 20);
const BLOCKS = 600;

/** Writes every block several times over, so that old copies of most blocks lie in the log. */
async function writeAll(bench: VolumeBench, random: SimRandom): Promise<Uint8Array> {
  const bytes = new Uint8Array(BLOCKS);
  for (let round = 1; round <= 100; round++) {
    const count = random.chance(0.5) ? 1 : random.between(1, 40);
    const block = random.between(0, BLOCKS - count);
    await bench.write(block, round, count);
    bytes.fill(round, block, block + count);
  }
  return bytes;
}

function flipBits(bench: VolumeBench, tableBytes: number, random: SimRandom, count: number): void {
  const chunks = bench.disk.paths().filter((path) => path.endsWith('.chunk'));
  for (let i = 0; i < count; i++) {
    const file = bench.disk.file(random.pick(chunks));
    // Every other one hits the descriptors: a small part of a chunk, and the worst.
    if (i % 2 === 0) file?.damage(random);
    else file?.flipBit(random.between(4096, 4096 + tableBytes - 1), random.between(0, 7));
  }
}

async function outcomeOf(bench: VolumeBench, block: number): Promise<number | string> {
  try {
    return await bench.byteOf(block);
  } catch (error) {
    if (error instanceof FarshoreError) return error.kind;
    throw error;
  }
}

describe('bits that flip in the cache log', () => {
  test('never reach a reader where the remote has a copy', async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const random = new SimRandom(`damage ${seed}`);
      const bench = new VolumeBench({ seed, ramBlocks: 0, volumeBlocks: BLOCKS });
      await bench.start();
      const bytes = await writeAll(bench, random);
      await bench.flushRemote();
      const { geometry } = bench.cache;
      await bench.stop();
      flipBits(bench, geometry.tableBytes, random, 12);
      await bench.start();
      for (let block = 0; block < BLOCKS; block++)
        expect([seed, block, await outcomeOf(bench, block)]).toEqual([seed, block, bytes[block]]);
      await bench.stop();
    }
  });

  test('are told as damage where nobody else has the block, never as other bytes', async () => {
    let told = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const random = new SimRandom(`dirty damage ${seed}`);
      const bench = new VolumeBench({ seed, ramBlocks: 0, chunks: 8, volumeBlocks: BLOCKS });
      await bench.start();
      bench.shore.holdCommits = true;
      const bytes = await writeAll(bench, random);
      await bench.flush();
      // Tells of the sync, as the next write of a living volume does.
      await bench.write(0, 1);
      bytes[0] = 1;
      const { geometry } = bench.cache;
      await bench.stop();
      flipBits(bench, geometry.tableBytes, random, 6);
      try {
        await bench.start();
      } catch (error) {
        expect(isKind(error, 'damaged')).toBe(true);
        told++;
        continue;
      }
      for (let block = 0; block < BLOCKS; block++) {
        const outcome = await outcomeOf(bench, block);
        if (outcome === 'damaged') told++;
        else expect([seed, block, outcome]).toEqual([seed, block, bytes[block]]);
      }
      await bench.stop();
    }
    expect(told).toBeGreaterThan(0);
  });
});
