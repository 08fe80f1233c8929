import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { elements, startTestS3 } from '../../../support/s3-server.ts';
import type { TestS3 } from '../../../support/s3-server.ts';

let s3: TestS3;
const KEYS = [
  'a',
  'a!',
  'a/1',
  'a/2',
  'a/b/1',
  'a/b/2',
  'a0',
  'b/',
  'b//x',
  'b/x',
  'c',
  `long${'l'.repeat(80)}`,
  `long${'l'.repeat(80)}!`,
  `long${'l'.repeat(80)}/x`,
  `long${'l'.repeat(80)}0`,
  'ü/ü',
  '日本',
  '🚢',
  '\uffee',
];
const sorted = [...KEYS].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));

beforeAll(async () => {
  s3 = await startTestS3();
  for (const key of KEYS) await s3.put(key.split('/').map(encodeURIComponent).join('/'), key);
});
afterAll(() => s3.close());

interface Listed {
  readonly keys: string[];
  readonly prefixes: string[];
  readonly pages: number;
}

async function list(parameters: Record<string, string>, maxKeys = 1000): Promise<Listed> {
  const keys: string[] = [];
  const prefixes: string[] = [];
  let token: string | undefined;
  for (let pages = 1; ; pages += 1) {
    const query = new URLSearchParams({
      'list-type': '2',
      'max-keys': String(maxKeys),
      ...parameters,
      ...(token !== undefined && { 'continuation-token': token }),
    });
    const answer = await s3.send({ method: 'GET', path: `/bucket?${query.toString()}` });
    expect(answer.status).toBe(200);
    const text = answer.body.toString('utf8');
    const found = [...text.matchAll(/<Key>([^<]*)<\/Key>/g)].map((match) => match[1] ?? '');
    const rolled = [...text.matchAll(/<CommonPrefixes><Prefix>([^<]*)<\/Prefix>/g)].map((match) => match[1] ?? '');
    expect(found.length + rolled.length).toBeLessThanOrEqual(maxKeys);
    expect(elements(answer, 'KeyCount')).toEqual([String(found.length + rolled.length)]);
    keys.push(...found);
    prefixes.push(...rolled);
    token = elements(answer, 'NextContinuationToken')[0];
    expect(elements(answer, 'IsTruncated')).toEqual([String(token !== undefined)]);
    if (token === undefined) return { keys, prefixes, pages };
  }
}

describe('listing', () => {
  it.each([1, 2, 3, 7, 1000])('gives every key in the order of its UTF-8 bytes, in pages of %i', async (maxKeys) => {
    expect((await list({}, maxKeys)).keys).toEqual(sorted);
  });

  it.each(['a', 'a/', 'a/b', 'b//', 'long', `long${'l'.repeat(80)}`, 'ü', 'nothing'])(
    'gives the keys that begin with %s',
    async (prefix) => {
      const expected = sorted.filter((key) => key.startsWith(prefix));
      for (const maxKeys of [1, 2, 1000]) expect((await list({ prefix }, maxKeys)).keys).toEqual(expected);
    },
  );

  it.each(['a', 'a/', 'a/1', 'a/9', 'b', 'longer', '~'])('goes on after %s', async (start) => {
    const expected = sorted.filter((key) => Buffer.compare(Buffer.from(key), Buffer.from(start)) > 0);
    expect((await list({ 'start-after': start }, 3)).keys).toEqual(expected);
  });

  it.each([
    ['', '/'],
    ['a', '/'],
    ['a/', '/'],
    ['b/', '/'],
    ['', 'b/'],
    ['', '1'],
    ['long', 'l!'],
    ['', 'nowhere'],
  ])('rolls up what begins with %j at the delimiter %j', async (prefix, delimiter) => {
    const keys: string[] = [];
    const prefixes = new Set<string>();
    for (const key of sorted.filter((one) => one.startsWith(prefix))) {
      const at = key.indexOf(delimiter, prefix.length);
      if (at < 0) keys.push(key);
      else prefixes.add(key.slice(0, at + delimiter.length));
    }
    for (const maxKeys of [1, 2, 1000]) {
      const listed = await list({ prefix, delimiter }, maxKeys);
      expect({ keys: listed.keys, prefixes: listed.prefixes }).toEqual({ keys, prefixes: [...prefixes] });
    }
  });

  it('encodes keys when asked to', async () => {
    const answer = await s3.send({ method: 'GET', path: '/bucket?list-type=2&encoding-type=url&prefix=%C3%BC' });
    expect(elements(answer, 'Key')).toEqual(['%C3%BC/%C3%BC']);
  });

  it('gives no key for max-keys=0, and refuses what is no number or no token', async () => {
    expect(elements(await s3.send({ method: 'GET', path: '/bucket?list-type=2&max-keys=0' }), 'KeyCount')).toEqual([
      '0',
    ]);
    for (const query of ['max-keys=x', 'max-keys=-1', 'continuation-token=x', 'encoding-type=x']) {
      const answer = await s3.send({ method: 'GET', path: `/bucket?list-type=2&${query}` });
      expect([answer.status, answer.code]).toEqual([400, 'InvalidArgument']);
    }
  });

  it('pages through more than a thousand keys, 1,000 at most at once', async () => {
    const made = Array.from({ length: 2100 }, (_, index) => `many/${String(index).padStart(5, '0')}`);
    for (let at = 0; at < made.length; at += 100)
      await Promise.all(made.slice(at, at + 100).map((key) => s3.put(key, '')));
    const listed = await list({ prefix: 'many/' }, 1000);
    expect(listed.pages).toBe(3);
    expect(listed.keys).toEqual(made);
    expect((await list({ prefix: 'many/' }, 999)).keys).toEqual(made);
    const query = '/bucket?list-type=2&max-keys=5000&prefix=many/';
    expect(elements(await s3.send({ method: 'GET', path: query }), 'Key')).toHaveLength(1000);
    const body = `<Delete>${made
      .slice(0, 1000)
      .map((key) => `<Object><Key>${key}</Key></Object>`)
      .join('')}</Delete>`;
    const deleted = await deleteObjects(body);
    expect(elements(deleted, 'Key')).toHaveLength(1000);
    expect((await list({ prefix: 'many/' })).keys).toEqual(made.slice(1000));
  });

  it('forgets a common prefix with its last key', async () => {
    await s3.put('gone/deep/down/x', 'x');
    expect((await list({ prefix: 'gone', delimiter: '/' })).prefixes).toEqual(['gone/']);
    await s3.send({ method: 'DELETE', path: '/bucket/gone/deep/down/x' });
    expect((await list({ prefix: 'gone', delimiter: '/' })).prefixes).toEqual([]);
  });
});

