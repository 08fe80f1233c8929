import type { IncomingMessage } from 'node:http';
import { headerOf } from './exchange.ts';
import type { ObjectMeta } from './object-file.ts';
import { S3Error } from './s3-error.ts';

/** Headers stored with an object and given back as they came. */
const KEPT_HEADERS = [
  'content-type',
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'expires',
] as const;
/** Sum of the names and values of x-amz-meta-…, as at S3. */
const MAX_USER_META_BYTES = 2048;
const USER_PREFIX = 'x-amz-meta-';

/** What a request says is to be stored beside the data. */
export function metadataOf(request: IncomingMessage): Pick<ObjectMeta, 'headers' | 'user'> {
  const headers: Record<string, string> = {};
  for (const name of KEPT_HEADERS) {
    const value = headerOf(request, name);
    if (value === undefined) continue;
    // aws-chunked is the framing of the upload, not a property of the object.
    const kept = name === 'content-encoding' ? withoutAwsChunked(value) : value;
    if (kept !== '') headers[name] = kept;
  }
  const user: Record<string, string> = {};
  let userBytes = 0;
  for (const name of Object.keys(request.headers)) {
    if (!name.startsWith(USER_PREFIX)) continue;
    const value = headerOf(request, name) ?? '';
    userBytes += name.length - USER_PREFIX.length + value.length;
    user[name.slice(USER_PREFIX.length)] = value;
  }
  if (userBytes > MAX_USER_META_BYTES)
    throw new S3Error('MetadataTooLarge', 'Your metadata headers exceed the maximum allowed metadata size');
  return { headers, user };
}

function withoutAwsChunked(value: string): string {
  return value
    .split(',')
    .map((coding) => coding.trim())
    .filter((coding) => coding !== 'aws-chunked' && coding !== '')
    .join(', ');
}

/** Response headers of GET and HEAD. Checksums only when asked for and only of the whole object. */
export function responseHeaders(meta: ObjectMeta, withChecksums: boolean): Record<string, string> {
  const headers: Record<string, string> = {
    'accept-ranges': 'bytes',
    'content-type': 'binary/octet-stream',
    ...meta.headers,
    etag: `"${meta.etag}"`,
    'last-modified': new Date(meta.modifiedAt).toUTCString(),
  };
  for (const [name, value] of Object.entries(meta.user)) headers[USER_PREFIX + name] = value;
  if (withChecksums) Object.assign(headers, checksumHeaders(meta));
  return headers;
}

export function checksumHeaders({ checksums }: Pick<ObjectMeta, 'checksums'>): Record<string, string> {
  const entries = Object.entries(checksums).map(([name, value]) => [`x-amz-checksum-${name}`, value] as const);
  return { ...Object.fromEntries(entries), 'x-amz-checksum-type': 'FULL_OBJECT' };
}
