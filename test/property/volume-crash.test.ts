import { describe, expect, test } from 'vitest';
import { SimRandom } from '../sim/sim-random.ts';
import { VolumeDrill } from '../support/volume-drill.ts';

const SEEDS = Number(process.env['FARSHORE_DRILL_SEEDS'] ?? 30);
const FIRST = Number(process.env['FARSHORE_DRILL_FIRST'] ?? 1);

/** `overflows`: the cloud is away for long, so that the image has what no version has; half of these were an image before they were a volume. */
type Kind = 'cached' | 'stored' | 'overflows';

function drill(seed: number, failing: boolean, kind: Kind): VolumeDrill {
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
    ...(kind === 'cached' ? {} : { stored: true }),
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

/** As `drill`, of a volume that is larger than its log. */
function overflowDrill(seed: number, failing: boolean): VolumeDrill {
  const random = new SimRandom(`overflow ${seed}`);
  const volumeBlocks = random.pick([600, 1500, 4000]);
  const seedImage = Buffer.alloc(volumeBlocks * 4096);
  for (let at = 0; at < seedImage.length; at += 4096)
    if (random.chance(0.3))
      for (let byte = at; byte < at + 4096; byte += 4) seedImage.writeUInt32LE(1e6 + at / 4096, byte);
  return new VolumeDrill({
    ...{ seed, stored: true, overflows: true, lives: 4, steps: random.pick([60, 150]), churn: true, volumeBlocks },
    chunks: random.between(8, 14),
    ramBlocks: random.pick([0, 64]),
    sectorSize: random.pick([512, 4096]),
    rpoMs: random.pick([50, 1000]),
    ...(random.chance(0.6) ? { seedImage } : {}),
    ...(failing
      ? {
          faults: {
            readError: random.pick([0, 0.003]),
            syncError: random.pick([0, 0.05]),
            noSpace: random.pick([0, 0.01]),
          },
        }
      : {}),
  });
}

async function failuresOf(failing: boolean, kind: Kind = 'cached'): Promise<string[]> {
  const failures: string[] = [];
  const seeds = kind === 'cached' ? SEEDS : Math.ceil(SEEDS / 3);
  for (let seed = FIRST; seed < FIRST + seeds; seed++) {
    try {
      await (kind === 'overflows' ? overflowDrill(seed, failing) : drill(seed, failing, kind)).run();
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
      expect(await failuresOf(false, 'stored')).toEqual([]);
    },
  );

  test('do so too when the disk of log and image fails now and then', { timeout: 600_000 }, async () => {
    expect(await failuresOf(true, 'stored')).toEqual([]);
  });

  test(
    'do so when the image was there before, and when it has what the log can’t keep; each version is the volume after some step',
    { timeout: 600_000 },
    async () => {
      expect(await failuresOf(false, 'overflows')).toEqual([]);
    },
  );

  test('do so too when the disk of log, image and marks fails now and then', { timeout: 600_000 }, async () => {
    expect(await failuresOf(true, 'overflows')).toEqual([]);
  });
});
