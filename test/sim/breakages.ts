import { readWhole } from '../../gateway/base/disk.ts';
import type { ImageFile } from '../../gateway/base/image.ts';
import { CacheLog } from '../../gateway/cache/cache-log.ts';
import { KIND_FILL } from '../../gateway/cache/descriptor.ts';
import { FillWriter, type Fill, type FillOwner } from '../../gateway/cache/fill-writer.ts';
import { Lane } from '../../gateway/cache/lane.ts';
import { PromisedEnd } from '../../gateway/cache/log-op.ts';
import { placeOf } from '../../gateway/cache/layout.ts';
import { PoolState } from '../../gateway/cache/pool-state.ts';
import type { ObjectStore } from '../../gateway/cloud/object-store.ts';
import type { ReplicationMode, VersionLog } from '../../gateway/cloud/version-log.ts';
import type { RemoteBlocks, RemoteVolume } from '../../gateway/replication/remote-volume.ts';
import { PendingWrites } from '../../gateway/volume/pending-writes.ts';
import { ReplicationControl } from '../../gateway/volume/replication-control.ts';
import { Sealer } from '../../gateway/volume/sealer.ts';
import { Quota } from '../../gateway/volume/quota.ts';
import { WritePath } from '../../gateway/volume/write-path.ts';
import { BlockState, Miss } from '../../gateway/volume/block-state.ts';
import { RangeLock } from '../../gateway/volume/range-lock.ts';
import { RecoveredDirt } from '../../gateway/volume/recovered-dirt.ts';
import { Changes } from '../../gateway/volume/stored/changes.ts';
import { Destager } from '../../gateway/volume/stored/destager.ts';
import {
  answeringEarly,
  forgettingAChunk,
  ignoringFailedSyncs,
  neverSyncing,
  neverSyncingThose,
  reusingWithOldRecords,
  withImages,
} from './broken-ports.ts';
import { withChurn, withImage, withOverflow, withQuota, withResizes, withScans, type Plan } from './plan.ts';
import type { ProcessParts } from './sim-gateway.ts';
import type { Breakage } from './sim-process.ts';
import type { SimRandom } from './sim-random.ts';

