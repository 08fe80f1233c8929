import { createHash, randomBytes } from 'node:crypto';
import { Agent } from 'node:http';
import { connect } from 'node:net';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestS3 } from '../../../support/s3-server.ts';
import type { TestS3 } from '../../../support/s3-server.ts';

let s3: TestS3;
beforeAll(async () => {
  s3 = await startTestS3();
});
afterAll(() => s3.close());

const base64 = (algorithm: string, body: Buffer): string => createHash(algorithm).update(body).digest('base64');
const base64Crc32 = (body: Buffer): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc32(body));
  return bytes.toString('base64');
};

describe('putting', () => {
  it('answers with the MD5 as entity tag and the CRC-32 it computed', async () => {
    const body = randomBytes(1000);
    const answer = await s3.put('tag', body);
    expect(answer.status).toBe(200);
    expect(answer.headers.etag).toBe(`"${createHash('md5').update(body).digest('hex')}"`);
    expect(answer.headers['x-amz-checksum-crc32']).toBe(base64Crc32(body));
  });

  it('lets exactly one of 16 simultaneous If-None-Match puts win; the others learn it', async () => {
    for (let round = 0; round < 5; round += 1) {
      const agent = new Agent({ keepAlive: true, maxSockets: 16 });
      const bodies = Array.from({ length: 16 }, () => randomBytes(100_000));
      const path = `/bucket/race/${round}`;
      const answers = await Promise.all(
        bodies.map((body) => s3.send({ method: 'PUT', path, body, headers: { 'If-None-Match': '*' }, agent })),
      );
      agent.destroy();
      const statuses = answers.map(({ status }) => status).sort();
      expect(statuses).toEqual([200, ...Array.from({ length: 15 }, () => 412)]);
      const winner = bodies[answers.findIndex(({ status }) => status === 200)] ?? Buffer.alloc(0);
      expect((await s3.get(`race/${round}`)).body.equals(winner)).toBe(true);
    }
  });

  it('replaces an object that is as If-Match says, and no other', async () => {
    const first = await s3.put('match', 'one');
    expect((await s3.put('match', 'two', { 'If-Match': '"beef"' })).code).toBe('PreconditionFailed');
    expect((await s3.put('match', 'two', { 'If-Match': first.headers.etag ?? '' })).status).toBe(200);
    expect((await s3.put('match', 'three', { 'If-Match': first.headers.etag ?? '' })).status).toBe(412);
    expect((await s3.put('match-absent', 'x', { 'If-Match': '"beef"' })).code).toBe('NoSuchKey');
    expect((await s3.get('match')).body.toString()).toBe('two');
  });

  it('gives a reader the whole old object or the whole new one while it is being replaced', async () => {
    const versions = [0, 1].map((fill) => Buffer.alloc(300_000, fill));
    const [zeros = Buffer.alloc(0), ones = Buffer.alloc(0)] = versions;
    await s3.put('torn', zeros);
    const writes = Array.from({ length: 10 }, (_, index) => s3.put('torn', index % 2 === 0 ? ones : zeros));
    const reads = await Promise.all(Array.from({ length: 30 }, () => s3.get('torn')));
    await Promise.all(writes);
    for (const { body, headers } of reads) {
      expect(versions.some((version) => version.equals(body))).toBe(true);
      expect(headers.etag).toBe(`"${createHash('md5').update(body).digest('hex')}"`);
    }
  });

  it('gives back content type, kept headers and user metadata', async () => {
    const headers = {
      'Content-Type': 'text/x-test',
      'Cache-Control': 'max-age=7',
      'Content-Encoding': 'aws-chunked, gzip',
      'x-amz-meta-origin': 'office 1',
    };
    await s3.put('meta', 'x', headers);
    const answer = await s3.send({ method: 'HEAD', path: '/bucket/meta' });
    expect(answer.headers).toMatchObject({
      'content-type': 'text/x-test',
      'cache-control': 'max-age=7',
      'content-encoding': 'gzip',
      'x-amz-meta-origin': 'office 1',
      'content-length': '1',
    });
  });

  const body = randomBytes(5000);
  it.each([
    ['Content-MD5', base64('md5', body)],
    ['x-amz-checksum-sha1', base64('sha1', body)],
    ['x-amz-checksum-sha256', base64('sha256', body)],
    ['x-amz-checksum-crc32', base64Crc32(body)],
    ['x-amz-content-sha256', createHash('sha256').update(body).digest('hex')],
  ])('takes a body that is as %s says, and refuses one that is not', async (name, value) => {
    const key = `sum/${name}`;
    const other = Buffer.from(body);
    other.writeUInt8(other.readUInt8(777) ^ 1, 777);
    const refused = await s3.put(key, other, { [name]: value });
    expect(refused.status).toBe(400);
    expect(refused.code).toMatch(/^(BadDigest|XAmzContentSHA256Mismatch)$/);
    expect((await s3.get(key)).code).toBe('NoSuchKey');
    expect((await s3.put(key, body, { [name]: value })).status).toBe(200);
    if (!name.startsWith('x-amz-checksum')) return;
    const answer = await s3.get(key, { 'x-amz-checksum-mode': 'ENABLED' });
    expect(answer.headers[name]).toBe(value);
  });

  it.each([
    ['x-amz-checksum-crc32c', 'crc of 123456789', '123456789', '4waSgw=='],
    ['x-amz-checksum-crc64nvme', 'crc of 123456789', '123456789', 'rosUhgp5mIg='],
  ])('knows %s by its check value', async (name, _, text, value) => {
    expect((await s3.put(`check/${name}`, text, { [name]: value })).status).toBe(200);
    expect((await s3.put(`check/${name}`, `${text}!`, { [name]: value })).code).toBe('BadDigest');
  });

  it.each([
    ['x-amz-checksum-crc32', 'AAAA', 'InvalidRequest', 400],
    ['Content-MD5', 'nonsense', 'InvalidDigest', 400],
    ['x-amz-content-sha256', 'nonsense', 'InvalidArgument', 400],
    ['x-amz-object-lock-mode', 'COMPLIANCE', 'NotImplemented', 501],
    ['x-amz-server-side-encryption', 'aws:kms', 'NotImplemented', 501],
    ['x-amz-tagging', 'a=b', 'NotImplemented', 501],
    ['x-amz-storage-class', 'GLACIER', 'NotImplemented', 501],
    ['x-amz-acl', 'public-read', 'NotImplemented', 501],
    ['If-None-Match', '"etag"', 'NotImplemented', 501],
    ['x-amz-meta-long', 'x'.repeat(3000), 'MetadataTooLarge', 400],
  ])('refuses %s: %s', async (name, value, code, status) => {
    const answer = await s3.put('refused', 'x', { [name]: value });
    expect([answer.code, answer.status]).toEqual([code, status]);
    expect((await s3.get('refused')).status).toBe(404);
  });

  it('asks for a length', async () => {
    const answer = await s3.send({ method: 'PUT', path: '/bucket/none', headers: { 'Transfer-Encoding': 'chunked' } });
    expect(answer.code).toBe('NotImplemented');
    const text = await overSocket('PUT /bucket/none HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n');
    expect(text).toContain('411 Length Required');
    expect(text).toContain('<Code>MissingContentLength</Code>');
  });

  it('stores nothing of a body that breaks off, and leaves no litter', async () => {
    const head = 'PUT /bucket/broken HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n';
    await overSocket(head + 'x'.repeat(10_000), true);
    expect((await s3.get('broken')).status).toBe(404);
    await expect.poll(() => readdir(join(s3.dir, 'staging'))).toEqual([]);
  });

  it('answers an early refusal although the client is still sending, and goes on with the connection', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const body = randomBytes(3_000_000);
    await s3.put('early', 'x');
    const refused = await s3.send({
      method: 'PUT',
      path: '/bucket/early',
      body,
      headers: { 'If-None-Match': '*' },
      agent,
    });
    expect(refused.status).toBe(412);
    const missing = await s3.send({ method: 'PUT', path: '/nobucket/early', body, agent });
    expect(missing.code).toBe('NoSuchBucket');
    expect((await s3.send({ method: 'GET', path: '/bucket/early', agent })).body.toString()).toBe('x');
    agent.destroy();
  });
});

