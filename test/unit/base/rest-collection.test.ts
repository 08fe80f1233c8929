import { expect, test } from 'vitest';
import { collectAtRest } from '../../../gateway/base/rest-collection.ts';
import type { Clock } from '../../../gateway/base/clock.ts';

/** Runs through what a thread does between two looks at it; answers after which of them it collected. */
function collectionsOf(shares: readonly number[]): number[] {
  let due: (() => void) | undefined;
  let at = 0;
  const collected: number[] = [];
  const clock: Clock = {
    now: () => 0,
    monotonicMs: () => 0,
    startTimer: (_ms, fire) => {
      due = fire;
      return () => {
        due = undefined;
      };
    },
  };
  const stop = collectAtRest(
    clock,
    () => shares[at] ?? 0,
    () => collected.push(at),
  );
  for (; at < shares.length; at++) due?.();
  stop();
  expect(due).toBeUndefined();
  return collected;
}

test('a thread that was busy collects once when it has been at rest for three looks, and again after the next work', () => {
  expect(collectionsOf([0.5, 0, 0, 0, 0, 0, 0, 0, 0.4, 0.01, 0.02, 0.01, 0])).toEqual([3, 11]);
});

test('one that is never busy does not, nor one that never rests', () => {
  expect(collectionsOf(Array<number>(50).fill(0.01))).toEqual([]);
  expect(collectionsOf(Array.from({ length: 50 }, (_, at) => (at % 3 === 0 ? 0.2 : 0.01)))).toEqual([]);
});

test('what it asks of V8 and of the loop is there', async () => {
  const held = new WeakRef({});
  await new Promise(setImmediate);
  let due: (() => void) | undefined;
  const clock: Clock = {
    now: () => 0,
    monotonicMs: () => 0,
    startTimer: (_ms, fire) => {
      due = fire;
      return () => undefined;
    },
  };
  const shares = [0.5, 0, 0, 0];
  collectAtRest(clock, () => shares.shift() ?? 0);
  for (let look = 0; look < 4; look++) due?.();
  expect(held.deref()).toBeUndefined();
});
