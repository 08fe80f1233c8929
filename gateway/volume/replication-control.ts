import type { MaybePromise } from '../base/block-device.ts';
import type { CancelTimer, Clock } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { WriteSeq } from '../base/units.ts';
import type { OnRemoteLoss, ReplicationMode } from '../cloud/version-log.ts';
import type { BlockState } from './block-state.ts';
import type { Sealer, SealerPace } from './sealer.ts';

/** A remote that has not answered for so long, while somebody waits for it, counts as lost. Below the 30 s after which initiators abort. */
export const DEFAULT_REMOTE_LOSS_MS = 10_000;
/** A degraded volume acks as it should again when its oldest write that no version has is no older, or half as old as a remote that counts as lost. */
const CAUGHT_UP_MS = 1_000;

/** When writes and flushes are acked, and what becomes of them while the remote is lost; the design's table of modes. */
export interface Replication {
  readonly mode: ReplicationMode;
  readonly onRemoteLoss: OnRemoteLoss;
}

/**
 * - `in-force`    acks mean what the mode says
 * - `blocked`     so they do, and have been waiting for the remote for long
 * - `failing`     the same, and whoever comes now is refused
 * - `degraded`    acks mean what `async` says, until the remote has caught up
 * - `catching-up` acks mean what the mode says again; something that was acked before has yet to be committed
 */
export type Standing = 'in-force' | 'blocked' | 'failing' | 'degraded' | 'catching-up';

export interface ReplicationReport extends Replication {
  readonly standing: Standing;
  /** For so long. */
  readonly seconds: number;
  /** Writes and flushes that wait for a version. */
  readonly waiting: number;
}

export interface ReplicationControlDeps {
  readonly state: BlockState;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly diary: Log;
  readonly remoteLossMs: number;
  /** Whether the volume has an image: its log has to be on stable storage before versions are. */
  readonly hasImage: boolean;
  /** Acks everything that is held, logged, and not behind `through`. */
  publish(through: WriteSeq): void;
  /** What was logged is brought to stable storage. */
  syncLocally(): MaybePromise<void>;
}

interface FlushWaiter {
  readonly sinceMs: number;
  readonly resolve: (how: MaybePromise<void>) => void;
  readonly reject: (error: Error) => void;
}

/** Decides of one volume what an ack waits for: see Replication and Standing. */
export class ReplicationControl {
  /** Writes are acked, and seen, when a version has them; read for each write. */
  isHolding = false;
  readonly #deps: ReplicationControlDeps;
  readonly #flushes = new Set<FlushWaiter>();
  #replication: Replication;
  #standing: Standing = 'in-force';
  #sinceMs: number;
  /** Catching up ends when this is committed. */
  #returnThrough: WriteSeq = 0;
  #cancelTimer: CancelTimer | undefined;
  #closed = false;

  constructor(deps: ReplicationControlDeps, replication: Replication) {
    this.#deps = deps;
    this.#replication = replication;
    this.#sinceMs = deps.clock.monotonicMs();
  }

  /** The volume is open. What recovery found to be in no version may have been acked in any mode. */
  start(): void {
    this.#resume();
  }

