import { FarshoreError } from '../base/errors.ts';
import { MIB, type ByteCount, type WriteSeq } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import type { VolumeLog } from './volume-log.ts';

/**
 * So much is written before a sync begins by itself: far less than what makes the kernel hold writers up until it has written some of it
 * (vm.dirty_ratio), because the writer is the thread that serves everybody.
 */
const MAX_UNSYNCED_BYTES: ByteCount = 64 * MIB;

export interface SyncHooks {
  readonly chunks: () => Iterable<Chunk>;
  readonly volumes: () => Iterable<VolumeLog>;
  /** A round has gone well, and the marks of the volumes are raised. */
  readonly synced: () => void;
  /** A sync failed: the log can't go on. */
  failed(error: FarshoreError): void;
}

/**
 * fdatasync of every chunk with unsynced writes, shared: callers that come while one round runs share the next. After a failure
 * nothing is synced again, because the kernel may have dropped the pages it could not write and would report success.
 */
export class SyncGroup {
  readonly #hooks: SyncHooks;
  #current: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #last: Promise<void> | undefined;
  #hasFailed = false;
  #stopped: FarshoreError | undefined;
  #unsyncedBytes: ByteCount = 0;
  rounds = 0;

  constructor(hooks: SyncHooks) {
    this.#hooks = hooks;
  }

  /** Resolves when everything appended before the call is on stable storage; rejects with `stopped`. */
  sync(): Promise<void> {
    // A next round that has not begun is joined even when the one before it has just ended: two rounds side by side would each see only
    // some of the chunks as unsynced, and the one that sees none would answer before the other's fdatasync has.
    if (this.#next !== undefined) return this.#next;
    if (this.#current === undefined) return this.#start();
    this.#next = this.#current.then(
      () => this.#start(),
      () => this.#start(),
    );
    return this.#next;
  }

  /** So much more lies in the page cache. */
  noteWritten(bytes: ByteCount): void {
    this.#unsyncedBytes += bytes;
    if (this.#unsyncedBytes < MAX_UNSYNCED_BYTES || this.#stopped !== undefined) return;
    if (this.#current !== undefined || this.#next !== undefined) return;
    // Whoever it concerns hears of a failure from the hook.
    this.#start().catch(() => undefined);
  }

  /**
   * As `sync`, of a log that takes nothing any more: what was appended before it was stopped is whole, and need not be left to the page cache. Rejects
   * where a sync has failed.
   */
  last(): Promise<void> {
    const before = Promise.allSettled([this.#current, this.#next, this.#last]);
    this.#last = before.then(() => this.#round(true));
    return this.#last;
  }

  /** No sync but the last ones succeeds from now on. */
  stop(error: FarshoreError): void {
    this.#stopped ??= error;
  }

  #start(): Promise<void> {
    this.#next = undefined;
    const round = this.#round().finally(() => {
      if (this.#current === round) this.#current = undefined;
    });
    this.#current = round;
    return round;
  }

  async #round(isLast = false): Promise<void> {
    if (this.#stopped !== undefined && (this.#hasFailed || !isLast)) throw this.#stopped;
    const marks: [VolumeLog, WriteSeq][] = [...this.#hooks.volumes()].map((log) => [log, log.appendedThrough]);
    const chunks = [...this.#hooks.chunks()].filter((chunk) => chunk.unsynced);
    for (const chunk of chunks) chunk.unsynced = false;
    this.#unsyncedBytes = 0;
    this.rounds++;
    const outcomes = await Promise.allSettled(chunks.map((chunk) => chunk.file.sync()));
    const failure = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failure !== undefined) {
      const error = new FarshoreError('stopped', 'the cache log has stopped: the disk could not make it durable', {
        cause: failure.reason,
      });
      this.#stopped ??= error;
      this.#hasFailed = true;
      this.#hooks.failed(error);
      throw error;
    }
    // An append that failed meanwhile has stopped the log; what was appended before it is durable all the same.
    for (const [log, through] of marks) log.syncedThrough = Math.max(log.syncedThrough, through);
    this.#hooks.synced();
  }
}
