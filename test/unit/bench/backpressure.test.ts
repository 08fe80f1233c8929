import { describe, expect, it } from 'vitest';
import { fillWithoutCloud, table } from '../../../bench/backpressure.ts';
import { GIB, MIB } from '../../../gateway/base/units.ts';
import { writeDelayMs } from '../../../gateway/cache/pressure.ts';

describe('the curve of docs/BACKPRESSURE.md', () => {
  it('holds writes back as the formula says in every step, ever longer, and ends in BUSY', async () => {
    const load = { cacheBytes: GIB, depth: 32, ioBytes: 256 * 1024, rate: 100 * MIB };
    const steps = await fillWithoutCloud(load);
    let before = 0;
    for (const { from, to, p50Ms, p99Ms, busy } of steps) {
      expect(p50Ms).toBeGreaterThanOrEqual(before);
      expect(p99Ms).toBeLessThanOrEqual(writeDelayMs(to) + 1);
      expect(p50Ms).toBeGreaterThanOrEqual(Math.max(0, writeDelayMs(from) - 1));
      expect(busy).toBe(to === 1 ? busy : 0);
      before = p50Ms;
    }
    expect(steps.reduce((sum, { writes }) => sum + writes, 0)).toBe(GIB / load.ioBytes);
    expect(steps.at(-1)?.busy).toBeGreaterThan(0);
    expect(table(load, steps)).toContain('BUSY after 20 s');
  });
});
