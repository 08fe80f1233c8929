import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { sleep } from '../base/clock.ts';
import { FarshoreError, assertNever, describeError, invariant, isKind } from '../base/errors.ts';
import type { ByteCount, Epoch, VersionNumber, WallMillis, WriteSeq } from '../base/units.ts';
import type { VersionItem, VolumeItem } from '../cloud/version-log.ts';
import { chainAfter, encodeRecord } from '../format/version-record.ts';
import type { VersionRecord } from '../format/version-record.ts';
import { entryOf, viewOf } from '../maintenance/walk.ts';
import { backoffMs } from './fence-backoff.ts';
import { MAX_PIPELINED_PUTS } from './fence-machine.ts';
import type { FenceEffect, FenceEvent, FenceMachine, FenceState } from './fence-machine.ts';
import { takeOver, takeoverFailure } from './fence-takeover.ts';
import type { FenceDeps, RecordTimes, TakeoverRequest } from './fence-takeover.ts';
import { volumeName } from './volume-name.ts';

/** Versions sealed and not yet committed; above it `reserve` answers `busy`. */
export const MAX_SEALED_VERSIONS = 256;

/** Whoever uploaded a segment soon puts its version: so often, and this far apart, it is looked for. */
const COPY_LOOKS = 4;
const COPY_PAUSE_MS = 2_000;

/** What the caller knows of a version; the writer adds volume, n, epoch, logId and sealedAt. */
export type VersionFields = Omit<VersionRecord, 'volume' | 'n' | 'epoch' | 'logId' | 'sealedAt'>;

/** The place of the next version, known before its bytes are. Seal or release it before the next one is reserved. */
export interface VersionSlot {
  readonly n: VersionNumber;
  readonly epoch: Epoch;
  readonly logId: string;
  readonly previousChain: Buffer;
  /** Time that the record will carry: now, but never before its predecessor's. */
  readonly sealedAt: WallMillis;
  /** The record's newestWriteAt will be at least this. */
  readonly newestWriteNotBefore: WallMillis;
  /** Fixes the bytes of the version. They are sent once `markReady` was called here and on every version before. */
  seal(fields: VersionFields, inline?: Buffer): SealedVersion;
  /** Gives the place back; nothing was sent. */
  release(): void;
}

export interface SealedVersion {
  readonly n: VersionNumber;
  readonly chain: Buffer;
  /**
   * Resolves, in the order of n, when this and every earlier version is in the log. Rejects with `fenced`, `damaged` or `stopped`, which
   * says that nobody knows: the version may have been put, and only the walk of a later takeover tells.
   */
  readonly committed: Promise<void>;
  /** Rule 6: to be called when the segment or manifest is in S3 (at once for inline or none). Idempotent. */
  markReady(): void;
}

export interface LastCommitted {
  readonly n: VersionNumber;
  readonly epoch: Epoch;
  readonly chain: Buffer;
  /** When the answer came. */
  readonly at: WallMillis;
}

interface Pending {
  readonly item: VersionItem;
  readonly throughSeq: WriteSeq;
  readonly resolve: () => void;
  readonly reject: (error: FarshoreError) => void;
  ready: boolean;
  failures: number;
}

/**
 * The only writer of versions: drives the fence machine over the VersionLog. One put per version and no reads in the
 * ordinary case; up to MAX_PIPELINED_PUTS under way, each repeated with the same bytes until it is answered.
 */
export class VersionWriter {
  readonly epoch: Epoch;
  /** As re-read after the takeover. */
  readonly item: VolumeItem;
  readonly takeoverN: VersionNumber;
  /** Resolves once, when the writer has ended: with `fenced`, `damaged`, or `stopped` after close. */
  readonly stopped: Promise<FarshoreError>;

  readonly #deps: FenceDeps;
  readonly #request: TakeoverRequest;
  readonly #machine: FenceMachine<VersionItem>;
  readonly #abort = new AbortController();
  #state: FenceState;
  #times: RecordTimes;
  #volumeBytes: ByteCount;
  #sealed: { n: VersionNumber; chain: Buffer };
  #unsealed = false;
  /** From the first uncommitted n to the last sealed one. */
  readonly #pending = new Map<VersionNumber, Pending>();
  /** The last version handed to the machine. */
  #sentN: VersionNumber;
  #last: LastCommitted;
  /** As `stopped` found them: sent, or about to be, and not known to be committed. */
  #left: readonly Pending[] = [];
  #lastThroughSeq: WriteSeq = 0;
  #ended: FarshoreError | undefined;
  #announceEnd: (error: FarshoreError) => void = () => undefined;

