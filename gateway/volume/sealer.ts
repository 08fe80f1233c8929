import type { CancelTimer, Clock } from '../base/clock.ts';
import { describeError, FarshoreError, isKind } from '../base/errors.ts';
import type { BlockCount, BlockNumber, ByteCount, VersionNumber, WallMillis, WriteSeq } from '../base/units.ts';
import { KIND_UNMAP } from '../cache/descriptor.ts';
import type { LogOp } from '../cache/log-op.ts';
import type { BlockRange } from '../cache/unmap-payload.ts';
import type { CommitBatch, Committed, RemoteVolume } from '../replication/remote-volume.ts';
import { BatchBuilder, type SealedBatch } from './batch-builder.ts';
import type { BlockState } from './block-state.ts';
import { decideSeal, MAX_BATCHES_IN_FLIGHT } from './seal-policy.ts';

export interface SealerHooks {
  /** The remote has a new owner. */
  fenced(error: FarshoreError): void;
  /** Replication can't go on (damaged log, closed remote); the volume goes on serving until the cache is full. */
  failed(error: Error): void;
}

/** Newest committed version of the volume. */
export interface CommittedVersion {
  readonly n: VersionNumber;
  readonly throughSeq: WriteSeq;
  /** undefined before the first commit since the volume was opened. */
  readonly at: WallMillis | undefined;
}

interface InFlight {
  readonly batch: SealedBatch;
  result: Committed | undefined;
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
  readonly #hooks: SealerHooks;
  readonly #builder = new BatchBuilder();
  readonly #sealed: SealedBatch[] = [];
  readonly #inFlight: InFlight[] = [];
  readonly #waiters: FlushWaiter[] = [];
  #state: BlockState | undefined;
  #remote: RemoteVolume | undefined;
  #committed: CommittedVersion = { n: 0, throughSeq: 0, at: undefined };
  #nextIndex = 1;
  #pumping = false;
  #urgent = false;
  #cancelTimer: CancelTimer | undefined;
  #stopped: Error | undefined;
  uploadedBytes: ByteCount = 0;

  constructor(clock: Clock, rpoMs: number, hooks: SealerHooks) {
    this.#clock = clock;
    this.#rpoMs = rpoMs;
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
    const oldest = this.#inFlight[0]?.batch ?? this.#sealed[0];
    if (oldest !== undefined) return oldest.oldestMs;
    return this.#builder.isEmpty ? undefined : this.#builder.oldestMs;
  }

  /** Recovery has told of all that is dirty; from now on batches go to the remote. */
  start(state: BlockState, remote: RemoteVolume, committed: CommittedVersion): void {
    this.#state = state;
    this.#remote = remote;
    this.#committed = committed;
    this.#look();
    this.#startPump();
  }

  /** The operation is in the log. */
  add(op: LogOp): void {
    if (op.kind === KIND_UNMAP) this.#addUnmap(op.seq, op.arrivedAt, op.arrivedMs, op.ranges);
    else this.#addWrite(op.seq, op.arrivedAt, op.arrivedMs, op.block, op.slots, (index) => op.placeAt(index));
    this.#look();
  }

