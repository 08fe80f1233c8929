import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { S3Error } from './s3-error.ts';
import { encodeUri } from './uri.ts';
import type { Target } from './uri.ts';

/** Signature Version 4, as the AWS General Reference defines it, on the verifying side. */
export interface KeyPair {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface SignedRequest {
  readonly method: string;
  readonly target: Target;
  readonly headers: IncomingHttpHeaders;
}

/** What a signed chunk stream goes on from. */
export interface ChunkSigner {
  readonly seedSignature: string;
  /** Signature of the next chunk, or of the trailer, of the given kind. */
  sign(kind: 'AWS4-HMAC-SHA256-PAYLOAD' | 'AWS4-HMAC-SHA256-TRAILER', previous: string, hashHex: string): string;
}

interface Claim {
  readonly accessKeyId: string;
  readonly scope: string;
  readonly scopeDate: string;
  readonly region: string;
  readonly service: string;
  readonly timestamp: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
  readonly expiresSeconds: number | undefined;
}

const ALGORITHM = 'AWS4-HMAC-SHA256';
const MAX_SKEW_MS = 15 * 60 * 1000;
const MAX_EXPIRES_SECONDS = 7 * 24 * 3600;
const EMPTY_SHA256 = createHash('sha256').digest('hex');

const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest();
const sha256Hex = (data: string): string => createHash('sha256').update(data).digest('hex');

/**
 * Checks the request against the key pair; without one any key is taken, and what is checked is only that a presigned URL has not
 * expired. Answers with what signed chunks need, if the request is signed and there is a key pair to check with. Throws S3Error.
 */
export function authenticate(
  request: SignedRequest,
  keyPair: KeyPair | undefined,
  nowMs: number,
  service = 's3',
): ChunkSigner | undefined {
  const claim = claimOf(request);
  if (keyPair === undefined) {
    if (claim?.expiresSeconds !== undefined) checkTime(claim, nowMs);
    return undefined;
  }
  if (claim === undefined) throw new S3Error('AccessDenied', 'This server takes signed requests only.');
  if (claim.accessKeyId !== keyPair.accessKeyId)
    throw new S3Error('InvalidAccessKeyId', 'The AWS Access Key Id you provided does not exist in our records.');
  if (claim.service !== service)
    throw new S3Error('AuthorizationHeaderMalformed', `The signature is for ${claim.service}, not for ${service}.`);
  checkTime(claim, nowMs);
  checkSignedHeaders(request, claim);
  const key = signingKey(keyPair, claim);
  const expected = hmac(key, stringToSign(request, claim)).toString('hex');
  if (!equal(expected, claim.signature))
    throw new S3Error(
      'SignatureDoesNotMatch',
      'The request signature we calculated does not match the signature you provided. Check your key and signing method.',
    );
  return {
    seedSignature: claim.signature,
    sign: (kind, previous, hashHex) => {
      const middle = kind === 'AWS4-HMAC-SHA256-PAYLOAD' ? `${EMPTY_SHA256}\n` : '';
      const text = `${kind}\n${claim.timestamp}\n${claim.scope}\n${previous}\n${middle}${hashHex}`;
      return hmac(key, text).toString('hex');
    },
  };
}

export function equal(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

function signingKey({ secretAccessKey }: KeyPair, { scopeDate, region, service }: Claim): Buffer {
  return hmac(hmac(hmac(hmac(`AWS4${secretAccessKey}`, scopeDate), region), service), 'aws4_request');
}

function stringToSign(request: SignedRequest, claim: Claim): string {
  const { method, target, headers } = request;
  const query = target.query
    .filter(([name]) => name !== 'X-Amz-Signature')
    .map(([name, value]): [string, string] => [encodeUri(name), encodeUri(value)])
    .sort(([nameA, valueA], [nameB, valueB]) => (nameA === nameB ? (valueA < valueB ? -1 : 1) : nameA < nameB ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
  const canonicalHeaders = claim.signedHeaders.map((name) => `${name}:${headerText(headers, name)}\n`).join('');
  const payload =
    headerText(headers, 'x-amz-content-sha256') ||
    (claim.expiresSeconds === undefined ? EMPTY_SHA256 : 'UNSIGNED-PAYLOAD');
  const canonical = [
    method,
    encodeUri(target.path, true),
    query,
    canonicalHeaders,
    claim.signedHeaders.join(';'),
    payload,
  ].join('\n');
  return `${ALGORITHM}\n${claim.timestamp}\n${claim.scope}\n${sha256Hex(canonical)}`;
}

function headerText(headers: IncomingHttpHeaders, name: string): string {
  const value = headers[name];
  const text = Array.isArray(value) ? value.join(',') : (value ?? '');
  return text.trim().replace(/ +/g, ' ');
}

/** Everything of Amazon's own must be covered by the signature, and the host. */
function checkSignedHeaders({ headers }: SignedRequest, claim: Claim): void {
  const unsigned = Object.keys(headers).filter(
    (name) => (name === 'host' || name.startsWith('x-amz-')) && !claim.signedHeaders.includes(name),
  );
  // A presigned URL may be used with headers that its maker did not know of, save those that change what is done.
  const offending = claim.expiresSeconds === undefined ? unsigned : unsigned.filter((name) => name === 'host');
  if (offending.length > 0)
    throw new S3Error(
      'AccessDenied',
      `There were headers present in the request which were not signed: ${offending.join(', ')}.`,
    );
}

function checkTime(claim: Claim, nowMs: number): void {
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(claim.timestamp) ?? [];
  const at = Date.parse(`${year ?? ''}-${month ?? ''}-${day ?? ''}T${hour ?? ''}:${minute ?? ''}:${second ?? ''}Z`);
  if (Number.isNaN(at) || !claim.timestamp.startsWith(claim.scopeDate))
    throw new S3Error('AccessDenied', 'AWS authentication requires a valid Date or x-amz-date header.');
  const tooEarly = at - nowMs > MAX_SKEW_MS;
  if (claim.expiresSeconds === undefined) {
    if (tooEarly || nowMs - at > MAX_SKEW_MS)
      throw new S3Error(
        'RequestTimeTooSkewed',
        'The difference between the request time and the current time is too large.',
      );
    return;
  }
  if (tooEarly) throw new S3Error('AccessDenied', 'Request is not valid yet.');
  if (nowMs > at + claim.expiresSeconds * 1000) throw new S3Error('AccessDenied', 'Request has expired.');
}

function claimOf({ headers, target }: SignedRequest): Claim | undefined {
  const query = new Map(target.query);
  const { authorization } = headers;
  if (query.has('X-Amz-Algorithm')) {
    if (authorization !== undefined)
      throw new S3Error('InvalidArgument', 'Only one auth mechanism allowed: a signature in the query or in a header.');
    return queryClaim(query);
  }
  if (authorization === undefined) return undefined;
  return headerClaim(authorization, headers);
}

function headerClaim(authorization: string, headers: IncomingHttpHeaders): Claim {
  const malformed = (): S3Error =>
    new S3Error('AuthorizationHeaderMalformed', 'The authorization header you provided is not of Signature Version 4.');
  if (!authorization.startsWith(`${ALGORITHM} `)) throw malformed();
  const fields = new Map<string, string>();
  for (const field of authorization.slice(ALGORITHM.length).split(',')) {
    const equals = field.indexOf('=');
    if (equals < 0) throw malformed();
    fields.set(field.slice(0, equals).trim(), field.slice(equals + 1).trim());
  }
  const timestamp = headerText(headers, 'x-amz-date');
  return parseClaim(
    fields.get('Credential'),
    fields.get('SignedHeaders'),
    fields.get('Signature'),
    timestamp,
    undefined,
    malformed,
  );
}

function queryClaim(query: ReadonlyMap<string, string>): Claim {
  const malformed = (): S3Error =>
    new S3Error(
      'AuthorizationQueryParametersError',
      'The query parameters of the signature are not as they should be.',
    );
  const expires = query.get('X-Amz-Expires') ?? '';
  if (query.get('X-Amz-Algorithm') !== ALGORITHM || !/^\d{1,6}$/.test(expires)) throw malformed();
  const expiresSeconds = Number(expires);
  if (expiresSeconds < 1 || expiresSeconds > MAX_EXPIRES_SECONDS) throw malformed();
  return parseClaim(
    query.get('X-Amz-Credential'),
    query.get('X-Amz-SignedHeaders'),
    query.get('X-Amz-Signature'),
    query.get('X-Amz-Date') ?? '',
    expiresSeconds,
    malformed,
  );
}

function parseClaim(
  credential: string | undefined,
  signedHeaders: string | undefined,
  signature: string | undefined,
  timestamp: string,
  expiresSeconds: number | undefined,
  malformed: () => S3Error,
): Claim {
  const match = /^(.+)\/(\d{8})\/([\w-]+)\/(\w+)\/aws4_request$/.exec(credential ?? '');
  const [, accessKeyId, scopeDate, region, service] = match ?? [];
  if (
    accessKeyId === undefined ||
    scopeDate === undefined ||
    region === undefined ||
    service === undefined ||
    signedHeaders === undefined ||
    signature === undefined ||
    !/^[0-9a-f]{64}$/.test(signature)
  )
    throw malformed();
  const names = signedHeaders.split(';');
  if (!names.includes('host')) throw malformed();
  return {
    accessKeyId,
    scope: `${scopeDate}/${region}/${service}/aws4_request`,
    scopeDate,
    region,
    service,
    timestamp,
    signedHeaders: names,
    signature,
    expiresSeconds,
  };
}
