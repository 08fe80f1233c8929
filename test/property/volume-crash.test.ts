import { describe, expect, test } from 'vitest';
import { SimRandom } from '../sim/sim-random.ts';
import { VolumeDrill } from '../support/volume-drill.ts';

const SEEDS = Number(process.env['FARSHORE_DRILL_SEEDS'] ?? 30);
const FIRST = Number(process.env['FARSHORE_DRILL_FIRST'] ?? 1);

function drill(seed: number, failing: boolean, stored: boolean): VolumeDrill {
  const random = new SimRandom(`options ${seed}`);
  return new VolumeDrill({
    seed,
    lives: 4,
    steps: random.pick([60, 150]),
    churn: random.chance(0.5),
    chunks: random.between(4, 7),
    ramBlocks: random.pick([0, 16, 64, 1024]),
    sectorSize: random.pick([512, 4096]),
    volumeBlocks: random.pick([200, 600, 1500]),
    rpoMs: random.pick([50, 1000, 5000]),
    hydrate: random.chance(0.5),
    ...(stored ? { stored } : {}),
    ...(failing
      ? {
          faults: {
            readError: random.pick([0, 0.003]),
            syncError: random.pick([0, 0.01, 0.1]),
            noSpace: random.pick([0, 0.01]),
          },
        }
      : {}),
  });
}

async function failuresOf(failing: boolean, stored = false): Promise<string[]> {
  const failures: string[] = [];
  const seeds = stored ? Math.ceil(SEEDS / 3) : SEEDS;
  for (let seed = FIRST; seed < FIRST + seeds; seed++) {
    try {
      await drill(seed, failing, stored).run();
    } catch (error) {
      failures.push(`seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    }
  }
  return failures;
}

describe('crashes', () => {
  test(
    'leave a volume exactly as it was after some step, none answered or flushed missing',
    { timeout: 600_000 },
    async () => {
      expect(await failuresOf(false)).toEqual([]);
    },
  );

  test('do so too when the disk fails now and then', { timeout: 600_000 }, async () => {
    expect(await failuresOf(true)).toEqual([]);
  });

  test(
    'do so with an image behind the log, and a clean stop leaves the volume in it',
    { timeout: 600_000 },
    async () => {
      expect(await failuresOf(false, true)).toEqual([]);
    },
  );

  test('do so too when the disk of log and image fails now and then', { timeout: 600_000 }, async () => {
    expect(await failuresOf(true, true)).toEqual([]);
  });
});
