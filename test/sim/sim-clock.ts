import type { MaybePromise } from '../../gateway/base/block-device.ts';
import type { CancelTimer, Clock } from '../../gateway/base/clock.ts';
import { EventHeap, type SimEvent } from './event-heap.ts';
import { hashText, type SimRandom } from './sim-random.ts';

/** Immediates queued at once: all of them run in one turn of libuv, with every microtask drained in between. */
const STEPS_PER_TURN = 64;
/** A world that needs more has run wild. */
const MAX_EVENTS = 2_000_000;

/** 2026-01-01T00:00:00Z, where virtual time begins. */
export const SIM_START = 1_767_225_600_000;

/** One run of one process. When it is killed its timers never fire and its requests are never answered. */
export interface Life {
  readonly name: string;
  readonly alive: boolean;
}

export type RunEnd = 'met' | 'time' | 'idle';

export interface RunLimits {
  /** Stop when this holds (asked after each event, once all microtasks have run). */
  readonly when?: () => boolean;
  /** Stop before the first event later than this virtual time. */
  readonly untilMs?: number;
}

/**
 * Virtual time. Events fire one by one, by time and, where times are equal, in seeded order; between two events every
 * microtask runs to its end. So a run is a pure function of the seed, as long as nothing under test waits for the real world.
 */
export class SimClock implements Clock {
  readonly #heap = new EventHeap();
  readonly #random: SimRandom;
  #nowMs = 0;
  #events = 0;
  #hash = 0x811c9dc5;
  #trace: ((line: string) => void) | undefined;

  constructor(random: SimRandom) {
    this.#random = random;
  }

  now(): number {
    return SIM_START + Math.floor(this.#nowMs);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  startTimer(delayMs: number, fire: () => void): CancelTimer {
    return this.#startTimer(delayMs, undefined, fire);
  }

  /** A timer with a name in the trace; it is dropped when `life` has ended by then. */
  schedule(delayMs: number, label: string, life: Life | undefined, fire: () => void): CancelTimer {
    const event: SimEvent = {
      atMs: this.#nowMs + Math.max(0, delayMs),
      tie: this.#random.uint32(),
      order: this.#events++,
      label,
      life,
      fire,
    };
    this.#heap.push(event);
    return () => {
      event.fire = undefined;
    };
  }

  /** The clock as one process sees it: its wall clock is off by `skewMs`, its timers end with it. */
  forLife(life: Life, skewMs: number): Clock {
    return {
      now: () => this.now() + skewMs,
      monotonicMs: () => this.#nowMs,
      startTimer: (delayMs, fire) => this.#startTimer(delayMs, life, fire),
    };
  }

  /** Hash over every event so far: two runs of a seed must agree in it. */
  traceHash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0');
  }

  traceTo(sink: ((line: string) => void) | undefined): void {
    this.#trace = sink;
  }

  /** Enters something the world did or saw into the trace and its hash. */
  note(text: string): void {
    this.#hash = hashText(text, this.#hash);
    this.#trace?.(`${this.#nowMs.toFixed(3).padStart(12)} ${text}`);
  }

  /** Runs events until a limit is met or nothing is left to happen. Rejects with what a timer threw. */
  run(limits: RunLimits = {}): Promise<RunEnd> {
    return new Promise((resolve, reject) => {
      let ended = false;
      let left = 0;
      const end = (how: RunEnd): void => {
        ended = true;
        resolve(how);
      };
      const step = (): void => {
        left--;
        if (ended) return;
        try {
          if (limits.when?.() === true) end('met');
          else this.#step(limits.untilMs, end);
        } catch (error) {
          ended = true;
          reject(error instanceof Error ? error : new Error(String(error)));
        }
        if (left === 0 && !ended) turn();
      };
      const turn = (): void => {
        left = STEPS_PER_TURN;
        for (let i = 0; i < STEPS_PER_TURN; i++) setImmediate(step);
      };
      turn();
    });
  }

  /** Runs until the promise settles, and hands its outcome on; rejects when the world falls idle before. */
  async settle<T>(answer: MaybePromise<T>): Promise<T> {
    const promise = Promise.resolve(answer);
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    const how = await this.run({ when: () => settled });
    if (how !== 'met') throw new Error('the simulation fell idle while something was still awaited');
    return promise;
  }

  /** As setTimeout, which waits for one millisecond at least. */
  #startTimer(delayMs: number, life: Life | undefined, fire: () => void): CancelTimer {
    return this.schedule(Math.max(1, delayMs), 'timer', life, fire);
  }

  #step(untilMs: number | undefined, end: (how: RunEnd) => void): void {
    for (;;) {
      const next = this.#heap.peek();
      if (next === undefined) {
        end('idle');
        return;
      }
      if (next.fire === undefined || next.life?.alive === false) {
        this.#heap.pop();
        continue;
      }
      if (untilMs !== undefined && next.atMs > untilMs) {
        this.#nowMs = Math.max(this.#nowMs, untilMs);
        end('time');
        return;
      }
      this.#heap.pop();
      if (this.#events > MAX_EVENTS) throw new Error('the simulation does not come to rest');
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      this.#hash = Math.imul(hashText(next.label, this.#hash) ^ (next.atMs * 1024), 0x01000193);
      if (this.#trace !== undefined && next.label !== 'timer')
        this.#trace(`${this.#nowMs.toFixed(3).padStart(12)} ${next.label}`);
      const fire = next.fire;
      next.fire = undefined;
      fire();
      return;
    }
  }
}
