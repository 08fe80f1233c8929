import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { crc32 } from '../../../gateway/base/crc32.ts';
import { createAwsClients, type AwsClients, type CloudSettings } from '../../../gateway/cloud/aws-clients.ts';
import { askCloudTime } from '../../../gateway/cloud/cloud-time.ts';
import { describeError } from '../../../gateway/base/errors.ts';
import { startForwardProxy, type ForwardProxy } from '../../support/forward-proxy.ts';
import { adaptersOn, BUCKET, startLocalCloud, TABLE, type LocalCloud } from '../../support/local-cloud.ts';
import { makeAuthority, startTlsFront, type Authority, type TlsFront } from '../../support/tls-front.ts';

const KEY_PAIR = { accessKeyId: 'AKIDGOOD', secretAccessKey: 'secret-of-the-key' };
const PASSWORD = 'p4ssw0rd';

let local: LocalCloud;
let dir: string;
let ours: Authority;
let s3: TlsFront;
let dynamo: TlsFront;
let proxy: ForwardProxy;
let open: AwsClients[] = [];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'farshore-tls-'));
  ours = makeAuthority(dir, 'ours');
  local = await startLocalCloud(KEY_PAIR);
  s3 = await startTlsFront(ours, local.cloud.s3Endpoint);
  dynamo = await startTlsFront(ours, local.cloud.dynamodbEndpoint);
  proxy = await startForwardProxy(`me:${PASSWORD}`);
});
afterEach(() => {
  for (const clients of open) clients.close();
  open = [];
  proxy.refusal = undefined;
  proxy.asked.length = 0;
});
afterAll(async () => {
  await Promise.all([s3.close(), dynamo.close(), proxy.close(), local.close()]);
  rmSync(dir, { recursive: true });
});

const through = (userInfo = `me:${PASSWORD}`): string => `http://${userInfo}@127.0.0.1:${proxy.port}`;

function settings(given: Partial<CloudSettings>): CloudSettings {
  const { endpoint: s3Endpoint } = s3;
  const { endpoint: dynamodbEndpoint } = dynamo;
  return { region: 'us-east-1', s3Endpoint, dynamodbEndpoint, credentials: KEY_PAIR, ...given };
}

function adapters(given: Partial<CloudSettings>, environment: Record<string, string> = {}) {
  const clients = createAwsClients(settings(given), environment);
  open.push(clients);
  return adaptersOn(clients, BUCKET, TABLE);
}

async function failure(call: Promise<unknown>): Promise<{ kind: string; message: string }> {
  const error: unknown = await call.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  const kind: unknown = Reflect.get(error as object, 'kind');
  // The whole chain of causes, as a log would show it.
  const message = describeError(error);
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    expect(cause.message).not.toContain(PASSWORD);
    expect(cause.stack ?? '').not.toContain(PASSWORD);
  }
  return { kind: String(kind), message };
}

