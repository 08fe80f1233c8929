import { describe, expect, it } from 'vitest';
import { FEWEST_SEEDS, PATIENCE_MS, SEEDS_PER_FILE, runSeeds } from './seed-range.ts';

describe('the simulation, second half of the seeds', () => {
  it('keeps every promise through crashes, faults and takeovers', { timeout: PATIENCE_MS }, async () => {
    expect(await runSeeds(1 + SEEDS_PER_FILE)).toBeGreaterThanOrEqual(FEWEST_SEEDS);
  });
});