  private constructor(deps: FenceDeps, request: TakeoverRequest, taken: Awaited<ReturnType<typeof takeOver>>) {
    const { committed } = taken.state;
    this.epoch = taken.state.epoch;
    this.item = taken.item;
    this.takeoverN = committed.n;
    this.stopped = new Promise((resolve) => {
      this.#announceEnd = resolve;
    });
    // Each put that waits to be repeated listens for the end.
    setMaxListeners(2 * MAX_PIPELINED_PUTS, this.#abort.signal);
    this.#deps = deps;
    this.#request = request;
    this.#machine = taken.machine;
    this.#state = taken.state;
    this.#times = taken.times;
    this.#volumeBytes = taken.bytes;
    this.#sealed = { n: committed.n, chain: Buffer.from(committed.chain, 'hex') };
    this.#sentN = committed.n;
    this.#last = { ...this.#sealed, epoch: this.epoch, at: deps.clock.now() };
  }

  /**
   * Rules 2 and 5: raises the epoch (the old owner is told first), walks the log from the checkpoint, puts the takeover record, with
   * the volume item re-read before and after. `onRestart` begins every walk, `onRecord` gives each record. Rejects with `fenced`, `not-found`,
   * `retry` (call again: a new epoch), `damaged`, `input`, `stopped` (aborted).
   */
  static async takeOver(deps: FenceDeps, request: TakeoverRequest): Promise<VersionWriter> {
    return new VersionWriter(deps, request, await takeOver(deps, request));
  }

  /** Throws `busy` when MAX_SEALED_VERSIONS wait for their commit, and what `stopped` resolved with after the end. */
  reserve(): VersionSlot {
    if (this.#ended) throw this.#ended;
    invariant(!this.#unsealed, 'the version reserved before is neither sealed nor released');
    if (this.#pending.size >= MAX_SEALED_VERSIONS)
      throw new FarshoreError('busy', `${MAX_SEALED_VERSIONS} versions of ${this.#name} wait for commit`);
    this.#unsealed = true;
    let open = true;
    const leave = (): void => {
      invariant(open, 'a version is sealed or released once');
      open = false;
      this.#unsealed = false;
    };
    const n = this.#sealed.n + 1;
    const sealedAt = Math.max(this.#times.sealedAt, this.#deps.clock.now());
    return {
      n,
      epoch: this.epoch,
      logId: this.#request.logId,
      previousChain: this.#sealed.chain,
      sealedAt,
      newestWriteNotBefore: this.#times.newestWriteAt,
      seal: (fields, inline = Buffer.alloc(0)) => {
        leave();
        return this.#seal(n, sealedAt, fields, inline);
      },
      release: leave,
    };
  }

  /** Reserves and seals in one step, for versions whose payload does not hold its own place; `ready` as markReady. */
  append(
    fields: VersionFields,
    options: { readonly inline?: Buffer; readonly ready?: Promise<void> } = {},
  ): SealedVersion {
    const sealed = this.reserve().seal(fields, options.inline);
    if (!options.ready) sealed.markReady();
    else
      options.ready.then(
        () => {
          sealed.markReady();
        },
        (error: unknown) => {
          this.#end(asEnd(error));
        },
      );
    return sealed;
  }

  /** The takeover record at first. */
  lastCommitted(): LastCommitted {
    return this.#last;
  }

  /** Size of the volume as of the last sealed version. */
  get volumeBytes(): ByteCount {
    return this.#volumeBytes;
  }

  /** Of the local log that versions are made from. */
  get logId(): string {
    return this.#request.logId;
  }

  /** Versions sealed and not yet committed. */
  get uncommitted(): number {
    return this.#pending.size;
  }

  /**
   * After a fence notice (which is left before the epoch is raised, so it proves nothing): reads the volume item and ends the writer
   * if the epoch is no longer its own. Resolves with whether it still is; rejects with `retry`, `input`, `damaged` as the table does.
   */
  async confirmOwnership(): Promise<boolean> {
    if (!this.#isOpen()) return false;
    const item = await this.#deps.versions.getVolume(this.#request.ref);
    this.#dispatch({ type: 'volume', view: item && viewOf(item) });
    return this.#isOpen();
  }

  /**
   * A segment of ours holds other bytes, although its number was given to nobody else: was it a copy of us (a machine that was rolled back with
   * its memory, or cloned) that used it? Ends the writer with what it was: `fenced` when the epoch is not ours any more or a version of ours is
   * somebody else's, else `damaged`. Rejects as the table does.
   */
  async accountFor(cause: FarshoreError, n: VersionNumber): Promise<FarshoreError> {
    const { ref } = this.#request;
    for (let look = 1; (await this.confirmOwnership()) && look <= COPY_LOOKS; look += 1) {
      const pending = this.#pending.get(n);
      const there = await this.#deps.versions.getVersion(ref.volume, n);
      if (there !== undefined && there.epoch >= this.epoch && pending?.item.chain.equals(there.chain) === false) {
        const message = `a copy of this gateway writes to ${this.#name}: it has put version ${n} and ${cause.message} Stop one of the two, and restart the other`;
        this.#end(new FarshoreError('fenced', message, { cause }));
      } else if (look < COPY_LOOKS) await sleep(this.#deps.clock, COPY_PAUSE_MS, this.#abort.signal);
    }
    this.#end(new FarshoreError('damaged', `${this.#name}: ${cause.message}`, { cause }));
    return this.#ended ?? cause;
  }

  /**
   * Once it has ended: the last write of its versions that is in the history (0: none of this epoch's), now that nothing can be added any more. That is so when the
   * record of a later epoch follows: whatever of ours lands behind it finds it there, or is no part of the log (rule 1). Rejects with `retry` until
   * then, `not-found` when the log has lost the place or the taker may go on from the same local log, and as the table does.
   */
  async provenThrough(): Promise<WriteSeq> {
    invariant(this.#ended, 'a writer that goes on proves nothing');
    const { ref } = this.#request;
    let { chain } = this.#last;
    let through = this.#lastThroughSeq;
    for (let n = this.#last.n + 1; ; n += 1) {
      const there = await this.#deps.versions.getVersion(ref.volume, n);
      const ours = this.#left[n - this.#last.n - 1];
      if (there !== undefined && ours?.item.chain.equals(there.chain) === true) {
        ({ chain } = ours.item);
        through = ours.throughSeq;
      } else if (
        there !== undefined &&
        there.epoch > this.epoch &&
        chainAfter(chain, there.record).equals(there.chain)
      ) {
        await this.#requireForeign(there.epoch);
        return through;
      } else {
        const item = await this.#deps.versions.getVolume(ref);
        if (item === undefined || item.floor >= n)
          throw new FarshoreError('not-found', `version ${n} of ${this.#name} is not kept any more`);
        throw new FarshoreError('retry', `nobody has gone on from version ${n - 1} of ${this.#name} yet`);
      }
    }
  }

  /**
   * A copy of this gateway (its state directory restored, its machine cloned) that takes over has the same local log, and makes versions of what is in it. So
   * nothing is proven unless the one taker there was is known to be another gateway.
   */
  async #requireForeign(taker: Epoch): Promise<void> {
    const { ref, gateway } = this.#request;
    const item = await this.#deps.versions.getVolume(ref);
    if (item?.epoch === taker && item.owner !== gateway) return;
    throw new FarshoreError('not-found', `whoever took ${this.#name} over may have the local log of this gateway`);
  }

  /** Pending versions reject with `stopped`; what was sent may still land. Idempotent. */
  close(): void {
    this.#end(new FarshoreError('stopped', `writing versions of ${this.#name} has been stopped`));
  }

  get #name(): string {
    return volumeName(this.#request.ref, this.item.name);
  }

  #isOpen(): boolean {
    return this.#ended === undefined;
  }

  #seal(n: VersionNumber, sealedAt: WallMillis, fields: VersionFields, inline: Buffer): SealedVersion {
    if (this.#ended) throw this.#ended;
    checkInline(fields, inline);
    const newestWriteAt = Math.max(this.#times.newestWriteAt, fields.newestWriteAt);
    const { ref, logId } = this.#request;
    const record = encodeRecord({
      ...fields,
      volume: ref.volume,
      n,
      epoch: this.epoch,
      logId,
      newestWriteAt,
      sealedAt,
    });
    const chain = chainAfter(this.#sealed.chain, record);
    this.#times = { newestWriteAt, sealedAt };
    this.#volumeBytes = fields.volumeBytes;
    this.#sealed = { n, chain };
    const committed = new Promise<void>((resolve, reject) => {
      const item = { n, epoch: this.epoch, record, chain, inline };
      const { throughSeq } = fields;
      this.#pending.set(n, { item, throughSeq, resolve, reject, ready: false, failures: 0 });
    });
    // Whoever does not wait for it learns the same from `stopped`.
    committed.catch(() => undefined);
    const markReady = (): void => {
      const pending = this.#pending.get(n);
      if (!pending || pending.ready) return;
      pending.ready = true;
      this.#sendReady();
    };
    return { n, chain, committed, markReady };
  }

  /** In order: a put beyond one that is not even sent gains nothing, since versions commit in order. */
  #sendReady(): void {
    while (this.#state.phase === 'active' && this.#state.puts.length < MAX_PIPELINED_PUTS) {
      const pending = this.#pending.get(this.#sentN + 1);
      if (!pending?.ready) return;
      this.#sentN += 1;
      this.#dispatch({ type: 'send', n: this.#sentN, chain: pending.item.chain.toString('hex') });
    }
  }

  #dispatch(event: FenceEvent<VersionItem>): void {
    if (this.#ended) return;
    const { state, effects } = this.#machine.next(this.#state, event);
    this.#state = state;
    for (const effect of effects) this.#execute(effect);
    if (state.phase === 'stopped') this.#end(takeoverFailure(this.#name, state.why));
  }

  #execute(effect: FenceEffect): void {
    switch (effect.type) {
      case 'put':
        this.#guard(this.#put(effect.n, effect.previousEpoch, effect.again));
        return;
      case 'read':
        this.#guard(this.#readBack(effect.n));
        return;
      case 'committed':
        this.#commit(effect.n);
        return;
      case 'accepted':
      case 'active':
      case 'compose':
      case 'list':
      case 'notify':
      case 'raise':
      case 'read-volume':
      case 'restart':
        throw new FarshoreError('bug', `an active writer has no business with '${effect.type}'`);
      default:
        assertNever(effect);
    }
  }

  async #put(n: VersionNumber, previousEpoch: Epoch, again: boolean): Promise<void> {
    const pending = this.#pending.get(n);
    invariant(pending, `version ${n} is pending`);
    if (again) await this.#pause(pending);
    if (this.#ended) return;
    let outcome: 'ok' | 'conflict' | 'unknown';
    try {
      outcome = await this.#deps.versions.putVersion(this.#request.ref.volume, pending.item, previousEpoch);
    } catch (error) {
      this.#unanswered(pending, error);
      outcome = 'unknown';
    }
    this.#dispatch({ type: 'put-answer', n, outcome });
  }

  async #readBack(n: VersionNumber): Promise<void> {
    const pending = this.#pending.get(n);
    invariant(pending, `version ${n} is pending`);
    while (!this.#ended) {
      try {
        const there = await this.#deps.versions.getVersion(this.#request.ref.volume, n);
        this.#dispatch({ type: 'found', n, there: there && entryOf(there) });
        return;
      } catch (error) {
        this.#unanswered(pending, error);
        await this.#pause(pending);
      }
    }
  }

  /** Passing trouble never ends a writer, and neither does a refusal that an administrator can mend. */
  #unanswered(pending: Pending, error: unknown): void {
    if (!isKind(error, 'retry', 'input', 'busy')) throw error;
    pending.failures += 1;
    const fields = {
      volume: this.#request.ref.volume,
      name: this.item.name,
      n: pending.item.n,
      failures: pending.failures,
      err: error,
    };
    if (error.kind === 'input') this.#deps.log.error(fields, 'the table refuses a version; trying again');
    else this.#deps.log.warn(fields, 'no answer for a version; trying again');
  }

  #pause(pending: Pending): Promise<void> {
    return sleep(this.#deps.clock, backoffMs(Math.max(pending.failures, 1), this.#deps.random), this.#abort.signal);
  }

  #commit(throughN: VersionNumber): void {
    const at = this.#deps.clock.now();
    for (const [n, pending] of this.#pending) {
      if (n > throughN) break;
      this.#pending.delete(n);
      this.#last = { n, epoch: this.epoch, chain: pending.item.chain, at };
      this.#lastThroughSeq = pending.throughSeq;
      pending.resolve();
    }
    this.#sendReady();
  }

  /** What a task of its own fails with ends the writer. */
  #guard(task: Promise<void>): void {
    task.catch((error: unknown) => {
      this.#end(asEnd(error));
    });
  }

  #end(error: FarshoreError): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#abort.abort();
    this.#left = [...this.#pending.values()];
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    this.#announceEnd(error);
  }
}

function checkInline(fields: VersionFields, inline: Buffer): void {
  if (fields.payload.kind !== 'inline') {
    invariant(inline.length === 0, 'inline bytes belong to an inline payload');
    return;
  }
  const digest = createHash('sha256').update(inline).digest();
  invariant(digest.equals(fields.payload.digest), 'inline bytes are what their digest says');
}

function asEnd(error: unknown): FarshoreError {
  if (error instanceof FarshoreError) return error;
  return new FarshoreError('bug', describeError(error), { cause: error });
}