describe('the clients', () => {
  it('reach both services through a proxy that wants a password, over TLS with a CA of one’s own', async () => {
    const { store, log } = adapters({ proxy: through(), caFile: ours.caFile });
    const body = Buffer.from('over the tunnel');
    expect(await store.put('tunnel', [body], crc32(body))).toBe('created');
    expect(await store.get('tunnel')).toEqual(body);
    expect(await log.listNames()).toEqual([]);
    const ports = [s3, dynamo].map(({ endpoint }) => `CONNECT localhost:${new URL(endpoint).port}`);
    expect(new Set(proxy.asked)).toEqual(new Set(ports));
    // Connections are kept: one tunnel for both requests to S3.
    expect(proxy.asked).toHaveLength(2);
  });

  it('reach plain endpoints through it as well, without leaving it a password or breaking a signature', async () => {
    const { s3Endpoint, dynamodbEndpoint } = local.cloud;
    const { store, log } = adapters({ s3Endpoint, dynamodbEndpoint, proxy: through() });
    const body = Buffer.from('forwarded');
    expect(await store.put('a folder/plain+1', [body], crc32(body))).toBe('created');
    expect(await store.get('a folder/plain+1', { offset: 3, length: 4 })).toEqual(body.subarray(3, 7));
    expect((await store.list('a folder/', 10)).objects).toHaveLength(1);
    expect(await log.listNames()).toEqual([]);
    expect(proxy.asked[0]).toMatch(new RegExp(`^PUT ${s3Endpoint}/${BUCKET}/`));
    expect(proxy.asked.every((request) => !request.includes(PASSWORD))).toBe(true);
  });

  it('take the proxy of the environment, but for what NO_PROXY names and for this machine', async () => {
    const environment = { HTTPS_PROXY: through() };
    await adapters({ caFile: ours.caFile }, environment).store.head('x');
    await adapters({ caFile: ours.caFile, proxy: through() }, { NO_PROXY: 'localhost' }).store.head('x');
    await adapters({ caFile: ours.caFile, proxy: 'none' }, environment).store.head('x');
    expect(proxy.asked).toEqual([]);
  });

  it('tell apart a proxy without the right password, one that forbids, one that cannot reach the cloud, and one that is not there', async () => {
    const caFile = ours.caFile;
    const asked = (given: Partial<CloudSettings>) => failure(adapters({ caFile, ...given }).store.head('x'));
    const without = await asked({ proxy: `http://127.0.0.1:${proxy.port}` });
    expect(without.kind).toBe('input');
    expect(without.message).toMatch(
      /the proxy http:\/\/127.0.0.1:\d+ does not connect to localhost:\d+: 407 No; it wants user/,
    );
    const wrong = await asked({ proxy: through('me:wrong') });
    expect(wrong).toMatchObject({
      kind: 'input',
      message: expect.stringContaining('does not take the user') as string,
    });
    const { s3Endpoint, dynamodbEndpoint } = local.cloud;
    const plain = await asked({ s3Endpoint, dynamodbEndpoint, proxy: through('me:wrong') });
    expect(plain).toMatchObject({
      kind: 'input',
      message: expect.stringContaining('does not take the user') as string,
    });
    proxy.refusal = 403;
    const forbidden = await asked({ proxy: through() });
    expect(forbidden).toMatchObject({
      kind: 'input',
      message: expect.stringContaining('have its administrator') as string,
    });
    proxy.refusal = 502;
    proxy.asked.length = 0;
    expect(await asked({ proxy: through() })).toMatchObject({ kind: 'retry' });
    // Nothing can have happened, so it was tried again.
    expect(proxy.asked.length).toBeGreaterThan(1);
    const gone = await startForwardProxy();
    await gone.close();
    const away = await asked({ proxy: `http://me:${PASSWORD}@127.0.0.1:${gone.port}` });
    expect(away).toMatchObject({ kind: 'retry', message: expect.stringContaining('cannot be used') as string });
  });

  it('send nothing to whom they do not trust, and say what would make them', async () => {
    const before = s3.requests.length;
    const other = makeAuthority(dir, 'other');
    for (const given of [{}, { caFile: other.caFile }, { caFile: other.caFile, proxy: through() }]) {
      const { kind, message } = await failure(adapters(given).store.head('x'));
      expect(kind).toBe('input');
      expect(message).toContain("name the CA's file in cloud.caFile");
    }
    expect(s3.requests).toHaveLength(before);
  });

  it('refuse a file that has no certificates', () => {
    expect(() => adapters({ caFile: ours.keyFile })).toThrow(/cloud\.caFile .* has no certificate in PEM form/);
    expect(() => adapters({ caFile: join(dir, 'nowhere.pem') })).toThrow(/cloud\.caFile .* cannot be read/);
    const broken = join(dir, 'broken.pem');
    writeFileSync(broken, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
    expect(() => adapters({ caFile: broken })).toThrow(/has a certificate that cannot be read/);
  });

  it('learn the time of the cloud the way all requests go', async () => {
    const { s3Endpoint, dynamodbEndpoint } = local.cloud;
    expect(await askCloudTime(settings({ proxy: through(), caFile: ours.caFile }), {})).toBeGreaterThan(1e12);
    expect(await askCloudTime(settings({ s3Endpoint, dynamodbEndpoint, proxy: through() }), {})).toBeGreaterThan(1e12);
    expect(proxy.asked).toHaveLength(2);
    expect(await askCloudTime(settings({ proxy: through() }), {})).toBeUndefined();
  });
});

describe('credentials of a credential_process', () => {
  const NAMES = ['AWS_CONFIG_FILE', 'AWS_SHARED_CREDENTIALS_FILE', 'AWS_PROFILE', 'AWS_ACCESS_KEY_ID'];
  const former = NAMES.map((name) => [name, process.env[name]] as const);
  afterEach(() => {
    for (const [name, value] of former) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
  });

  /** A front that takes one key alone, and a process that prints what lies in a file, and counts its runs. */
  const world = async (expires: boolean) => {
    const at = (file: string): string => join(dir, `${expires ? 'dated' : 'undated'}-${file}`);
    const state = { takes: 'AKIDONE' };
    const give = (accessKeyId: string): void => {
      const Expiration = new Date(Date.now() + 3_600_000).toISOString();
      const pair = { Version: 1, AccessKeyId: accessKeyId, SecretAccessKey: 's', SessionToken: `of ${accessKeyId}` };
      writeFileSync(at('now.json'), JSON.stringify(expires ? { ...pair, Expiration } : pair));
    };
    const front = await startTlsFront(ours, openCloud.cloud.s3Endpoint, ({ headers }) =>
      headers.authorization?.includes(`Credential=${state.takes}/`) === true &&
      headers['x-amz-security-token'] === `of ${state.takes}`
        ? undefined
        : { status: 400, body: '<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>' },
    );
    writeFileSync(at('runs'), '');
    writeFileSync(
      at('config'),
      `[profile office]\ncredential_process = sh -c 'echo >> ${at('runs')}; cat ${at('now.json')}'\n`,
    );
    writeFileSync(at('none'), '');
    process.env['AWS_CONFIG_FILE'] = at('config');
    process.env['AWS_SHARED_CREDENTIALS_FILE'] = at('none');
    process.env['AWS_PROFILE'] = 'office';
    delete process.env['AWS_ACCESS_KEY_ID'];
    give('AKIDONE');
    const given = { s3Endpoint: front.endpoint, caFile: ours.caFile, credentials: undefined };
    return { state, give, front, runs: () => readFileSync(at('runs')).length, given };
  };
  let openCloud: LocalCloud;
  beforeAll(async () => {
    openCloud = await startLocalCloud();
  });
  afterAll(() => openCloud.close());

  it.each([
    ['with a date', true],
    ['without one', false],
  ])('%s are fetched again when the cloud does not take them any more, once for many requests', async (_, expires) => {
    const { state, give, front, runs, given } = await world(expires);
    const { store } = adapters(given, { AWS_PROFILE: 'office' });
    expect(await store.head('x')).toBeUndefined();
    expect(await store.head('x')).toBeUndefined();
    expect(runs()).toBe(1);
    // They are revoked before their time, and there are new ones.
    state.takes = 'AKIDTWO';
    give('AKIDTWO');
    const answers = await Promise.all(Array.from({ length: 8 }, () => store.list('nothing/', 1)));
    expect(answers).toHaveLength(8);
    expect(runs()).toBe(2);
    // As long as there are no new ones it fails, and goes on when there are.
    state.takes = 'AKIDTHREE';
    expect((await failure(store.list('nothing/', 1))).kind).toBe('retry');
    give('AKIDTHREE');
    expect((await store.list('nothing/', 1)).objects).toEqual([]);
    await front.close();
  });
});
