import { crc32 } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemRandom } from '../../../gateway/base/clock.ts';
import type { Clock } from '../../../gateway/base/clock.ts';
import { createAwsClients } from '../../../gateway/cloud/aws-clients.ts';
import type { AwsClients } from '../../../gateway/cloud/aws-clients.ts';
import { MAX_ATTEMPTS } from '../../../gateway/cloud/cloud-call.ts';
import { encodeCrc32 } from '../../../gateway/cloud/crc32-header.ts';
import { S3ObjectStore } from '../../../gateway/cloud/s3-object-store.ts';
import {
  breakOff,
  hangUp,
  hastyClock,
  neverAnswer,
  reply,
  s3Error,
  startScriptedServer,
} from '../../support/scripted-server.ts';
import type { ScriptedServer } from '../../support/scripted-server.ts';

let server: ScriptedServer;
let clients: AwsClients;
beforeAll(async () => {
  server = await startScriptedServer();
});
afterEach(() => {
  clients.close();
});
afterAll(() => server.close());

function storeAt(endpoint: string, clock: Clock = hastyClock()): S3ObjectStore {
  clients = createAwsClients({ region: 'us-east-1', s3Endpoint: endpoint, dynamodbEndpoint: endpoint }, {});
  return new S3ObjectStore({ client: clients.s3, bucket: 'office', place: endpoint, clock, random: systemRandom });
}
const store = (clock?: Clock): S3ObjectStore => storeAt(server.endpoint, clock);
const BODY = Buffer.from('some bytes');
const stored = reply(200, '', { ETag: '"one"' });
const put = () => store().put('a/key', [BODY], crc32(BODY));

