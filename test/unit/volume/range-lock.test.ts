import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RangeLock } from '../../../gateway/volume/range-lock.ts';

/** Everything that can be granted has been. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

describe('a lock of block ranges', () => {
  test('grants exactly those claims that no earlier one overlaps, whatever the order of releases', async () => {
    const claims = fc.array(fc.record({ first: fc.nat(12), count: fc.integer({ min: 1, max: 6 }) }), { maxLength: 24 });
    await fc.assert(
      fc.asyncProperty(claims, fc.infiniteStream(fc.nat(1000)), async (ranges, choices) => {
        const lock = new RangeLock();
        const releases = new Map<number, () => void>();
        const left = new Set(ranges.keys());
        for (const [index, { first, count }] of ranges.entries())
          void lock.acquire(first, count).then((release) => releases.set(index, release));
        const overlap = (a: number, b: number): boolean => {
          const [one, other] = [ranges[a], ranges[b]];
          if (one === undefined || other === undefined) return false;
          return one.first < other.first + other.count && other.first < one.first + one.count;
        };
        while (left.size > 0) {
          await turn();
          const entitled = [...left].filter(
            (index) => ![...left].some((earlier) => earlier < index && overlap(earlier, index)),
          );
          expect([...releases.keys()].sort((a, b) => a - b)).toEqual(entitled);
          const index = entitled[(choices.next().value ?? 0) % entitled.length] ?? 0;
          left.delete(index);
          releases.get(index)?.();
          releases.delete(index);
        }
        expect(lock.isFree(0, 100)).toBe(true);
      }),
    );
  });

  // With a look at all pairs for each release this takes hours, on any machine.
  test('gets through ten thousand claims, of which one overlaps all', async () => {
    const CLAIMS = 10_000;
    const lock = new RangeLock();
    let released = 0;
    const one = async (first: number, count: number): Promise<void> => {
      const release = await lock.acquire(first, count);
      released += 1;
      release();
    };
    const all: Promise<void>[] = [];
    for (let index = 0; index < CLAIMS; index += 1) {
      all.push(one(index, 1));
      if (index === CLAIMS / 2) all.push(one(0, CLAIMS));
    }
    await Promise.all(all);
    expect(released).toBe(CLAIMS + 1);
  });
});
