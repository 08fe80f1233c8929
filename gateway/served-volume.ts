import type { MaybePromise } from './base/block-device.ts';
import type { Clock } from './base/clock.ts';
import { sleep } from './base/clock.ts';
import { describeError, FarshoreError, isKind } from './base/errors.ts';
import { inTime } from './base/in-time.ts';
import type { Log } from './base/log.ts';
import { BLOCK_SIZE, type Epoch, type VersionNumber } from './base/units.ts';
import type {
  AcksReport,
  StandingReport,
  StoredReport,
  VolumeAccessReport,
  VolumeReport,
  VolumeState,
} from './admin/gateway-api.ts';
import { replicationAlarm } from './change-replication.ts';
import type { CatalogueVolume } from './catalogue.ts';
import type { VolumeItem, VolumeRef } from './cloud/version-log.ts';
import type { ObjectStore } from './cloud/object-store.ts';
import { ReadWindow } from './read-report.ts';
import { missesTarget, replicationState } from './replication-standing.ts';
import type { RemoteStatus } from './replication/remote-volume.ts';
import { StoredSize } from './stored-size.ts';
import { UsageWindow } from './usage.ts';
import type { VolumeControl } from './volume-control.ts';
import type { ScrubReport } from './volume/scrubber.ts';
import type { VolumeStatus } from './volume/volume-status.ts';

/** Rejects soon with `stopped` when `signal` aborts: a cloud that does not answer must not hold up a stop. */
export type OpenVolume = (
  ref: VolumeRef,
  how: {
    readonly takeover: boolean;
    readonly rollBackTo: VersionNumber | undefined;
    readonly signal: AbortSignal;
    /** Told when the open volume becomes something else. */
    readonly onState?: (state: VolumeStatus['state']) => void;
  },
) => Promise<VolumeControl>;

/** Where initiators find volumes; implemented over access control. */
export interface TargetDirectory {
  /**
   * Brings the access control of a volume that was opened under `epoch` here; before it nobody may see the volume. Waits for the table as long
   * as it takes. Rejects with `fenced`, `stopped` when `signal` aborts, or the disk's failures. `isRolledBack`: it was just made what it was
   * before; a SANITIZE under way is not gone on with then.
   */
  adopt(item: VolumeItem, epoch: Epoch, signal: AbortSignal, how: { readonly isRolledBack: boolean }): Promise<void>;
  /** The volume is being opened: until the answer is called, its initiators are told to try again. */
  expect(ref: VolumeRef): () => void;
  /** Resolves when they may come. */
  offer(volume: Pick<VolumeControl, 'item' | 'place'>): MaybePromise<void>;
  /** Takes it away from every initiator; resolves when none of their writes can land any more. */
  withdraw(ref: VolumeRef): Promise<void>;
  /** Sessions that see it. */
  sessions(ref: VolumeRef): Promise<number>;
  access(ref: VolumeRef): VolumeAccessReport;
  /** False when the table does not have what is in force after `withinMs`, though this gateway has the volume. */
  isSettled(ref: VolumeRef, withinMs: number): Promise<boolean>;
  /** Why initiators find the LUN of a volume that is served not ready; undefined: they don't. */
  notReady(ref: VolumeRef): string | undefined;
}

export interface ServedVolumeDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly openVolume: OpenVolume;
  readonly targets: TargetDirectory;
  readonly gateway: string;
  /** Of the bucket: what is stored of the volume. */
  readonly list: ObjectStore['list'];
  /** The target: see SealerSettings. */
  readonly rpoSeconds: number;
}

/** While the cloud is away an open is tried again after this long. */
const REOPEN_MS = 3_000;
/** Longest that a close waits for the table to have what is in force: whoever takes the volume over next goes by that. */
const SETTLED_WITHIN_MS = 5_000;

/** Longest that a close waits for what initiators have in the device; what waits for the cloud ends with the volume, and nobody hears of it any more. */
const WITHDRAWN_WITHIN_MS = 2_000;

/** A report does not wait longer for what the remote half has to say. */
const REMOTE_ANSWERS_WITHIN_MS = 3_000;

type State =
  | { readonly kind: 'opening'; readonly reason: string | undefined }
  | {
      readonly kind: 'open';
      readonly opened: VolumeControl;
      readonly reads: ReadWindow;
      readonly usage: UsageWindow;
      readonly stored: StoredSize;
    }
  | { readonly kind: 'failed'; readonly state: Extract<VolumeState, 'fenced' | 'stopped'>; readonly reason: string }
  | { readonly kind: 'closed' };

