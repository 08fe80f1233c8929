import { sleep } from '../base/clock.ts';
import type { Clock, Random } from '../base/clock.ts';
import { FarshoreError, invariant } from '../base/errors.ts';
import { classifyFailure, toFarshoreError } from './aws-errors.ts';
import type { CallContext } from './aws-errors.ts';
import type { Circuit } from './circuit.ts';

/** Attempts of one call, the first included. Longer patience is the caller's, who knows what it is waiting for. */
export const MAX_ATTEMPTS = 4;
/** Pause before the second attempt; doubles from there. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;

export interface CallTools {
  readonly clock: Clock;
  readonly random: Random;
  /** Of the service that is called; without one every attempt is made. */
  readonly circuit?: Circuit | undefined;
}

export interface CallOptions extends CallContext {
  /** One attempt is broken off after so long. */
  readonly deadlineMs: number;
  /**
   * `always`: the request may be repeated whatever happened. `unapplied`: only when the service certainly did nothing, so that
   * "the condition failed" can never be our own earlier attempt.
   */
  readonly repeat: 'always' | 'unapplied';
}

/** Full jitter between half and all of an exponentially growing pause. */
export function pauseMs(random: Random, failures: number, firstMs: number, longestMs: number): number {
  invariant(failures >= 1, 'a pause follows a failure');
  const whole = Math.min(longestMs, firstMs * 2 ** Math.min(failures - 1, 30));
  return whole * (0.5 + random.fraction() / 2);
}

/**
 * Makes a request with a deadline and a bounded number of attempts, and turns failures into FarshoreErrors. The SDK's own retries are
 * switched off (aws-clients.ts): it would repeat conditional writes whose outcome is unknown and report our own success as a conflict.
 */
export async function callCloud<T>(
  tools: CallTools,
  options: CallOptions,
  attempt: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  for (let failures = 0; ;) {
    const turn = await tools.circuit?.enter(`${options.what} (${options.service})`);
    try {
      const answer = await withDeadline(tools.clock, options, attempt);
      turn?.succeeded();
      return answer;
    } catch (error) {
      failures += 1;
      const { kind, applied } = classifyFailure(error);
      turn?.failed(kind, toFarshoreError(error, options).message);
      const worthwhile = kind === 'retry' || kind === 'damaged';
      const allowed = options.repeat === 'always' || applied === 'never';
      if (!worthwhile || !allowed || failures >= MAX_ATTEMPTS) throw toFarshoreError(error, options);
    }
    await sleep(tools.clock, pauseMs(tools.random, failures, FIRST_PAUSE_MS, LONGEST_PAUSE_MS));
  }
}

function withDeadline<T>(
  clock: Clock,
  { deadlineMs, service, what, place }: CallOptions,
  attempt: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  return new Promise<T>((resolve, reject) => {
    const cancel = clock.startTimer(deadlineMs, () => {
      // Rejected here as well, because the SDK does not watch the signal while it fetches credentials.
      reject(
        new FarshoreError('retry', `${service}: could not ${what}: no answer from ${place} within ${deadlineMs} ms.`),
      );
      controller.abort();
    });
    attempt(controller.signal).then(
      (value) => {
        cancel();
        resolve(value);
      },
      (error: unknown) => {
        cancel();
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}
