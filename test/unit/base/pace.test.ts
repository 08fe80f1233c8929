import { beforeEach, describe, expect, it } from 'vitest';
import { Pace, TurnBudget } from '../../../gateway/base/pace.ts';

let nowMs: number;
let pace: Pace;
beforeEach(() => {
  nowMs = 1000;
  pace = new Pace({ monotonicMs: () => nowMs }, { ms: 0.1, msPerMib: 1 });
});

/** Makes calls in the turn for as long as the pace allows; answers how many that were. */
function callsOf(ms: number, most: number): number {
  for (let calls = 0; calls < most; calls++) {
    if (!pace.allows) return calls;
    nowMs += ms;
    pace.took(ms, 4096);
  }
  return most;
}

describe('the pace of calls made in the turn', () => {
  it('never rests while the disk keeps up', () => {
    expect(callsOf(0.1, 100_000)).toBe(100_000);
  });

  it('lets long calls take longer', () => {
    for (let calls = 0; calls < 10_000; calls++) pace.took(1, 1_048_576);
    expect(pace.allows).toBe(true);
  });

  it('puts up with a slow call now and then', () => {
    for (let calls = 0; calls < 1000; calls++) {
      nowMs += 100;
      pace.took(5, 4096);
      expect(pace.allows).toBe(true);
    }
  });

  it('rests after a few slow calls, and tries again when time has paid for them', () => {
    expect(callsOf(5, 100)).toBeLessThan(5);
    nowMs += 20;
    expect(pace.allows).toBe(false);
    nowMs += 80;
    expect(pace.allows).toBe(true);
  });

  it('loses no more than a tenth of the time to a disk that never keeps up', () => {
    const startMs = nowMs;
    let lostMs = 0;
    while (nowMs - startMs < 60_000) {
      if (pace.allows) {
        nowMs += 3;
        lostMs += 3;
        pace.took(3, 4096);
      } else nowMs += 1;
    }
    expect(lostMs).toBeGreaterThan(1000);
    expect(lostMs).toBeLessThan(60_000 * 0.11);
  });

  it('rests long after a long stall, but not for ever', () => {
    pace.took(60_000, 4096);
    nowMs += 15_000;
    expect(pace.allows).toBe(false);
    nowMs += 5_000;
    expect(pace.allows).toBe(true);
  });
});

describe('the budget of a turn', () => {
  it('is spent by many calls in one turn, and new in the next', () => {
    const waiting: (() => void)[] = [];
    const budget = new TurnBudget((then) => waiting.push(then));
    budget.spend(0.9);
    expect(waiting).toHaveLength(0);
    for (let calls = 0; calls < 40; calls++) budget.spend(0.1);
    expect(budget.isSpent).toBe(true);
    expect(waiting).toHaveLength(1);
    waiting[0]?.();
    expect(budget.isSpent).toBe(false);
  });
});