/** Each breaks one rule of the storage half by standing in for one of its ports. The simulation must find every one of them. */
export const BREAKAGES = {
  'ack before the log write': {
    parts: (parts: ProcessParts) => ({ ...parts, disk: answeringEarly(parts.disk) }),
  },
  'skip fdatasync': {
    parts: (parts: ProcessParts) => ({ ...parts, disk: neverSyncing(parts.disk) }),
  },
  'skip the fence: put unconditionally': {
    parts: withLog((log) => ({ ...log, putVersion: (volume, item) => log.putVersion(volume, item, 2 ** 40) })),
  },
  'skip the fence: ignore the conflict': {
    parts: withLog((log) => ({
      ...log,
      putVersion: async (volume, item, previousEpoch) => {
        await log.putVersion(volume, item, previousEpoch);
        return 'ok';
      },
    })),
  },
  'reuse segment numbers': {
    parts: (parts: ProcessParts) => {
      const { log, store } = parts.cloud;
      return {
        ...parts,
        cloud: {
          log: {
            ...log,
            allocateNumbers: async (ref, epoch, count) => {
              await log.allocateNumbers(ref, epoch, count);
              return { from: 1, to: 1 + count };
            },
          } satisfies VersionLog,
          store: {
            ...store,
            put: async (key, body, crc32) => {
              await store.put(key, body, crc32);
              return 'created';
            },
          } satisfies ObjectStore,
        },
      };
    },
  },
  'put the version before its segment': {
    parts: (parts: ProcessParts) => {
      const { store } = parts.cloud;
      const put: ObjectStore['put'] = (key, body, crc32) => {
        store.put(key, body, crc32).catch(() => undefined);
        return Promise.resolve('created');
      };
      return { ...parts, cloud: { ...parts.cloud, store: { ...store, put } } };
    },
  },
  'call a batch committed before it is': { remote: committingEarly },
  'forget unmap tombstones': {
    remote: (remote: RemoteVolume) => ({
      ...whole(remote),
      commit: (batch) => remote.commit({ ...batch, unmaps: new Float64Array() }),
    }),
  },
  'replay a rolled-back log': { remote: alwaysOwn },
  'forget what reclaim has dropped': {
    // The pool's memory of what it has dropped, which recovery asks.
    install: replacing(
      PoolState.prototype,
      'marks',
      (original) =>
        function (this: PoolState, number) {
          return { ...original.call(this, number), forgetThrough: 0 };
        },
    ),
    plan: withChurn,
  },
  'take damage in what was flushed last for a torn end': {
    install: replacing(
      PoolState.prototype,
      'marks',
      (original) =>
        function (this: PoolState, number) {
          return { ...original.call(this, number), syncedThrough: 0 };
        },
    ),
    plan: (plan: Plan) => ({ ...withTrouble({ bitsFlip: 40 })(plan), rpoSeconds: 60 }),
  },
  'leave one chunk out of a flush': {
    parts: (parts: ProcessParts) => ({ ...parts, disk: forgettingAChunk(parts.disk) }),
    plan: withTrouble({ powerCut: 12 }),
  },
  'ignore a failed fdatasync': {
    parts: (parts: ProcessParts) => ({ ...parts, disk: ignoringFailedSyncs(parts.disk) }),
    plan: withTrouble({ powerCut: 12, syncFails: 12 }),
  },
  'take records of a reused chunk for new ones': {
    parts: (parts: ProcessParts) => ({ ...parts, disk: reusingWithOldRecords(parts.disk) }),
    plan: withChurn,
  },
  'let a clean fill win over a newer write': {
    install: replacing(Miss.prototype, 'isFillWanted', () => () => true),
    plan: withChurn,
  },
  'forget at a start what was unmapped': {
    install: replacing(RecoveredDirt.prototype, 'dirtyUnmap', () => () => undefined),
  },
  'read, modify and write without a lock': {
    install: replacing(RangeLock.prototype, 'acquire', () => () => Promise.resolve(() => undefined)),
  },
  'show the version before where a dirty block is damaged': {
    install: replacing(
      BlockState.prototype,
      'noteDamaged',
      () =>
        function (this: BlockState, block) {
          this.log.index.clear(block);
        },
    ),
    plan: (plan: Plan) => ({ ...withTrouble({ lyingDisk: 30, bitsFlip: 15 })(plan), ramBlocks: 0 }),
  },
  'let what was read ahead win over a newer write': {
    install: replacing(
      BlockState.prototype,
      'endMiss',
      (original) =>
        function (this: BlockState, miss, answer) {
          original.call(this, miss, answer);
          if (miss.isAhead) enterAll(this, miss, answer);
        },
    ),
    plan: (plan: Plan, random: SimRandom) => withScans(withChurn(plan, random), random),
  },
  'move the index before the data': {
    install: movingTheIndexFirst,
    plan: (plan: Plan, random: SimRandom) => undisturbed(withChurn(plan, random)),
  },
  'keep the room of writes that come to nothing': {
    install: replacing(CacheLog.prototype, 'unreserve', () => () => undefined),
    plan: (plan: Plan) => ({ ...withResizes(plan), cloud: { ...plan.cloud, errorBefore: 0.1 } }),
  },
  'answer a resize before its version is committed': {
    install: replacing(
      Sealer.prototype,
      'resize',
      (original) =>
        function (this: Sealer, bytes, unmaps) {
          original.call(this, bytes, unmaps).catch(() => undefined);
          return Promise.resolve();
        },
    ),
    plan: withResizes,
  },
  'make a volume smaller with data beyond its end': {
    remote: (remote: RemoteVolume) => ({ ...whole(remote), nextMapped: () => Promise.resolve(undefined) }),
    plan: withResizes,
  },
  'do half of a write that a full volume refuses': {
    install: replacing(
      WritePath.prototype,
      'start',
      (original) =>
        function (this: WritePath, from, pieces, end) {
          const data = Buffer.concat(pieces);
          // Each half finds out for itself whether there is room.
          const half = Math.floor(data.length / 8192) * 4096;
          const ends = [new PromisedEnd(), new PromisedEnd()] as const;
          if (half === 0) {
            original.call(this, from, pieces, end);
            return;
          }
          original.call(this, from, [data.subarray(0, half)], ends[0]);
          original.call(this, from + half, [data.subarray(half)], ends[1]);
          Promise.all(ends.map(({ promise }) => promise)).then(
            () => {
              end.writeEnded(undefined);
            },
            (error: unknown) => {
              end.writeEnded(error instanceof Error ? error : new Error(String(error)));
            },
          );
        },
    ),
    // Whatever else comes of halves: here only a refusal can show them.
    plan: (plan: Plan, random: SimRandom) => quietWithQuota(plan, random),
  },
  'forget in the quota what was committed since it was counted': {
    install: replacing(Quota.prototype, 'committed', () => () => undefined),
    plan: (plan: Plan, random: SimRandom) => quietWithQuota(plan, random),
  },
  'ack a synchronous write when the log has it': {
    install: replacing(
      PendingWrites.prototype,
      'noteLogged',
      (original) =>
        function (this: PendingWrites, op) {
          original.call(this, op);
          op.end.writeEnded(undefined);
        },
    ),
    plan: acking('sync', { loseGateway: 4, takeover: 4 }),
  },
  'answer a flush that is to wait for a version when the log has it': {
    install: replacing(ReplicationControl.prototype, 'flush', () => () => undefined),
    plan: acking('flush', { loseGateway: 4, takeover: 4 }),
  },
  'say of held writes that they have failed, without proof': {
    remote: (remote: RemoteVolume) => ({ ...whole(remote), provenThrough: () => Promise.resolve(0) }),
    plan: (plan: Plan) => ({
      ...acking('sync', { takeover: 30, processCrash: 0, powerCut: 0 })(plan),
      ...{ gateways: 3, steps: 16, stepMs: 200, cloud: { ...plan.cloud, delayMs: 30, lostResponse: 0.1 } },
    }),
  },
  'let into the log what a held write will replace': {
    install: replacing(PendingWrites.prototype, 'covers', () => () => false),
    plan: (plan: Plan) => ({
      ...acking('sync', { processCrash: 12, takeover: 8 })(plan),
      ...{ hydrate: false, ramBlocks: 0, workload: { ...plan.workload, workers: 6, thinkMs: 5, eagerCalls: 400 } },
    }),
  },
  'clear marks before what is copied is noted durably': {
    parts: (parts: ProcessParts) => ({
      ...parts,
      disk: neverSyncingThose(parts.disk, (path) => path.includes('.copies-')),
    }),
    // It must strike between the copies and their version.
    plan: (plan: Plan, random: SimRandom) => ({
      ...withImageAnd({ powerCut: 20, partition: 0 })(plan, random),
      ...{ image: 'seeded', steps: 16, stepMs: 4000, cloud: { ...plan.cloud, delayMs: 200 } },
    }),
  },
  'drop from the log what is marked before the marks are durable': {
    parts: (parts: ProcessParts) => ({
      ...parts,
      disk: neverSyncingThose(parts.disk, (path) => path.includes('.marks-')),
    }),
    plan: withImageAnd({ powerCut: 12 }),
  },
  'forget which blocks the image alone has': {
    install: replacing(Changes.prototype, 'mark', () => () => undefined),
    plan: withImageAnd({}),
  },
  'never sync the image': {
    parts: (parts: ProcessParts) => ({
      ...parts,
      images: withImages(parts.images, () => ({ sync: () => Promise.resolve(), syncWhole: () => Promise.resolve() })),
    }),
    plan: withImageAnd({ powerCut: 12 }),
  },
  'drop from the log what the image does not have yet': {
    install: replacing(
      Destager.prototype,
      'add',
      (original) =>
        function (this: Destager, op) {
          // Every second one never gets there.
          if (op.seq % 2 === 0) original.call(this, op);
        },
    ),
    plan: withImageAnd({}),
  },
  'bring to the image what the log has not synced': {
    ...imageAheadOfLog(),
    plan: withImageAnd({ powerCut: 12 }),
  },
} as const satisfies Readonly<Record<string, Breakage>>;

