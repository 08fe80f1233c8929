import type { VersionNumber } from '../base/units.ts';
import { putOnce } from '../cloud/put-once.ts';
import type { CheckpointPointer } from '../cloud/version-log.ts';
import type { Checkpoint, CheckpointRun, CheckpointShard } from '../format/checkpoint.ts';
import { encodeCheckpoint } from '../format/checkpoint.ts';
import { checkpointKey, runKey, shardKey } from '../format/keys.ts';
import { encodeRun } from '../format/run.ts';
import { encodeShard } from '../format/shard.ts';
import { planFold } from './fold-plan.ts';
import type { RunOutline } from './fold-plan.ts';
import type { FoldSource } from './fold-source.ts';
import type { MaintenanceDeps } from './maintenance-deps.ts';
import type { CheckpointMap, MapSource } from './map-reader.ts';
import { SHARD_WORDS } from './map-reader.ts';
import { mapParallel } from './parallel.ts';
import { indexEntryOf } from './run-reader.ts';
import type { RunReader } from './run-reader.ts';

/** Shards in memory at a time. */
export const PARALLEL_SHARDS = 8;

/** Properties of the checkpoint to be made that do not come from its map. */
export type CheckpointHead = Omit<Checkpoint, 'runs' | 'shards'>;

export interface RoundResult {
  readonly checkpoint: Checkpoint;
  readonly shardsRewritten: number;
}

/**
 * Makes the checkpoint that follows `before`: one new run, the shards that are due, and the checkpoint object itself; nothing is
 * published. All keys carry the head's sequence and maintenance epoch, which nobody else has. One shard per worker in memory.
 */
export async function foldRound(
  deps: MaintenanceDeps,
  source: MapSource,
  before: CheckpointMap,
  head: CheckpointHead,
  fromN: VersionNumber,
  added: FoldSource,
  signal: AbortSignal | undefined,
): Promise<RoundResult> {
  const outlines = await Promise.all(before.runs.map(outlineOf));
  const newRun: RunOutline = { throughN: head.n, shards: added.shards, counts: added.counts, ranges: added.ranges };
  const shards = before.checkpoint?.shards ?? [];
  const plan = planFold(shards, [...outlines, newRun]);
  const oldRuns = (before.checkpoint?.runs ?? []).filter((_, at) => plan.keep[at] === true);
  const keptReaders = before.runs.filter((_, at) => plan.keep[at] === true);
  const rewritten = await mapParallel(plan.rewrite, PARALLEL_SHARDS, (shard) =>
    rewriteShard(deps, source, before, head, added, keptReaders, shard, signal),
  );
  const run =
    plan.keep.at(-1) === true ? await writeRun(deps, source, head, fromN, added, plan.rewrite, signal) : undefined;
  const checkpoint: Checkpoint = {
    ...head,
    runs: run === undefined ? oldRuns : [...oldRuns, run],
    shards: mergeShards(shards, plan.rewrite, rewritten),
  };
  const { lineage, volume } = source.ref;
  const { bytes, crc32 } = encodeCheckpoint(checkpoint, source.compression);
  const key = checkpointKey(lineage, volume, head.sequence, head.maintenanceEpoch);
  await putOnce(deps.store, key, [bytes], crc32, deps, signal);
  return { checkpoint, shardsRewritten: plan.rewrite.length };
}

export function pointerOf(checkpoint: Checkpoint): CheckpointPointer {
  const { sequence, maintenanceEpoch, n, epoch, chain } = checkpoint;
  return { sequence, maintenanceEpoch, n, epoch, chain };
}

async function outlineOf(run: RunReader): Promise<RunOutline> {
  const { sections, ranges } = await run.index();
  return {
    throughN: run.place.throughN,
    shards: sections.map(({ shard }) => shard),
    counts: sections.map(({ changes }) => changes),
    ranges,
  };
}

/** undefined: the shard is all unmapped and nothing that is kept says otherwise, so it needs no object. */
async function rewriteShard(
  deps: MaintenanceDeps,
  source: MapSource,
  before: CheckpointMap,
  head: CheckpointHead,
  added: FoldSource,
  kept: readonly RunReader[],
  shard: number,
  signal: AbortSignal | undefined,
): Promise<CheckpointShard | undefined> {
  const entries = await before.loadShard(shard);
  await added.applyToShard(shard, entries);
  if (isEmpty(entries) && !(await anyReaches(kept, shard))) return undefined;
  const { lineage, volume } = source.ref;
  const { sequence, maintenanceEpoch, n } = head;
  const { bytes, crc32, mapped } = encodeShard({ lineage, volume, shard, n, entries }, source.compression);
  await putOnce(deps.store, shardKey(lineage, volume, shard, sequence, maintenanceEpoch), [bytes], crc32, deps, signal);
  return { shard, sequence, maintenanceEpoch, n, mapped, objectBytes: bytes.length, crc32 };
}

function isEmpty(entries: Uint32Array): boolean {
  for (let at = 0; at < SHARD_WORDS; at += 1) if (entries[at] !== 0) return false;
  return true;
}

async function anyReaches(runs: readonly RunReader[], shard: number): Promise<boolean> {
  for (const run of runs) if (indexEntryOf(await run.index(), shard) !== undefined) return true;
  return false;
}

/** The new run without the sections of shards that were rewritten. */
async function writeRun(
  deps: MaintenanceDeps,
  { ref, compression }: MapSource,
  { n, sequence, maintenanceEpoch }: CheckpointHead,
  fromN: VersionNumber,
  added: FoldSource,
  rewritten: readonly number[],
  signal: AbortSignal | undefined,
): Promise<CheckpointRun> {
  const done = new Set(rewritten);
  const sections = await added.sections(new Set(added.shards.filter((shard) => !done.has(shard))));
  const run = { ...ref, fromN, throughN: n, sections, ranges: added.ranges };
  const { bytes, headerBytes, crc32 } = encodeRun(run, compression);
  await putOnce(deps.store, runKey(ref.lineage, ref.volume, sequence, maintenanceEpoch), [bytes], crc32, deps, signal);
  return { sequence, maintenanceEpoch, fromN, throughN: n, headerBytes, objectBytes: bytes.length, crc32 };
}

function mergeShards(
  before: readonly CheckpointShard[],
  rewrite: readonly number[],
  rewritten: readonly (CheckpointShard | undefined)[],
): CheckpointShard[] {
  const gone = new Set(rewrite);
  const merged = before.filter(({ shard }) => !gone.has(shard));
  for (const shard of rewritten) if (shard !== undefined) merged.push(shard);
  return merged.sort((a, b) => a.shard - b.shard);
}
