import { spawnSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../gateway/base/clock.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { RpcClient, type RpcPort } from '../../../gateway/replication/rpc.ts';
import { endHung, HUNG_EXIT_CODE } from '../../../gateway/threads/end-hung.ts';
import { ioProxy } from '../../../gateway/threads/io-proxy.ts';
import type { IoThread } from '../../../gateway/threads/io-thread.ts';
import { IoThreads } from '../../../gateway/threads/io-threads.ts';
import type { SeenSession } from '../../../gateway/sessions-control.ts';
import { PromptClock } from '../../support/prompt-clock.ts';

/** The thread is stuck in a loop, or waits for ever in a system call: it takes messages and answers none. */
const SILENT: RpcPort = { postMessage: () => undefined, on: () => undefined };

function threads(): IoThreads {
  const { io: hung } = ioProxy(1, new RpcClient(SILENT, () => undefined), SILENT, new PromptClock());
  const report = { bytes: 1, secondsUntilFull: undefined, counts: { readAhead: {} }, state: 'serving' };
  const fine = (number: number): IoThread =>
    ({
      number,
      session: (tsih: number) => Promise.resolve(tsih === 2 && number === 2 ? { tsih } : undefined),
      endSession: (tsih: number) => Promise.resolve(tsih === 2 && number === 2 ? { unsettled: [] } : undefined),
      sessions: () => Promise.resolve([]),
      cache: () => Promise.resolve({ report, allocatedBytes: 0 }),
      figures: () => Promise.resolve({}),
    }) as unknown as IoThread; // no more is asked of it
  const volumes = [{ name: 'v', lineage: 'l', volume: 'v', thread: 1 }];
  return new IoThreads([fine(0), hung, fine(2)], 3, { volumes });
}

describe('a thread that hangs', () => {
  it('does not keep the session of another thread from being found and ended', async () => {
    expect(await threads().session(2)).toMatchObject({ tsih: 2 });
    expect(await threads().endSession(2)).toEqual({ unsettled: [] });
  });

  it('does not answer for another one that takes longer to find the session than it took to be given up', async () => {
    const seen = { tsih: 9 } as unknown as SeenSession;
    const late = {
      number: 1,
      session: () => new Promise((resolve) => setImmediate(resolve, seen)),
    } as unknown as IoThread;
    const gone = {
      number: 0,
      session: () => Promise.reject(new FarshoreError('retry', 'it does not answer')),
    } as unknown as IoThread;
    expect(await new IoThreads([gone, late], 2, { volumes: [] }).session(9)).toBe(seen);
  });

  it('is told by status, with its volumes, beside what the others have to tell', async () => {
    const { cache, threads: all } = await threads().report(false);
    expect(cache).toMatchObject({ bytes: 2, state: 'I/O thread 1 does not answer' });
    expect(all).toMatchObject([
      { thread: 0, cache: { state: 'serving' } },
      { thread: 1, volumes: ['v'], problem: 'I/O thread 1 does not answer' },
      { thread: 2, cache: { state: 'serving' } },
    ]);
  });

  it('is not passed over in silence where its sessions would be missing from a list, or may be the one that is meant', async () => {
    await expect(threads().sessions()).rejects.toMatchObject({ kind: 'retry' });
    await expect(threads().session(7)).rejects.toThrow(/I\/O thread 1 does not answer/);
  });
});

describe('the end of a process with a thread that hangs', () => {
  const error = new FarshoreError('stopped', 'I/O thread 1 has not answered for 30 s');
  const ending = async (worker: Worker, clock = systemClock): Promise<readonly string[]> => {
    const steps: string[] = [];
    const process = {
      exit: (code: number) => steps.push(`exit ${code}`),
      kill: () => steps.push('kill'),
    };
    await endHung({ error, ends: [() => worker.terminate()] }, clock, silentLog, process);
    return steps;
  };

  it('is an exit with a code of its own where the thread runs in a circle', async () => {
    const worker = new Worker('require("worker_threads").parentPort.postMessage("up"); for (;;);', { eval: true });
    await new Promise((resolve) => worker.once('message', resolve));
    expect(await ending(worker)).toEqual([`exit ${HUNG_EXIT_CODE}`]);
  });

  it('is a kill where the thread waits in the system, for which an exit would wait too', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'farshore-hung-'));
    const pipe = join(directory, 'pipe');
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
    // A pipe that nobody writes to: it does not even open.
    const source = `require("worker_threads").parentPort.postMessage("up"); require("fs").openSync(${JSON.stringify(pipe)}, "r");`;
    const worker = new Worker(source, { eval: true });
    await new Promise((resolve) => worker.once('message', resolve));
    const gone = new Promise((resolve) => worker.once('exit', resolve));
    try {
      expect(await ending(worker, new PromptClock())).toEqual(['kill']);
    } finally {
      // Somebody writes after all, so that the test can end.
      closeSync(openSync(pipe, constants.O_RDWR));
      const writer = openSync(pipe, constants.O_RDWR);
      await gone;
      closeSync(writer);
      rmSync(directory, { recursive: true });
    }
  });
});
