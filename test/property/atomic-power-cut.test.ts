import { describe, expect, test } from 'vitest';
import { maxAtomicSectors } from '../../gateway/scsi/atomic-writes.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { VolumeBench } from '../support/volume-bench.ts';

const SEEDS = 10;
const BLOCKS = 600;

/** What a sector is filled with, and that it is filled with one byte. */
function fills(bytes: Buffer, sectorSize: number): number[] {
  return Array.from({ length: bytes.length / sectorSize }, (_, sector) => {
    const part = bytes.subarray(sector * sectorSize, (sector + 1) * sectorSize);
    const first = part[0] ?? -1;
    return part.every((byte) => byte === first) ? first : -1;
  });
}

async function contentOf(bench: VolumeBench): Promise<Buffer> {
  const blocks: Buffer[] = [];
  for (let block = 0; block < BLOCKS; block += 1) blocks.push(Buffer.from(await bench.readBlock(block)));
  return Buffer.concat(blocks);
}

/** Long writes at any sector, one after the other, cut off at any moment; the extent of the one that was not answered. */
async function writeUntilCut(
  bench: VolumeBench,
  random: SimRandom,
  fill: number,
): Promise<{ at: number; end: number }> {
  const { sectorSize, sectors } = bench.volume.geometry();
  const longest = maxAtomicSectors(bench.volume);
  const length = random.chance(0.5) ? longest : random.between(2, longest);
  const at = random.between(0, sectors - length);
  const written = Promise.resolve(
    bench.volume.write(at, [Buffer.alloc(length * sectorSize, fill)], { fua: random.chance(0.5) }),
  );
  written.catch(() => undefined);
  await bench.pass(random.fraction() * 12);
  bench.crash(random.chance(0.7) ? 'power' : 'process');
  return { at, end: at + length };
}

describe('a write that is not longer than VPD B0h says for WRITE ATOMIC', () => {
  test.each([512, 4096] as const)(
    'is there whole or not at all after a power cut at any moment, with sectors of %i bytes',
    async (sectorSize) => {
      const seen = { whole: 0, none: 0 };
      for (let seed = 1; seed <= SEEDS; seed += 1) {
        const random = new SimRandom(`atomic ${sectorSize} ${seed}`);
        const bench = new VolumeBench({ seed, sectorSize, volumeBlocks: BLOCKS, ramBlocks: 16, chunkSlots: 384 });
        await bench.start();
        await bench.write(0, 1, 200);
        await bench.flush();
        for (let cut = 0; cut < 3; cut += 1) {
          const before = fills(await contentOf(bench), sectorSize);
          const { at, end } = await writeUntilCut(bench, random, 10 + cut);
          await bench.start();
          const after = fills(await contentOf(bench), sectorSize);
          const outcome = after.slice(at, end).every((fill) => fill === 10 + cut) ? 'whole' : 'none';
          seen[outcome] += 1;
          const expected = outcome === 'none' ? before : before.fill(10 + cut, at, end);
          expect([seed, cut, after.join() === expected.join()]).toEqual([seed, cut, true]);
        }
        bench.crash('power');
      }
      expect(seen.whole).toBeGreaterThan(0);
      expect(seen.none).toBeGreaterThan(0);
    },
    300_000,
  );
});
