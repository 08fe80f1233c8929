import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { expect, it } from 'vitest';
import { createAwsClients } from '../../../gateway/cloud/aws-clients.ts';
import type { CloudSettings } from '../../../gateway/cloud/aws-clients.ts';
import { adaptersOn } from '../../support/local-cloud.ts';

const ROUNDS = 3;
const WRITERS = 6;
/** Acks to wait for before each kill. */
const ACKS = 60;

interface Running {
  readonly child: ChildProcess;
  readonly settings: CloudSettings;
}

async function startProcess(dir: string): Promise<Running> {
  const root = new URL('../../..', import.meta.url).pathname;
  const script = new URL('../../support/cloud-process.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, ['--import', 'tsx', script, dir], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const endpoints = JSON.parse(line.toString()) as { s3Endpoint: string; dynamodbEndpoint: string };
  return { child, settings: { region: 'us-east-1', ...endpoints } };
}

it('keeps everything it acknowledged over SIGKILL, and nothing half', { timeout: 120_000 }, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'farshore-kill-'));
  const objects = new Map<string, Buffer>();
  const attempted = new Map<string, Buffer>();
  const versions = new Map<number, Buffer>();
  let nextN = 1;
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      const { child, settings } = await startProcess(dir);
      const clients = createAwsClients(settings, {});
      const { store, log } = adaptersOn(clients, 'farshore', 'farshore');
      await verify(store, log);

      let acks = 0;
      let killed = false;
      const counted = (): void => {
        acks += 1;
        if (acks < ACKS || killed) return;
        killed = true;
        child.kill('SIGKILL');
      };
      const writer = async (index: number): Promise<void> => {
        for (let turn = 0; !killed; turn += 1) {
          if (index % 2 === 0) {
            const key = `round-${round}/${index}/${turn}`;
            const body = randomBytes(turn % 5 === 0 ? 300_000 : 3000);
            attempted.set(key, body);
            await store.put(key, [body], crc32(body));
            objects.set(key, body);
          } else {
            const n = nextN++;
            const record = randomBytes(200);
            await log.putVersion('volume', { n, epoch: 1, record, chain: randomBytes(32), inline: Buffer.alloc(0) }, 1);
            versions.set(n, record);
          }
          counted();
        }
      };
      const exited = once(child, 'exit');
      await Promise.all(Array.from({ length: WRITERS }, (_, index) => writer(index).catch(() => undefined)));
      child.kill('SIGKILL');
      await exited;
      clients.close();
    }
    const last = await startProcess(dir);
    const clients = createAwsClients(last.settings, {});
    const { store, log } = adaptersOn(clients, 'farshore', 'farshore');
    await verify(store, log);
    expect(await readdir(join(dir, 's3/staging'))).toEqual([]);
    clients.close();
    const exited = once(last.child, 'exit');
    last.child.kill('SIGKILL');
    await exited;
    expect(objects.size).toBeGreaterThan(ROUNDS * 10);
    expect(versions.size).toBeGreaterThan(ROUNDS * 10);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }

  async function verify(
    store: ReturnType<typeof adaptersOn>['store'],
    log: ReturnType<typeof adaptersOn>['log'],
  ): Promise<void> {
    const listed = (await store.list('', 1000)).objects.map(({ key }) => key);
    for (const key of objects.keys()) expect(listed).toContain(key);
    for (const key of listed) expect((await store.get(key))?.equals(attempted.get(key) ?? Buffer.alloc(0))).toBe(true);
    for (const [n, record] of versions) expect((await log.getVersion('volume', n))?.record.equals(record)).toBe(true);
  }
});
