import { describe, expect, it } from 'vitest';
import { S3Error } from '../../../../gateway/embedded/s3-server/s3-error.ts';
import { ChunkedDecoder } from '../../../../gateway/embedded/s3-server/aws-chunked.ts';
import { authenticate } from '../../../../gateway/embedded/s3-server/sigv4.ts';
import type { SignedRequest } from '../../../../gateway/embedded/s3-server/sigv4.ts';
import { parseTarget } from '../../../../gateway/embedded/s3-server/uri.ts';

/** The examples of "Authenticating Requests (AWS Signature Version 4)" in the Amazon S3 API Reference. */
const KEY_PAIR = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
};
const NOW = Date.UTC(2013, 4, 24);
const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const HOST = 'examplebucket.s3.amazonaws.com';

function signed(
  method: string,
  url: string,
  signature: string,
  headers: Record<string, string>,
  host = HOST,
): SignedRequest {
  const all: Record<string, string> = { host, 'x-amz-date': '20130524T000000Z', ...headers };
  const names = Object.keys(all).sort().join(';');
  const authorization = `AWS4-HMAC-SHA256 Credential=${KEY_PAIR.accessKeyId}/20130524/us-east-1/s3/aws4_request,SignedHeaders=${names},Signature=${signature}`;
  return { method, target: parseTarget(url), headers: { ...all, authorization } };
}

const RANGE_GET = 'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41';
const rangeGet = (headers: Record<string, string> = {}, signature = RANGE_GET): SignedRequest =>
  signed('GET', '/test.txt', signature, { range: 'bytes=0-9', 'x-amz-content-sha256': EMPTY, ...headers });

const PRESIGNED =
  '/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404';
const presigned = (url = PRESIGNED, headers: Record<string, string> = {}): SignedRequest => ({
  method: 'GET',
  target: parseTarget(url),
  headers: { host: HOST, ...headers },
});

function codeOf(attempt: () => unknown): string {
  try {
    attempt();
  } catch (error) {
    if (error instanceof S3Error) return error.code;
    throw error;
  }
  return 'accepted';
}
const verdict = (request: SignedRequest, now = NOW): string => codeOf(() => authenticate(request, KEY_PAIR, now));

describe('signatures in a header', () => {
  it.each([
    ['a ranged GET', rangeGet()],
    [
      'a PUT with an escaped key',
      signed('PUT', '/test%24file.text', '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd', {
        date: 'Fri, 24 May 2013 00:00:00 GMT',
        'x-amz-storage-class': 'REDUCED_REDUNDANCY',
        'x-amz-content-sha256': '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
      }),
    ],
    [
      'a query parameter without a value',
      signed('GET', '/?lifecycle', 'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543', {
        'x-amz-content-sha256': EMPTY,
      }),
    ],
    [
      'a listing',
      signed('GET', '/?prefix=J&max-keys=2', '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7', {
        'x-amz-content-sha256': EMPTY,
      }),
    ],
  ])("accepts Amazon's example of %s", (_, request) => {
    expect(verdict(request)).toBe('accepted');
  });

  it('refuses the same request with anything changed', () => {
    const good = rangeGet();
    expect(verdict(rangeGet({}, RANGE_GET.replace('f0', 'f1')))).toBe('SignatureDoesNotMatch');
    expect(verdict({ ...good, method: 'PUT' })).toBe('SignatureDoesNotMatch');
    expect(verdict({ ...good, target: parseTarget('/test.tx') })).toBe('SignatureDoesNotMatch');
    expect(verdict({ ...good, target: parseTarget('/test.txt?acl') })).toBe('SignatureDoesNotMatch');
    expect(verdict({ ...good, headers: { ...good.headers, range: 'bytes=0-8' } })).toBe('SignatureDoesNotMatch');
    expect(verdict({ ...good, headers: { ...good.headers, host: 'other' } })).toBe('SignatureDoesNotMatch');
  });

  it('refuses headers of Amazon that the signature does not cover', () => {
    const good = rangeGet();
    expect(verdict({ ...good, headers: { ...good.headers, 'x-amz-meta-added': 'later' } })).toBe('AccessDenied');
  });

  it('refuses another key, no key, and nonsense', () => {
    const good = rangeGet();
    const authorized = (authorization: string): SignedRequest => ({
      ...good,
      headers: { ...good.headers, authorization },
    });
    const header = good.headers.authorization ?? '';
    expect(verdict(authorized(header.replace('AKIA', 'BKIA')))).toBe('InvalidAccessKeyId');
    expect(verdict({ ...good, headers: { host: HOST } })).toBe('AccessDenied');
    expect(verdict(authorized('Basic abc'))).toBe('AuthorizationHeaderMalformed');
    expect(verdict(authorized('AWS4-HMAC-SHA256 nonsense'))).toBe('AuthorizationHeaderMalformed');
    expect(verdict(authorized(header.replace('/s3/', '/dynamodb/')))).toBe('AuthorizationHeaderMalformed');
    expect(verdict(authorized(header.replace('host;', '')))).toBe('AuthorizationHeaderMalformed');
  });

  it('refuses a request a quarter of an hour old, or from the future', () => {
    expect(verdict(rangeGet(), NOW + 15 * 60_000)).toBe('accepted');
    expect(verdict(rangeGet(), NOW + 15 * 60_000 + 1)).toBe('RequestTimeTooSkewed');
    expect(verdict(rangeGet(), NOW - 15 * 60_000 - 1)).toBe('RequestTimeTooSkewed');
  });

  it('takes anything when there is no key pair', () => {
    expect(authenticate(rangeGet({}, '0'.repeat(64)), undefined, NOW)).toBeUndefined();
    expect(authenticate({ method: 'GET', target: parseTarget('/x'), headers: {} }, undefined, NOW)).toBeUndefined();
  });
});

