import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SHARD_BLOCKS } from '../../gateway/format/run.ts';
import { foldVolume } from '../../gateway/maintenance/fold.ts';
import { REF, RemoteWorld } from '../support/remote-world.ts';
import type { TestBatch, TestGateway } from '../support/remote-world.ts';

/** Shards that histories touch; the last one only by unmaps. */
const SHARDS = 5;
const BLOCKS = SHARDS * SHARD_BLOCKS;

const block = fc.oneof(
  fc.integer({ min: 0, max: 40 }),
  fc.integer({ min: SHARD_BLOCKS - 8, max: SHARD_BLOCKS + 8 }),
  fc.integer({ min: 0, max: 3 * SHARD_BLOCKS - 1 }),
);
const range = fc.tuple(
  block,
  fc.oneof(
    fc.integer({ min: 1, max: 8 }),
    fc.integer({ min: 60, max: 200 }),
    fc.integer({ min: SHARD_BLOCKS, max: BLOCKS }),
  ),
);
const write = fc.tuple(block, fc.integer({ min: 0, max: 1_000_000 }));

type Step =
  | { readonly type: 'commit'; readonly writes: [number, number][]; readonly unmap: [number, number] | undefined }
  | { readonly type: 'dense'; readonly from: number; readonly value: number }
  | { readonly type: 'fold' | 'foreign-fold' | 'reopen' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      type: fc.constant('commit' as const),
      writes: fc.array(write, { maxLength: 40 }),
      unmap: fc.option(range, { nil: undefined }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant('dense' as const), from: block, value: fc.integer({ min: 1, max: 9 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ type: fc.constantFrom('fold' as const, 'foreign-fold' as const, 'reopen' as const) }),
  },
);

/** A batch whose unmaps leave out what it writes, as the volume makes them. */
function batchOf(writes: readonly [number, number][], unmap: [number, number] | undefined): TestBatch {
  if (unmap === undefined) return { writes };
  const [start, count] = unmap;
  const end = Math.min(BLOCKS, start + count);
  const cuts = [...new Set(writes.map(([at]) => at))].filter((at) => at >= start && at < end).sort((a, b) => a - b);
  const unmaps: [number, number][] = [];
  let from = start;
  for (const cut of [...cuts, end]) {
    if (cut > from) unmaps.push([from, cut - from]);
    from = cut + 1;
  }
  return { writes, unmaps };
}

class Model {
  readonly values = new Map<number, number>();

  apply({ writes = [], unmaps = [] }: TestBatch): void {
    for (const [start, count] of unmaps) {
      for (const at of [...this.values.keys()]) if (at >= start && at < start + count) this.values.delete(at);
    }
    for (const [at, value] of writes) {
      if (value === 0) this.values.delete(at);
      else this.values.set(at, value);
    }
  }
}

/** Every mapped block and its value, as the gateway sees them. */
async function contentOf(gateway: TestGateway): Promise<Map<number, number>> {
  const content = new Map<number, number>();
  let from = 0;
  for (;;) {
    const next = await gateway.engine.nextMapped(from, 100);
    if (next === undefined) return content;
    const first = next.blocks[0] ?? 0;
    const near = next.blocks.filter((at) => at < first + 256);
    const values = await gateway.values(first, 256);
    for (const at of near) content.set(at, values[at - first] ?? 0);
    for (const at of next.blocks.slice(near.length)) content.set(at, (await gateway.values(at, 1))[0] ?? 0);
    from = (next.blocks.at(-1) ?? 0) + 1;
  }
}

describe('folding', () => {
  it('never changes what a volume holds, whoever folds and however often', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const world = new RemoteWorld(BLOCKS * 4096);
        const model = new Model();
        let gateway = world.gateway('gw');
        await gateway.open();
        for (const one of steps) {
          if (one.type === 'commit') {
            const batch = batchOf(one.writes, one.unmap);
            await gateway.commit(batch);
            model.apply(batch);
          } else if (one.type === 'dense') {
            const writes = Array.from({ length: 1100 }, (_, at): [number, number] => [one.from + at, one.value]);
            await gateway.commit({ writes });
            model.apply({ writes });
          } else if (one.type === 'fold') await gateway.engine.fold();
          else if (one.type === 'foreign-fold') await foldVolume(world.maintenance, REF);
          else {
            await gateway.engine.close();
            gateway = world.gateway('gw');
            await gateway.open();
          }
        }
        const expected = new Map([...model.values].sort((a, b) => a[0] - b[0]));
        expect(await contentOf(gateway)).toEqual(expected);
        await gateway.engine.fold();
        expect(await contentOf(gateway)).toEqual(expected);
        const again = world.gateway('other');
        await again.open();
        expect(await contentOf(again)).toEqual(expected);
        expect(await again.engine.verify()).toMatchObject({ verdict: 'pass', problems: [], blocks: expected.size });
      }),
      { numRuns: Number(process.env['FARSHORE_FOLD_RUNS'] ?? 25) },
    );
  });
});
