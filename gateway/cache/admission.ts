import type { CancelTimer, Clock } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { MaybePromise } from '../base/block-device.ts';
import { FREE_SHARE, writeDelayMs } from './pressure.ts';

/** Slots admitted and not yet placed (64 MiB of data in the callers' hands). */
const MAX_STAGED_SLOTS = 16_384;

/** Beyond it a write is told `busy` at once. */
const MAX_WAITERS = 4096;

/** A timer could not do shorter ones. */
const TICK_MS = 0.5;

const AT_ONCE = Promise.resolve();

interface Waiter {
  readonly slots: number;
  readonly arrivedMs: number;
  readonly admit: () => void;
  readonly refuse: (error: FarshoreError) => void;
}

/** The writes of one volume that wait, oldest first. */
class Queue<Writer> {
  readonly writer: Writer;
  readonly waiters: Waiter[] = [];
  timer: { readonly atMs: number; readonly cancel: CancelTimer } | undefined;

  constructor(writer: Writer) {
    this.writer = writer;
  }
}

export interface AdmissionHooks<Writer> {
  /** Slots that could be placed now, reserved ones included. */
  space(): number;
  /** How much of the cache is dirty, 0 to 1. */
  share(): number;
  /** How much of that is the writer's doing, 0 to 1: 1 has more than its part. */
  weight(writer: Writer): number;
  /** Whether what is left is kept for the others, because the writer has more than its part. */
  isKeptFrom(writer: Writer): boolean;
  /** Something has to wait for room: make some. */
  pressed(): void;
}

/**
 * Back-pressure. A write reserves its slots before it gets a sequence, so that whatever is staged can be placed. While much of the cache is dirty
 * it is held back by writeDelayMs, counted from its arrival and by the share of now, so that it is let in early when the cloud has caught up; when the log is full it
 * waits for room, and is told `busy` after a bounded time. Nobody holds a lock meanwhile. Writes of one volume are let in in the order of their arrival;
 * among volumes the oldest that may goes first, and a large one is not overtaken for ever by small ones.
 */
export class Admission<Writer extends object> {
  readonly #clock: Clock;
  readonly #maxWaitMs: number;
  readonly #hooks: AdmissionHooks<Writer>;
  readonly #queues = new Map<Writer, Queue<Writer>>();
  #waiting = 0;
  #refused = 0;
  #reserved = 0;
  #isShort = false;
  #stopped: FarshoreError | undefined;

  constructor(clock: Clock, maxWaitMs: number, hooks: AdmissionHooks<Writer>) {
    this.#clock = clock;
    this.#maxWaitMs = maxWaitMs;
    this.#hooks = hooks;
  }