/** One volume of this gateway from its first attempt to open to its close; offers it as a target while it is open. */
export class ServedVolume {
  readonly entry: CatalogueVolume;
  /** Resolves after the first attempt, with its failure if it failed. */
  readonly firstAttempt: Promise<FarshoreError | undefined>;
  readonly #deps: ServedVolumeDeps;
  readonly #closing = new AbortController();
  readonly #opening: Promise<void>;
  #state: State = { kind: 'opening', reason: undefined };
  /** The log was told that the target is missed. */
  #targetMissed = false;

  constructor(
    deps: ServedVolumeDeps,
    entry: CatalogueVolume,
    how: { readonly takeover?: boolean; readonly rollBackTo?: VersionNumber },
  ) {
    this.#deps = deps;
    this.entry = entry;
    let firstDone: (failure: FarshoreError | undefined) => void = () => undefined;
    this.firstAttempt = new Promise((resolve) => {
      firstDone = resolve;
    });
    const opened = deps.targets.expect(entry);
    this.#opening = this.#open({ takeover: how.takeover === true, rollBackTo: how.rollBackTo }, firstDone).finally(
      opened,
    );
  }

  /** The open volume; otherwise a rejection that says why it isn't. */
  serving(): VolumeControl {
    const state = this.#state;
    if (state.kind === 'open') return state.opened;
    const { name } = this.entry;
    if (state.kind === 'failed')
      throw new FarshoreError(state.state, `volume ${name} is ${state.state}: ${state.reason}`);
    throw new FarshoreError(
      'retry',
      `volume ${name} is not open yet${state.kind === 'opening' && state.reason !== undefined ? `: ${state.reason}` : ''}`,
    );
  }

  isServing(): boolean {
    return this.#state.kind === 'open' && this.#state.opened.state === 'serving';
  }

  /** It will not open by itself any more. */
  hasFailed(): boolean {
    return this.#state.kind === 'failed';
  }

  /** Another gateway has taken the volume over. */
  isElsewhere(): boolean {
    const state = this.#state;
    return state.kind === 'open'
      ? state.opened.state === 'fenced'
      : state.kind === 'failed' && state.state === 'fenced';
  }

  /**
   * Throws unless what is changed of the volume's access control is in force: `fenced` when another gateway has taken the volume over, `retry`
   * before it is open, when what the table has may be newer than what is known here and would take its place.
   */
  requireOwned(): void {
    const { name } = this.entry;
    if (this.#state.kind === 'opening' || this.#state.kind === 'closed') {
      throw new FarshoreError(
        'retry',
        `volume ${name} is not open, so nobody can use it and nothing was changed; try again when farshore status shows it serving`,
      );
    }
    if (!this.isElsewhere()) return;
    throw new FarshoreError(
      'fenced',
      `volume ${name} was taken over by another gateway, and its access control is changed there; to drop what is kept of it here: farshore volume forget ${name}`,
    );
  }

  /** Takes the target away from the initiators; the volume stays open. */
  async withdraw(): Promise<void> {
    if (this.#state.kind === 'open') await this.#deps.targets.withdraw(this.entry);
  }

  /** Gives it back. */
  async offer(): Promise<void> {
    if (this.#state.kind === 'open') await this.#deps.targets.offer(this.#state.opened);
  }

  async report(): Promise<VolumeReport> {
    const state = this.#state;
    if (state.kind !== 'open') {
      return {
        ...this.#blankReport(),
        state: state.kind === 'failed' ? state.state : state.kind === 'opening' ? 'opening' : 'stopped',
        reason:
          state.kind === 'closed'
            ? 'it is being closed'
            : state.kind === 'failed' && state.state === 'fenced'
              ? this.#withRemedy(state.reason)
              : state.reason,
      };
    }
    const { item, remote } = state.opened;
    let status: Awaited<ReturnType<VolumeControl['status']>>;
    const counted = this.#deps.targets.sessions(item);
    // When there is no status nobody waits for it.
    counted.catch(() => undefined);
    try {
      status = await state.opened.status();
    } catch (error) {
      if (!isKind(error, 'retry')) throw error;
      const { sectorSize, replication, targetName: target } = item;
      // Its thread does not answer: what was last known of it.
      const known = { bytes: item.bytes, sectorSize, replication, target, sessions: await counted };
      return {
        ...this.#blankReport(),
        ...known,
        state: state.opened.state,
        reason: error.message,
        epoch: state.opened.epoch,
      };
    }
    const sessions = await counted;
    const far = await remoteStatus(remote, this.#deps.clock);
    noteUsage(state.usage, status, far);
    const standing = this.#standing(status, state.usage);
    return {
      name: this.entry.name,
      id: item.volume,
      bytes: status.bytes,
      sectorSize: item.sectorSize,
      replication: status.replication.mode,
      acks: acksReport(status.replication),
      target: item.targetName,
      thread: this.entry.thread ?? 0,
      state: status.state,
      reason:
        status.state === 'fenced' && status.reason !== undefined
          ? this.#withRemedy(status.reason)
          : together(
              replicationAlarm(status.replication),
              status.reason ?? status.replicationProblem ?? far?.problem,
              status.state === 'serving' ? this.#deps.targets.notReady(item) : undefined,
              unmended(status.scrub),
            ),
      epoch: status.epoch,
      committedN: status.committedN,
      committedAt: status.committedAt,
      lagSeconds: status.lagSeconds,
      lagBytes: status.lagBytes,
      standing,
      usage: state.usage.report(state.stored.bytes),
      hydration: status.hydration,
      stored: storedReport(status.stored),
      quota: status.quota,
      sessions,
      scrub: status.scrub,
      reads: state.reads.report(status.reads),
      access: this.#access(item),
    };
  }

  /** Called now and then: what was by then is where a window of the reports may begin; tells the log when the target is missed, or met again. */
  async sample(): Promise<void> {
    const state = this.#state;
    if (state.kind !== 'open') return;
    void state.stored.look(this.#closing.signal);
    try {
      const status = await state.opened.status();
      state.reads.note(status.reads);
      noteUsage(state.usage, status, await remoteStatus(state.opened.remote, this.#deps.clock));
      this.#watchTarget(status);
    } catch (error) {
      if (!(error instanceof FarshoreError)) throw error; // its thread is gone
    }
  }

  #standing(status: VolumeStatus, usage: UsageWindow): StandingReport {
    const { rpoSeconds } = this.#deps;
    const { lagSeconds, lagBytes, committedBytes } = status;
    const { standing: acks } = status.replication;
    const facts = {
      isFenced: status.state === 'fenced',
      isBlocked: acks === 'blocked' || acks === 'failing',
      isDegraded: acks === 'degraded',
      isCatchingUp: acks === 'catching-up' || status.stored?.catchUp !== undefined,
      ...{ lagSeconds, rpoSeconds },
    };
    return {
      state: replicationState(facts),
      rpoSeconds,
      targetMissed: missesTarget(facts),
      drainSeconds: usage.drainSeconds(lagBytes, committedBytes),
    };
  }

  #watchTarget({ state, lagSeconds, lagBytes }: VolumeStatus): void {
    const { rpoSeconds, log } = this.#deps;
    const isMissed = missesTarget({ isFenced: state === 'fenced', lagSeconds, rpoSeconds });
    if (isMissed === this.#targetMissed) return;
    this.#targetMissed = isMissed;
    const fields = { volume: this.entry.name, lagSeconds, lagBytes, rpoSeconds };
    if (isMissed)
      log.warn(fields, 'the volume lags behind its target: the loss of the site would cost more than it allows');
    else log.info(fields, 'the volume is within its target again');
  }

  /** Stops serving; everything acked is in the local log, synced. Answers whether it is in a version too (see VolumeControl.close). */
  async close(): Promise<boolean> {
    this.#closing.abort();
    await this.#opening;
    const state = this.#state;
    if (state.kind !== 'open') return false;
    const withdrawn = this.withdraw();
    const over = new AbortController();
    await Promise.race([withdrawn, sleep(this.#deps.clock, WITHDRAWN_WITHIN_MS, over.signal)]);
    over.abort();
    this.#state = { kind: 'closed' };
    const settled = this.#deps.targets.isSettled(this.entry, SETTLED_WITHIN_MS);
    const isAllCommitted = await state.opened.close();
    await withdrawn;
    if (await settled) return isAllCommitted;
    this.#deps.log.warn(
      { volume: this.entry.name },
      'the volume was closed before the table had its access control; it gets there when this gateway opens it again, and a takeover before that brings the former state back',
    );
    return isAllCommitted;
  }

  async #open(
    how: { readonly takeover: boolean; readonly rollBackTo: VersionNumber | undefined },
    firstDone: (failure: FarshoreError | undefined) => void,
  ): Promise<void> {
    const { clock, log, openVolume } = this.#deps;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        const opened = await openVolume(this.entry, { ...how, signal });
        await this.#adopt(opened, signal, { isRolledBack: how.rollBackTo !== undefined });
        this.#state = {
          ...{ kind: 'open', opened, reads: new ReadWindow(clock), usage: new UsageWindow(clock) },
          stored: new StoredSize(clock, this.#deps.list, opened.item.lineage),
        };
        try {
          await this.offer();
        } catch (error) {
          await opened.close();
          throw error;
        }
        log.info({ volume: this.entry.name, target: opened.item.targetName }, 'volume is served');
        firstDone(undefined);
        return;
      } catch (error) {
        const failure =
          error instanceof FarshoreError ? error : new FarshoreError('bug', describeError(error), { cause: error });
        firstDone(failure);
        log.warn({ volume: this.entry.name, kind: failure.kind, error: failure.message }, 'volume could not be opened');
        if (failure.kind !== 'retry' && failure.kind !== 'busy') {
          this.#state = {
            kind: 'failed',
            state: failure.kind === 'fenced' ? 'fenced' : 'stopped',
            reason: failure.message,
          };
          return;
        }
        this.#state = { kind: 'opening', reason: failure.message };
      }
      await sleep(clock, REOPEN_MS, signal);
    }
    this.#state = { kind: 'closed' };
    firstDone(new FarshoreError('stopped', `volume ${this.entry.name} was closed before it was open`));
  }

  #withRemedy(reason: string): string {
    const { name } = this.entry;
    return `${reason.replace(/\.$/, '')}; writes that only this gateway has are exported with: farshore salvage ${name}; to drop what is kept of it here: farshore volume forget ${name}`;
  }

  /** Of a volume that is served elsewhere it is what was known here. */
  #access(ref: VolumeRef): VolumeAccessReport {
    const access = this.#deps.targets.access(ref);
    if (!this.isElsewhere()) return access;
    const problem = 'another gateway serves it, so what is shown of its access control here may be old';
    return { ...access, inTable: false, problem };
  }

  /** A volume whose access control cannot be had is not left open behind everybody's back. */
  async #adopt(volume: VolumeControl, signal: AbortSignal, how: { readonly isRolledBack: boolean }): Promise<void> {
    try {
      await this.#deps.targets.adopt(volume.item, volume.epoch, signal, how);
    } catch (error) {
      await volume.close();
      throw error;
    }
  }

  #blankReport(): VolumeReport {
    return {
      name: this.entry.name,
      id: this.entry.volume,
      bytes: 0,
      sectorSize: 512,
      replication: 'async',
      acks: undefined,
      target: '',
      thread: this.entry.thread ?? 0,
      state: 'opening',
      reason: undefined,
      epoch: 0,
      committedN: 0,
      committedAt: undefined,
      lagSeconds: 0,
      lagBytes: 0,
      standing: undefined,
      usage: undefined,
      hydration: undefined,
      stored: undefined,
      quota: undefined,
      sessions: 0,
      scrub: undefined,
      reads: undefined,
      access: this.#access(this.entry),
    };
  }
}

