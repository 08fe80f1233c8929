import { FarshoreError, invariant } from '../base/errors.ts';
import type { BlockCount, VersionNumber } from '../base/units.ts';
import type { VolumeItem, VolumeRef } from '../cloud/version-log.ts';
import type { Checkpoint } from '../format/checkpoint.ts';
import { EMPTY_CHAIN } from '../format/version-record.ts';
import { ChangeMap } from './change-map.ts';
import { enterSegment } from './enter-changes.ts';
import { relocateInline } from './fold-inline.ts';
import type { CheckpointHead } from './fold-round.ts';
import { foldRound, pointerOf } from './fold-round.ts';
import type { FoldSource } from './fold-source.ts';
import { sourceOfChanges, sourceOfManifest } from './fold-source.ts';
import { InlineImages } from './inline-images.ts';
import { PARALLEL_HEADERS } from './load-map.ts';
import type { MaintenanceDeps } from './maintenance-deps.ts';
import type { MapSource } from './map-reader.ts';
import { CheckpointMap } from './map-reader.ts';
import { mapParallel } from './parallel.ts';
import { loadChanges } from './payload.ts';
import { MAINTENANCE_ATTEMPTS, withRetries } from './retry.ts';
import { walkLog } from './walk.ts';
import type { TailRecord } from './walk.ts';

/** Changed blocks that one round holds in memory; a longer stretch of the log is folded in several rounds. */
export const MAX_ROUND_BLOCKS = 1_000_000;
/** Versions of one round. */
export const MAX_ROUND_VERSIONS = 16_384;
/** A run of the log that is larger than this is read in pieces, a smaller one at once. */
const WHOLE_RUN_BYTES = 4 * 2 ** 20;
/** Rounds of one call; more is left to the next. */
export const MAX_ROUNDS = 1_000;

export interface FoldOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface FoldResult {
  /** Everything through this version is in the checkpoint now. */
  readonly n: VersionNumber;
  readonly versionsFolded: number;
  readonly shardsRewritten: number;
  /** Runs that the checkpoint names. */
  readonly runs: number;
  /** undefined when the log is empty. */
  readonly checkpoint: Checkpoint | undefined;
}

/**
 * Folds the log from the checkpoint to its present end into a new checkpoint and publishes it. Works beside a writing gateway: what is folded
 * are committed versions, which never change. Passing trouble is retried a bounded number of times.
 *
 * Two maintainers never meet: each raises the maintenance epoch first, which is part of every key it writes and the condition of
 * what it publishes. Rejects with `busy` when another one raised it meanwhile, `not-found`, `damaged`, `retry`, `input`, `stopped`.
 */
export async function foldVolume(
  deps: MaintenanceDeps,
  ref: VolumeRef,
  options: FoldOptions = {},
): Promise<FoldResult> {
  const { signal } = options;
  const retrying = <Result>(attempt: () => Promise<Result>): Promise<Result> =>
    withRetries(deps, { attempts: MAINTENANCE_ATTEMPTS, signal, passing: ['retry'] }, attempt);
  const maintenanceEpoch = await raiseMaintenanceEpoch(deps, ref, retrying);
  const { item, records } = await retrying(() => walkLog(deps.versions, ref));
  if (item.maintenanceEpoch !== maintenanceEpoch) throw outrun(ref);
  const source: MapSource = { store: deps.store, compression: deps.compression, ref };
  let map = await retrying(() => CheckpointMap.load(source, item.checkpoint));
  let from = 0;
  let shardsRewritten = 0;
  for (let round = 0; round < MAX_ROUNDS && from < records.length; round += 1) {
    const before = new CheckpointMap(source, map.checkpoint, WHOLE_RUN_BYTES);
    const to = endOfRound(records, from);
    const stretch = records.slice(from, to);
    const last = stretch.at(-1);
    invariant(last !== undefined, 'a round folds at least one version');
    const head = headOf(item, before.checkpoint, last, stretch, maintenanceEpoch);
    // Made once: what a repeated round writes under its keys must be the same bytes.
    const added = await retrying(() => sourceOf(deps, item, records, from, stretch, signal));
    const fromN = stretch[0]?.record.n ?? 0;
    const made = await retrying(() => foldRound(deps, source, before, head, fromN, added, signal));
    await publish(deps, ref, made.checkpoint, retrying);
    map = new CheckpointMap(source, made.checkpoint);
    shardsRewritten += made.shardsRewritten;
    from = to;
  }
  const { checkpoint } = map;
  const runs = checkpoint?.runs.length ?? 0;
  deps.log.info({ ...ref, n: map.n, versionsFolded: from, shardsRewritten, runs }, 'the log was folded');
  return { n: map.n, versionsFolded: from, shardsRewritten, runs, checkpoint };
}

type Retrying = <Result>(attempt: () => Promise<Result>) => Promise<Result>;

