import { describe, expect, it } from 'vitest';
import { BREAKAGES } from './breakages.ts';
import { runSeed } from './run-seed.ts';
import { PATIENCE_MS } from './seed-range.ts';
import type { Breakage } from './sim-process.ts';

/** Worlds within which a broken rule must be found. */
const SEEDS_PER_BREAKAGE = 150;

describe('the simulation with a broken rule', () => {
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
