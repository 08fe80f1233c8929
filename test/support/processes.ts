import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { endWithThisProcess } from './leftovers.ts';

const POLL_MS = 50;
/** One poll counts as no more than this: a machine that was suspended has not waited. */
const MOST_PER_POLL_MS = 2_000;

/** A free TCP port on loopback. Somebody else may take it before its user does; then that user fails and says so. */
export async function freePort(run = 1): Promise<number> {
  for (let tries = 0; tries < PORT_TRIES; tries += 1) {
    const first = (await portOf(0)) ?? 0;
    let isFree = first > 0;
    for (let port = first + 1; isFree && port < first + run; port += 1) isFree = (await portOf(port)) !== undefined;
    if (isFree) return first;
  }
  throw new Error(`no ${run} free ports in a row`);
}

const PORT_TRIES = 20;

/** The port (0: any) as one listened on for a moment; undefined when it is taken. */
async function portOf(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => {
      resolve(undefined);
    });
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        resolve(address !== null && typeof address === 'object' ? address.port : undefined);
      });
    });
  });
}

/** Polls until `ready` gives a value; throws what `otherwise` says when that takes longer than `limitMs`. */
export async function eventually<T>(
  ready: () => T | undefined | Promise<T | undefined>,
  limitMs: number,
  otherwise: () => string,
): Promise<T> {
  let waitedMs = 0;
  for (;;) {
    const before = performance.now();
    const value = await ready();
    if (value !== undefined) return value;
    if (waitedMs > limitMs) throw new Error(otherwise());
    await pause(POLL_MS);
    waitedMs += Math.min(performance.now() - before, MOST_PER_POLL_MS);
  }
}

/** A child process whose output goes to a file, so that no pipe can stall it. Ended by its own id, never by name. */
export class LoggedProcess {
  readonly logFile: string;
  private readonly child: ChildProcess;
  private readonly ended: Promise<void>;
  private running = true;
  /** Where this process's output begins; the file may have that of an earlier one. */
  private readonly logFrom: number;

  constructor(program: string, words: readonly string[], logFile: string, env: NodeJS.ProcessEnv = process.env) {
    this.logFile = logFile;
    const log = openSync(logFile, 'a');
    this.logFrom = fstatSync(log).size;
    this.child = spawn(program, words, { stdio: ['ignore', log, log], env });
    closeSync(log);
    endWithThisProcess(this.child);
    this.ended = new Promise((resolve) => {
      this.child.once('error', () => {
        this.running = false;
        resolve();
      });
      this.child.once('exit', () => {
        this.running = false;
        resolve();
      });
    });
  }

  isRunning(): boolean {
    return this.running;
  }

  exitCode(): number | null {
    return this.child.exitCode;
  }

  /** What this process has printed so far. */
  log(): string {
    return readFileSync(this.logFile).toString('utf8', this.logFrom);
  }

  /** The end of the log, for messages. */
  logTail(): string {
    return this.log().slice(-3000);
  }

  pid(): number | undefined {
    return this.running ? this.child.pid : undefined;
  }

  /** Resolves once the process is gone. */
  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.running) this.child.kill(signal);
    await this.ended;
  }
}

/** Runs a program to its end and returns its output; throws with that output when it fails. */
export function runTool(program: string, words: readonly string[], limitMs = 60_000): string {
  const outcome = spawnSync(program, words, { encoding: 'utf8', timeout: limitMs, killSignal: 'SIGKILL' });
  if (outcome.error !== undefined) throw new Error(`${program} could not be run: ${outcome.error.message}`);
  if (outcome.status !== 0) {
    throw new Error(
      `${program} ${words.join(' ')} ended with ${outcome.status ?? outcome.signal ?? ''}: ${outcome.stdout}${outcome.stderr}`,
    );
  }
  return outcome.stdout;
}
