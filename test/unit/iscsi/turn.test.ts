import { expect, test } from 'vitest';
import { Turn } from '../../../gateway/iscsi/turn.ts';

test('a chunk that is not full ends the turn, and is answered at once', () => {
  const turn = new Turn();
  expect(turn.isSentAfter(48, false)).toBe(true);
  turn.sent();
  expect(turn.isSentAfter(65_535, false)).toBe(true);
});

test('the answers to a full chunk wait for those to the next, but no longer than for a quarter of a mebibyte', () => {
  const turn = new Turn();
  expect(turn.isSentAfter(65_536, true)).toBe(false);
  expect(turn.isSentAfter(100, false)).toBe(true);
  turn.sent();
  expect([1, 2, 3, 4].map(() => turn.isSentAfter(65_536, true))).toEqual([false, false, false, true]);
  turn.sent();
  expect(turn.isSentAfter(65_536, true)).toBe(false);
});
