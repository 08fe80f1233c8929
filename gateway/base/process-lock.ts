import { spawnSync } from 'node:child_process';
import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { FarshoreError, describeError } from './errors.ts';

export interface ProcessLock {
  readonly path: string;
  /** Gives the lock up; idempotent. The file stays: removing it would let two processes lock two different files. */
  release(): void;
}

/** Longest content of a lock file that is quoted in a message. */
const MAX_HOLDER_BYTES = 64;

/**
 * Takes the lock file at `path`, creating it and its directory when missing. It is a real flock(2): it belongs to the open file
 * description, so it is ours until this process ends, however it ends, and a crash never leaves it behind. Node has no flock of
 * its own, so the system's flock program takes the lock on our descriptor, which it inherits as number 3. Descriptors opened by Node
 * are closed on exec, so other children never keep the lock alive.
 *
 * Throws `in-use` naming the holder's process, `input` when the file cannot be opened or flock is not installed.
 * `what` names the thing in messages, for example "state directory /var/lib/farshore".
 */
export function lockForThisProcess(path: string, what: string): ProcessLock {
  let descriptor: number;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    descriptor = openSync(path, 'a+', 0o600);
  } catch (error) {
    throw new FarshoreError('input', `${what} cannot be used: ${describeError(error)}.`, { cause: error });
  }
  try {
    lockDescriptor(descriptor, what, () => holderOf(path));
    ftruncateSync(descriptor, 0);
    writeSync(descriptor, `${process.pid}\n`);
    fsyncSync(descriptor);
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
  let held = true;
  return {
    path,
    release: () => {
      if (!held) return;
      held = false;
      closeSync(descriptor);
    },
  };
}

/** Exit code the flock program is told to use when somebody else has the lock; unlike its failures (64 and up, or 1). */
const CONFLICT_EXIT_CODE = 9;

/**
 * Takes a flock(2) on an open descriptor, which lasts until that is closed. Throws as lockForThisProcess does; `holder` names the process that
 * has it, where that is known.
 */
export function lockDescriptor(descriptor: number, what: string, holder: () => string): void {
  // Short options, which the flock of busybox knows too (it ends with 1 on a conflict and has no -E).
  const first = spawnSync('flock', ['-n', '-E', String(CONFLICT_EXIT_CODE), '3'], {
    stdio: ['ignore', 'ignore', 'pipe', descriptor],
  });
  const busybox = first.status === 1 && first.stderr.toString().includes('BusyBox');
  const result = busybox ? spawnSync('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'pipe', descriptor] }) : first;
  if (result.status === 0) return;
  if (result.error !== undefined)
    throw new FarshoreError(
      'input',
      `${what} cannot be locked: the flock program could not be run (${result.error.message}); install util-linux.`,
      { cause: result.error },
    );
  if (result.status === CONFLICT_EXIT_CODE || (busybox && result.status === 1))
    throw new FarshoreError('in-use', `${what} is in use by process ${holder()}; stop it first.`);
  throw new FarshoreError(
    'input',
    `${what} cannot be locked: flock ended with ${result.status ?? result.signal ?? 'nothing'}: ${result.stderr.toString().trim()}.`,
  );
}

function holderOf(path: string): string {
  try {
    const text = readFileSync(path, 'latin1').slice(0, MAX_HOLDER_BYTES).trim();
    return /^\d+$/.test(text) ? text : 'unknown';
  } catch {
    return 'unknown';
  }
}
