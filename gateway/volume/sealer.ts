import { sleep, type CancelTimer, type Clock } from '../base/clock.ts';
import { describeError, FarshoreError, isKind } from '../base/errors.ts';
import type { BlockCount, BlockNumber, ByteCount, VersionNumber, WallMillis, WriteSeq } from '../base/units.ts';
import type { LogOp } from '../cache/log-op.ts';
import type { BlockRange } from '../cache/unmap-payload.ts';
import type { CommitBatch, Committed, RemoteVolume } from '../replication/remote-volume.ts';
import type { SealedBatch } from './batch-builder.ts';
import type { BlockState } from './block-state.ts';
import { DirtyBacklog, MAX_HELD_BLOCKS } from './dirty-backlog.ts';
import { CommitTimes, decideSeal, MAX_BATCHES_IN_FLIGHT, SEAL_BLOCKS } from './seal-policy.ts';
import { Unsettled, type SettledBatch } from './unsettled.ts';

/** Between attempts to read the log again. */
const REFILL_PAUSE_MS = 1_000;

export interface SealerSettings {
  /** Most data, by age, that the loss of the site may cost; see gatherMs. */
  readonly rpoMs: number;
  /** Dirty blocks that are kept in memory for batches; more are read from the log when it is their turn. */
  readonly heldBlocks?: BlockCount | undefined;
}

/** How soon what is in the log goes to the remote. */
export interface SealerPace {
  /** Somebody waits for everything: nothing is gathered that could go at once. */
  readonly isEager: boolean;
  /** Versions are made while the log is still being synced: every ack waits for the version (the fence, rule 6). */
  readonly isAheadOfSync: boolean;
}

const AT_LEISURE: SealerPace = { isEager: false, isAheadOfSync: false };

export interface SealerHooks {
  /** The remote has a new owner. */
  fenced(error: FarshoreError): void;
  /** Replication can't go on (damaged log, closed remote); the volume goes on serving until the cache is full. */
  failed(error: Error): void;
  /** A version was committed with so many blocks, which still count as dirty. */
  committed?(blocks: BlockCount): void;
  /** Everything up to it is in versions; called before any of it counts as clean. */
  reached?(throughSeq: WriteSeq): void;
  /** The newest version is another one. */
  advanced?(): void;
  /** A version was committed that says of these blocks, read from these places, that they are lost. */
  lost(blocks: readonly { readonly block: BlockNumber; readonly place: number }[]): void;
}

/** What else has to be so before a block that is in a version counts as clean: the image of a stored volume has it. */
export interface SettleGate {
  /** Through which write that is so. */
  through(): WriteSeq;
}

const OPEN_GATE: SettleGate = { through: () => Infinity };
const NONE_LOST: ReadonlySet<BlockNumber> = new Set();

/** Newest committed version of the volume. */
export interface CommittedVersion {
  readonly n: VersionNumber;
  readonly throughSeq: WriteSeq;
  /** undefined before the first commit since the volume was opened. */
  readonly at: WallMillis | undefined;
}

interface InFlight {
  readonly batch: SealedBatch;
  /** The version gives the volume this size. */
  readonly volumeBytes?: ByteCount;
  /** Called when the version is committed, in order. */
  readonly done?: () => void;
  /** Called instead when replication has stopped. */
  readonly failed?: (error: Error) => void;
  result: Committed | undefined;
  /** Lets the log drop what the batch points at. */
  readonly unpin: () => void;
}

interface FlushWaiter {
  readonly through: WriteSeq;
  readonly resolve: (committed: CommittedVersion) => void;
  readonly reject: (error: Error) => void;
}

/**
 * From logged operations to committed versions: collects them in order, seals them by the policy, has the log synced up to the batch
 * (rule 6 of the fence) and hands it to the remote; marks blocks clean when it is committed. Nothing runs while nothing is dirty.
 */
export class Sealer {
  readonly #clock: Clock;
  readonly #rpoMs: number;
  readonly #commitTimes: CommitTimes;
  readonly #hooks: SealerHooks;
  readonly #backlog: DirtyBacklog;
  readonly #inFlight: InFlight[] = [];
  readonly #waiters: FlushWaiter[] = [];
  readonly #unsettled = new Unsettled();
  #gate = OPEN_GATE;
  #state: BlockState | undefined;
  #remote: RemoteVolume | undefined;
  #committed: CommittedVersion = { n: 0, throughSeq: 0, at: undefined };
  #nextIndex = 1;
  #pumping = false;
  #urgent = false;
  #pace: SealerPace = AT_LEISURE;
  #lookPlanned = false;
  #cancelTimer: CancelTimer | undefined;
  #stopped: Error | undefined;
  /** Versions are made in another way now: nothing is handed to the remote here. */
  #isSuspended = false;
  readonly #idleWaiters: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];
  uploadedBytes: ByteCount = 0;
  /** Blocks of the log that versions have taken since the opening. */
  committedBlocks: BlockCount = 0;

