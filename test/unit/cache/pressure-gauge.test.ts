import { describe, expect, it } from 'vitest';
import { PressureGauge } from '../../../gateway/cache/pressure-gauge.ts';
import { FREE_SHARE, LOW_SHARE } from '../../../gateway/cache/pressure.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { SimRandom } from '../../sim/sim-random.ts';

const TOTAL = 1000;

function gauge(): {
  readonly gauge: PressureGauge;
  readonly state: { used: number; index: number };
  readonly clock: SimClock;
} {
  const state = { used: 0, index: 0 };
  const clock = new SimClock(new SimRandom(1));
  const made = new PressureGauge(clock, {
    volumes: new Map(),
    totalSlots: () => TOTAL,
    obtainableSlots: () => TOTAL - state.used,
    openSlots: () => 0,
    indexShare: () => state.index,
  });
  return { gauge: made, state, clock };
}

describe('how full the cache is of what the cloud has not got', () => {
  it('counts once that space runs low, and again only after half of it was free', () => {
    const { gauge: it, state } = gauge();
    const at = (share: number): number => {
      state.used = share * TOTAL;
      it.sample();
      return it.lowSpace.notices;
    };
    expect([at(0.3), at(LOW_SHARE - 0.01)]).toEqual([0, 0]);
    expect([at(LOW_SHARE), at(1), at(FREE_SHARE + 0.01), at(0.9)]).toEqual([1, 1, 1, 1]);
    expect([at(FREE_SHARE - 0.01), at(0.74), at(0.76)]).toEqual([1, 1, 2]);
  });

  it('tells the time until the fuller of chunks and index is full', async () => {
    const { gauge: it, state, clock } = gauge();
    for (let second = 0; second <= 10; second += 1) {
      state.used = second * 10;
      state.index = second * 0.05;
      it.sample();
      clock.startTimer(1000, () => undefined);
      await clock.run({ untilMs: clock.monotonicMs() + 1000 });
    }
    const { dirtyShare, secondsUntilFull } = it.report();
    expect(dirtyShare).toBe(0.5);
    // 5 % a second for ten seconds, and one more without a change.
    expect(secondsUntilFull).toBeCloseTo(0.5 / (0.5 / 11), 0);
  });
});
