import { expect, test } from 'vitest';
import { KIB, MIB } from '../../../gateway/base/units.ts';
import { Pace } from '../../../gateway/iscsi/pace.ts';

/** The second in which a peer is found too slow that has taken `takenAt` bytes then; undefined: in no second of ten minutes. */
function foundAfter(takenAt: (second: number) => number, isHurried: (second: number) => boolean = () => true) {
  const pace = new Pace();
  for (let second = 1; second <= 600; second += 1)
    if (pace.isTooSlow(isHurried(second), takenAt(second))) return second;
  return undefined;
}

test('whoever takes nothing is found out before the disk timeout of those that wait', () => {
  expect(foundAfter(() => 5000 * MIB)).toBe(27);
});

test('a few KiB now and then are no sign of health', () => {
  expect(foundAfter((second) => 4 * KIB * Math.floor(second / 5))).toBe(27);
  expect(foundAfter((second) => 60 * KIB * second)).toBeLessThan(500);
});

test('a slow line is, though what it has taken is told in large steps', () => {
  expect(foundAfter((second) => MIB * Math.floor((second * 64 * KIB) / MIB))).toBeUndefined();
});

test('nobody is hurried for whom nobody waits', () => {
  expect(
    foundAfter(
      () => 0,
      () => false,
    ),
  ).toBeUndefined();
  expect(
    foundAfter(
      () => 0,
      (second) => second % 26 !== 0,
    ),
  ).toBeUndefined();
});
