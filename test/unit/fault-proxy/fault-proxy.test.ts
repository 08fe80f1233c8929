import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock, systemRandom } from '../../../gateway/base/clock.ts';
import { crc32 } from '../../../gateway/base/crc32.ts';
import { createAwsClients } from '../../../gateway/cloud/aws-clients.ts';
import type { AwsClients } from '../../../gateway/cloud/aws-clients.ts';
import { putOnce } from '../../../gateway/cloud/put-once.ts';
import type { VersionItem } from '../../../gateway/cloud/version-log.ts';
import { listen } from '../../../gateway/embedded/loopback.ts';
import { controlServer, remoteControl } from '../../support/fault-proxy/control.ts';
import { startFaultProxy, type FaultProxy } from '../../support/fault-proxy/fault-proxy.ts';
import type { Fault, FaultRule } from '../../support/fault-proxy/plan.ts';
import { adaptersOn, BUCKET, startLocalCloud, TABLE, type LocalCloud } from '../../support/local-cloud.ts';

const KEYS = { accessKeyId: 'gateway', secretAccessKey: 'its secret' };
const LOST: Fault = { deliver: 'once', answer: 'reset' };
const MEBIBYTE = 2 ** 20;

let cloud: LocalCloud;
let proxy: FaultProxy;
let clients: AwsClients;
let far: ReturnType<typeof adaptersOn>;
let objects = 0;
let versions = 0;

/** The embedded cloud verifies signatures here, which a proxy that changes anything would break. */
beforeAll(async () => {
  cloud = await startLocalCloud(KEYS);
  proxy = await startFaultProxy(portsOf(cloud));
  clients = clientsOf(proxy);
  far = adaptersOn(clients, BUCKET, TABLE);
});

afterAll(async () => {
  clients.close();
  await proxy.close();
  await cloud.close();
});

beforeEach(() => proxy.setPlan({}));

const portsOf = ({ cloud: { s3Endpoint, dynamodbEndpoint } }: LocalCloud) => ({
  s3Port: Number(new URL(s3Endpoint).port),
  dynamodbPort: Number(new URL(dynamodbEndpoint).port),
});
const clientsOf = ({ s3Port, dynamodbPort }: FaultProxy): AwsClients =>
  createAwsClients({
    region: 'us-east-1',
    s3Endpoint: `http://127.0.0.1:${s3Port}`,
    dynamodbEndpoint: `http://127.0.0.1:${dynamodbPort}`,
    credentials: KEYS,
  });
const content = (bytes: number): Buffer => Buffer.alloc(bytes, 'an object ');
const put = async (bytes: number): Promise<{ readonly key: string; readonly outcome: string }> => {
  objects += 1;
  const key = `object-${objects}`;
  const body = content(bytes);
  const outcome = await far.store.put(key, [body], crc32(body)).catch((error: unknown) => String(error));
  return { key, outcome };
};
/** Vitest compares buffers byte by byte. */
const holds = async (key: string, bytes: number): Promise<boolean> =>
  (await far.store.get(key))?.equals(content(bytes)) === true;
const lies = async (key: string): Promise<number | undefined> => (await cloud.store.head(key))?.bytes;
const version = (inlineBytes = 0): VersionItem => {
  versions += 1;
  return {
    n: versions,
    epoch: 1,
    record: Buffer.alloc(100),
    chain: Buffer.alloc(32),
    inline: Buffer.alloc(inlineBytes),
  };
};
const always = (fault: Fault, more: Partial<FaultRule> = {}) => ({ rules: [{ fault, ...more }] });

