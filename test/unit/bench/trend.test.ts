import { describe, expect, test } from 'vitest';
import { median, trendOf } from '../../../bench/trend.ts';
import { SimRandom } from '../../sim/sim-random.ts';

const MIB = 1024 ** 2;
const BOUND = 32 * MIB;

/** What a process that leaks nothing shows: it grows while it warms up, then goes up and down with its collections. */
function healthy(samples: number, seed = 1): number[] {
  const random = new SimRandom(seed);
  const warmUp = samples / 5;
  return Array.from({ length: samples }, (_, index) => {
    const grown = Math.min(1, index / warmUp) * 300 * MIB;
    return 100 * MIB + grown + (index % 7) * 8 * MIB + random.between(0, 8 * MIB);
  });
}

describe('the trend of a figure', () => {
  test.each([12, 40, 3600])('of a process that leaks nothing is flat (%i samples)', (samples) => {
    for (let seed = 1; seed <= 20; seed += 1) {
      const trend = trendOf({ name: 'RSS', values: healthy(samples, seed), bound: BOUND });
      expect(trend, `seed ${seed}`).toMatchObject({ isFlat: true });
    }
  });

  test('of an hour in which 20 KiB leak every second is not', () => {
    const values = healthy(3600).map((value, second) => value + second * 20 * 1024);
    const trend = trendOf({ name: 'RSS', values, bound: BOUND });
    expect(trend.isFlat).toBe(false);
    // Half of the whole time lies between the middle of the first third and that of the last.
    expect(trend.growth / (1800 * 20 * 1024)).toBeCloseTo(1, 1);
  });

  test('of a short run in which every command leaks a block is not', () => {
    // Some thousand commands in each of 15 s.
    const values = healthy(15).map((value, second) => value + second * 3000 * 4096);
    expect(trendOf({ name: 'RSS', values, bound: 2 * BOUND }).isFlat).toBe(false);
  });

  test('of connections that are not closed is not', () => {
    const values = Array.from({ length: 60 }, (_, index) => 40 + index);
    expect(trendOf({ name: 'file descriptors', values, bound: 8 })).toMatchObject({ isFlat: false, growth: 30 });
  });

  test('does not see single peaks, nor what becomes less', () => {
    const peaks = Array.from({ length: 100 }, (_, index) => (index % 10 === 9 ? 1e9 : 5));
    expect(trendOf({ name: 'x', values: peaks, bound: 0 })).toMatchObject({ isFlat: true, before: 5, after: 5 });
    const falling = Array.from({ length: 100 }, (_, index) => 100 - index);
    expect(trendOf({ name: 'x', values: falling, bound: 0 }).isFlat).toBe(true);
  });

  test('needs enough values to be one', () => {
    expect(() => trendOf({ name: 'x', values: new Array<number>(11).fill(1), bound: 1 })).toThrow(RangeError);
  });
});

test('a median is the middle value, or the mean of the two in the middle', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([7])).toBe(7);
  expect(median([])).toBeNaN();
});