function overSocket(text: string, destroy = false): Promise<string> {
  const { port } = new URL(s3.server.endpoint);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), '127.0.0.1');
    let answer = '';
    socket.on('data', (data) => (answer += data.toString('latin1')));
    socket.on('error', reject);
    socket.on('close', () => {
      resolve(answer);
    });
    socket.write(text, () => {
      if (destroy) socket.destroy();
    });
  });
}

describe('getting', () => {
  const body = randomBytes(1000);
  beforeAll(() => s3.put('range', body));

  it.each([
    ['bytes=0-99', 0, 100],
    ['bytes=100-100', 100, 101],
    ['bytes=990-', 990, 1000],
    ['bytes=990-5000', 990, 1000],
    ['bytes=-10', 990, 1000],
    ['bytes=-5000', 0, 1000],
  ])('answers %s with 206 and exactly those bytes', async (range, first, end) => {
    const answer = await s3.get('range', { Range: range });
    expect(answer.status).toBe(206);
    expect(answer.headers['content-range']).toBe(`bytes ${first}-${end - 1}/1000`);
    expect(answer.body.equals(body.subarray(first, end))).toBe(true);
  });

  it.each(['bytes=1000-', 'bytes=1000-2000', 'bytes=-0'])('answers %s with 416 and the size', async (range) => {
    const answer = await s3.get('range', { Range: range });
    expect([answer.status, answer.code, answer.headers['content-range']]).toEqual([
      416,
      'InvalidRange',
      'bytes */1000',
    ]);
  });

  it.each(['bytes=5-4', 'bytes=0-1,4-5', 'bytes=-', 'lines=0-1', 'bytes=a-b'])(
    'ignores the range %s, as HTTP asks',
    async (range) => {
      const answer = await s3.get('range', { Range: range });
      expect([answer.status, answer.body.equals(body)]).toEqual([200, true]);
    },
  );

  it('sends a large object whole, and any part of it', async () => {
    const large = randomBytes(5_000_003);
    await s3.put('large', large);
    expect((await s3.get('large')).body.equals(large)).toBe(true);
    const part = await s3.get('large', { Range: 'bytes=999999-3999999' });
    expect(part.body.equals(large.subarray(999_999, 4_000_000))).toBe(true);
  });

  it('answers conditions with 304 and 412', async () => {
    const { etag = '', 'last-modified': modified = '' } = (await s3.get('range')).headers;
    const status = async (headers: Record<string, string>): Promise<number> => (await s3.get('range', headers)).status;
    expect(await status({ 'If-None-Match': etag })).toBe(304);
    expect(await status({ 'If-None-Match': '"other"' })).toBe(200);
    expect(await status({ 'If-Match': etag })).toBe(200);
    expect(await status({ 'If-Match': '"other"' })).toBe(412);
    expect(await status({ 'If-Modified-Since': modified })).toBe(304);
    expect(await status({ 'If-Unmodified-Since': modified })).toBe(200);
    expect(await status({ 'If-Unmodified-Since': 'Thu, 01 Jan 1970 00:00:00 GMT' })).toBe(412);
    expect(await status({ 'If-None-Match': '"other"', 'If-Modified-Since': modified })).toBe(200);
  });

  it('keeps to the object it began to send when that is deleted meanwhile', async () => {
    const large = randomBytes(8_000_000);
    await s3.put('vanishing', large);
    const reading = s3.get('vanishing');
    const deleting = s3.send({ method: 'DELETE', path: '/bucket/vanishing' });
    const [answer, deleted] = await Promise.all([reading, deleting]);
    expect(deleted.status).toBe(204);
    expect(answer.status === 404 || answer.body.equals(large)).toBe(true);
    expect((await s3.get('vanishing')).status).toBe(404);
  });

  it('answers HEAD as GET, without a body', async () => {
    const answer = await s3.send({ method: 'HEAD', path: '/bucket/range' });
    expect([answer.status, answer.headers['content-length'], answer.body.length]).toEqual([200, '1000', 0]);
    const missing = await s3.send({ method: 'HEAD', path: '/bucket/missing' });
    expect([missing.status, missing.body.length]).toEqual([404, 0]);
  });
});

