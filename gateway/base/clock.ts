import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import type { WallMillis } from './units.ts';

/** Cancels the timer; harmless when it has fired. */
export type CancelTimer = () => void;

/**
 * The only source of time. Everything else takes a Clock, so that the simulation can drive it.
 * Timers never keep the process alive by themselves being forgotten: owners cancel theirs.
 */
export interface Clock {
  /** Wall time; may jump. For records and people, never for durations. */
  now(): WallMillis;
  /** Milliseconds from an arbitrary start; never goes back. */
  monotonicMs(): number;
  /** Calls `fire` once, after at least `delayMs`. */
  startTimer(delayMs: number, fire: () => void): CancelTimer;
}

/** The only source of randomness. */
export interface Random {
  bytes(count: number): Buffer;
  /** Uniform in [0, 1). */
  fraction(): number;
}

/** Resolves after `delayMs`, or at once when `signal` aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const onAbort = (): void => {
      cancel();
      resolve();
    };
    const cancel = clock.startTimer(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  startTimer: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return () => {
      clearTimeout(timer);
    };
  },
};

export const systemRandom: Random = {
  bytes: (count) => randomBytes(count),
  fraction: () => randomBytes(6).readUIntBE(0, 6) / 2 ** 48,
};