  /** Recovery found a write that is not committed; in the order of sequences, before `start`. */
  dirtyWrite(seq: WriteSeq, wallSeconds: number, block: BlockNumber, places: readonly number[]): void {
    this.#addWrite(
      seq,
      wallSeconds * 1000,
      this.#arrivalMs(wallSeconds),
      block,
      places.length,
      (at) => places[at] ?? 0,
    );
  }

  dirtyUnmap(seq: WriteSeq, wallSeconds: number, ranges: readonly BlockRange[]): void {
    this.#addUnmap(seq, wallSeconds * 1000, this.#arrivalMs(wallSeconds), ranges);
  }

  /** Resolves when everything up to `through`, which is in the log, is in a committed version; rejects when replication has stopped. */
  flush(through: WriteSeq): Promise<CommittedVersion> {
    if (this.#committed.throughSeq >= through) return Promise.resolve(this.#committed);
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ through, resolve, reject });
      this.#look();
    });
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
  }

  #addWrite(
    seq: WriteSeq,
    at: WallMillis,
    ms: number,
    block: BlockNumber,
    count: BlockCount,
    placeAt: (index: number) => number,
  ): void {
    if (!this.#builder.isEmpty && !this.#builder.fitsWrite(block, count)) this.#seal();
    this.#builder.addWrite(seq, at, ms, block, count, placeAt);
  }

  #addUnmap(seq: WriteSeq, at: WallMillis, ms: number, ranges: readonly BlockRange[]): void {
    if (!this.#builder.isEmpty && !this.#builder.fitsUnmap(ranges.length)) this.#seal();
    this.#builder.addUnmap(seq, at, ms, ranges);
  }

  #arrivalMs(wallSeconds: number): number {
    return this.#clock.monotonicMs() - Math.max(0, this.#clock.now() - wallSeconds * 1000);
  }

  #seal(): void {
    this.#sealed.push(this.#builder.seal());
  }

  /** Asks the policy, and acts on it. */
  #look(): void {
    if (this.#state === undefined || this.#stopped !== undefined) return;
    const decision = decideSeal({
      blocks: this.#builder.blocks,
      isEmpty: this.#builder.isEmpty,
      ageMs: this.#clock.monotonicMs() - this.#builder.oldestMs,
      urgent: this.#urgent || this.#waiters.some(({ through }) => through >= this.#builder.firstSeq),
      rpoMs: this.#rpoMs,
      ahead: this.#sealed.length + this.#inFlight.length,
    });
    if (decision.kind === 'seal') {
      this.#seal();
      this.#urgent = false;
      this.#cancelTimer?.();
      this.#cancelTimer = undefined;
    } else if (decision.kind === 'wait') {
      this.#cancelTimer ??= this.#clock.startTimer(decision.waitMs, () => {
        this.#cancelTimer = undefined;
        this.#look();
      });
    }
    if (this.#sealed.length > 0) this.#startPump();
  }

  #startPump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    void this.#pump();
  }

  async #pump(): Promise<void> {
    const state = this.#state;
    const remote = this.#remote;
    while (state !== undefined && remote !== undefined && this.#stopped === undefined) {
      const batch = this.#inFlight.length < MAX_BATCHES_IN_FLIGHT ? this.#sealed[0] : undefined;
      if (batch === undefined) break;
      if (state.log.syncedThrough < batch.throughSeq) {
        try {
          await state.cache.sync(state.log);
        } catch (error) {
          this.#fail(error instanceof Error ? error : new Error(String(error)));
        }
        continue;
      }
      this.#sealed.shift();
      const inFlight: InFlight = { batch, result: undefined };
      this.#inFlight.push(inFlight);
      void this.#commit(remote, inFlight);
    }
    this.#pumping = false;
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
    };
    try {
      inFlight.result = await remote.commit(batch);
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    for (let first = this.#inFlight[0]; first?.result !== undefined; first = this.#inFlight[0]) {
      this.#inFlight.shift();
      this.#noteCommitted(first.batch, first.result);
    }
    this.#look();
    this.#startPump();
  }

  #noteCommitted(batch: SealedBatch, result: Committed): void {
    const state = this.#state;
    if (state === undefined) return;
    const { index } = state.log;
    for (let at = 0; at < batch.blocks.length; at++) index.markClean(batch.blocks[at] ?? 0, batch.places[at] ?? 0);
    this.uploadedBytes += result.storedBytes;
    this.#committed = { n: result.n, throughSeq: batch.throughSeq, at: result.committedAt };
    state.cache.noteCommitted(state.log, batch.throughSeq);
    state.noteCommitted();
    for (let at = 0; at < this.#waiters.length;) {
      const waiter = this.#waiters[at];
      if (waiter === undefined || waiter.through > batch.throughSeq) at++;
      else {
        this.#waiters.splice(at, 1);
        waiter.resolve(this.#committed);
      }
    }
  }

  #fail(error: Error): void {
    if (this.#stopped !== undefined) return;
    this.stop(error);
    if (isKind(error, 'fenced')) this.#hooks.fenced(error);
    else
      this.#hooks.failed(
        new FarshoreError('stopped', `replication has stopped: ${describeError(error)}`, { cause: error }),
      );
  }
}
