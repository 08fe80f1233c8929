import { describe, expect, it } from 'vitest';
import { runSeed } from './run-seed.ts';
import { FEWEST_SEEDS, PATIENCE_MS, runSeeds } from './seed-range.ts';

describe('the simulation, first half of the seeds', () => {
  it('keeps every promise through crashes, faults and takeovers', { timeout: PATIENCE_MS }, async () => {
    expect(await runSeeds(1)).toBeGreaterThanOrEqual(FEWEST_SEEDS);
  });

  it('replays a seed exactly', { timeout: PATIENCE_MS }, async () => {
    for (const seed of [1, 2, 3]) {
      const first = await runSeed(seed);
      expect((await runSeed(seed)).hash).toBe(first.hash);
    }
  });
});