describe('a put', () => {
  it('carries the condition, the length and the given checksum, and does not hash the body again', async () => {
    server.script(stored);
    const pieces = [Buffer.alloc(400_000, 1), Buffer.alloc(400_000, 2)];
    const whole = Buffer.concat(pieces);
    expect(await store().put('a/key', pieces, crc32(whole))).toBe('created');
    const [request] = server.received;
    expect(request?.method).toBe('PUT');
    expect(request?.url).toMatch(/^\/office\/a\/key(\?|$)/);
    expect(request?.headers).toMatchObject({
      'if-none-match': '*',
      'content-length': '800000',
      'x-amz-checksum-crc32': encodeCrc32(crc32(whole)),
      'x-amz-content-sha256': 'UNSIGNED-PAYLOAD',
    });
    expect(request?.headers['transfer-encoding']).toBeUndefined();
    expect(request?.headers.expect).toBeUndefined();
    expect(request?.body.equals(whole)).toBe(true);
  });

  it('takes an answer without what every S3 says of an object for none', async () => {
    server.script(reply(200));
    await expect(put()).rejects.toMatchObject({
      kind: 'retry',
      message: 'S3: could not put a/key: the answer is not that of an S3 service.',
    });
  });

  it.each(['put', 'head', 'get', 'list', 'delete'] as const)('takes a web page for no answer to %s', async (method) => {
    server.script(
      reply(200, '<html>Please sign in.</html>', { 'Content-Type': 'text/html; charset=utf-8', ETag: '"x"' }),
    );
    const calls = {
      put,
      head: () => store().head('a/key'),
      get: () => store().get('a/key'),
      list: () => store().list('a/', 10),
      delete: () => store().delete(['a/key']),
    };
    await expect(calls[method]()).rejects.toMatchObject({
      kind: 'retry',
      message: expect.stringContaining('was answered with a web page') as unknown,
    });
  });

  it('says that an object is there already', async () => {
    server.script(s3Error(412, 'PreconditionFailed'));
    expect(await put()).toBe('exists');
  });

  it.each([
    ['503 SlowDown', s3Error(503, 'SlowDown')],
    ['409 ConditionalRequestConflict', s3Error(409, 'ConditionalRequestConflict')],
    ['403 RequestTimeTooSkewed', s3Error(403, 'RequestTimeTooSkewed')],
    ['400 ExpiredToken', s3Error(400, 'ExpiredToken')],
  ])('is repeated after %s, since nothing can have happened', async (_, refusal) => {
    server.script(refusal, refusal, stored);
    expect(await put()).toBe('created');
    expect(server.received).toHaveLength(3);
  });

  it('is given up after a bounded number of refusals', async () => {
    server.script(s3Error(503, 'SlowDown'));
    await expect(put()).rejects.toMatchObject({ kind: 'retry' });
    expect(server.received).toHaveLength(MAX_ATTEMPTS);
  });

  it.each([
    ['a lost response', hangUp],
    ['500 InternalError', s3Error(500, 'InternalError')],
    ['503 ServiceUnavailable', s3Error(503, 'ServiceUnavailable')],
    ['a proxy that answers 502 with a page', reply(502, '<html>Bad gateway</html>', { 'Content-Type': 'text/html' })],
    ['RequestTimeout', s3Error(400, 'RequestTimeout')],
  ])('is not repeated after %s: its outcome is unknown, and the caller is told so', async (_, failure) => {
    server.script(failure, stored);
    await expect(put()).rejects.toMatchObject({ kind: 'retry' });
    expect(server.received).toHaveLength(1);
  });

  it('does not wait for ever for an answer', async () => {
    server.script(neverAnswer);
    await expect(store(hastyClock(true)).put('a/key', [BODY], crc32(BODY))).rejects.toMatchObject({
      kind: 'retry',
      message: expect.stringMatching(/could not put a\/key .* no answer from http:\S+ within \d+ ms/) as string,
    });
  });

  it('says that bytes were damaged on the way, each time', async () => {
    server.script(s3Error(400, 'BadDigest'));
    await expect(put()).rejects.toMatchObject({ kind: 'damaged' });
    server.script(s3Error(400, 'BadDigest'), stored);
    expect(await put()).toBe('created');
  });

  it.each([
    [404, 'NoSuchBucket', /bucket office does not exist at http:.*cloud\.bucket/],
    [403, 'AccessDenied', /access to bucket office is denied.*s3:PutObject/],
    [403, 'InvalidAccessKeyId', /does not know the access key/],
    [403, 'SignatureDoesNotMatch', /secret key does not belong/],
    [403, 'SomethingNew', /access to bucket office is denied/],
    [301, 'PermanentRedirect', /another region.*cloud\.region/],
    [400, 'EntityTooLarge', /about EntityTooLarge/],
    [501, 'NotImplemented', /about NotImplemented/],
  ])('turns %i %s into a sentence that says what to mend', async (status, code, sentence) => {
    server.script(s3Error(status, code));
    await expect(put()).rejects.toMatchObject({ kind: 'input', message: expect.stringMatching(sentence) as string });
    expect(server.received).toHaveLength(1);
  });

  it('says that nobody is there', async () => {
    const unused = await startScriptedServer();
    await unused.close();
    await expect(storeAt(unused.endpoint).put('k', [BODY], crc32(BODY))).rejects.toMatchObject({
      kind: 'retry',
      message: expect.stringContaining(`${unused.endpoint} cannot be reached`) as string,
    });
  });
});