async function deleteObjects(body: string, headers: Record<string, string> = {}) {
  const { createHash } = await import('node:crypto');
  const md5 = createHash('md5').update(body).digest('base64');
  return s3.send({ method: 'POST', path: '/bucket?delete', body, headers: { 'Content-MD5': md5, ...headers } });
}

describe('deleting many', () => {
  it('names what it deleted, or nothing when quiet', async () => {
    await s3.put('del/1', '');
    const loud = await deleteObjects(
      '<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>del/1</Key></Object><Object><Key>del/&lt;2&gt;</Key></Object></Delete>',
    );
    expect(elements(loud, 'Key')).toEqual(['del/1', 'del/&lt;2&gt;']);
    const quiet = await deleteObjects('<Delete><Quiet>true</Quiet><Object><Key>del/1</Key></Object></Delete>');
    expect([quiet.status, elements(quiet, 'Key')]).toEqual([200, []]);
  });

  it.each([
    ['not xml', 'MalformedXML'],
    ['<Delete><Object><Key>a</Key></Delete>', 'MalformedXML'],
    ['<!DOCTYPE x [<!ENTITY a "b">]><Delete/>', 'MalformedXML'],
    ['<Delete></Delete>', 'MalformedXML'],
    ['<Delete><Object><Key></Key></Object></Delete>', 'MalformedXML'],
    ['<Other><Object><Key>a</Key></Object></Other>', 'MalformedXML'],
    ['<Delete><Object><Key>a</Key><VersionId>1</VersionId></Object></Delete>', 'NotImplemented'],
    [`<Delete>${'<Object><Key>a</Key></Object>'.repeat(1001)}</Delete>`, 'MalformedXML'],
  ])('refuses %j', async (body, code) => {
    expect((await deleteObjects(body)).code).toBe(code);
  });

  it('insists on a checksum of the request', async () => {
    const body = '<Delete><Object><Key>a</Key></Object></Delete>';
    expect((await s3.send({ method: 'POST', path: '/bucket?delete', body })).code).toBe('InvalidRequest');
    expect((await deleteObjects(body, { 'Content-MD5': Buffer.alloc(16).toString('base64') })).code).toBe('BadDigest');
    expect((await s3.get('a')).status).toBe(200);
  });
});

describe('buckets', () => {
  it('are made, listed and removed', async () => {
    expect((await s3.send({ method: 'PUT', path: '/second-bucket' })).status).toBe(200);
    expect((await s3.send({ method: 'HEAD', path: '/second-bucket' })).status).toBe(200);
    expect(elements(await s3.send({ method: 'GET', path: '/' }), 'Name')).toEqual(['bucket', 'second-bucket']);
    await s3.send({ method: 'PUT', path: '/second-bucket/x', body: 'x' });
    expect((await s3.send({ method: 'DELETE', path: '/second-bucket' })).code).toBe('BucketNotEmpty');
    await s3.send({ method: 'DELETE', path: '/second-bucket/x' });
    expect((await s3.send({ method: 'DELETE', path: '/second-bucket' })).status).toBe(204);
    expect((await s3.send({ method: 'HEAD', path: '/second-bucket' })).status).toBe(404);
    expect((await s3.send({ method: 'DELETE', path: '/second-bucket' })).code).toBe('NoSuchBucket');
  });

  it('tell where they are and that nothing is versioned', async () => {
    expect((await s3.send({ method: 'GET', path: '/bucket?location' })).body.toString()).toContain(
      'LocationConstraint',
    );
    const versioning = await s3.send({ method: 'GET', path: '/bucket?versioning' });
    expect(versioning.body.toString()).not.toContain('Enabled');
  });
});
