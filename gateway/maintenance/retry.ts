import { sleep } from '../base/clock.ts';
import type { Clock, Random } from '../base/clock.ts';
import { FarshoreError, isKind } from '../base/errors.ts';
import type { ErrorKind } from '../base/errors.ts';

export const FIRST_DELAY_MS = 100;
export const LONGEST_DELAY_MS = 10_000;
/** Attempts of maintenance work before it gives up and leaves the rest to the next round. */
export const MAINTENANCE_ATTEMPTS = 8;

export interface RetryDeps {
  readonly clock: Clock;
  readonly random: Random;
}

export interface RetryRules {
  /** Including the first; Infinity for ever (then `signal` is what ends it). */
  readonly attempts: number;
  readonly signal?: AbortSignal | undefined;
  /** Kinds that pass; `retry` and `busy` unless told. */
  readonly passing?: readonly ErrorKind[];
  /** Told of every failure that is going to be retried. */
  readonly onFailure?: (error: FarshoreError, attempt: number, delayMs: number) => void;
}

/**
 * Repeats `attempt` while it fails with a passing kind, after exponential delays with full jitter, bounded by
 * LONGEST_DELAY_MS. Other failures, and the last one, are thrown as they are; an aborted signal makes it `stopped`.
 */
export async function withRetries<Result>(
  deps: RetryDeps,
  rules: RetryRules,
  attempt: () => Promise<Result>,
): Promise<Result> {
  const passing = rules.passing ?? ['retry', 'busy'];
  for (let count = 1; ; count += 1) {
    if (rules.signal?.aborted === true)
      throw new FarshoreError('stopped', 'the work was stopped before it was finished');
    try {
      return await attempt();
    } catch (error) {
      if (!isKind(error, ...passing) || count >= rules.attempts) throw error;
      const delayMs = backoffMs(deps.random, count);
      rules.onFailure?.(error, count, delayMs);
      await sleep(deps.clock, delayMs, rules.signal);
    }
  }
}

/** Delay before retry number `count` (1, 2, …): between half and the whole of a doubling, bounded value. */
export function backoffMs(random: Random, count: number): number {
  const whole = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(count - 1, 20));
  return whole / 2 + (random.fraction() * whole) / 2;
}
