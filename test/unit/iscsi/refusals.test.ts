import { expect, test } from 'vitest';
import { RefusalReport } from '../../../gateway/iscsi/refusals.ts';
import type { Refusal } from '../../../gateway/iscsi/refusals.ts';

function refusal(name: string, address = '192.0.2.1'): Omit<Refusal, 'count'> {
  return {
    kind: 'login-refused',
    initiator: { name, address },
    target: undefined,
    portal: '192.0.2.9',
    status: '0201',
    reason: 'because',
  };
}

test('a flood of different names is told by address once there are too many of them, and nothing is left out', () => {
  const told: Refusal[] = [];
  const report = new RefusalReport((event) => told.push(event));
  const count = 50_000;
  for (let index = 0; index < count; index += 1) report.add(refusal(`iqn.2026-11.a:${index}`));
  expect(told.length).toBe(1025);
  expect(told.at(-1)).toMatchObject({
    initiator: { name: undefined, address: '192.0.2.1' },
    reason: 'many different logins fail',
  });
  for (let second = 0; second < 10; second += 1) report.tick();
  expect(told.length).toBe(1026);
  expect(told.reduce((sum, event) => sum + event.count, 0)).toBe(count);
});

test('the same again is told in one sum after a while, or at the end, and then anew', () => {
  const told: number[] = [];
  const report = new RefusalReport(({ count }) => told.push(count));
  for (let index = 0; index < 5; index += 1) report.add(refusal('iqn.2026-11.a:b'));
  for (let second = 0; second < 9; second += 1) report.tick();
  expect(told).toEqual([1]);
  report.tick();
  expect(told).toEqual([1, 4]);
  report.add(refusal('iqn.2026-11.a:b'));
  report.add(refusal('iqn.2026-11.a:b'));
  report.end();
  expect(told).toEqual([1, 4, 1, 1]);
});