describe('a get', () => {
  const ranged = (first: number, end: number, total: number) => ({
    'Content-Range': `bytes ${first}-${end - 1}/${total}`,
  });

  it('asks for exactly the range', async () => {
    server.script(reply(206, 'abc', ranged(10, 13, 100)));
    expect(await store().get('k', { offset: 10, length: 3 })).toEqual(Buffer.from('abc'));
    expect(server.received[0]?.headers.range).toBe('bytes=10-12');
  });

  it('is repeated after a body that broke off, a lost response and a 500', async () => {
    const headers = ranged(0, 10, 10);
    server.script(
      breakOff(206, 10, Buffer.from('0123'), headers),
      hangUp,
      s3Error(500, 'InternalError'),
      reply(206, '0123456789', headers),
    );
    expect(await store().get('k', { offset: 0, length: 10 })).toEqual(Buffer.from('0123456789'));
    expect(server.received).toHaveLength(4);
  });

  it('gives up on bodies that always break off', async () => {
    server.script(breakOff(200, 10, Buffer.from('0123')));
    await expect(store().get('k')).rejects.toMatchObject({ kind: 'retry' });
    expect(server.received).toHaveLength(MAX_ATTEMPTS);
  });

  it.each([
    ['other bytes', reply(206, 'abc', ranged(11, 14, 100))],
    ['fewer bytes than exist', reply(206, 'ab', ranged(10, 12, 100))],
    ['another length than it says', reply(206, 'ab', ranged(10, 13, 100))],
    ['the whole object', reply(200, 'abcdefghij')],
    ['no range', reply(206, 'abc')],
  ])('is damaged when the answer holds %s', async (_, wrong) => {
    server.script(wrong);
    await expect(store().get('k', { offset: 10, length: 3 })).rejects.toMatchObject({ kind: 'damaged' });
  });

  it('checks a whole object against the checksum S3 holds', async () => {
    const headers = { 'x-amz-checksum-crc32': encodeCrc32(crc32('good')), 'x-amz-checksum-type': 'FULL_OBJECT' };
    server.script(reply(200, 'good', headers));
    expect(await store().get('k')).toEqual(Buffer.from('good'));
    server.script(reply(200, 'baad', headers));
    await expect(store().get('k')).rejects.toMatchObject({ kind: 'damaged' });
    server.script(reply(200, 'baad', headers), reply(200, 'good', headers));
    expect(await store().get('k')).toEqual(Buffer.from('good'));
  });

  it('tells an absent object from an absent bucket', async () => {
    server.script(s3Error(404, 'NoSuchKey'));
    expect(await store().get('k')).toBeUndefined();
    server.script(s3Error(404, 'NoSuchBucket'));
    await expect(store().get('k')).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringContaining('bucket office does not exist') as string,
    });
  });

  it('breaks off a body that stalls', async () => {
    server.script((response) => {
      response.writeHead(200, { 'Content-Length': '10' });
      response.write('0123');
    });
    await expect(store(hastyClock(true)).get('k')).rejects.toMatchObject({ kind: 'retry' });
  });
});

describe('a head', () => {
  it('tells an absent object from an absent bucket, which HEAD alone cannot', async () => {
    server.script(reply(404), s3Error(404, 'NoSuchKey'));
    expect(await store().head('k')).toBeUndefined();
    server.script(reply(404), s3Error(404, 'NoSuchBucket'));
    await expect(store().head('k')).rejects.toMatchObject({ kind: 'input' });
  });

  it('sees an object that appears between the two questions', async () => {
    const there = reply(200, '', { 'Content-Length': '7', 'x-amz-checksum-crc32': encodeCrc32(5) });
    server.script(reply(404), reply(206, 'x', { 'Content-Range': 'bytes 0-0/7' }), there);
    expect(await store().head('k')).toEqual({ bytes: 7, crc32: 5 });
  });

  it('knows no CRC-32 of an object that was uploaded in parts', async () => {
    server.script(reply(200, '', { 'Content-Length': '7', 'x-amz-checksum-crc32': 'AAAAAA==-2' }));
    expect(await store().head('k')).toEqual({ bytes: 7, crc32: undefined });
  });

  it('says that access is denied although the answer has no body', async () => {
    server.script(reply(403));
    await expect(store().head('k')).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringContaining('access to bucket office is denied') as string,
    });
  });
});

describe('a delete', () => {
  const result = (inner: string) =>
    reply(200, `<DeleteResult>${inner}</DeleteResult>`, { 'Content-Type': 'application/xml' });
  const failure = (key: string, code: string) =>
    `<Error><Key>${key}</Key><Code>${code}</Code><Message>m</Message></Error>`;

  it('repeats what was left undone, and only that', async () => {
    server.script(result(failure('b', 'InternalError')), result(''));
    await store().delete(['a', 'b', 'c']);
    expect(server.received).toHaveLength(2);
    expect(server.received[0]?.body.toString()).toContain('<Key>a</Key>');
    expect(server.received[1]?.body.toString()).not.toContain('<Key>a</Key>');
    expect(server.received[1]?.body.toString()).toContain('<Key>b</Key>');
  });

  it('says which object it may not delete', async () => {
    server.script(result(failure('b', 'AccessDenied')));
    await expect(store().delete(['a', 'b'])).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringContaining('could not delete b') as string,
    });
  });

  it('carries a checksum, which S3 insists on', async () => {
    server.script(result(''));
    await store().delete(['a']);
    expect(server.received[0]?.headers['x-amz-checksum-crc32']).toMatch(/==$/);
  });
});
