import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChangeMap, SHORT_UNMAP_BLOCKS, UNCHANGED, UNMAPPED } from '../../../gateway/maintenance/change-map.ts';

type Change = readonly ['set', number, number] | readonly ['unmap', number, number];

const place = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 2 ** 34 - 300, max: 2 ** 34 - 1 }));
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.tuple(fc.constant('set' as const), place, fc.integer({ min: 1, max: 1e9 })),
  fc.tuple(fc.constant('unmap' as const), place, fc.integer({ min: 1, max: 3 * SHORT_UNMAP_BLOCKS })),
);

function enter(map: ChangeMap, [kind, block, argument]: Change, n: number): void {
  if (kind === 'set') map.set(block, argument, argument, n);
  else map.unmap(block, argument, n);
}

/** The value of each block that was changed: 0 unmapped. */
function expected(changes: readonly Change[], from: number): Map<number, number> {
  const values = new Map<number, number>();
  changes.slice(from).forEach(([kind, block, argument]) => {
    if (kind === 'set') values.set(block, argument);
    else for (let at = block; at < block + argument; at += 1) values.set(at, 0);
  });
  return values;
}

function valueIn(map: ChangeMap, block: number): number | undefined {
  const slot = map.find(block);
  if (slot === UNCHANGED) return undefined;
  return slot === UNMAPPED ? 0 : map.low(slot);
}

describe('the map of changes', () => {
  it('answers with the newest change of each block, also after the older ones were dropped', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), fc.nat(60), (changes, cut) => {
        const map = new ChangeMap();
        changes.forEach((one, at) => {
          enter(map, one, at + 1);
        });
        for (const [block, value] of expected(changes, 0)) expect(valueIn(map, block)).toBe(value);
        const rest = map.after(cut);
        const kept = expected(changes, Math.min(cut, changes.length));
        for (const block of expected(changes, 0).keys()) expect(valueIn(rest, block)).toBe(kept.get(block));
      }),
      { numRuns: 50 },
    );
  });

  it('lists what counts in ascending order, and keeps a discard of the whole volume as one range', () => {
    const map = new ChangeMap();
    map.set(2 ** 33, 1, 1, 1);
    map.set(5, 2, 2, 1);
    map.unmap(0, 2 ** 34, 2);
    map.set(9, 3, 3, 3);
    const seen: number[] = [];
    map.forEachSorted((block) => seen.push(block));
    expect(seen).toEqual([9]);
    expect(map.ranges()).toEqual([{ start: 0, end: 2 ** 34, n: 2 }]);
    expect(map.bytes).toBeLessThan(100_000);
  });

  it('refuses changes that come out of order', () => {
    const map = new ChangeMap();
    map.set(1, 1, 1, 5);
    expect(() => {
      map.set(1, 1, 1, 4);
    }).toThrow('invariant');
  });
});
