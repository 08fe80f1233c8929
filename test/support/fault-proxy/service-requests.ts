import type { IncomingMessage } from 'node:http';
import { S3Error } from '../../../gateway/embedded/s3-server/s3-error.ts';
import { route } from '../../../gateway/embedded/s3-server/router.ts';
import { parseTarget } from '../../../gateway/embedded/s3-server/uri.ts';
import type { Asked } from './chooser.ts';
import type { Service } from './plan.ts';

/** How far the clock of a signature may be from the service's. */
const MOST_SKEW_MS: Readonly<Record<Service, number>> = { s3: 15 * 60_000, dynamodb: 5 * 60_000 };

/** What is asked for, and by whom. */
export function askedBy(service: Service, request: IncomingMessage): Asked {
  const accessKey = /Credential=([^/,]+)/.exec(request.headers.authorization ?? '')?.[1] ?? '';
  return { service, accessKey, operation: service === 's3' ? s3Operation(request) : dynamoOperation(request) };
}

/** Of a signature that the service calls too old or too new by its own clock: how it says so. */
export function skewRefusal(
  service: Service,
  request: IncomingMessage,
  serviceNow: number,
): { readonly status: number; readonly code: string; readonly message: string } | undefined {
  const signed = String(request.headers['x-amz-date'] ?? '');
  const at = Date.parse(signed.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  const most = MOST_SKEW_MS[service];
  if (Number.isNaN(at) || Math.abs(at - serviceNow) <= most) return undefined;
  if (service === 's3') {
    const message = "The difference between the request time and the server's time is too large.";
    return { status: 403, code: 'RequestTimeTooSkewed', message };
  }
  const basic = (ms: number): string => new Date(ms).toISOString().replace(/[-:]|\.\d+/g, '');
  const [bound, now] = [basic(at < serviceNow ? serviceNow - most : serviceNow + most), basic(serviceNow)];
  const message =
    at < serviceNow
      ? `Signature expired: ${signed} is now earlier than ${bound} (${now} - 5 min.)`
      : `Signature not yet current: ${signed} is still later than ${bound} (${now} + 5 min.)`;
  return { status: 400, code: 'InvalidSignatureException', message };
}

function s3Operation({ method = '', url = '' }: IncomingMessage): string {
  try {
    const { path, query } = parseTarget(url);
    const [, bucket = '', key = ''] = /^\/([^/]*)\/?([^]*)$/.exec(path) ?? [];
    return route(method, bucket, key, new Map(query)).operation;
  } catch (error) {
    if (error instanceof S3Error) return 'unknown';
    throw error;
  }
}

function dynamoOperation({ headers }: IncomingMessage): string {
  return /\.(\w+)$/.exec(String(headers['x-amz-target'] ?? ''))?.[1] ?? 'unknown';
}
