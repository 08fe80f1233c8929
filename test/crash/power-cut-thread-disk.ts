import { basename } from 'node:path';
import type { Disk } from '../../gateway/base/disk.ts';
import { PowerCutDisk } from './power-cut-disk.ts';

const ENVIRONMENT_KEY = 'FARSHORE_POWER_CUT';

export interface PowerCutFate {
  readonly journal: string;
  readonly seed: string;
  readonly isLying: boolean;
}

/** For the threads of this process, which inherit its environment. */
export function setFateOfThreads(fate: PowerCutFate): void {
  process.env[ENVIRONMENT_KEY] = JSON.stringify(fate);
}

/** The journal of an I/O thread's disk, beside that of the main thread's. */
export function journalOfThread(journal: string, number: number | string): string {
  return `${journal}-thread-${number}`;
}

/** In the bundle of the drill this is in the place of gateway/threads/thread-disk.ts: each thread's disk is lost on its own. */
export function threadDisk(stateDir: string): Disk {
  const { journal, seed, isLying } = JSON.parse(process.env[ENVIRONMENT_KEY] ?? '') as PowerCutFate; // as setFateOfThreads wrote it
  const number = basename(stateDir);
  return new PowerCutDisk(stateDir, journalOfThread(journal, number), `${seed}/${number}`, isLying);
}