  constructor(clock: Clock, settings: SealerSettings, hooks: SealerHooks) {
    this.#clock = clock;
    this.#rpoMs = settings.rpoMs;
    this.#commitTimes = new CommitTimes(settings.rpoMs);
    this.#backlog = new DirtyBacklog(clock, settings.heldBlocks ?? MAX_HELD_BLOCKS);
    this.#hooks = hooks;
  }

  get committed(): CommittedVersion {
    return this.#committed;
  }

  /** Why nothing is replicated any more. */
  get stoppedBy(): Error | undefined {
    return this.#stopped;
  }

  get batchesInFlight(): number {
    return this.#inFlight.length;
  }

  /** Arrival of the oldest write that no version has, on the monotonic clock; undefined when there is none. */
  get oldestMs(): number | undefined {
    return (
      this.#inFlight.find(({ volumeBytes }) => volumeBytes === undefined)?.batch.oldestMs ?? this.#backlog.oldestMs
    );
  }

  /** Recovery has told of all that is dirty; from now on batches go to the remote. */
  start(
    state: BlockState,
    remote: RemoteVolume,
    committed: CommittedVersion,
    gate: SettleGate = OPEN_GATE,
    unsettled: readonly SettledBatch[] = [],
  ): void {
    this.#gate = gate;
    for (const batch of unsettled) this.#unsettled.add(batch, state.log.index);
    this.#state = state;
    this.#remote = remote;
    this.#committed = committed;
    this.#look();
    this.#startPump();
  }

