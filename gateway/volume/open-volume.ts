import type { Clock, Random } from '../base/clock.ts';
import type { Disk } from '../base/disk.ts';
import { describeError, FarshoreError, isKind } from '../base/errors.ts';
import type { ImageStore } from '../base/image.ts';
import type { Log } from '../base/log.ts';
import type { VersionNumber, WriteSeq } from '../base/units.ts';
import type { CacheLog } from '../cache/cache-log.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import type { OpenedRemote, RemoteVolume } from '../replication/remote-volume.ts';
import { salvageOrphans } from './orphan-logs.ts';
import { reconcile, type Reconciliation } from './reconcile.ts';
import { salvageTail } from './salvage.ts';
import { removeStoredState } from './stored/stored-state.ts';
import { loadVolumeState, removeVolumeState, saveVolumeState, type VolumeState } from './volume-state.ts';

export interface OpenDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly cache: CacheLog;
  readonly remote: RemoteVolume;
  /** Where the images of stored volumes are; undefined where there are none. */
  readonly images?: ImageStore | undefined;
}

export interface OpenVolumeRequest {
  readonly ref: VolumeRef;
  readonly gateway: string;
  /** An explicit takeover, also from another gateway; what is damaged here is given up for the remote's content instead of refusing to open. */
  readonly takeover?: boolean;
  /** Makes the volume what it was as of this version, as a new version; what is local is dropped. */
  readonly rollBackTo?: VersionNumber | undefined;
}

/**
 * What the image behind the volume says of the local log. `seed`: if nothing was ever written, the image is what the volume is, and counts as its first
 * write. `given-up`: what the log reckons on is in an image that is not to be had, so only the versions count.
 */
export type ImageVerdict = 'seed' | 'given-up' | undefined;

/** Where the volume's log begins and ends, and how much of it is committed. */
export interface LocalLog {
  readonly number: number;
  readonly firstSeq: WriteSeq;
  readonly lastSeq: WriteSeq;
  readonly committedThrough: WriteSeq;
  /** As the versions say it: 0 when none has data. */
  readonly versionThrough: WriteSeq;
}

export interface Reconciled {
  readonly opened: OpenedRemote;
  /** Newest version: the takeover, or the rolled-back one. */
  readonly n: VersionNumber;
  readonly local: LocalLog;
  readonly how: Reconciliation['kind'];
}

interface RecoveredLocal {
  readonly state: VolumeState;
  readonly lastSeq: WriteSeq;
}

/**
 * Recovers what is local, takes the volume over, and brings the two together (see reconcile). When it resolves the state file names the log
 * of this start, so that the first write may be acked. Trying again after a failure at any point is safe.
 */
export async function reconcileVolume(
  deps: OpenDeps,
  request: OpenVolumeRequest,
  image?: ImageVerdict,
): Promise<Reconciled> {
  const { disk, remote, random } = deps;
  const { ref, gateway, takeover = false } = request;
  const recovered = await recoverLocal(deps, request);
  const logId = random.bytes(16).toString('hex');
  let opened = await remote.open({ ref, gateway, takeover, lastEpoch: recovered?.state.epoch ?? 0, logId });
  const local = recovered && { logId: recovered.state.logId, base: recovered.state.base, lastSeq: recovered.lastSeq };
  const decision = withEnd(reconcile(local, opened.lastData), recovered?.state.endsAt);
  if (decision.kind === 'history-lost' && request.takeover !== true) throw historyLost(ref);

  let n = opened.n;
  let log: LocalLog;
  const isResumed = decision.kind === 'resume' && request.rollBackTo === undefined && image !== 'given-up';
  if (isResumed && recovered !== undefined) {
    const { localNumber: number, firstSeq } = recovered.state;
    // What came before the first sequence is not this log's; the version of a roll-back, which has no data of ours, says nothing of it.
    const committedThrough = Math.max(decision.through, firstSeq - 1);
    log = { number, firstSeq, lastSeq: recovered.lastSeq, committedThrough, versionThrough: decision.through };
  } else {
    if (recovered !== undefined) await salvage(deps, request, recovered, decision);
    else await salvageOrphans(deps, ref, opened.epoch);
    if (request.rollBackTo !== undefined) {
      const made = await remote.rollBackTo(request.rollBackTo);
      n = made.n;
      opened = { ...opened, item: { ...opened.item, bytes: made.volumeBytes } };
    }
    const isFirstWrite = image === 'seed' && decision.kind === 'fresh' && opened.lastData === undefined;
    log = await newLog(deps, ref, recovered, opened, isFirstWrite ? 1 : 0);
  }
  await saveVolumeState(disk, ref, {
    localNumber: log.number,
    firstSeq: log.firstSeq,
    logId,
    epoch: opened.epoch,
    base: opened.lastData,
  });
  await releaseOthers(deps.cache, ref, log.number);
  return { opened, n, local: log, how: decision.kind };
}

