import { describe, expect, test } from 'vitest';
import { SimRandom } from '../../sim/sim-random.ts';
import { recordsOn } from '../../support/log-surgery.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const BLOCKS = 60;
const SLOTS = 384;

/** Longer than the disk's part of an opening takes. */
const OPENING_MS = 40;

/** The byte that fills each block: what a flush has made durable is read in one go, there are hundreds of these. */
async function contentOf(bench: VolumeBench): Promise<number[]> {
  const content = Buffer.concat(await bench.settle(Promise.resolve(bench.volume.read(0, BLOCKS))));
  return Array.from({ length: BLOCKS }, (_, block) => {
    const data = content.subarray(block * 4096, (block + 1) * 4096);
    const byte = data.readUInt8(0);
    return data.equals(Buffer.alloc(4096, byte)) ? byte : -1;
  });
}

/** Begins to open the volume, and dies soon after the first record was destroyed, or at any moment. */
async function dieWhileOpening(bench: VolumeBench, random: SimRandom, kind: 'process' | 'power'): Promise<void> {
  bench.open().catch(() => undefined);
  const records = recordsOn(bench.disk, SLOTS).length;
  const untilMs = bench.clock.monotonicMs() + OPENING_MS * (random.chance(0.7) ? 1 : random.fraction());
  // Reading every table after every event is what this test would spend its time on: only a write can destroy a record.
  let isWritten = false;
  bench.disk.setProbe({
    done: ({ kind }) => {
      isWritten ||= kind === 'write';
    },
  });
  const isDestroyed = (): boolean => {
    if (!isWritten) return false;
    isWritten = false;
    return recordsOn(bench.disk, SLOTS).length < records;
  };
  await bench.clock.run({ untilMs, when: isDestroyed });
  bench.disk.setProbe(undefined);
  await bench.pass(random.fraction() * 1.5);
  bench.crash(kind);
}

/**
 * Writes that were not flushed, and blocks that were read from the remote meanwhile, which are as of their sequences. A power cut keeps some
 * of all that, and the next start must destroy what lies behind the first hole. If it dies between writing that and syncing it, the page
 * cache shows zeros where the platter still has the old records.
 */
async function tornTail(seed: number, random: SimRandom): Promise<VolumeBench> {
  const bench = new VolumeBench({ seed, ramBlocks: 0, chunkSlots: SLOTS, volumeBlocks: BLOCKS });
  for (let block = 0; block < BLOCKS; block++) bench.shore.blocks.set(block, Buffer.alloc(4096, 200));
  await bench.start();
  bench.shore.holdCommits = true;
  await bench.byteOf(0);
  for (let i = 0; i < 4; i++) {
    await bench.write(random.between(0, BLOCKS - 3), 2 + i, random.between(1, 3));
    // A read brings all of its window.
    await bench.byteOf(16 * random.between(1, 3));
    await bench.pass(1);
  }
  bench.crash('power');
  return bench;
}

describe('a start that dies while it cuts off a torn end', () => {
  // In parts, each with a time limit of its own.
  test.each([1, 31, 61, 91])(
    'does not let what it cut off come back with a later power cut (seeds from %i)',
    async (from) => {
      for (let seed = from; seed < from + 30; seed++) {
        const random = new SimRandom(`double crash ${seed}`);
        const bench = await tornTail(seed, random);
        for (let times = random.between(1, 2); times > 0; times--) await dieWhileOpening(bench, random, 'process');
        // The sequences of what was cut off are given out again.
        await bench.start();
        for (let i = 0; i < 10; i++) await bench.write(random.between(0, BLOCKS - 1), 100 + i);
        await bench.flush();
        const before = await contentOf(bench);
        for (let times = random.between(0, 2); times > 0; times--) {
          bench.crash('power');
          await dieWhileOpening(bench, random, 'power');
        }
        bench.crash('power');
        await bench.start();
        expect([seed, ...(await contentOf(bench))]).toEqual([seed, ...before]);
        bench.crash('power');
      }
    },
  );
});
