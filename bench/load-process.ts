import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { endWithThisProcess } from '../test/support/leftovers.ts';
import type { LoadAnswer, LoadOrder, Portal } from './load.ts';
import type { LoadRequest, LoadResult } from './generator.ts';

/** The parent's end of the load generator: one process for all peers and rounds, so that none has the warmer code. */
export class LoadProcess {
  private readonly child: ChildProcess;
  private pending:
    { readonly resolve: (answer: LoadAnswer) => void; readonly reject: (error: Error) => void } | undefined;

  constructor() {
    this.child = fork(join(import.meta.dirname, 'load.ts'), { execArgv: ['--import', 'tsx'] });
    endWithThisProcess(this.child);
    this.child.on('message', (answer: LoadAnswer) => {
      this.pending?.resolve(answer);
      this.pending = undefined;
    });
    this.child.on('exit', (code, signal) => {
      this.pending?.reject(new Error(`the load generator ended with ${code ?? signal ?? 'nothing'}`));
      this.pending = undefined;
    });
  }

  /** Writes the whole LUN once, in order, in commands of `ioBytes`. */
  async fill(portal: Portal, lunBytes: number, ioBytes = 256 * 1024): Promise<void> {
    await this.order({ kind: 'fill', portal, lunBytes, ioBytes });
  }

  async run(portal: Portal, request: Omit<LoadRequest, 'sectorSize'>): Promise<LoadResult> {
    const result = await this.order({ kind: 'run', portal, request });
    if (result === undefined) throw new Error('the load generator answered a run without a result');
    return result;
  }

  stop(): void {
    this.child.kill('SIGKILL');
  }

  private async order(order: LoadOrder): Promise<LoadResult | undefined> {
    const answer = await new Promise<LoadAnswer>((resolve, reject) => {
      this.pending = { resolve, reject };
      this.child.send(order);
    });
    if (answer.kind === 'failed') throw new Error(answer.message);
    return answer.result;
  }
}
