import { FarshoreError, describeError, isKind } from '../base/errors.ts';
import type { ErrorKind } from '../base/errors.ts';
import { PROXY_REFUSED, PROXY_TROUBLE } from './proxy-agent.ts';

/** What a call was about, for messages. */
export interface CallContext {
  readonly service: 'S3' | 'DynamoDB';
  /** Bucket or table. */
  readonly resource: string;
  /** Where requests go: an endpoint URL or "AWS region x". */
  readonly place: string;
  /** What was tried, for example `put lineages/…/segments/00000001f`. */
  readonly what: string;
}

export interface Failure {
  /** The service's error code, Node's error code, or the error's name. */
  readonly code: string;
  readonly status: number | undefined;
  readonly kind: ErrorKind;
  /** `never`: the service said it did nothing, or was not reached. `unknown`: it may have been done. */
  readonly applied: 'never' | 'unknown';
}

/** The service refused before doing anything and asks for a slower pace, or for another try. */
const REFUSED_FOR_NOW: ReadonlySet<string> = new Set([
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'ThrottledException',
  'TooManyRequestsException',
  'RequestThrottled',
  'RequestThrottledException',
  'RequestLimitExceeded',
  'BandwidthLimitExceeded',
  'ProvisionedThroughputExceededException',
  'LimitExceededException',
  'TransactionConflictException',
  'ConditionalRequestConflict',
  'OperationAborted',
  // The SDK corrects its clock, or fetches new credentials, before the next attempt.
  'RequestTimeTooSkewed',
  'RequestExpired',
  'ExpiredToken',
  'ExpiredTokenException',
]);

/** Not reached at all. */
const UNREACHED: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EHOSTDOWN',
  'ENETDOWN',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EADDRNOTAVAIL',
  PROXY_TROUBLE,
]);

/** Broken off somewhere: whether the service acted is unknown. */
const BROKEN_OFF: ReadonlySet<string> = new Set([
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_STREAM_DESTROYED',
  'TimeoutError',
  'AbortError',
  'RequestTimeout',
  'RequestTimeoutException',
  'InternalError',
  'InternalServerError',
  'InternalFailure',
  'ServiceUnavailable',
]);

/** The bytes that arrived are not those that were meant. */
const WRONG_BYTES: ReadonlySet<string> = new Set([
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'XAmzContentChecksumMismatch',
  'InvalidDigest',
]);

/** What is wrong and how to mend it, by error code. */
const ADVICE: Readonly<Record<string, (context: CallContext) => string>> = {
  NoSuchBucket: ({ resource, place }) =>
    `bucket ${resource} does not exist at ${place}; create it or correct cloud.bucket`,
  ResourceNotFoundException: ({ resource, place }) =>
    `table ${resource} does not exist at ${place}; create it or correct cloud.table and cloud.region`,
  PermanentRedirect: ({ resource }) => `bucket ${resource} is in another region; correct cloud.region`,
  AuthorizationHeaderMalformed: ({ resource }) => `bucket ${resource} is in another region; correct cloud.region`,
  RequestTimeTooSkewed: ({ place }) =>
    `the clock of this machine is not that of ${place}; the next attempt is signed with the time there, but run NTP (chrony)`,
  InvalidAccessKeyId: ({ place }) => `${place} does not know the access key; check the AWS credentials of this process`,
  UnrecognizedClientException: ({ place }) =>
    `${place} does not know the access key; check the AWS credentials of this process`,
  SignatureDoesNotMatch: () =>
    'the secret key does not belong to the access key; check the AWS credentials of this process',
  InvalidSignatureException: () =>
    'the secret key does not belong to the access key; check the AWS credentials of this process',
  CredentialsProviderError: () =>
    'no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role for this machine',
  AccessDenied: ({ service, resource }) =>
    service === 'S3'
      ? `access to bucket ${resource} is denied; the identity needs s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on it (and kms:GenerateDataKey and kms:Decrypt when it has a key)`
      : `access to table ${resource} is denied; attach the gateway policy to the identity`,
  AccessDeniedException: ({ resource }) =>
    `access to table ${resource} is denied; attach the gateway policy to the identity`,
};

/** Codes that only a change of configuration mends. */
const MEND_CONFIGURATION =
  /^(CERT_|ERR_TLS_|ERR_SSL_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT|UNABLE_TO_|HPE_|EPROTO)/;

const UNTRUSTED =
  /^(SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_GET_ISSUER_CERT(_LOCALLY)?|UNABLE_TO_VERIFY_LEAF_SIGNATURE)$/;

function textAt(value: object, name: string): string | undefined {
  const found: unknown = Reflect.get(value, name);
  return typeof found === 'string' && found !== '' ? found : undefined;
}

