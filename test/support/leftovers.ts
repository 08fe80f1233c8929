import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** A process that was just killed may still make files while its directory is removed. */
const REMOVE_TRIES = 20;
const BETWEEN_TRIES_MS = 50;

const children = new Set<ChildProcess>();
const directories = new Set<string>();
let isWatching = false;

/** A directory of the temporary ones that is removed when this process is interrupted (Ctrl-C, a terminal that closes, SIGTERM). */
export function makeTemporaryDirectory(prefix: string): string {
  const directory = mkdtempSync(join(tmpdir(), prefix));
  directories.add(directory);
  watchSignals();
  return directory;
}

export function removeTemporaryDirectory(directory: string): void {
  directories.delete(directory);
  rmSync(directory, { recursive: true, force: true, maxRetries: REMOVE_TRIES, retryDelay: BETWEEN_TRIES_MS });
}

/** The child does not outlive an interrupted parent. */
export function endWithThisProcess(child: ChildProcess): void {
  children.add(child);
  child.once('exit', () => children.delete(child));
  watchSignals();
}

function watchSignals(): void {
  if (isWatching) return;
  isWatching = true;
  for (const signal of SIGNALS) {
    process.once(signal, () => {
      for (const child of children) child.kill('SIGKILL');
      for (const directory of directories) removeTemporaryDirectory(directory);
      process.exit(128 + constants.signals[signal]);
    });
  }
}
