import type { Clock } from '../base/clock.ts';
import { sleep } from '../base/clock.ts';
import type { FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';

/** Of a process that has ended because one of its threads hung: EX_TEMPFAIL of sysexits(3). */
export const HUNG_EXIT_CODE = 75;
/** How long the other threads may take to end. */
const END_WITHIN_MS = 10_000;

/** A thread that does not answer any more, and how all threads but the main one are ended. */
export interface HungThread {
  readonly error: FarshoreError;
  readonly ends: readonly (() => Promise<unknown>)[];
}

/** What of the process is needed to end it. */
export interface EndingProcess {
  exit(code: number): void;
  /** At once, and whatever its threads do. */
  kill(): void;
}

/**
 * Ends the process, to be started again: a thread that hangs cannot be closed, and a volume without its thread is a lie. Nothing is lost by it that was
 * acked. Node waits at an exit until each thread has come back to it; one that waits in the system for a disk that does not answer never does, and then
 * the process has to be killed.
 */
export async function endHung(
  { error, ends }: HungThread,
  clock: Clock,
  log: Log,
  process: EndingProcess,
): Promise<void> {
  const over = new AbortController();
  const ended = Promise.allSettled(ends.map((end) => end())).then(() => true);
  const late = sleep(clock, END_WITHIN_MS, over.signal).then(() => false);
  log.error(
    { error: error.message, exitCode: HUNG_EXIT_CODE },
    'a thread hangs; the process ends itself, to be started again',
  );
  const haveEnded = await Promise.race([ended, late]);
  over.abort();
  if (haveEnded) {
    process.exit(HUNG_EXIT_CODE);
    return;
  }
  log.error({}, 'a thread waits in the system and cannot be ended; the process kills itself');
  process.kill();
}