describe('copying', () => {
  it('copies bytes and metadata, or takes new metadata', async () => {
    const body = randomBytes(2_500_000);
    await s3.put('source%20a', body, { 'x-amz-meta-kind': 'old' });
    const copy = (key: string, headers: Record<string, string> = {}) =>
      s3.put(key, '', { 'x-amz-copy-source': '/bucket/source%20a', ...headers });
    expect((await copy('copy')).status).toBe(200);
    const answer = await s3.get('copy');
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.headers['x-amz-meta-kind']).toBe('old');
    await copy('copy', { 'x-amz-metadata-directive': 'REPLACE', 'x-amz-meta-kind': 'new' });
    expect((await s3.get('copy')).headers['x-amz-meta-kind']).toBe('new');
    expect((await copy('copy', { 'If-None-Match': '*' })).status).toBe(412);
    expect((await copy('source%20a')).code).toBe('InvalidRequest');
    expect((await s3.put('copy', '', { 'x-amz-copy-source': '/bucket/absent' })).code).toBe('NoSuchKey');
    expect((await s3.put('copy', '', { 'x-amz-copy-source': 'nonsense' })).code).toBe('InvalidArgument');
  });
});

describe('what is not there', () => {
  it.each([
    ['GET', '/bucket/x?versionId=1'],
    ['GET', '/bucket?versions'],
    ['GET', '/bucket'],
    ['PUT', '/bucket?lifecycle'],
    ['GET', '/bucket/x?acl'],
    ['GET', '/bucket/x?partNumber=1'],
    ['POST', '/bucket'],
  ])('says 501 to %s %s', async (method, path) => {
    await s3.put('x', 'x');
    const answer = await s3.send({ method, path });
    expect([answer.status, answer.code]).toEqual([501, 'NotImplemented']);
  });

  it.each([
    ['DELETE', '/', 405, 'MethodNotAllowed'],
    ['PATCH', '/bucket/x', 405, 'MethodNotAllowed'],
    ['GET', '/bucket/%ff', 400, 'InvalidURI'],
    ['GET', '/bucket/%zz', 400, 'InvalidURI'],
    ['GET', '/bucket/a%00b', 400, 'InvalidURI'],
    ['GET', `/bucket/${'k'.repeat(1025)}`, 400, 'KeyTooLongError'],
    ['GET', '/nobucket/x', 404, 'NoSuchBucket'],
    ['PUT', '/Not_A_Bucket', 400, 'InvalidBucketName'],
    ['PUT', '/..', 400, 'InvalidBucketName'],
    ['PUT', '/bucket', 409, 'BucketAlreadyOwnedByYou'],
  ])('answers %s %s with %i %s', async (method, path, status, code) => {
    const answer = await s3.send({ method, path });
    expect([answer.status, answer.code]).toEqual([status, code]);
  });

  it('does not speak to a web page that pretends to be on this machine', async () => {
    const answer = await s3.send({ method: 'GET', path: '/', headers: { Host: 'evil.example:9000' } });
    expect([answer.status, answer.code]).toEqual([403, 'AccessDenied']);
  });
});

