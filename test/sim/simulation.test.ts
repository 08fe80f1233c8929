import { describe, expect, it } from 'vitest';
import { describeError } from '../../gateway/base/errors.ts';
import { BREAKAGES } from './breakages.ts';
import { replayCommand, runSeed } from './run-seed.ts';
import type { Breakage } from './sim-process.ts';

/** At most so many worlds, for at most so long: whichever ends first. The long form is `npm run sim -- --seeds 100000`. */
const SEEDS = Number(process.env['FARSHORE_SIM_SEEDS'] ?? 2000);
const SECONDS = Number(process.env['FARSHORE_SIM_SECONDS'] ?? 110);
/** Fewer would say nothing, however slow the machine is. */
const FEWEST_SEEDS = Math.min(SEEDS, 200);
/** Worlds within which a broken rule must be found. */
const SEEDS_PER_BREAKAGE = 150;
const PATIENCE_MS = 900_000;

describe('the simulation', () => {
  it('keeps every promise through crashes, faults and takeovers', { timeout: PATIENCE_MS }, async () => {
    const endAt = performance.now() + SECONDS * 1000;
    let seed = 1;
    for (; seed <= SEEDS && (seed <= FEWEST_SEEDS || performance.now() < endAt); seed++) {
      const { failure } = await runSeed(seed);
      if (failure !== undefined) {
        const why = describeError(failure);
        throw new Error(`seed ${seed}: ${why}\nreplay with: ${replayCommand(seed)}`, { cause: failure });
      }
    }
    expect(seed - 1).toBeGreaterThanOrEqual(FEWEST_SEEDS);
  });

  it('replays a seed exactly', { timeout: PATIENCE_MS }, async () => {
    for (const seed of [1, 2, 3]) {
      const first = await runSeed(seed);
      expect((await runSeed(seed)).hash).toBe(first.hash);
    }
  });

  it.each(Object.entries<Breakage>(BREAKAGES))(
    'finds out when the storage half would %s',
    { timeout: PATIENCE_MS },
    async (_rule, breakage) => {
      let found: unknown;
      for (let seed = 1; seed <= SEEDS_PER_BREAKAGE && found === undefined; seed++)
        found = (await runSeed(seed, { breakage })).failure;
      expect(found).toBeInstanceOf(Error);
    },
  );
});