describe('presigned URLs', () => {
  it("accepts Amazon's example until it expires, and not long before it begins", () => {
    expect(verdict(presigned())).toBe('accepted');
    expect(verdict(presigned(), NOW + 86_400_000)).toBe('accepted');
    expect(verdict(presigned(), NOW + 86_400_001)).toBe('AccessDenied');
    expect(verdict(presigned(), NOW - 3_600_000)).toBe('AccessDenied');
  });

  it('refuses one that was changed', () => {
    expect(verdict(presigned(PRESIGNED.replace('86400', '86401')))).toBe('SignatureDoesNotMatch');
    expect(verdict(presigned(PRESIGNED.replace('test.txt', 'test2.txt')))).toBe('SignatureDoesNotMatch');
    expect(verdict(presigned(`${PRESIGNED}&response-content-type=text/html`))).toBe('SignatureDoesNotMatch');
    expect(verdict(presigned(PRESIGNED.replace('86400', '604801')))).toBe('AuthorizationQueryParametersError');
    expect(verdict(presigned(PRESIGNED, { authorization: 'AWS4-HMAC-SHA256 x' }))).toBe('InvalidArgument');
  });

  it('expires also where any key is taken', () => {
    expect(codeOf(() => authenticate(presigned(), undefined, NOW + 86_400_001))).toBe('AccessDenied');
  });
});

describe('signed chunks', () => {
  const request = signed(
    'PUT',
    '/examplebucket/chunkObject.txt',
    '4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9',
    {
      'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      'content-encoding': 'aws-chunked',
      'x-amz-decoded-content-length': '66560',
      'content-length': '66824',
      'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
    },
    's3.amazonaws.com',
  );
  const chunks = [
    [65_536, 'ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648'],
    [1024, '0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497'],
    [0, 'b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9'],
  ] as const;
  const stream = chunks
    .map(([bytes, signature]) => `${bytes.toString(16)};chunk-signature=${signature}\r\n${'a'.repeat(bytes)}\r\n`)
    .join('');

  function decode(text: string): number {
    const signer = authenticate(request, KEY_PAIR, NOW);
    const decoder = new ChunkedDecoder({ signed: true, signer, trailers: [], decodedBytes: 66_560 });
    const bytes = decoder.push(Buffer.from(text)).reduce((sum, piece) => sum + piece.length, 0);
    decoder.finish();
    return bytes;
  }

  it("accepts Amazon's example", () => {
    expect(Buffer.byteLength(stream)).toBe(66_824);
    expect(decode(stream)).toBe(66_560);
  });

  it('refuses a changed byte, a changed signature, and chunks in another order', () => {
    expect(codeOf(() => decode(stream.replace('aaa', 'aba')))).toBe('SignatureDoesNotMatch');
    expect(codeOf(() => decode(stream.replace('0055627c', '0055627d')))).toBe('SignatureDoesNotMatch');
    expect(codeOf(() => decode(stream.replace('b6c6ea8a', 'b6c6ea8b')))).toBe('SignatureDoesNotMatch');
    expect(codeOf(() => decode(stream.replace(/;chunk-signature=\w+/, '')))).toBe('InvalidRequest');
  });

  it('refuses a stream that ends before its last chunk', () => {
    expect(codeOf(() => decode(stream.slice(0, stream.indexOf('0;chunk'))))).toBe('IncompleteBody');
    expect(codeOf(() => decode(stream.slice(0, -2)))).toBe('IncompleteBody');
  });
});