/** What the last look at S3 found and could not mend; of the cache the volume itself tells. */
function unmended({ remote }: ScrubReport): string | undefined {
  const first = remote?.ranges[0];
  if (remote === null || first === undefined) return undefined;
  return `${remote.unrepairable} blocks of the newest version (block ${first.first}${remote.unrepairable > 1 ? ' and others' : ''}) cannot be read back from S3 as they should be, and could not be mended from the cache; write them again, or restore what lies there from a backup or an older version, then scrub again`;
}

function acksReport({ onRemoteLoss, standing, seconds, waiting }: VolumeStatus['replication']): AcksReport {
  return { onRemoteLoss, standing, seconds, waiting };
}

function storedReport(status: VolumeStatus['stored']): StoredReport | undefined {
  if (status === undefined) return undefined;
  const { image, backlogBlocks, catchUp } = status;
  return {
    image,
    backlogBytes: backlogBlocks * BLOCK_SIZE,
    catchUp: catchUp && {
      why: catchUp.why,
      since: catchUp.since,
      bytes: catchUp.blocks * BLOCK_SIZE,
      openBytes: catchUp.openBlocks * BLOCK_SIZE,
      uploadedBytes: catchUp.copiedBytes,
    },
  };
}

function together(...reasons: readonly (string | undefined)[]): string | undefined {
  const known = reasons.filter((reason) => reason !== undefined);
  return known.length === 0 ? undefined : known.join('; ');
}

/** What the remote half has to say; undefined: it does not answer, which has its own way to be told. */
async function remoteStatus(remote: VolumeControl['remote'], clock: Clock): Promise<RemoteStatus | undefined> {
  const late = (): FarshoreError => new FarshoreError('retry', 'the remote half does not answer');
  try {
    return await inTime(clock, REMOTE_ANSWERS_WITHIN_MS, remote.status(), late);
  } catch (error) {
    if (!(error instanceof FarshoreError)) throw error;
    return undefined;
  }
}

function noteUsage(window: UsageWindow, status: VolumeStatus, far: RemoteStatus | undefined): void {
  const { writtenBytes, committedBytes } = status;
  const usage = far && {
    ...{ writtenBytes, sentBytes: far.uploadedBytes, fetchedBytes: far.downloadedBytes, requests: far.requests },
  };
  window.note(usage, committedBytes);
}