  get report(): ReplicationReport {
    return {
      ...this.#replication,
      standing: this.#standing,
      seconds: (this.#deps.clock.monotonicMs() - this.#sinceMs) / 1000,
      waiting: this.#deps.state.pending.size + this.#flushes.size,
    };
  }

  /** Why writes, or only those that ask to be flushed with it, are refused now, before anything is done for them. */
  refusalOf(fua: boolean): FarshoreError | undefined {
    if (this.#standing !== 'failing') return undefined;
    return fua || this.#replication.mode === 'sync' ? this.#lost() : undefined;
  }

  /**
   * Another mode, at once; what was acked before has the guarantee of the new one when it has been caught up with. While nothing can be promised (an image
   * whose log has overflown) the volume is degraded: it is told what the table says already.
   */
  set(replication: Replication): void {
    const { diary } = this.#deps;
    diary.info({ ...replication, before: this.#replication }, 'the volume is replicated in another way');
    this.#replication = replication;
    this.#resume();
  }

  /** SYNCHRONIZE CACHE: resolves when everything acked is as safe as the mode says. Rejects as Sealer.flush, and with `unreplicated`. */
  flush(): MaybePromise<void> {
    const { state, sealer, clock } = this.#deps;
    if (this.#acksLocally) return this.#deps.syncLocally();
    // Behind a write that is held may be one that was acked while the volume held none.
    const through = this.#standing === 'in-force' ? state.visibleThrough : state.log.appendedThrough;
    if (sealer.committed.throughSeq >= through) return undefined;
    if (this.#standing === 'failing') return Promise.reject(this.#lost());
    return new Promise((resolve, reject) => {
      const waiter = { sinceMs: clock.monotonicMs(), resolve, reject };
      this.#flushes.add(waiter);
      this.#watch();
      sealer.flush(through).then(
        () => {
          if (this.#flushes.delete(waiter)) resolve();
        },
        (error: unknown) => {
          if (this.#flushes.delete(waiter)) reject(error instanceof Error ? error : new Error(String(error)));
        },
      );
    });
  }

  /** A held write is in the log. */
  noteHeld(): void {
    // One that was staged before the volume stopped holding writes.
    if (this.isHolding) this.#watch();
    else this.#deps.publish(Infinity);
  }

  /** Another version was committed. */
  advanced(): void {
    const { diary } = this.#deps;
    switch (this.#standing) {
      case 'in-force':
        return;
      case 'blocked':
      case 'failing':
        if (this.#isOverdue) return;
        diary.info(this.#replication, 'the far side answers again');
        this.#become(this.#hasReturned ? 'in-force' : 'catching-up');
        return;
      case 'degraded':
        if (this.#isCaughtUp) this.#resume();
        return;
      case 'catching-up':
        if (!this.#hasReturned) return;
        diary.info(this.#replication, 'everything that was acked is replicated as the mode says');
        this.#become('in-force');
        return;
    }
  }

  /** Replication has stopped, or has not answered for too long. */
  lose(): void {
    if (this.#replication.mode === 'async' || ['blocked', 'failing', 'degraded'].includes(this.#standing)) return;
    const { diary } = this.#deps;
    switch (this.#replication.onRemoteLoss) {
      case 'block':
        this.#become('blocked');
        diary.warn(this.#replication, 'the far side does not answer: writes or flushes of the volume wait for it');
        return;
      case 'fail':
        this.#become('failing');
        diary.error(this.#replication, 'the far side does not answer: writes or flushes of the volume fail');
        for (const waiter of this.#takeFlushes()) waiter.reject(this.#lost());
        return;
      case 'degrade':
        this.#become('degraded');
        diary.error(this.#replication, 'the far side does not answer: the volume acks what is only on this machine');
        this.#release();
        return;
    }
  }

  /** No timer is left behind. What waits is the owner's to end. */
  close(): void {
    this.#closed = true;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  get #acksLocally(): boolean {
    return this.#replication.mode === 'async' || this.#standing === 'degraded';
  }

  /** Acks mean what the mode says from now on; nothing that was acked before is said to be replicated until it is. */
  #resume(): void {
    const { state, sealer } = this.#deps;
    const { mode } = this.#replication;
    if (mode === 'async') this.#become('in-force');
    else if (sealer.isSuspended) this.#become('degraded');
    else {
      this.#returnThrough = state.log.assignedThrough;
      this.#become(this.#hasReturned ? 'in-force' : 'catching-up');
    }
    this.#watch();
    if (this.#acksLocally || mode === 'flush') this.#release();
    else {
      this.isHolding = true;
      sealer.setPace(this.#pace);
    }
  }

  /** Held writes are acked for what the log alone is worth, and so are flushes, if that is what acks mean now. */
  #release(): void {
    const { sealer } = this.#deps;
    this.isHolding = false;
    sealer.setPace(this.#pace);
    this.#deps.publish(Infinity);
    if (this.#acksLocally) for (const waiter of this.#takeFlushes()) waiter.resolve(this.#deps.syncLocally());
  }

  get #pace(): SealerPace {
    const isEager = this.isHolding || this.#standing === 'degraded';
    return { isEager, isAheadOfSync: this.isHolding && !this.#deps.hasImage };
  }

  #become(standing: Standing): void {
    if (standing === this.#standing) return;
    this.#standing = standing;
    this.#sinceMs = this.#deps.clock.monotonicMs();
  }

  #takeFlushes(): FlushWaiter[] {
    const waiters = [...this.#flushes];
    this.#flushes.clear();
    return waiters;
  }

  /** When the oldest of those that wait for the remote came. */
  get #oldestMs(): number | undefined {
    const { oldest } = this.#deps.state.pending;
    const [flush] = this.#flushes;
    if (oldest === undefined) return flush?.sinceMs;
    return Math.min(oldest.arrivedMs, flush?.sinceMs ?? Infinity);
  }

  get #isOverdue(): boolean {
    const oldest = this.#oldestMs;
    return oldest !== undefined && this.#deps.clock.monotonicMs() - oldest >= this.#deps.remoteLossMs;
  }

  get #hasReturned(): boolean {
    return this.#deps.sealer.committed.throughSeq >= this.#returnThrough;
  }

  get #isCaughtUp(): boolean {
    const { sealer, clock, remoteLossMs } = this.#deps;
    if (sealer.isSuspended) return false;
    // A line on which a commit takes long is not lost for that.
    const most = Math.max(CAUGHT_UP_MS, remoteLossMs / 2);
    return sealer.oldestMs === undefined || clock.monotonicMs() - sealer.oldestMs <= most;
  }

  /** Looks again when the oldest that waits has waited for too long, and while the volume is degraded, where the last commit may have come long ago. */
  #watch(): void {
    const { clock, remoteLossMs } = this.#deps;
    const oldest = this.#oldestMs;
    const isDegraded = this.#standing === 'degraded';
    if (this.#cancelTimer !== undefined || (oldest === undefined && !isDegraded) || this.#closed) return;
    const ms = isDegraded || oldest === undefined ? 0 : oldest + remoteLossMs - clock.monotonicMs();
    this.#cancelTimer = clock.startTimer(ms > 0 ? ms : CAUGHT_UP_MS, () => {
      this.#cancelTimer = undefined;
      if (this.#standing === 'degraded') this.advanced();
      else if (this.#isOverdue) this.lose();
      this.#watch();
    });
  }

  #lost(): FarshoreError {
    return new FarshoreError(
      'unreplicated',
      `the far side has not answered for ${this.#deps.remoteLossMs / 1000} s, and the volume is told to fail then (--on-remote-loss fail)`,
    );
  }
}