describe('the fault proxy, between the real clients and the embedded cloud', () => {
  it('passes everything on as it is, and counts it', async () => {
    const { key, outcome } = await put(3 * MEBIBYTE);
    expect(outcome).toBe('created');
    expect(await holds(key, 3 * MEBIBYTE)).toBe(true);
    expect((await far.store.get(key, { offset: 5, length: 9 }))?.toString()).toBe('ject an o');
    expect((await far.store.head(key))?.bytes).toBe(3 * MEBIBYTE);
    expect((await far.store.list('object-', 10)).objects.length).toBeGreaterThan(0);
    await far.store.delete([key]);
    expect(await far.store.get(key)).toBeUndefined();
    const item = version();
    expect(await far.log.putVersion('volume', item, 1)).toBe('ok');
    expect(await far.log.getVersion('volume', item.n)).toEqual(item);
    const { operations } = await proxy.report();
    expect(operations.s3['PutObject']).toMatchObject({ requests: 1, faults: 0, upBytes: 3 * MEBIBYTE });
    expect(operations.s3['GetObject']?.downBytes).toBeGreaterThan(3 * MEBIBYTE);
    expect(operations.dynamodb).toMatchObject({ PutItem: { requests: 1 }, GetItem: { requests: 1 } });
    await Promise.all(Array.from({ length: 8 }, () => put(1000)));
    expect((await proxy.report()).operations.s3['PutObject']?.upBytes).toBe(3 * MEBIBYTE + 8000);
  });

  it('takes its time: a round trip, and the bytes of a narrow line', async () => {
    const before = systemClock.monotonicMs();
    await proxy.setPlan({ roundTripMs: 60 });
    await far.store.head('nothing');
    const { key } = await put(10);
    // Asking for nothing takes two requests.
    expect(systemClock.monotonicMs() - before).toBeGreaterThan(170);
    await proxy.setPlan({ upBytesPerSecond: MEBIBYTE, downBytesPerSecond: 2 * MEBIBYTE });
    const narrow = systemClock.monotonicMs();
    expect((await put(MEBIBYTE / 4)).outcome).toBe('created');
    expect(systemClock.monotonicMs() - narrow).toBeGreaterThan(240);
    expect(await holds(key, 10)).toBe(true);
  });

  it('refuses in the words of the service, as long as the plan says', async () => {
    const fault: Fault = { deliver: 'never', answer: { status: 503, code: 'SlowDown' } };
    await proxy.setPlan(always(fault, { service: 's3', times: 2 }));
    const { key, outcome } = await put(100);
    expect(outcome).toBe('created');
    expect((await proxy.report()).fired).toEqual([2]);
    await proxy.setPlan(always(fault, { operations: ['PutObject'] }));
    expect((await put(100)).outcome).toMatch(/SlowDown/);
    expect(await holds(key, 100)).toBe(true);
  });

  it('lets a request arrive and loses its answer', async () => {
    await proxy.setPlan(always(LOST));
    const { key, outcome } = await put(100);
    expect(outcome).toMatch(/ECONNRESET|socket hang up/);
    expect(await lies(key)).toBe(100);
    const item = version();
    await expect(far.log.putVersion('volume', item, 1)).rejects.toMatchObject({ kind: 'retry' });
    expect(await cloud.log.getVersion('volume', item.n)).toEqual(item);
  });

  it('breaks a connection off in the midst of a body, either way', async () => {
    await proxy.setPlan(always({ deliver: 'half', answer: 'reset' }));
    const { key, outcome } = await put(MEBIBYTE);
    expect(outcome).toMatch(/ECONNRESET|EPIPE|socket hang up/);
    expect(await lies(key)).toBeUndefined();
    await proxy.setPlan({});
    const there = await put(MEBIBYTE);
    await proxy.setPlan(always({ deliver: 'once', answer: 'half' }, { times: 1 }));
    expect(await holds(there.key, MEBIBYTE)).toBe(true);
    await proxy.setPlan(always({ deliver: 'once', answer: 'half' }));
    await expect(far.store.get(there.key)).rejects.toMatchObject({ kind: 'retry' });
  });

  it('delivers twice: the second time one meets what one has written oneself', async () => {
    await proxy.setPlan(always({ deliver: 'twice', answer: 'true' }));
    const { key, outcome } = await put(100);
    expect(outcome).toBe('exists');
    expect(await lies(key)).toBe(100);
    expect(await far.log.putVersion('volume', version(), 0)).toBe('conflict');
  });

  it('delivers late, when its sender thinks it lost', async () => {
    await proxy.setPlan(always({ deliver: 'late', answer: 'reset', lateMs: 50 }));
    const { key, outcome } = await put(100);
    expect(outcome).toMatch(/ECONNRESET|socket hang up/);
    expect(await lies(key)).toBeUndefined();
    await proxy.landed();
    expect(await lies(key)).toBe(100);
  });

  it('turns a bit over: the checksums find it', async () => {
    await proxy.setPlan(always({ deliver: 'corrupt', answer: 'true' }));
    const { key, outcome } = await put(100);
    expect(outcome).toMatch(/BadDigest|checksum/i);
    expect(await lies(key)).toBeUndefined();
    await proxy.setPlan({});
    const there = await put(100);
    await proxy.setPlan(always({ deliver: 'once', answer: 'corrupt' }));
    await expect(far.store.get(there.key)).rejects.toMatchObject({ kind: 'damaged' });
  });

  it('says nothing until the plan changes', async () => {
    await proxy.setPlan(always({ deliver: 'once', answer: 'silence' }, { operations: ['PutObject'] }));
    const putting = put(100);
    const key = `object-${objects}`;
    while ((await lies(key)) === undefined) await new Promise(setImmediate);
    await proxy.setPlan({});
    expect((await putting).outcome).toMatch(/ECONNRESET|socket hang up/);
  });

  it('gives a partition so many write units a second, and throttles the rest', async () => {
    await proxy.setPlan({ writeUnitsPerSecond: 100 });
    const puts = Array.from({ length: 10 }, () => far.log.putVersion('volume', version(50_000), 1));
    expect((await Promise.allSettled(puts)).some(({ status }) => status === 'fulfilled')).toBe(true);
    expect((await proxy.report()).throttled).toBeGreaterThan(5);
  });

  it('obeys other processes over its control port', async () => {
    const server = controlServer(proxy);
    const remote = remoteControl(await listen(server, 0, 'the control'));
    await remote.setPlan(always(LOST, { times: 1 }));
    const body = content(100);
    const tools = { clock: systemClock, random: systemRandom };
    expect(await putOnce(far.store, 'put-once', [body], crc32(body), tools)).toBe('some');
    expect((await remote.report()).fired).toEqual([1]);
    await remote.landed();
    await expect(remote.setPlan({ rules: [{ fault: { deliver: 'never', answer: 'true' } }] })).rejects.toThrow(
      'refuses',
    );
    server.close();
    server.closeAllConnections();
  });
});

describe('the clock of a cloud that is not ours', () => {
  it.each([-3_600_000, 3_600_000])('is %d ms from it: the SDK goes by it after the first refusal', async (skewMs) => {
    const skewed = await startLocalCloud();
    const line = await startFaultProxy(portsOf(skewed));
    const own = clientsOf(line);
    const { store, log } = adaptersOn(own, BUCKET, TABLE);
    try {
      await line.setPlan({ clockSkewMs: skewMs });
      // Nothing whose outcome is unknown is repeated here: it is known that a refused request was not done.
      expect(await store.put('skewed', [content(10)], crc32(content(10)))).toBe('created');
      expect(await log.putVersion('volume', version(), 1)).toBe('ok');
      await line.setPlan({});
      // An answer to HEAD does not say why.
      expect((await store.head('skewed'))?.bytes).toBe(10);
      expect(await log.putVersion('volume', version(), 1)).toBe('ok');
      expect((await line.report()).operations.s3).toMatchObject({ PutObject: { requests: 2 } });
    } finally {
      own.close();
      await line.close();
      await skewed.close();
    }
  });
});
