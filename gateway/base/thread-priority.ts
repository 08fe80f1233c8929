import { readlinkSync } from 'node:fs';
import { constants, setPriority } from 'node:os';

/**
 * Lets the thread that calls it stand back where the processor is short: Linux gives each thread its own nice value (setpriority(2)). Where that cannot be done
 * (another system, no /proc) everything works as before, so there is nothing to tell anybody.
 */
export function standBack(): void {
  try {
    const tid = Number(readlinkSync('/proc/thread-self').split('/').at(-1));
    if (Number.isInteger(tid)) setPriority(tid, constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // As told above.
  }
}
