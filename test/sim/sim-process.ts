import { FarshoreError } from '../../gateway/base/errors.ts';
import { silentLog, type Log } from '../../gateway/base/log.ts';
import { BLOCK_SIZE, MIB } from '../../gateway/base/units.ts';
import { CacheLog } from '../../gateway/cache/cache-log.ts';
import { openLogReader } from '../../gateway/cache/log-reader.ts';
import type { CacheSettings } from '../../gateway/cache/settings.ts';
import { rawCompression } from '../../gateway/format/compression.ts';
import { GatewayLease, type LeaseMember } from '../../gateway/replication/lease.ts';
import { RemoteVolumeEngine } from '../../gateway/replication/remote-volume-engine.ts';
import type { RemoteVolume } from '../../gateway/replication/remote-volume.ts';
import { Volume } from '../../gateway/volume/volume.ts';
import type { Plan } from './plan.ts';
import type { SeenCount } from './quotas.ts';
import type { SimRandom } from './sim-random.ts';
import type { ProcessParts, RunningVolume, StartProcess } from './sim-gateway.ts';

/** The smallest chunk that the cache log takes, so that small pools have several. */
const CHUNK_SLOTS = 384;

/** Replaces a port of the process by one that breaks a rule; what is absent stays whole. */
export interface Breakage {
  readonly parts?: (parts: ProcessParts) => ProcessParts;
  readonly remote?: (remote: RemoteVolume, parts: ProcessParts) => RemoteVolume;
  /** Where only a certain kind of world can show it. */
  readonly plan?: (plan: Plan, random: SimRandom) => Plan;
  /** For what is no port; answers with what puts it back. */
  readonly install?: () => () => void;
}

/** Wires the storage half as the composition root does, but for the thread: the volume calls the engine directly. */
export function startProcessWith(plan: Plan, breakage: Breakage = {}, log: Log = silentLog): StartProcess {
  return (whole) => {
    const parts = breakage.parts?.(whole) ?? whole;
    let cache: CacheLog | undefined;
    return async () => {
      cache ??= await CacheLog.open({ ...parts, log }, cacheSettings(plan));
      return openVolume(parts, plan, breakage, cache, log);
    };
  };
}