/** A volume with a quota that is written to undisturbed. */
function quietWithQuota(plan: Plan, random: SimRandom): Plan {
  const weights = { ...Object.fromEntries(Object.keys(plan.weights).map((trouble) => [trouble, 0])), wait: 1 };
  const quiet = { ...plan, image: 'none' as const, gateways: 1, weights: { ...plan.weights, ...weights } };
  const many = withQuota(quiet, random);
  return { ...many, workload: { ...many.workload, mostBlocks: 16, weights: { ...many.workload.weights, unmap: 2 } } };
}

/** Worlds of stored volumes whose log overflows, with that happening often. */
function withImageAnd(weights: Partial<Plan['weights']>): (plan: Plan, random: SimRandom) => Plan {
  return (plan, random) => {
    const stored = { ...withImage({ ...plan, image: 'none' }, random), gateways: 1 };
    const overflowing = random.chance(0.5) ? withOverflow(stored, random) : stored;
    return { ...overflowing, weights: { ...overflowing.weights, ...weights } };
  };
}

/** Each write goes to the image as soon as it is logged. */
function imageAheadOfLog(): Pick<Breakage, 'parts' | 'install'> {
  let open: ImageFile | undefined;
  return {
    parts: (parts) => ({
      ...parts,
      images: withImages(parts.images, (image) => {
        open = image;
        return {};
      }),
    }),
    install: replacing(
      Destager.prototype,
      'add',
      (original) =>
        function (this: Destager, op) {
          original.call(this, op);
          if (op.ranges.length === 0)
            void Promise.resolve(open?.write(op.data, op.block * 4096)).catch(() => undefined);
        },
    ),
  };
}