/**
 * Gives up what is local of an opened volume because it can't be attached; answers an empty log, and the state file names it.
 */
export async function startOver(deps: OpenDeps, request: OpenVolumeRequest, before: Reconciled): Promise<LocalLog> {
  const state = await loadVolumeState(deps.disk, request.ref);
  if (state === undefined) throw new FarshoreError('bug', 'an opened volume has a state file');
  const recovered = { state, lastSeq: before.local.lastSeq };
  const decision: Reconciliation = { kind: 'resume', through: before.local.committedThrough };
  await salvage(deps, request, recovered, decision);
  const log = await newLog(deps, request.ref, recovered, before.opened);
  await saveVolumeState(deps.disk, request.ref, { ...state, localNumber: log.number, firstSeq: log.firstSeq });
  await releaseOthers(deps.cache, request.ref, log.number);
  return log;
}

/**
 * Removes what this gateway keeps of a closed volume: state file and cached blocks. Writes that are in no version go with it, so this is
 * for volumes that are gone for ever.
 */
export async function forgetVolume(disk: Disk, cache: CacheLog, ref: VolumeRef): Promise<void> {
  await removeVolumeState(disk, ref);
  await removeStoredState(disk, ref);
  await releaseOthers(cache, ref, undefined);
}

/**
 * The same for a closed volume that another gateway has. What may be in no version (all that this start did not find committed, so rather too
 * much than too little) is kept in a salvage file first; resolves with its path, undefined when there was nothing.
 */
export async function surrenderVolume(
  deps: Pick<OpenDeps, 'disk' | 'cache' | 'log'>,
  ref: VolumeRef,
): Promise<string | undefined> {
  const path = await copyTail(deps, ref);
  await forgetVolume(deps.disk, deps.cache, ref);
  return path;
}

/** The first half of that: everything else stays, so that the volume goes on where it was when it turns out that nobody wrote to it elsewhere. */
export async function copyTail(
  { disk, cache, log }: Pick<OpenDeps, 'disk' | 'cache' | 'log'>,
  ref: VolumeRef,
): Promise<string | undefined> {
  const state = await loadVolumeState(disk, ref);
  if (state === undefined) return (await salvageOrphans({ disk, cache, log }, ref, 0)).join(', ') || undefined;
  if (!cache.numbersOf(ref.volume).includes(state.localNumber)) return undefined;
  const { localNumber, firstSeq, logId, epoch, base } = state;
  await cache.recover(localNumber, firstSeq);
  const after = Math.max(base?.throughSeq ?? firstSeq - 1, cache.committedAtLeast(localNumber));
  return (await salvageTail(disk, cache, { ref, epoch, logId, localNumber, after }))?.path;
}