/** The maintenance epoch that is ours now; an attempt whose answer was lost is simply followed by another. */
async function raiseMaintenanceEpoch(deps: MaintenanceDeps, ref: VolumeRef, retrying: Retrying): Promise<number> {
  return retrying(async () => {
    const item = await deps.versions.getVolume(ref);
    if (item === undefined) throw new FarshoreError('not-found', `there is no volume ${ref.volume} in the table`);
    const outcome = await deps.versions.raiseMaintenanceEpoch(ref, item.maintenanceEpoch);
    if (outcome === 'conflict') throw new FarshoreError('retry', `the maintenance epoch of volume ${ref.volume} moved`);
    return item.maintenanceEpoch + 1;
  });
}

/** A conflict may be our own earlier attempt, whose answer was lost. */
async function publish(
  deps: MaintenanceDeps,
  ref: VolumeRef,
  checkpoint: Checkpoint,
  retrying: Retrying,
): Promise<void> {
  const pointer = pointerOf(checkpoint);
  const outcome = await retrying(() => deps.versions.publishCheckpoint(ref, pointer));
  if (outcome === 'ok') return;
  const item = await retrying(() => deps.versions.getVolume(ref));
  const there = item?.checkpoint;
  const ours = there?.sequence === pointer.sequence && there.maintenanceEpoch === pointer.maintenanceEpoch;
  if (!ours) throw outrun(ref);
}

function outrun(ref: VolumeRef): FarshoreError {
  return new FarshoreError('busy', `another maintainer has begun to fold volume ${ref.volume}`);
}

/** End (exclusive) of the stretch that one round folds: bounded, and a manifest is a round of its own. */
function endOfRound(records: readonly TailRecord[], from: number): number {
  let blocks: BlockCount = 0;
  for (let at = from; at < records.length; at += 1) {
    const record = records[at]?.record;
    if (record === undefined) break;
    if (record.payload.kind === 'manifest') return at === from ? at + 1 : at;
    blocks += record.blocks;
    if (at > from && (blocks > MAX_ROUND_BLOCKS || at - from >= MAX_ROUND_VERSIONS)) return at;
  }
  return records.length;
}

function headOf(
  item: VolumeItem,
  before: Checkpoint | undefined,
  last: TailRecord,
  stretch: readonly TailRecord[],
  maintenanceEpoch: number,
): CheckpointHead {
  const data = stretch.findLast(({ record }) => record.kind === 'write' || record.kind === 'restore')?.record;
  return {
    lineage: item.lineage,
    volume: item.volume,
    sequence: (before?.sequence ?? 0) + 1,
    maintenanceEpoch,
    n: last.record.n,
    epoch: last.record.epoch,
    chain: last.item.chain,
    bytes: last.record.volumeBytes,
    lastData:
      data === undefined ? before?.lastData : { epoch: data.epoch, logId: data.logId, throughSeq: data.throughSeq },
    newestWriteAt: last.record.newestWriteAt,
    sealedAt: last.record.sealedAt,
  };
}

async function sourceOf(
  deps: MaintenanceDeps,
  item: VolumeItem,
  records: readonly TailRecord[],
  from: number,
  stretch: readonly TailRecord[],
  signal: AbortSignal | undefined,
): Promise<FoldSource> {
  const source = {
    store: deps.store,
    compression: deps.compression,
    ref: { lineage: item.lineage, volume: item.volume },
  };
  const changes = new ChangeMap();
  const images = new InlineImages();
  let lastInline: number | undefined;
  for (let at = 0; at < stretch.length; at += PARALLEL_HEADERS) {
    const part = stretch.slice(at, at + PARALLEL_HEADERS);
    const loaded = await mapParallel(part, PARALLEL_HEADERS, (tail) => loadChanges(source, tail));
    for (const [index, version] of loaded.entries()) {
      const n = part[index]?.record.n ?? 0;
      if (version.kind === 'manifest') return sourceOfManifest(version.run);
      else if (version.kind === 'segment') enterSegment(changes, version.header, n);
      else if (version.kind === 'inline') {
        lastInline = from + at + index;
        enterSegment(changes, { ...version.header, number: images.add(n, version.image) }, n);
      }
    }
  }
  if (lastInline === undefined) return sourceOfChanges(changes, new Map());
  const identity = inlineIdentity(item, records, lastInline);
  return sourceOfChanges(changes, await relocateInline(deps, item, identity, changes, images, signal));
}

function inlineIdentity(
  item: VolumeItem,
  records: readonly TailRecord[],
  at: number,
): Parameters<typeof relocateInline>[2] {
  const tail = records[at];
  invariant(tail !== undefined, 'the last inline version is in the stretch');
  const { record } = tail;
  const previousChain = at > 0 ? records[at - 1]?.item.chain : item.checkpoint?.chain;
  return {
    lineage: item.lineage,
    volume: item.volume,
    epoch: record.epoch,
    n: record.n,
    kind: 'moved',
    previousChain: previousChain ?? EMPTY_CHAIN,
    logId: record.logId,
    firstSeq: record.throughSeq,
    throughSeq: record.throughSeq,
    newestWriteAt: record.newestWriteAt,
    sealedAt: record.sealedAt,
    volumeBytes: record.volumeBytes,
  };
}