function statusOf(error: object): number | undefined {
  const metadata: unknown = Reflect.get(error, '$metadata');
  if (typeof metadata !== 'object' || metadata === null) return undefined;
  const status: unknown = Reflect.get(metadata, 'httpStatusCode');
  return typeof status === 'number' ? status : undefined;
}

/**
 * Whether the service refused the time that the request was signed at, whose form differs: DynamoDB calls it a wrong signature, and the answer to a
 * HEAD has no name for it. The SDK has put its clock right by that answer, and says so.
 */
function isSkewed(error: object, code: string): boolean {
  const metadata: unknown = Reflect.get(error, '$metadata');
  if (typeof metadata === 'object' && metadata !== null && Reflect.get(metadata, 'clockSkewCorrected') === true)
    return true;
  return code === 'InvalidSignatureException' && /signature (expired|not yet current)/i.test(describeError(error));
}

/** Sorts whatever an SDK client threw. */
export function classifyFailure(error: unknown): Failure {
  if (error instanceof FarshoreError)
    return { code: error.kind, status: undefined, kind: error.kind, applied: 'unknown' };
  if (typeof error !== 'object' || error === null)
    return { code: String(error), status: undefined, kind: 'bug', applied: 'unknown' };
  const status = statusOf(error);
  const name = textAt(error, 'name') ?? 'Error';
  // Network errors have a code beside a meaningless name; service errors have a name (and sometimes no body, as after HEAD).
  const code = status === undefined ? (textAt(error, 'code') ?? name) : name;
  const as = (kind: ErrorKind, applied: 'never' | 'unknown' = 'unknown'): Failure => ({ code, status, kind, applied });

  if (isSkewed(error, code)) return { code: 'RequestTimeTooSkewed', status, kind: 'retry', applied: 'never' };
  // The answer broke off: its status says nothing of what the rest would have been.
  if (status !== undefined && BROKEN_OFF.has(textAt(error, 'code') ?? '')) return as('retry');
  if (REFUSED_FOR_NOW.has(code)) return as('retry', 'never');
  if (UNREACHED.has(code)) return as('retry', 'never');
  if (BROKEN_OFF.has(code) || BROKEN_OFF.has(name)) return as('retry');
  if (WRONG_BYTES.has(code)) return as('damaged', 'never');
  if (Object.hasOwn(ADVICE, code)) return as('input', 'never');
  if (status !== undefined) {
    if (status === 429) return as('retry', 'never');
    if (status >= 500 && status !== 501) return as('retry');
    // An answer we cannot read (status 2xx) or a proxy's page: passing trouble as far as we know.
    if (status < 400) return as('retry');
    return as('input', 'never');
  }
  if (MEND_CONFIGURATION.test(code) || code === PROXY_REFUSED) return as('input', 'never');
  if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError) return as('bug');
  if (/checksum mismatch/i.test(describeError(error))) return as('damaged');
  return as('retry');
}

/** The failure as a FarshoreError with one sentence that says what, where and how to mend it. */
export function toFarshoreError(error: unknown, context: CallContext): FarshoreError {
  if (isKind(error, 'bug', 'damaged', 'input', 'retry', 'not-found', 'in-use', 'busy', 'fenced', 'stopped'))
    return error;
  const failure = classifyFailure(error);
  const code = failure.code === 'Forbidden' || failure.status === 403 ? knownOr403(failure.code) : failure.code;
  const advice = Object.hasOwn(ADVICE, code) ? ADVICE[code] : undefined;
  const detail = advice?.(context) ?? plainDetail(error, failure, context);
  return new FarshoreError(failure.kind, `${context.service}: could not ${context.what}: ${detail}.`, { cause: error });
}

/** An answer to HEAD has no body and so no code; any 403 we do not know by name is about access. */
function knownOr403(code: string): string {
  return Object.hasOwn(ADVICE, code) || REFUSED_FOR_NOW.has(code) ? code : 'AccessDenied';
}

function plainDetail(error: unknown, failure: Failure, { place }: CallContext): string {
  const status = failure.status === undefined ? '' : `, status ${failure.status}`;
  const message = describeError(error).replace(/[.\s]+$/, '');
  const said = message === '' || message === failure.code ? failure.code : `${message} (${failure.code}${status})`;
  if (UNTRUSTED.test(failure.code))
    return `${said}: nobody who is trusted has signed the certificate of ${place}; if it is your own, or a proxy's that looks into TLS, name the CA's file in cloud.caFile`;
  return UNREACHED.has(failure.code) ? `${place} cannot be reached: ${said}` : said;
}
