import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';

const SUPPORT = pathToFileURL(join(import.meta.dirname, '../../support/')).href;

/** What the benchmark and the drills do first: a directory, and a process that writes its log there. Prints both. */
const PROGRAM = `
import { makeSiteDirectory } from '${SUPPORT}gateway-process.ts';
import { LoggedProcess } from '${SUPPORT}processes.ts';
const directory = makeSiteDirectory();
const child = new LoggedProcess(process.execPath, ['-e', 'setInterval(() => 0, 1000)'], directory + '/log');
console.log(JSON.stringify({ directory, pid: child.pid() }));
`;

/** A process that was killed and that nobody has waited for is a zombie (proc(5)). */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describe('a benchmark that is interrupted', () => {
  test.each(['SIGINT', 'SIGTERM'] as const)('leaves no directory and no process behind (%s)', async (signal) => {
    const words = ['--import', 'tsx', '--input-type=module', '-e', PROGRAM];
    const bench = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(bench.stdout, 'data')) as [Buffer];
    const { directory, pid } = JSON.parse(line.toString('utf8')) as { directory: string; pid: number };
    expect([existsSync(directory), isRunning(pid)]).toEqual([true, true]);
    const ended = once(bench, 'exit');
    bench.kill(signal);
    const [code] = (await ended) as [number | null];
    expect(code).toBe(signal === 'SIGINT' ? 130 : 143);
    await expect.poll(() => [existsSync(directory), isRunning(pid)]).toEqual([false, false]);
  });
});