async function recoverLocal(deps: OpenDeps, { ref, takeover }: OpenVolumeRequest): Promise<RecoveredLocal | undefined> {
  const { cache, disk, log } = deps;
  let state: VolumeState | undefined;
  try {
    state = await loadVolumeState(disk, ref);
  } catch (error) {
    if (takeover !== true || !isKind(error, 'damaged')) throw error;
    log.warn({ volume: ref.volume, reason: describeError(error) }, 'the damaged local state of the volume is given up');
  }
  if (state === undefined) return undefined;
  await releaseOthers(cache, ref, state.localNumber);
  if (!cache.numbersOf(ref.volume).includes(state.localNumber)) {
    if (takeover !== true) throw cacheGone(ref);
    log.warn({ volume: ref.volume }, 'the cache log of the volume is gone; the volume goes on from the remote');
    return { state, lastSeq: state.firstSeq - 1 };
  }
  const tail = await cache.recover(state.localNumber, state.firstSeq);
  log.info({ volume: ref.volume, ...tail }, 'the local log of the volume is recovered');
  return { state, lastSeq: tail.lastSeq };
}

async function salvage(
  deps: OpenDeps,
  { ref }: OpenVolumeRequest,
  { state }: RecoveredLocal,
  decision: Reconciliation,
): Promise<void> {
  const { cache, disk, log } = deps;
  if (!cache.numbersOf(ref.volume).includes(state.localNumber)) return;
  const { localNumber, logId, epoch } = state;
  const after = salvageAfter(decision, state, cache.committedAtLeast(localNumber));
  if (after === undefined) return;
  const saved = await salvageTail(disk, cache, { ref, epoch, logId, localNumber, after });
  if (saved === undefined) return;
  log.warn(
    { volume: ref.volume, reason: decision.kind, ...saved },
    'writes that only this gateway had are not part of the volume any more; they are kept in a salvage file',
  );
}

/** A taker that wrote nothing leaves no foreign data; but what was answered as failed since is not to come back (see VolumeState.endsAt). */
function withEnd(decision: Reconciliation, endsAt: WriteSeq | undefined): Reconciliation {
  if (decision.kind !== 'resume' || endsAt === undefined) return decision;
  return { kind: 'foreign', salvageAfter: Math.max(decision.through, endsAt) };
}

/** Everything above it may be in no version; undefined when all of it is. `committed`: at least that much was. */
function salvageAfter(decision: Reconciliation, state: VolumeState, committed: WriteSeq): WriteSeq | undefined {
  switch (decision.kind) {
    case 'fresh':
    case 'remote-ahead':
      return undefined;
    case 'resume':
      return decision.through;
    case 'foreign':
      return Math.max(decision.salvageAfter, committed);
    case 'history-lost':
      // What was committed is gone with the history: keep all there is.
      return state.firstSeq - 1;
  }
}

/** A new number; sequences go on above everything that was ever seen here or there, and above `taken` writes that no version has. */
async function newLog(
  { cache }: OpenDeps,
  ref: VolumeRef,
  recovered: RecoveredLocal | undefined,
  opened: OpenedRemote,
  taken = 0,
): Promise<LocalLog> {
  const versionThrough = opened.lastData?.throughSeq ?? 0;
  const committedThrough = Math.max(recovered?.lastSeq ?? 0, recovered?.state.base?.throughSeq ?? 0, versionThrough);
  const number = await cache.register(ref.volume);
  const lastSeq = committedThrough + taken;
  return { number, firstSeq: lastSeq + 1, lastSeq, committedThrough, versionThrough };
}

/** Numbers left behind by starts that did not get to the end. */
async function releaseOthers(cache: CacheLog, ref: VolumeRef, keep: number | undefined): Promise<void> {
  for (const number of cache.numbersOf(ref.volume)) if (number !== keep) await cache.release(number);
}

function cacheGone({ volume }: VolumeRef): FarshoreError {
  return new FarshoreError(
    'damaged',
    `the cache log has nothing of volume ${volume}, which this gateway served; put the cache directory back, or restore the volume with --takeover to go on from the last version`,
  );
}

function historyLost({ volume }: VolumeRef): FarshoreError {
  return new FarshoreError(
    'damaged',
    `the version log has no data of volume ${volume} any more, but had when this gateway opened it last; mend the table, or restore the volume with --takeover to accept its present state`,
  );
}
