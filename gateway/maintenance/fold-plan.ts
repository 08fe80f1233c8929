import type { BlockCount, VersionNumber } from '../base/units.ts';
import type { BlockRange } from '../format/ids.ts';
import { SHARD_BLOCKS } from '../format/run.ts';

/** A shard is rewritten when this many of its entries are waiting in runs … */
export const REWRITE_PENDING_ENTRIES = 1024;
/** … or when this many runs overlap it. */
export const REWRITE_OVERLAPPING_RUNS = 8;
/** A checkpoint names at most this many runs; beyond it the shards that keep the oldest alive are rewritten. */
export const MAX_RUNS = 64;

/** What the plan has to know of a run. */
export interface RunOutline {
  readonly throughN: VersionNumber;
  /** Shards with a section, ascending, and how many blocks each section holds. */
  readonly shards: readonly number[];
  readonly counts: readonly BlockCount[];
  /** Ascending, disjoint: these blocks read zeros unless a section says otherwise. */
  readonly ranges: readonly BlockRange[];
}

/** A shard object of the present checkpoint: it holds everything from runs through its n. */
export interface ShardOutline {
  readonly shard: number;
  readonly n: VersionNumber;
}

export interface FoldPlan {
  /** Shards to write anew, ascending. */
  readonly rewrite: readonly number[];
  /** Per run of the input: whether a shard still needs it afterwards. */
  readonly keep: readonly boolean[];
}

interface Pending {
  entries: BlockCount;
  /** Positions in the list of runs, ascending. */
  readonly runs: number[];
}

/**
 * Which shards to rewrite and which runs stay, given the shards of the checkpoint and its runs from old to new, the new one
 * last. Pure. A run reaches a shard when the shard's object is older than the run's end and the run has a section
 * for it, or a range over something that lies below.
 */
export function planFold(shards: readonly ShardOutline[], runs: readonly RunOutline[]): FoldPlan {
  const pending = pendingShards(shards, runs);
  const rewrite = new Set<number>();
  for (const [shard, { entries, runs: reaching }] of pending) {
    if (entries >= REWRITE_PENDING_ENTRIES || reaching.length >= REWRITE_OVERLAPPING_RUNS) rewrite.add(shard);
  }
  let keep = neededRuns(pending, runs.length, rewrite);
  while (keep.filter(Boolean).length > MAX_RUNS) {
    const oldest = keep.indexOf(true);
    for (const [shard, { runs: reaching }] of pending) if (reaching.includes(oldest)) rewrite.add(shard);
    keep = neededRuns(pending, runs.length, rewrite);
  }
  return { rewrite: [...rewrite].sort((a, b) => a - b), keep };
}

/** Per run: whether a shard that is not rewritten still has changes waiting in it. */
function neededRuns(pending: ReadonlyMap<number, Pending>, runCount: number, rewrite: ReadonlySet<number>): boolean[] {
  const keep = new Array<boolean>(runCount).fill(false);
  for (const [shard, { runs }] of pending) {
    if (rewrite.has(shard)) continue;
    for (const run of runs) keep[run] = true;
  }
  return keep;
}

function pendingShards(shards: readonly ShardOutline[], runs: readonly RunOutline[]): Map<number, Pending> {
  const held = new Map(shards.map(({ shard, n }) => [shard, n]));
  const pending = new Map<number, Pending>();
  // Shards that hold something below the run under consideration; a range over the others unmaps nothing.
  const known = new Set(held.keys());
  for (const [position, run] of runs.entries()) {
    const reach = (shard: number, entries: BlockCount): void => {
      if (run.throughN <= (held.get(shard) ?? 0)) return;
      const waiting: Pending = pending.get(shard) ?? { entries: 0, runs: [] };
      waiting.entries += entries;
      if (waiting.runs.at(-1) !== position) waiting.runs.push(position);
      pending.set(shard, waiting);
    };
    for (const shard of shardsUnderRanges(run.ranges, known)) reach(shard, 0);
    for (const [at, shard] of run.shards.entries()) {
      reach(shard, run.counts[at] ?? 0);
      known.add(shard);
    }
  }
  return pending;
}

/** The shards of `known` that a range touches. Ranges may be as wide as the volume, so the smaller side is walked. */
function* shardsUnderRanges(ranges: readonly BlockRange[], known: ReadonlySet<number>): Generator<number> {
  for (const { block, count } of ranges) {
    const first = Math.floor(block / SHARD_BLOCKS);
    const last = Math.floor((block + count - 1) / SHARD_BLOCKS);
    if (last - first < known.size) {
      for (let shard = first; shard <= last; shard += 1) if (known.has(shard)) yield shard;
    } else {
      for (const shard of known) if (shard >= first && shard <= last) yield shard;
    }
  }
}