function withLog(change: (log: VersionLog) => VersionLog): (parts: ProcessParts) => ProcessParts {
  return (parts) => ({ ...parts, cloud: { ...parts.cloud, log: change(parts.cloud.log) } });
}

/** Methods of a class instance lie on its prototype: spreading it would lose them. */
function whole(remote: RemoteVolume): RemoteVolume {
  return {
    open: (request) => remote.open(request),
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

function committingEarly(remote: RemoteVolume): RemoteVolume {
  let openedAt = 0;
  return {
    ...whole(remote),
    open: async (request) => {
      const opened = await remote.open(request);
      openedAt = opened.n;
      return opened;
    },
    commit: (batch) => {
      remote.commit(batch).catch(() => undefined);
      const { index, throughSeq, newestWriteAt } = batch;
      return Promise.resolve({ n: openedAt + index, throughSeq, committedAt: newestWriteAt, storedBytes: 1, lost: [] });
    },
  };
}

/** Takes whatever lies in the cloud for its own history, up to where this disk last began. */
function alwaysOwn(remote: RemoteVolume, { disk, ref }: ProcessParts): RemoteVolume {
  return {
    ...whole(remote),
    open: async (request) => {
      const opened = await remote.open(request);
      const content = await readWhole(disk, `volumes/${ref.volume}.json`, 65_536);
      if (content === undefined || opened.lastData === undefined) return opened;
      const state = JSON.parse(content.toString()) as { logId: string; base: { throughSeq: number } | null };
      const throughSeq = state.base?.throughSeq ?? 0;
      return { ...opened, lastData: { ...opened.lastData, logId: state.logId, throughSeq } };
    },
  };
}

/** For what is no port: puts another method in the place of one; answers with what puts it back. */
function replacing<T extends object, K extends keyof T>(
  prototype: T,
  name: K,
  change: (original: T[K]) => T[K],
): () => () => void {
  return () => {
    const original = prototype[name];
    prototype[name] = change(original);
    return () => {
      prototype[name] = original;
    };
  };
}

/** Worlds of a cached volume whose acks always wait for versions, and in which this happens often. */
function acking(mode: ReplicationMode, weights: Partial<Plan['weights']>): (plan: Plan) => Plan {
  return (plan) => ({
    ...withTrouble(weights)(plan),
    ...{ image: 'none', replication: { mode, onRemoteLoss: 'block' } },
    workload: { ...plan.workload, weights: { ...plan.workload.weights, mode: 0 } },
  });
}

/** Worlds in which this happens often. */
function withTrouble(weights: Partial<Plan['weights']>): (plan: Plan) => Plan {
  return (plan) => ({ ...plan, weights: { ...plan.weights, ...weights } });
}

/** Everything that came, whoever has written it meanwhile. */
function enterAll({ cache, log }: BlockState, miss: Miss, { data, present }: RemoteBlocks): void {
  const owner: FillOwner = { isFillWanted: () => true, fillEnded: () => undefined };
  let at = 0;
  for (let index = 0; index < miss.count; index++) {
    if (present[index] !== 1) continue;
    const block = miss.first + index;
    const content = data.subarray(at, (at += 4096));
    cache.ram.put(log.number, block, [content], 0);
    cache.fill({ log, block, data: content, owner }, false);
  }
}

/** Every gateway begins with nothing and fetches what there is; nothing on its disk can be damaged before it ends. */
function undisturbed(plan: Plan): Plan {
  const likely: Partial<Plan['weights']> = { wait: 1, takeover: 2 };
  const weights = Object.fromEntries(Object.keys(plan.weights).map((trouble) => [trouble, 0]));
  return { ...plan, gateways: 3, ramBlocks: 0, weights: { ...plan.weights, ...weights, ...likely } };
}

/** A fill is in the index as soon as its slot is taken, and its data is written after that. */
function movingTheIndexFirst(): () => void {
  let taken: Fill | undefined;
  const restoreSubmit = replacing(
    FillWriter.prototype,
    'submit',
    (original) =>
      function (this: FillWriter, fill) {
        const { owner } = fill;
        const early: Fill = {
          ...fill,
          owner: {
            isFillWanted: (block) => {
              taken = early;
              return owner.isFillWanted(block);
            },
            fillEnded: (block, placed) => {
              owner.fillEnded(block, placed);
            },
          },
        };
        original.call(this, early);
      },
  )();
  const restoreTake = replacing(
    Lane.prototype,
    'take',
    (original) =>
      function (this: Lane, part, fields) {
        const slot = original.call(this, part, fields);
        if (fields.kind === KIND_FILL && taken?.block === fields.block)
          taken.log.index.set(fields.block, placeOf(part.chunk.number, slot), false);
        return slot;
      },
  )();
  return () => {
    restoreSubmit();
    restoreTake();
  };
}