describe('keys', () => {
  const odd = [
    '../../escape',
    './dot',
    'a//b',
    '/leading',
    'trailing/',
    'f-x',
    'd-x/f-y',
    'c-x',
    'with space+plus&amp;',
    'Ümlaut/日本語/🚢',
    'UPPER',
    'upper',
    '%2e%2e',
    'x'.repeat(1024),
    `${'y'.repeat(300)}/${'z'.repeat(300)}`,
    `${'y'.repeat(80)}/z`,
    'y'.repeat(80),
    `${'y'.repeat(80)}!`,
    '/'.repeat(1024),
    'new\nline\ttab',
  ];

  it('may be anything: each names an object of its own, inside the bucket', async () => {
    for (const key of odd) {
      const path = `/bucket/odd/${encodeURIComponent(key)}`.slice(0, 4096);
      const answer = await s3.send({ method: 'PUT', path: shortened(path, key), body: key });
      expect([key.slice(0, 20), answer.status]).toEqual([key.slice(0, 20), 200]);
    }
    for (const key of odd) {
      const answer = await s3.send({ method: 'GET', path: shortened(`/bucket/odd/${encodeURIComponent(key)}`, key) });
      expect(answer.body.toString()).toBe(key);
    }
    expect((await readdir(s3.dir)).sort()).toEqual(['buckets', 'staging', 'uploads']);
    expect(await readdir(join(s3.dir, 'buckets'))).toEqual(['bucket']);
  });

  /** Keys at the limit leave no room for the prefix. */
  function shortened(path: string, key: string): string {
    return key.length === 1024 ? `/bucket/${encodeURIComponent(key)}` : path;
  }
});

describe('many at once', () => {
  it('puts, deletes and lists in the same few directories without losing anything', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 12 });
    const prefix = 'busy/';
    const keyOf = (worker: number, step: number): string => `${prefix}${step % 3}/${(step * worker) % 2}/${worker}`;
    const last = new Map<string, string>();
    const worker = async (index: number): Promise<void> => {
      for (let step = 0; step < 40; step += 1) {
        // Only this worker touches its keys; the directories are everybody's.
        const key = keyOf(index, step);
        const path = `/bucket/${key}`;
        if (step % 4 === 3) {
          expect((await s3.send({ method: 'DELETE', path, agent })).status).toBe(204);
          last.delete(key);
        } else {
          const body = `${index} ${step}`;
          expect((await s3.send({ method: 'PUT', path, body, agent })).status).toBe(200);
          last.set(key, body);
        }
        if (step % 10 === 0) await s3.send({ method: 'GET', path: `/bucket?list-type=2&prefix=${prefix}`, agent });
      }
    };
    await Promise.all(Array.from({ length: 12 }, (_, index) => worker(index)));
    const listing = await s3.send({ method: 'GET', path: `/bucket?list-type=2&prefix=${prefix}`, agent });
    const keys = [...listing.body.toString().matchAll(/<Key>([^<]*)<\/Key>/g)].map((match) => match[1]);
    expect(keys).toEqual([...last.keys()].sort());
    for (const [key, body] of last) expect((await s3.get(key)).body.toString()).toBe(body);
    agent.destroy();
  });
});