  get reserved(): number {
    return this.#reserved;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** Writes that were told `busy`, so far. */
  get refused(): number {
    return this.#refused;
  }

  /** Somebody waits for room, and not only because of the share. */
  get isShort(): boolean {
    return this.#isShort;
  }

  /** How long a write of the volume that comes now is held back. */
  delayMs(writer: Writer): number {
    const share = this.#hooks.share();
    return share <= FREE_SHARE ? 0 : writeDelayMs(share, this.#hooks.weight(writer));
  }

  /** Reserves the slots if nothing and nobody has to be waited for. */
  reserveAtOnce(slots: number, writer: Writer): boolean {
    if (this.#stopped !== undefined) return false;
    const isFirst = this.#queues.size === 0 || (!this.#isShort && !this.#queues.has(writer));
    if (!isFirst || this.delayMs(writer) > TICK_MS || !this.#fits(slots, writer)) return false;
    this.#reserved += slots;
    return true;
  }

  /** undefined when the slots are reserved at once; rejects with `busy` or `stopped`. */
  reserve(slots: number, writer: Writer): MaybePromise<void> {
    if (this.reserveAtOnce(slots, writer)) return undefined;
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped);
    if (this.#waiting >= MAX_WAITERS) return Promise.reject(this.#busy());
    return new Promise((resolve, reject) => {
      let queue = this.#queues.get(writer);
      if (queue === undefined) {
        queue = new Queue(writer);
        this.#queues.set(writer, queue);
      }
      queue.waiters.push({ slots, arrivedMs: this.#clock.monotonicMs(), admit: resolve, refuse: reject });
      this.#waiting++;
      if (queue.waiters.length === 1) this.poke();
    });
  }

  /** The slots were placed, or are not needed after all. */
  release(slots: number): void {
    this.#reserved -= slots;
    this.poke();
  }

  /** Lets in who may. Called when there may be more room, or less is dirty. */
  poke(): void {
    if (this.#waiting === 0) return;
    const nowMs = this.#clock.monotonicMs();
    let isShort = false;
    for (let next = this.#nextDue(nowMs); next !== undefined; next = this.#nextDue(nowMs)) {
      const first = next.waiters[0];
      if (first === undefined) break;
      if (this.#fits(first.slots, next.writer)) {
        this.#reserved += first.slots;
        first.admit();
        this.#leave(next);
      } else if (nowMs - first.arrivedMs >= this.#maxWaitMs) {
        this.#leave(next);
        first.refuse(this.#busy());
      } else {
        isShort = true;
        break;
      }
    }
    this.#isShort = isShort;
    for (const queue of this.#queues.values()) this.#setTimer(queue, nowMs);
    if (isShort) this.#hooks.pressed();
  }

  /** Refuses those of the volume that wait. */
  turnAway(writer: Writer, error: FarshoreError): void {
    const queue = this.#queues.get(writer);
    if (queue === undefined) return;
    queue.timer?.cancel();
    this.#queues.delete(writer);
    this.#waiting -= queue.waiters.length;
    for (const { refuse } of queue.waiters.splice(0)) refuse(error);
    // It may have been what the others waited behind.
    this.#isShort = false;
    this.poke();
  }

  /** Refuses everybody from now on. */
  stop(error: FarshoreError): void {
    this.#stopped ??= error;
    for (const queue of this.#queues.values()) {
      queue.timer?.cancel();
      for (const { refuse } of queue.waiters) refuse(error);
    }
    this.#queues.clear();
    this.#waiting = 0;
    this.#isShort = false;
  }

  /**
   * The queue to serve next: whose first one has waited long enough for the share, the oldest of them; but one that finds no room only because it
   * has more than its part gives way to those that have not. And whoever has waited too long.
   */
  #nextDue(nowMs: number): Queue<Writer> | undefined {
    let oldest: Queue<Writer> | undefined;
    let oldestModest: Queue<Writer> | undefined;
    for (const queue of this.#queues.values()) {
      const first = queue.waiters[0];
      if (first === undefined) continue;
      const waitedMs = nowMs - first.arrivedMs;
      if (waitedMs < this.#maxWaitMs && waitedMs + TICK_MS < this.delayMs(queue.writer)) continue;
      if (waitedMs >= this.#maxWaitMs && !this.#fits(first.slots, queue.writer)) return queue;
      if (oldest === undefined || first.arrivedMs < (oldest.waiters[0]?.arrivedMs ?? 0)) oldest = queue;
      const isOlder = oldestModest === undefined || first.arrivedMs < (oldestModest.waiters[0]?.arrivedMs ?? 0);
      if (isOlder && this.#hooks.weight(queue.writer) < 1) oldestModest = queue;
    }
    const first = oldest?.waiters[0];
    if (oldest === undefined || first === undefined || this.#fits(first.slots, oldest.writer)) return oldest;
    return this.#hooks.weight(oldest.writer) < 1 ? oldest : (oldestModest ?? oldest);
  }

  #leave(queue: Queue<Writer>): void {
    queue.waiters.shift();
    this.#waiting--;
    if (queue.waiters.length > 0) return;
    queue.timer?.cancel();
    queue.timer = undefined;
    // Who was let in takes its place in the history when its promise is heard, in a moment. A write that comes before that must not overtake it.
    void AT_ONCE.then(() => {
      if (queue.waiters.length === 0 && this.#queues.get(queue.writer) === queue) this.#queues.delete(queue.writer);
    });
  }

  /** To the end of the first one's delay, or, when that is over, of its patience. */
  #setTimer(queue: Queue<Writer>, nowMs: number): void {
    const first = queue.waiters[0];
    if (first === undefined) return;
    const dueMs = first.arrivedMs + this.delayMs(queue.writer);
    const atMs =
      dueMs > nowMs + TICK_MS ? Math.min(dueMs, first.arrivedMs + this.#maxWaitMs) : first.arrivedMs + this.#maxWaitMs;
    if (queue.timer?.atMs === atMs) return;
    queue.timer?.cancel();
    const cancel = this.#clock.startTimer(Math.max(0, atMs - nowMs), () => {
      queue.timer = undefined;
      this.poke();
    });
    queue.timer = { atMs, cancel };
  }

  #fits(slots: number, writer: Writer): boolean {
    const hasRoom = this.#reserved + slots <= Math.min(this.#hooks.space(), MAX_STAGED_SLOTS);
    return hasRoom && !this.#hooks.isKeptFrom(writer);
  }

  #busy(): FarshoreError {
    this.#refused++;
    return new FarshoreError(
      'busy',
      'the cache is full of blocks that wait to be replicated; writes go on as the cloud takes them',
    );
  }
}