  /**
   * Hands nothing to the remote any more, until `resume`; batches that it has go on, and keep what they point at in the log. May be called before
   * `start`.
   */
  suspend(): void {
    if (this.#isSuspended) return;
    this.#isSuspended = true;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#backlog.suspend();
  }

  get isSuspended(): boolean {
    return this.#isSuspended;
  }

  /** Everything up to it is in a version, or in a batch that the remote has. */
  get handedThrough(): WriteSeq {
    return this.#inFlight.at(-1)?.batch.throughSeq ?? this.#committed.throughSeq;
  }

  /** Resolves when the remote has no batch; rejects when replication has stopped. */
  idle(): Promise<void> {
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped);
    if (this.#inFlight.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#idleWaiters.push({ resolve, reject });
    });
  }

  /** A version was made in the other way; what was replicated with it from the log is in `unsettled`. */
  noteCommitted(committed: CommittedVersion, unsettled: readonly SettledBatch[]): void {
    const state = this.#state;
    this.#hooks.reached?.(committed.throughSeq);
    if (state !== undefined) for (const batch of unsettled) this.#unsettled.add(batch, state.log.index);
    this.#advance(committed);
    this.settle();
  }

  /** Goes on behind what was handed over, or made a version in the other way. */
  resume(): void {
    if (!this.#isSuspended) return;
    this.#isSuspended = false;
    this.#backlog.resume(this.handedThrough);
    this.#look();
    this.#startPump();
  }

  /** Blocks that were written since the opening, each time they were. */
  get writtenBlocks(): BlockCount {
    return this.#backlog.writtenBlocks;
  }

  /** Dirty blocks whose places are in memory. */
  get heldBlocks(): BlockCount {
    return this.#backlog.heldBlocks;
  }

  /** The operation is in the log. */
  add(op: LogOp): void {
    const { batches } = this.#backlog;
    this.#backlog.add(op);
    if (this.#pace.isEager) {
      this.#lookSoon();
      return;
    }
    if (this.#backlog.batches > batches || this.#backlog.wantsRefill || !this.#isWaiting) this.#look();
  }

  /** Whether one operation more changes nothing: the batch has room, and goes when its timer ends, or when one before it is committed. */
  get #isWaiting(): boolean {
    const { batches, growing } = this.#backlog;
    if (growing.blocks >= SEAL_BLOCKS) return false;
    if (batches + this.#inFlight.length >= MAX_BATCHES_IN_FLIGHT) return true;
    return this.#cancelTimer !== undefined && !this.#urgent && this.#waiters.length === 0;
  }

  /** Recovery found a write that is not committed; in the order of sequences, before `start`. */
  dirtyWrite(seq: WriteSeq, wallSeconds: number, block: BlockNumber, places: readonly number[]): void {
    this.#backlog.addFoundWrite(seq, wallSeconds, block, places);
  }

  dirtyUnmap(seq: WriteSeq, wallSeconds: number, ranges: readonly BlockRange[]): void {
    this.#backlog.addFoundUnmap(seq, wallSeconds, ranges);
  }

  /** Resolves when everything up to `through`, which is in the log or on its way there, is in a committed version; rejects when replication has stopped. */
  flush(through: WriteSeq): Promise<CommittedVersion> {
    if (this.#committed.throughSeq >= through) return Promise.resolve(this.#committed);
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ through, resolve, reject });
      this.#look();
    });
  }

  /** Why no version can give the volume another size now. */
  refusalToResize(): Error | undefined {
    if (this.#stopped !== undefined) return this.#stopped;
    if (!this.#isSuspended) return undefined;
    const message = 'what is in the image is being replicated as one version; resize the volume when that is done';
    return new FarshoreError('busy', message);
  }

  /**
   * Commits a version that gives the volume another size, behind every batch that is on its way; `unmaps` read zeros from it on. Resolves when it
   * is committed; rejects when replication has stopped, and then only a later start tells what became of it.
   */
  resize(volumeBytes: ByteCount, unmaps: readonly BlockRange[]): Promise<void> {
    const remote = this.#remote;
    const refusal = this.refusalToResize();
    if (refusal !== undefined) return Promise.reject(refusal);
    if (remote === undefined) return Promise.reject(new FarshoreError('bug', 'a volume is resized when it is open'));
    const through = this.handedThrough;
    const batch: SealedBatch = {
      firstSeq: through,
      throughSeq: through,
      blocks: new Float64Array(0),
      places: new Float64Array(0),
      seqs: new Float64Array(0),
      unmaps: Float64Array.from(unmaps.flatMap(({ block, count }) => [block, count])),
      newestWriteAt: 0,
      oldestMs: 0,
    };
    return new Promise((done, failed) => {
      const inFlight: InFlight = { batch, volumeBytes, done, failed, result: undefined, unpin: () => undefined };
      this.#inFlight.push(inFlight);
      void this.#commit(remote, inFlight);
    });
  }

  /** How soon what is in the log goes to the remote, from now on. */
  setPace(pace: SealerPace): void {
    this.#pace = pace;
    this.#look();
    this.#startPump();
  }

  /** Writes wait for space: seal what there is. */
  hurry(): void {
    this.#urgent = true;
    this.#look();
  }

  /** Nothing more goes to the remote. */
  stop(error: Error): void {
    if (this.#stopped !== undefined) return;
    this.#stopped = error;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    for (const { reject } of this.#waiters.splice(0)) reject(error);
    for (const { failed, unpin } of this.#inFlight) {
      failed?.(error);
      unpin();
    }
    for (const { reject } of this.#idleWaiters.splice(0)) reject(error);
  }

  /** When all that was logged together has been added: it goes out together. */
  #lookSoon(): void {
    if (this.#lookPlanned) return;
    this.#lookPlanned = true;
    queueMicrotask(() => {
      this.#lookPlanned = false;
      this.#look();
    });
  }

  /** Asks the policy, and acts on it. */
  #look(): void {
    if (this.#state === undefined || this.#stopped !== undefined || this.#isSuspended) return;
    if (this.#backlog.wantsRefill) void this.#refill(this.#state);
    const { blocks, isEmpty, oldestMs, firstSeq } = this.#backlog.growing;
    const decision = decideSeal({
      blocks,
      isEmpty,
      ageMs: this.#clock.monotonicMs() - oldestMs,
      urgent: this.#urgent || this.#pace.isEager || this.#isAwaited(firstSeq),
      rpoMs: this.#rpoMs,
      commitMs: this.#commitTimes.worstMs,
      ahead: this.#backlog.batches + this.#inFlight.length,
    });
    if (decision.kind === 'seal') {
      this.#backlog.seal();
      this.#urgent = false;
      this.#cancelTimer?.();
      this.#cancelTimer = undefined;
    } else if (decision.kind === 'wait') {
      this.#cancelTimer ??= this.#clock.startTimer(decision.waitMs, () => {
        this.#cancelTimer = undefined;
        this.#look();
      });
    }
    if (this.#backlog.batches > 0) this.#startPump();
  }

  async #refill(state: BlockState): Promise<void> {
    try {
      await this.#backlog.refill(state);
    } catch (error) {
      // A disk that refuses to read now may not later, as long as it takes what is written.
      if (isKind(error, 'stopped') && state.cache.stoppedBy === undefined) await sleep(this.#clock, REFILL_PAUSE_MS);
      else this.fail(error instanceof Error ? error : new Error(String(error)));
    }
    this.#look();
  }

  #startPump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    void this.#pump();
  }

  async #pump(): Promise<void> {
    const state = this.#state;
    const remote = this.#remote;
    while (state !== undefined && remote !== undefined && this.#stopped === undefined && !this.#isSuspended) {
      const batch = this.#inFlight.length < MAX_BATCHES_IN_FLIGHT ? this.#backlog.next : undefined;
      if (batch === undefined) break;
      if (state.log.syncedThrough < batch.throughSeq) {
        const syncing = this.#sync(state);
        if (!this.#pace.isAheadOfSync) {
          await syncing;
          continue;
        }
      }
      this.#backlog.take();
      // Of a stored volume the log may drop what the image has, while the batch is on its way.
      const unpin = this.#gate === OPEN_GATE ? (): void => undefined : state.cache.pin(batch.places);
      const inFlight: InFlight = { batch, result: undefined, unpin };
      this.#inFlight.push(inFlight);
      void this.#commit(remote, inFlight);
    }
    this.#pumping = false;
  }

  /** Never rejects: a failure ends replication. */
  async #sync(state: BlockState): Promise<void> {
    try {
      await state.cache.sync(state.log);
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #isAwaited(seq: WriteSeq): boolean {
    return this.#waiters.some(({ through }) => through >= seq);
  }

  async #commit(remote: RemoteVolume, inFlight: InFlight): Promise<void> {
    const { firstSeq, throughSeq, blocks, places, seqs, unmaps, newestWriteAt } = inFlight.batch;
    const batch: CommitBatch = {
      index: this.#nextIndex++,
      firstSeq,
      throughSeq,
      blocks,
      places,
      seqs,
      unmaps,
      newestWriteAt,
      isAwaited: this.#pace.isEager || this.#isAwaited(firstSeq),
      ...(inFlight.volumeBytes === undefined ? {} : { volumeBytes: inFlight.volumeBytes }),
    };
    try {
      const sinceMs = this.#clock.monotonicMs();
      inFlight.result = await remote.commit(batch);
      this.#commitTimes.note(this.#clock.monotonicMs() - sinceMs);
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    for (let first = this.#inFlight[0]; first?.result !== undefined; first = this.#inFlight[0]) {
      this.#inFlight.shift();
      first.unpin();
      this.#noteCommitted(first.batch, first.result);
      first.done?.();
    }
    if (this.#inFlight.length === 0) for (const { resolve } of this.#idleWaiters.splice(0)) resolve();
    this.#look();
    this.#startPump();
  }

  #noteCommitted(batch: SealedBatch, result: Committed): void {
    const state = this.#state;
    if (state === undefined) return;
    const lost = result.lost.length === 0 ? NONE_LOST : new Set(result.lost);
    const { throughSeq, blocks, places } = batch;
    this.#hooks.committed?.(blocks.length);
    this.#hooks.reached?.(throughSeq);
    this.#unsettled.add({ throughSeq, blocks, places, lost }, state.log.index);
    this.settle();
    if (lost.size > 0) this.#noteLost(batch, lost);
    this.uploadedBytes += result.storedBytes;
    this.committedBlocks += blocks.length;
    this.#advance({ n: result.n, throughSeq, at: result.committedAt });
  }

  #advance(committed: CommittedVersion): void {
    this.#committed = committed;
    this.#hooks.advanced?.();
    for (let at = 0; at < this.#waiters.length;) {
      const waiter = this.#waiters[at];
      if (waiter === undefined || waiter.through > committed.throughSeq) at++;
      else {
        this.#waiters.splice(at, 1);
        waiter.resolve(this.#committed);
      }
    }
  }

  /** Marks clean what is in a version and through the gate; to be called when that has moved. */
  settle(): void {
    const state = this.#state;
    if (state === undefined) return;
    const { index } = state.log;
    const through = this.#gate.through();
    for (let first = this.#unsettled.take(through); first !== undefined; first = this.#unsettled.take(through)) {
      const { throughSeq, blocks, places, lost } = first;
      for (let at = 0; at < blocks.length; at++) {
        const block = blocks[at] ?? 0;
        const place = places[at] ?? 0;
        index.markClean(block, place);
        if (!lost.has(block)) state.noteReplicated(block, place);
      }
      state.cache.noteCommitted(state.log, throughSeq);
      state.noteCommitted();
    }
  }

  #noteLost({ blocks, places }: SealedBatch, lost: ReadonlySet<BlockNumber>): void {
    const found: { block: BlockNumber; place: number }[] = [];
    blocks.forEach((block, at) => {
      if (lost.has(block)) found.push({ block, place: places[at] ?? 0 });
    });
    this.#hooks.lost(found);
  }

  /** Replication can't go on. */
  fail(error: Error): void {
    if (this.#stopped !== undefined) return;
    this.stop(error);
    if (isKind(error, 'fenced')) this.#hooks.fenced(error);
    else
      this.#hooks.failed(
        new FarshoreError('stopped', `replication has stopped: ${describeError(error)}`, { cause: error }),
      );
  }
}
