import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ObjectFiles } from './object-files.ts';
import type { ChunkSigner } from './sigv4.ts';
import { S3Error, notImplemented } from './s3-error.ts';
import { MAX_KEY_BYTES } from './key-path.ts';
import type { Multipart } from './multipart.ts';

/** One request and its answer, as the handlers see them. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly bucket: string;
  /** '' for operations on the bucket. */
  readonly key: string;
  readonly query: ReadonlyMap<string, string>;
  readonly signer: ChunkSigner | undefined;
  readonly files: ObjectFiles;
  readonly multipart: Multipart;
}

export type Handler = (exchange: Exchange) => Promise<void>;

/** A request header as one string. */
export function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(',') : value;
}

export function sendXml(response: ServerResponse, status: number, document: string): void {
  const body = Buffer.from(document, 'utf8');
  response.writeHead(status, { 'Content-Type': 'application/xml', 'Content-Length': body.length });
  response.end(body);
}

export function sendEmpty(response: ServerResponse, status: number, headers: Record<string, string> = {}): void {
  response.writeHead(status, status === 204 || status === 304 ? headers : { ...headers, 'Content-Length': '0' });
  response.end();
}

export function checkKey(key: string): void {
  if (Buffer.byteLength(key, 'utf8') > MAX_KEY_BYTES) throw new S3Error('KeyTooLongError', 'Your key is too long');
  // U+0000 cannot be in XML nor safely in anything else; S3 takes it, nobody needs it.
  if (key.includes('\u0000')) throw new S3Error('InvalidURI', "Couldn't parse the specified URI.");
}

/** Headers that ask for something this server does not do; pretending would be worse than refusing. */
const REFUSED_HEADERS = [
  'x-amz-object-lock-mode',
  'x-amz-object-lock-retain-until-date',
  'x-amz-object-lock-legal-hold',
  'x-amz-bucket-object-lock-enabled',
  'x-amz-server-side-encryption',
  'x-amz-server-side-encryption-customer-algorithm',
  'x-amz-copy-source-server-side-encryption-customer-algorithm',
  'x-amz-tagging',
  'x-amz-website-redirect-location',
  'x-amz-write-offset-bytes',
  'x-amz-grant-full-control',
  'x-amz-grant-read',
  'x-amz-grant-read-acp',
  'x-amz-grant-write',
  'x-amz-grant-write-acp',
];

export function refuseUnsupportedHeaders(request: IncomingMessage): void {
  for (const name of REFUSED_HEADERS)
    if (request.headers[name] !== undefined) throw notImplemented(`the header ${name}`);
  const acl = headerOf(request, 'x-amz-acl');
  if (acl !== undefined && acl !== 'private' && acl !== 'bucket-owner-full-control')
    throw notImplemented(`the ACL ${acl}`);
  const storageClass = headerOf(request, 'x-amz-storage-class');
  if (storageClass !== undefined && storageClass !== 'STANDARD')
    throw notImplemented(`the storage class ${storageClass}`);
}
