import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockForThisProcess } from '../../../gateway/base/process-lock.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'farshore-lock-'));
});
afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

describe('a process lock', () => {
  it('is held until it is released, and names its holder', () => {
    const path = join(dir, 'deep/lock');
    const lock = lockForThisProcess(path, 'state directory x');
    expect(readFileSync(path, 'latin1')).toBe(`${process.pid}\n`);
    expect(() => lockForThisProcess(path, 'state directory x')).toThrow(
      `state directory x is in use by process ${process.pid}; stop it first.`,
    );
    lock.release();
    lock.release();
    lockForThisProcess(path, 'state directory x').release();
  });

  it('ends with its process, also when that is killed, and not with the children it leaves behind', async () => {
    const path = join(dir, 'lock');
    const script = join(dir, 'holder.mts');
    const module = new URL('../../../gateway/base/process-lock.ts', import.meta.url).pathname;
    writeFileSync(
      script,
      `import { spawn } from 'node:child_process';
       import { lockForThisProcess } from ${JSON.stringify(module)};
       lockForThisProcess(${JSON.stringify(path)}, 'x');
       const child = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
       console.log(child.pid);
       process.stdin.resume();`,
    );
    const holder = spawn(process.execPath, ['--import', 'tsx', script], {
      cwd: new URL('../../..', import.meta.url).pathname,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const [line] = (await once(holder.stdout, 'data')) as [Buffer];
    try {
      expect(() => lockForThisProcess(path, 'x')).toThrow(`in use by process ${holder.pid ?? 0}`);
      holder.kill('SIGKILL');
      await once(holder, 'exit');
      lockForThisProcess(path, 'x').release();
    } finally {
      process.kill(Number(line.toString()));
    }
  });

  it('says what is wrong with a path it cannot use', () => {
    writeFileSync(join(dir, 'file'), '');
    expect(() => lockForThisProcess(join(dir, 'file/lock'), 'state directory x')).toThrow(
      /state directory x cannot be used/,
    );
  });
});