async function openVolume(
  parts: ProcessParts,
  plan: Plan,
  breakage: Breakage,
  cache: CacheLog,
  log: Log,
): Promise<RunningVolume> {
  const { disk, clock, random, cloud, ref, gateway, takeover, images } = parts;
  await parts.prepareImage?.();
  const serving: { volume?: Volume } = {};
  const reader = openLogReader(disk);
  const engine = new RemoteVolumeEngine(
    {
      store: cloud.store,
      versions: cloud.log,
      reader,
      compression: rawCompression,
      clock,
      random,
      log,
      onFenced: (error) => serving.volume?.onFenced(error.message),
    },
    { foldAt: { segments: plan.foldAtSegments, versions: 1000, inlineBytes: MIB, ranges: 1000 } },
  );
  const counts: { seen?: SeenCount; readonly underWay: Set<number[]> } = { underWay: new Set() };
  const observedCount = async (count: () => Promise<number>): Promise<number> => {
    const status = serving.volume?.status();
    // A block may be in one batch that waits to be sealed or synced for each of the writes that no version has.
    const beganMs = clock.monotonicMs() - (status?.lagSeconds ?? 0) * 1000;
    const dirty = status?.dirtyBlocks ?? plan.shape.blocks;
    const inBatches = [...counts.underWay].reduce((sum, [blocks = 0]) => sum + blocks, 0);
    const mapped = await count();
    counts.seen = { mapped, beganMs, besides: dirty + inBatches };
    return mapped;
  };
  const unobserved = breakage.remote?.(engine, parts) ?? engine;
  const remote: RemoteVolume = {
    ...observed(unobserved, parts),
    countMapped: () => observedCount(() => unobserved.countMapped()),
    commit: async (batch) => {
      const mine = [batch.blocks.length];
      counts.underWay.add(mine);
      try {
        return await unobserved.commit(batch);
      } finally {
        counts.underWay.delete(mine);
      }
    },
  };
  const settings = {
    rpoMs: plan.rpoSeconds * 1000,
    hydrate: plan.hydrate,
    heldBlocks: plan.heldBlocks,
    remoteLossMs: plan.remoteLossMs,
  };
  let volume: Volume;
  try {
    const deps = { disk, clock, random, log, cache, remote, settings, images };
    volume = await Volume.open(deps, { ref, gateway, takeover });
  } catch (error) {
    await remote.close();
    await reader.close();
    throw error;
  }
  serving.volume = volume;
  const lease = new GatewayLease(
    { versions: cloud.log, clock, random, log },
    { gateway, host: gateway, version: 'sim', dirtyBlocks: () => 0 },
  );
  const member: LeaseMember = {
    ref,
    epoch: () => engine.epoch,
    confirmOwnership: () => engine.confirmOwnership(),
  };
  lease.add(member);
  return {
    device: volume,
    fold: () => remote.fold(),
    figures: () => {
      const { movedBlocks: moved, readAhead } = cache.status();
      return { moved, ahead: readAhead.fetched, repaired: volume.status().repairedBlocks };
    },
    underWay: () => {
      const { waitingWrites: waiting, reservedBytes: reserved } = cache.status();
      const { dirtyBlocks: dirty, batchesInFlight: inFlight } = volume.status();
      return { waiting, reserved, ahead: cache.aheadBudget.underWay, dirty, inFlight };
    },
    changeQuota: async (bytes) => {
      const { epoch } = engine;
      const outcome =
        epoch === undefined ? 'conflict' : await cloud.log.changeVolume(ref, epoch, { quotaBytes: bytes ?? null });
      if (outcome === 'conflict') throw new FarshoreError('retry', 'the quota is changed by the next owner');
      volume.setQuota(bytes);
    },
    replication: () => volume.status().replication,
    changeReplication: async (replication) => {
      const { epoch } = engine;
      const { mode, onRemoteLoss } = replication;
      const outcome =
        epoch === undefined
          ? 'conflict'
          : await cloud.log.changeVolume(ref, epoch, { replication: mode, onRemoteLoss });
      if (outcome === 'conflict') throw new FarshoreError('retry', 'the mode is changed by the next owner');
      volume.setReplication(replication);
    },
    seenCount: () => counts.seen,
    countedBlocks: () => {
      const bytes = volume.space()?.mappedBytes;
      return bytes === undefined ? undefined : bytes / BLOCK_SIZE;
    },
    close: async () => {
      await volume.close();
      lease.close();
      await cache.close();
    },
  };
}

function observed(remote: RemoteVolume, { onOpened, takeover }: ProcessParts): RemoteVolume {
  return {
    open: async (request) => {
      const opened = await remote.open({ ...request, takeover });
      onOpened(opened);
      return opened;
    },
    commit: (batch) => remote.commit(batch),
    copy: (batch) => remote.copy(batch),
    noteCopies: (headers, isFirst) => remote.noteCopies(headers, isFirst),
    commitCopies: (commit) => remote.commitCopies(commit),
    read: (block, count, how) => remote.read(block, count, how),
    hurry: (block, count) => {
      remote.hurry(block, count);
    },
    mapped: (block, count) => remote.mapped(block, count),
    countMapped: () => remote.countMapped(),
    nextMapped: (from, limit) => remote.nextMapped(from, limit),
    rollBackTo: (n) => remote.rollBackTo(n),
    provenThrough: () => remote.provenThrough(),
    fold: () => remote.fold(),
    verify: () => remote.verify(),
    versions: (limit) => remote.versions(limit),
    status: () => remote.status(),
    close: () => remote.close(),
  };
}

function cacheSettings(plan: Plan): CacheSettings {
  return {
    sizeBytes: plan.cacheChunks * CHUNK_SLOTS * BLOCK_SIZE,
    ramBytes: plan.ramBlocks * BLOCK_SIZE,
    indexBytes: 4 * MIB,
    chunkSlots: CHUNK_SLOTS,
    maxWaitMs: plan.maxWaitMs,
  };
}
