import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AccessDocument, EMPTY_DOCUMENT } from '../../../gateway/access/document.ts';
import { systemClock, systemRandom } from '../../../gateway/base/clock.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { parseSettings } from '../../../gateway/config.ts';
import { discover } from '../../../gateway/initiator/discovery.ts';
import { type RunningIoThread, startIoThreads } from '../../../gateway/threads/start-io-thread.ts';

const AT = { clock: systemClock, random: systemRandom, host: '127.0.0.1' };

describe('an I/O thread, from its TypeScript sources', () => {
  let dir = '';
  const cleanups: (() => Promise<void> | void)[] = [];
  const start = async (number: number): Promise<RunningIoThread | undefined> => {
    const settings = parseSettings(
      `stateDir: ${dir}\niqn: iqn.2026-11.dev.farshore:test\nthreads: 3\ncache: { size: 1G, ram: 64M }\ncloud: { region: us-east-1, bucket: b, table: t }\n`,
      'gateway.yaml',
    );
    mkdirSync(join(dir, 'threads', String(number), 'cache'), { recursive: true });
    const { port1, port2 } = new MessageChannel();
    // Nobody answers there: nothing is opened.
    port2.unref();
    const given = { number, threads: 3, settings, gateway: 'g', document: EMPTY_DOCUMENT, replication: port1 };
    const main = {
      log: silentLog,
      audit: { session: () => undefined, note: () => undefined, missed: () => undefined },
      onHung: () => undefined,
      saveUnitState: () => Promise.resolve(),
      mirrored: () => Promise.resolve(),
    };
    const [thread] = await startIoThreads([given], main, cleanups);
    return thread;
  };

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'farshore-io-'));
  });
  afterAll(async () => {
    for (const cleanup of cleanups) await cleanup();
    rmSync(dir, { recursive: true, force: true });
  });

  it('serves its portal, tells its figures, and when it dies says so and is not waited for', async () => {
    const thread = await start(1);
    const [portal] = (await thread?.listen([{ host: '127.0.0.1', port: 0 }])) ?? [];
    expect(await discover({ ...AT, port: portal?.port ?? 0 })).toEqual([]);
    expect((await thread?.io.cache())?.report).toMatchObject({ state: 'serving', bytes: expect.any(Number) as number });
    expect(await thread?.io.keeps(['v'])).toEqual([]);
    // A fault of the program: what it is told is no document.
    thread?.access.document(undefined as unknown as AccessDocument, []);
    expect((await thread?.died)?.message).toMatch(/I\/O thread 1 has stopped/);
    await expect(thread?.io.sessions()).rejects.toMatchObject({ kind: 'retry' });
    await thread?.closeServer();
    await thread?.close();
  }, 60_000);

  it('does not start with a cache log that cannot be understood, and says what is wrong with it', async () => {
    mkdirSync(join(dir, 'threads', '2', 'cache'), { recursive: true });
    writeFileSync(join(dir, 'threads', '2', 'cache', 'pool.state'), Buffer.alloc(4096, 'no state'));
    await expect(start(2)).rejects.toMatchObject({ kind: 'damaged' });
  }, 60_000);
});
