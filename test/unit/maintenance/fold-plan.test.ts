import { describe, expect, it } from 'vitest';
import type { RunOutline } from '../../../gateway/maintenance/fold-plan.ts';
import { MAX_RUNS, planFold, REWRITE_OVERLAPPING_RUNS } from '../../../gateway/maintenance/fold-plan.ts';
import { MAX_VOLUME_BLOCKS } from '../../../gateway/format/ids.ts';
import { SHARD_BLOCKS } from '../../../gateway/format/run.ts';

function run(throughN: number, sections: Record<number, number>, ranges: RunOutline['ranges'] = []): RunOutline {
  const shards = Object.keys(sections).map(Number);
  return { throughN, shards, counts: shards.map((shard) => sections[shard] ?? 0), ranges };
}

const WHOLE_VOLUME = { block: 0, count: MAX_VOLUME_BLOCKS };

describe('the plan of a fold', () => {
  it('leaves few changes in a run and rewrites no shard', () => {
    expect(planFold([], [run(5, { 0: 10, 7: 1023 })])).toEqual({ rewrite: [], keep: [true] });
  });

  it('rewrites a shard in which 1,024 entries are pending, and drops a run that nothing else needs', () => {
    expect(planFold([], [run(5, { 0: 1024 })])).toEqual({ rewrite: [0], keep: [false] });
    expect(planFold([], [run(5, { 0: 600 }), run(9, { 0: 424, 3: 1 })])).toEqual({ rewrite: [0], keep: [false, true] });
  });

  it('rewrites a shard that eight runs overlap', () => {
    const runs = Array.from({ length: REWRITE_OVERLAPPING_RUNS }, (_, at) => run(at + 1, { 4: 1, [10 + at]: 1 }));
    const plan = planFold([], runs);
    expect(plan.rewrite).toEqual([4]);
    expect(plan.keep).toEqual(runs.map(() => true));
  });

  it('does not count what the shard object holds already', () => {
    const runs = [run(5, { 0: 1000 }), run(9, { 0: 1000 })];
    expect(planFold([{ shard: 0, n: 5 }], runs)).toEqual({ rewrite: [], keep: [false, true] });
  });

  it('counts a range as an overlap where something lies below it, and nowhere else', () => {
    const discard = run(20, {}, [WHOLE_VOLUME]);
    expect(planFold([], [discard])).toEqual({ rewrite: [], keep: [false] });
    expect(planFold([{ shard: 6, n: 3 }], [discard])).toEqual({ rewrite: [], keep: [true] });
    expect(planFold([], [run(4, { 2: 5 }), discard])).toEqual({ rewrite: [], keep: [true, true] });
    const elsewhere = run(20, {}, [{ block: SHARD_BLOCKS, count: 10 }]);
    expect(planFold([{ shard: 6, n: 3 }], [elsewhere])).toEqual({ rewrite: [], keep: [false] });
  });

  it('keeps the number of runs within bounds by rewriting what the oldest ones are kept for', () => {
    const runs = Array.from({ length: MAX_RUNS + 3 }, (_, at) => run(at + 1, { [at]: 1 }));
    const plan = planFold([], runs);
    expect(plan.rewrite).toEqual([0, 1, 2]);
    expect(plan.keep.filter(Boolean)).toHaveLength(MAX_RUNS);
    expect(plan.keep.slice(0, 3)).toEqual([false, false, false]);
  });
});
