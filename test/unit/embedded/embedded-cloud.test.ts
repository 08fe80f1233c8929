import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import { startEmbeddedCloud } from '../../../gateway/embedded/embedded-cloud.ts';
import type { EmbeddedCloud } from '../../../gateway/embedded/embedded-cloud.ts';
import { createAwsClients } from '../../../gateway/cloud/aws-clients.ts';
import { adaptersOn, startLocalCloud } from '../../support/local-cloud.ts';
import type { LocalCloud } from '../../support/local-cloud.ts';
import { rawHttp } from '../../support/raw-http.ts';

/** As much of the store under dynalite as a test needs. */
interface LevelPackage {
  readonly Level: new (
    path: string,
    options: { valueEncoding: 'json' },
  ) => {
    get(key: string): Promise<object>;
    put(key: string, value: object): Promise<void>;
    close(): Promise<void>;
  };
}

let local: LocalCloud;
beforeAll(async () => {
  local = await startLocalCloud();
});
afterAll(() => local.close());

function start(changes: Partial<Parameters<typeof startEmbeddedCloud>[0]>): Promise<EmbeddedCloud> {
  const options = { dir: '', s3Port: 0, dynamodbPort: 0, bucket: 'farshore', table: 'farshore', log: silentLog };
  return startEmbeddedCloud({ ...options, ...changes });
}

async function withDirectory(use: (dir: string) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'farshore-cloud-'));
  try {
    await use(dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

describe('the embedded cloud', () => {
  it('serves one directory once', async () => {
    await expect(start({ dir: local.dir })).rejects.toMatchObject({
      kind: 'in-use',
      message: `the embedded cloud's directory ${local.dir} is in use by process ${process.pid}; stop it first.`,
    });
  });

  it('says which port is taken, and lets the directory go', async () => {
    await withDirectory(async (dir) => {
      const other = createServer().listen(0, '127.0.0.1');
      await once(other, 'listening');
      const { port } = other.address() as AddressInfo;
      await expect(start({ dir, s3Port: port })).rejects.toMatchObject({
        kind: 'in-use',
        message: `port ${port} for S3 is in use; stop its owner or choose another port.`,
      });
      await expect(start({ dir, dynamodbPort: port })).rejects.toMatchObject({
        kind: 'in-use',
        message: `port ${port} for DynamoDB is in use; stop its owner or choose another port.`,
      });
      other.close();
      await (await start({ dir })).close();
    });
  });

  it('says which name is not valid', async () => {
    await withDirectory(async (dir) => {
      await expect(start({ dir, bucket: 'No Bucket' })).rejects.toMatchObject({ kind: 'input' });
      await expect(start({ dir, table: 'x' })).rejects.toMatchObject({ kind: 'input' });
    });
  });

  it('says that a store is damaged', async () => {
    await withDirectory(async (dir) => {
      await (await start({ dir })).close();
      for (const name of await readdir(join(dir, 'dynamodb')))
        if (/^(MANIFEST|CURRENT)/.test(name)) await writeFile(join(dir, 'dynamodb', name), 'nonsense');
      await expect(start({ dir })).rejects.toMatchObject({
        kind: 'damaged',
        message: expect.stringContaining('cannot be opened') as string,
      });
    });
  });

  it('starts again after it was killed while it made its table', async () => {
    await withDirectory(async (dir) => {
      await (await start({ dir })).close();
      const { Level } = createRequire(createRequire(import.meta.url).resolve('dynalite'))('level') as LevelPackage;
      const level = new Level(join(dir, 'dynamodb'), { valueEncoding: 'json' });
      const table = await level.get('table~farshore');
      await level.put('table~farshore', { ...table, TableStatus: 'CREATING' });
      await level.close();
      const cloud = await start({ dir });
      const clients = createAwsClients({ region: 'us-east-1', ...cloud }, {});
      expect(await adaptersOn(clients, 'farshore', 'farshore').log.resolveName('absent')).toBeUndefined();
      clients.close();
      await cloud.close();
    });
  });

  it('has everything again after it was closed and started, several times', async () => {
    await withDirectory(async (dir) => {
      for (let round = 0; round < 3; round += 1) {
        const cloud = await start({ dir });
        const clients = createAwsClients({ region: 'us-east-1', ...cloud }, {});
        const { store, log } = adaptersOn(clients, 'farshore', 'farshore');
        expect(await store.put(`round/${round}`, [Buffer.from('x')], crc32('x'))).toBe('created');
        expect((await store.list('round/', 10)).objects).toHaveLength(round + 1);
        const from = round * 10 + 1;
        expect(await log.allocateNumbers({ lineage: 'l', volume: 'v' }, 1, 10)).toEqual({ from, to: from + 10 });
        clients.close();
        await cloud.close();
        await cloud.close();
      }
    });
  });

  it('answers what is under way when it is closed, and does not wait for connections that are kept alive', async () => {
    await withDirectory(async (dir) => {
      const cloud = await start({ dir });
      const clients = createAwsClients({ region: 'us-east-1', ...cloud }, {});
      const { store, log } = adaptersOn(clients, 'farshore', 'farshore');
      const body = randomBytes(8_000_000);
      await store.put('large', [body], crc32(body));
      const reading = store.get('large');
      const asking = log.resolveName('absent');
      await expect.poll(() => cloud.s3Requests()['GetObject']).toBe(1);
      await expect.poll(() => cloud.dynamodbRequests()['GetItem']).toBe(1);
      const [content] = await Promise.all([reading, asking, cloud.close()]);
      expect(content?.equals(body)).toBe(true);
      clients.close();
    });
  });

  it('counts requests by operation', async () => {
    const before = local.cloud.s3Requests()['GetObject'] ?? 0;
    await local.store.get('absent');
    expect(local.cloud.s3Requests()['GetObject']).toBe(before + 1);
    const reads = local.cloud.dynamodbRequests()['GetItem'] ?? 0;
    await local.log.resolveName('absent');
    expect(local.cloud.dynamodbRequests()['GetItem']).toBe(reads + 1);
  });

  it('survives a client that breaks off in the middle of a DynamoDB request', async () => {
    const { port } = new URL(local.cloud.dynamodbEndpoint);
    for (const text of [
      'POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"Table',
      'nonsense\r\n\r\n',
    ]) {
      const socket = connect(Number(port), '127.0.0.1');
      await once(socket, 'connect');
      await new Promise((resolve) => socket.write(text, resolve));
      socket.destroy();
    }
    expect(await local.log.resolveName('absent')).toBeUndefined();
  });

  it('gives a web page that pretends to be on this machine no item', async () => {
    const answer = await rawHttp(local.cloud.dynamodbEndpoint, {
      method: 'POST',
      path: '/',
      headers: { Host: 'evil.example', 'X-Amz-Target': 'DynamoDB_20120810.ListTables' },
      body: '{}',
    });
    expect(answer.status).toBe(403);
  });

  it('listens on loopback alone', () => {
    expect(new URL(local.cloud.s3Endpoint).hostname).toBe('127.0.0.1');
    expect(new URL(local.cloud.dynamodbEndpoint).hostname).toBe('127.0.0.1');
  });
});
