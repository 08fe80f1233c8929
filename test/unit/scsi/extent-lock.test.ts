import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ExtentLock, coarse } from '../../../gateway/scsi/extent-lock.ts';
import type { Access, Extent } from '../../../gateway/scsi/extent-lock.ts';

/** Everything that can be granted has been. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

function overlap(some: readonly Extent[], others: readonly Extent[]): boolean {
  return some.some((one) => others.some((other) => one.first < other.end && other.first < one.end));
}

describe('an extent lock', () => {
  const extent = fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 6 }));
  const claim = fc.record({
    extents: fc
      .array(extent, { minLength: 1, maxLength: 3 })
      .map((pairs) => pairs.map(([first, sectors]) => ({ first, end: first + sectors }))),
    access: fc.constantFrom<Access>('shared', 'exclusive'),
  });

  test('grants exactly those claims that no earlier one is in the way of, whatever the order of releases', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(claim, { maxLength: 20 }), fc.infiniteStream(fc.nat(1000)), async (claims, choices) => {
        const lock = new ExtentLock();
        const releases = new Map<number, () => void>();
        const left = [...claims.entries()];
        for (const [index, { extents, access }] of claims.entries())
          void lock.acquireAll(extents, access).then((release) => releases.set(index, release));
        while (left.length > 0) {
          await turn();
          const entitled = left
            .filter(([index, one]) =>
              left.every(
                ([earlier, other]) =>
                  earlier >= index ||
                  (one.access === 'shared' && other.access === 'shared') ||
                  !overlap(one.extents, other.extents),
              ),
            )
            .map(([index]) => index);
          expect([...releases.keys()].sort((a, b) => a - b)).toEqual(entitled);
          const index = entitled[(choices.next().value ?? 0) % entitled.length] ?? 0;
          left.splice(
            left.findIndex(([each]) => each === index),
            1,
          );
          releases.get(index)?.();
          releases.delete(index);
        }
        expect(lock.letsAllIn).toBe(true);
      }),
    );
  });

  test('grants what waited for the device when that is done, and not before those that came earlier', async () => {
    const lock = new ExtentLock();
    const inFlight = lock.enter();
    const granted: string[] = [];
    const first = lock.acquire(0, 8, 'exclusive').then((release) => {
      granted.push('first');
      return release;
    });
    void lock.acquire(4, 12, 'shared').then(() => granted.push('second'));
    await turn();
    expect(granted).toEqual([]);
    inFlight.leave();
    await turn();
    expect(granted).toEqual(['first']);
    (await first)();
    await turn();
    expect(granted).toEqual(['first', 'second']);
  });

  // With a look at all pairs for each release this takes hours, on any machine.
  test('gets through thousands of claims of many extents', async () => {
    const CLAIMS = 4000;
    const lock = new ExtentLock();
    const many = coarse(Array.from({ length: 4000 }, (_, index) => ({ first: index * 16, end: index * 16 + 3 })));
    let released = 0;
    const one = async (extents: readonly Extent[], access: Access): Promise<void> => {
      const release = await lock.acquireAll(extents, access);
      await turn();
      released += 1;
      release();
    };
    const all: Promise<void>[] = [];
    for (let index = 0; index < CLAIMS; index += 1)
      all.push(index % 2 === 0 ? one(many, 'shared') : one([{ first: 100, end: 101 }], 'exclusive'));
    await Promise.all(all);
    expect(released).toBe(CLAIMS);
  });
});

describe('the extents of a command with many', () => {
  test('become few that hold all of them, and stay as they are where they are few', () => {
    const extents = fc.array(
      fc.tuple(fc.nat(100_000), fc.nat(500)).map(([first, sectors]) => ({ first, end: first + sectors })),
      { maxLength: 100 },
    );
    fc.assert(
      fc.property(extents, (given) => {
        const few = coarse(given);
        expect(few.length).toBeLessThanOrEqual(16);
        if (given.length <= 16) expect(few).toEqual(given);
        for (const { first, end } of given)
          expect(few.some((each) => each.first <= first && end <= each.end)).toBe(true);
      }),
    );
  });

  test('keep the widest gaps', () => {
    const crowd = (from: number): Extent[] =>
      Array.from({ length: 20 }, (_, index) => ({ first: from + index * 2, end: from + index * 2 + 1 }));
    const few = coarse([...crowd(1_000_000), ...crowd(0)]);
    expect(overlap(few, [{ first: 40, end: 1_000_000 }])).toBe(false);
  });
});