describe('signed chunks with a trailer', () => {
  const request = signed(
    'PUT',
    '/examplebucket/chunkObject.txt',
    '106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e',
    {
      'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      'content-encoding': 'aws-chunked',
      'x-amz-decoded-content-length': '66560',
      'x-amz-trailer': 'x-amz-checksum-crc32c',
      'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER',
    },
    's3.amazonaws.com',
  );
  const stream = [
    `10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n${'a'.repeat(65_536)}\r\n`,
    `400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n${'a'.repeat(1024)}\r\n`,
    '0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n',
    'x-amz-checksum-crc32c:sOO8/Q==\r\n',
    'x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n',
  ].join('');

  function decode(text: string): string | undefined {
    const decoder = new ChunkedDecoder({
      signed: true,
      signer: authenticate(request, KEY_PAIR, NOW),
      trailers: ['x-amz-checksum-crc32c'],
      decodedBytes: 66_560,
    });
    decoder.push(Buffer.from(text));
    decoder.finish();
    return decoder.trailers.get('x-amz-checksum-crc32c');
  }

  it("accepts Amazon's example", () => {
    expect(decode(stream)).toBe('sOO8/Q==');
  });

  it('refuses a trailer that was changed, or whose signature is missing', () => {
    expect(codeOf(() => decode(stream.replace('sOO8', 'sOO9')))).toBe('SignatureDoesNotMatch');
    expect(codeOf(() => decode(stream.replace(/x-amz-trailer-signature.*\r\n/, '')))).toBe('SignatureDoesNotMatch');
  });
});

describe('unsigned chunks with a trailer', () => {
  const options = { signed: false, signer: undefined, trailers: ['x-amz-checksum-crc32'], decodedBytes: 11 };
  const good = '5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n';

  function decode(pieces: readonly Buffer[]): { readonly text: string; readonly trailer: string | undefined } {
    const decoder = new ChunkedDecoder(options);
    const out = pieces.flatMap((piece) => decoder.push(piece));
    decoder.finish();
    return { text: Buffer.concat(out).toString(), trailer: decoder.trailers.get('x-amz-checksum-crc32') };
  }

  it('are put together again wherever the stream is cut', () => {
    const bytes = Buffer.from(good);
    const expected = { text: 'hello world', trailer: 'DUoRhQ==' };
    for (let first = 0; first <= bytes.length; first += 1)
      for (let second = first; second <= bytes.length; second += 1)
        expect(decode([bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)])).toEqual(
          expected,
        );
    expect(decode([...bytes].map((byte) => Buffer.of(byte)))).toEqual(expected);
  });

  it.each([
    ['no trailer', good.replace(/x-amz.*==\r\n/, ''), 'InvalidRequest'],
    ['another trailer', good.replace('crc32:', 'sha1:'), 'InvalidRequest'],
    ['a trailer twice', good.replace(/(x-amz.*==\r\n)/, '$1$1'), 'InvalidRequest'],
    ['bytes after the end', `${good}x`, 'InvalidRequest'],
    ['bare line feeds', good.replaceAll('\r\n', '\n'), 'InvalidRequest'],
    ['a size that is no number', good.replace('5\r', 'z\r'), 'InvalidRequest'],
    ['a size that is too small', good.replace('5\r', '4\r'), 'InvalidRequest'],
    ['a size that is too large', good.replace('6\r', '7\r'), 'IncompleteBody'],
    ['too few bytes', good.replace('6\r\n world\r\n', ''), 'IncompleteBody'],
    ['no end', good.slice(0, -2), 'IncompleteBody'],
    ['nothing', '', 'IncompleteBody'],
    ['an endless line', 'f'.repeat(5000), 'InvalidRequest'],
    ['an unexpected signature', good.replace('5\r', `5;chunk-signature=${'0'.repeat(64)}\r`), 'InvalidRequest'],
  ])('are refused with %s', (_, text, code) => {
    expect(codeOf(() => decode([Buffer.from(text)]))).toBe(code);
  });
});
