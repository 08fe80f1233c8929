import { expect, test } from 'vitest';
import { ReadWindow, sumOfReads } from '../../gateway/read-report.ts';

const MINUTE = 60_000;

test('the hit ratio is told since the opening and over the last ten minutes', () => {
  let now = 0;
  const window = new ReadWindow({ monotonicMs: () => now });
  expect(window.report({ ram: 0, log: 0, missed: 0 })).toMatchObject({ hitRatio: undefined });
  const counts = { ram: 0, log: 0, missed: 0 };
  const pass = (minutes: number, perStep: { ram: number; missed: number }): void => {
    for (let step = 0; step < minutes * 3; step++) {
      now += 20_000;
      counts.ram += perStep.ram;
      counts.missed += perStep.missed;
      window.note({ ...counts });
    }
  };
  pass(1, { ram: 1, missed: 3 });
  expect(window.report(counts)).toEqual({
    ...{ ram: 3, log: 0, missed: 9, hitRatio: 0.25 },
    recent: { ram: 3, log: 0, missed: 9, hitRatio: 0.25, seconds: 60 },
  });
  pass(29, { ram: 9, missed: 1 });
  const later = window.report(counts);
  expect(later.recent).toMatchObject({ ram: 279, missed: 31, hitRatio: 0.9 });
  expect(later.recent.seconds * 1000).toBeLessThanOrEqual(11 * MINUTE);
  expect(later.hitRatio).toBeCloseTo((3 + 87 * 9) / (12 + 87 * 10), 10);
});

test('volumes are told of together, and one that was not read changes nothing', () => {
  const of = (ram: number, missed: number, seconds: number) => ({
    ...{ ram, log: 0, missed, hitRatio: undefined },
    recent: { ram, log: 0, missed, hitRatio: undefined, seconds },
  });
  expect(sumOfReads([of(30, 10, 600), of(0, 0, 5), of(10, 0, 40)])).toEqual({
    ...{ ram: 40, log: 0, missed: 10, hitRatio: 0.8 },
    recent: { ram: 40, log: 0, missed: 10, hitRatio: 0.8, seconds: 600 },
  });
  expect(sumOfReads([])).toMatchObject({ hitRatio: undefined, recent: { seconds: 0 } });
});
