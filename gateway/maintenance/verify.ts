import { FarshoreError } from '../base/errors.ts';
import type { BlockCount, ByteCount, VersionNumber } from '../base/units.ts';
import { meteredObjectStore, newMeter } from '../cloud/metered.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import { InlineImages } from './inline-images.ts';
import { enterVersion } from './load-map.ts';
import type { MaintenanceDeps } from './maintenance-deps.ts';
import { CheckpointMap } from './map-reader.ts';
import { mapParallel } from './parallel.ts';
import { MAINTENANCE_ATTEMPTS, withRetries } from './retry.ts';
import { Findings, throwIfAborted } from './verify-findings.ts';
import { verifyBlocks } from './verify-blocks.ts';
import { verifyCheckpointObjects, verifyVersion } from './verify-objects.ts';
import { VolumeMap } from './volume-map.ts';
import { walkLog } from './walk.ts';

/** Whole segments in memory at a time. */
const PARALLEL_VERSIONS = 4;
/** When a finding may come from a checkpoint that moved on meanwhile, everything is looked at again, so many times in all. */
const MAX_PASSES = 3;

export interface VerifyOptions {
  readonly signal?: AbortSignal | undefined;
}

/** `inconclusive` (the cloud was away half-way) is not `pass`. */
export interface Verification {
  readonly verdict: 'pass' | 'fail' | 'inconclusive';
  readonly n: VersionNumber;
  readonly objects: number;
  readonly blocks: BlockCount;
  readonly bytes: ByteCount;
  /** One sentence each, at most 100. */
  readonly problems: readonly string[];
}

/**
 * Reads back from S3 everything that the newest version of a volume needs: the log and its chain, each payload since the checkpoint as
 * a whole, the checkpoint with its runs and shards, and for every mapped block the segment header and the frame it lies in. Memory is
 * bounded by a few segments, the log since the checkpoint and a cache of headers. Rejects only with `stopped`, `not-found` and `bug`.
 */
export async function verifyVolume(
  deps: MaintenanceDeps,
  ref: VolumeRef,
  options: VerifyOptions = {},
): Promise<Verification> {
  const meter = newMeter();
  const { store } = deps;
  const counted = { ...deps, store: retryingStore(deps, meteredObjectStore(store, meter), options.signal) };
  for (let pass = 1; ; pass += 1) {
    const findings = new Findings();
    let n: VersionNumber = 0;
    let checkpointN: VersionNumber | undefined;
    let inconclusive: string | undefined;
    try {
      const walked = await withRetries(deps, rules(options.signal), () => walkLog(deps.versions, ref));
      n = walked.tail.n;
      checkpointN = walked.item.checkpoint?.n;
      await verifyWalked(counted, ref, walked, findings, options.signal);
    } catch (error) {
      if (!(error instanceof FarshoreError)) throw error;
      const { kind, message } = error;
      if (kind === 'stopped' || kind === 'bug' || (kind === 'not-found' && n === 0)) throw error;
      if (kind === 'damaged' || kind === 'not-found') findings.add(message);
      else inconclusive = `Not everything could be read: ${message}`;
    }
    const { objects, blocks } = findings;
    const report = { n, objects, blocks, bytes: meter.downloadedBytes };
    if (inconclusive !== undefined)
      return { ...report, verdict: 'inconclusive', problems: [...findings.problems, inconclusive] };
    if (findings.problems.length === 0) return { ...report, verdict: 'pass', problems: [] };
    const item = await withRetries(deps, rules(options.signal), () => deps.versions.getVolume(ref));
    if (item?.checkpoint?.n === checkpointN || pass >= MAX_PASSES) {
      return { ...report, verdict: 'fail', problems: findings.problems };
    }
  }
}

type Walked = Awaited<ReturnType<typeof walkLog>>;

async function verifyWalked(
  deps: MaintenanceDeps,
  ref: VolumeRef,
  { item, records }: Walked,
  findings: Findings,
  signal: AbortSignal | undefined,
): Promise<void> {
  const source = { store: deps.store, compression: deps.compression, ref };
  const checkpoint = await CheckpointMap.load(source, item.checkpoint);
  if (checkpoint.checkpoint !== undefined) {
    findings.objects += 1;
    await verifyCheckpointObjects(source, checkpoint.checkpoint, findings, signal);
  }
  const map = new VolumeMap(checkpoint, 0);
  const images = new InlineImages();
  const whole = new Set<number>();
  for (let at = 0; at < records.length; at += PARALLEL_VERSIONS) {
    throwIfAborted(signal);
    const part = records.slice(at, at + PARALLEL_VERSIONS);
    const loaded = await mapParallel(part, PARALLEL_VERSIONS, (tail, index) => {
      const previousChain = records[at + index - 1]?.item.chain ?? item.checkpoint?.chain;
      return verifyVersion(source, tail, previousChain, findings);
    });
    for (const [index, version] of loaded.entries()) {
      if (version === undefined) continue;
      if (version.kind === 'segment' && !findings.segmentsWithLost.has(version.header.number))
        whole.add(version.header.number);
      enterVersion(map, images, part[index]?.record.n ?? 0, version);
    }
  }
  await verifyBlocks(source, map, images, whole, findings, signal);
}

function rules(signal: AbortSignal | undefined) {
  return { attempts: MAINTENANCE_ATTEMPTS, signal, passing: ['retry'] as const };
}

/** Reads are repeated a few times before a verification is given up as inconclusive. */
function retryingStore(
  deps: MaintenanceDeps,
  store: MaintenanceDeps['store'],
  signal: AbortSignal | undefined,
): MaintenanceDeps['store'] {
  return {
    put: (key, body, crc32) => store.put(key, body, crc32),
    get: (key, range, urgency) => withRetries(deps, rules(signal), () => store.get(key, range, urgency)),
    head: (key) => withRetries(deps, rules(signal), () => store.head(key)),
    list: (prefix, limit, after) => withRetries(deps, rules(signal), () => store.list(prefix, limit, after)),
    delete: (keys) => store.delete(keys),
  };
}
