import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FromTarget, TargetState, ToTarget } from './fuzz-world.ts';

const START_MS = 30_000;
const MAX_ERROR_TEXT = 8000;

/** The server under test in its process. */
export class TargetProcess {
  readonly #child: ChildProcess;
  readonly #answers: ((message: FromTarget) => void)[] = [];
  readonly #exited: Promise<string>;
  #stopping = false;
  #errors = '';

  private constructor(seed: number, planted: string | undefined) {
    this.#child = fork(fileURLToPath(new URL('target.ts', import.meta.url)), [String(seed), planted ?? ''], {
      execArgv: ['--expose-gc', '--import', 'tsx'],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.on('data', (text: Buffer) => {
      this.#errors = (this.#errors + text.toString()).slice(-MAX_ERROR_TEXT);
    });
    this.#child.on('message', (message: FromTarget) => {
      this.#answers.shift()?.(message);
    });
    this.#exited = new Promise((resolve) => {
      this.#child.on('close', (code, signal) => {
        resolve(`the target's process ended (${signal ?? `status ${code ?? 0}`})\n${this.#errors}`);
      });
    });
  }

  /** Resolves with the process and its port. */
  static async start(seed: number, planted: string | undefined): Promise<{ target: TargetProcess; port: number }> {
    const target = new TargetProcess(seed, planted);
    const ready = await target.#answer(START_MS);
    if (ready.kind !== 'ready') throw new Error('the target did not say where it is');
    return { target, port: ready.port };
  }

  /** Resolves with why, when the process ends without being asked to; a clean stop never resolves it. */
  async died(): Promise<string> {
    const how = await this.#exited;
    return this.#stopping ? new Promise<never>(() => undefined) : how;
  }

  async state(ms: number): Promise<TargetState> {
    this.#send({ kind: 'state' });
    const state = await this.#answer(ms);
    if (state.kind !== 'state') throw new Error('the target did not tell its state');
    return state;
  }

  /** Asks it to close; what is wrong when the process does not end by itself in time, or not well. */
  async stop(ms: number): Promise<string | undefined> {
    this.#stopping = true;
    this.#send({ kind: 'stop' });
    const late = new Promise<undefined>((resolve) => {
      setTimeout(resolve, ms, undefined).unref();
    });
    const how = await Promise.race([this.#exited, late]);
    if (how === undefined) {
      this.kill();
      return `the target's process did not end within ${ms} ms of closing`;
    }
    return this.#child.exitCode === 0 ? undefined : how;
  }

  kill(): void {
    this.#stopping = true;
    this.#child.kill('SIGKILL');
  }

  #send(message: ToTarget): void {
    if (this.#child.connected) this.#child.send(message);
  }

  #answer(ms: number): Promise<FromTarget> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`the target's process says nothing for ${ms} ms`));
      }, ms);
      this.#answers.push((message) => {
        clearTimeout(timer);
        resolve(message);
      });
      void this.#exited.then((how) => {
        clearTimeout(timer);
        reject(new Error(how));
      });
    });
  }
}
