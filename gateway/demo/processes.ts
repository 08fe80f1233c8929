import { type ChildProcess, spawn } from 'node:child_process';
import { openSync, readFileSync } from 'node:fs';
import { FarshoreError } from '../base/errors.ts';

/** A Farshore process of the demo: the same program as the one that runs the demo. */
export class DemoProcess {
  readonly #child: ChildProcess;
  readonly #log: string;
  readonly #ended: Promise<number | null>;

  private constructor(child: ChildProcess, log: string) {
    this.#child = child;
    this.#log = log;
    this.#ended = new Promise((resolve) => child.once('close', resolve));
  }

  /** Starts `farshore <words>`, its output in `log`; resolves when it has printed a line that matches `ready`, with the match. */
  static async start(
    program: string,
    words: readonly string[],
    log: string,
    ready: RegExp,
  ): Promise<[DemoProcess, RegExpExecArray]> {
    const child = spawn(process.execPath, [program, ...words], { stdio: ['ignore', 'pipe', openSync(log, 'a')] });
    const started = new DemoProcess(child, log);
    const match = await new Promise<RegExpExecArray | null>((resolve) => {
      let text = '';
      child.stdout?.on('data', (piece: Buffer) => {
        text += piece.toString('utf8');
        const found = ready.exec(text);
        if (found !== null) resolve(found);
      });
      void started.#ended.then(() => {
        resolve(null);
      });
    });
    if (match === null) {
      throw new FarshoreError('stopped', `farshore ${words[0] ?? ''} did not start: ${started.lastWords()}`);
    }
    return [started, match];
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Ends it and waits until it is gone. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#child.kill(signal);
    await this.#ended;
  }

  lastWords(): string {
    return readFileSync(this.#log, 'utf8').trim().split('\n').slice(-3).join(' | ');
  }
}
