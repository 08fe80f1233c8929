import type { ServerResponse } from 'node:http';
import { checkReadConditions, parseRange, writePrecondition } from './conditions.ts';
import { headerOf, refuseUnsupportedHeaders, sendEmpty, sendXml } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { checksumHeaders, metadataOf, responseHeaders } from './object-headers.ts';
import type { ObjectMeta } from './object-file.ts';
import type { OpenObject } from './open-objects.ts';
import { planBody, receiveBody } from './request-body.ts';
import { S3Error, notImplemented } from './s3-error.ts';
import { parseTarget } from './uri.ts';
import { BodyDigest, CHECKSUM_ALGORITHMS } from './checksums.ts';
import { writeXml } from './xml.ts';

/** Objects are sent and copied in pieces of this size. */
const READ_BYTES = 1024 * 1024;

export async function putObject(exchange: Exchange): Promise<void> {
  const { request, response, files, bucket, key, signer } = exchange;
  if (request.headers['x-amz-copy-source'] !== undefined) return copyObject(exchange);
  refuseUnsupportedHeaders(request);
  const plan = planBody(request, signer);
  const precondition = writePrecondition(request.headers);
  const metadata = metadataOf(request);
  files.bucket(bucket);
  // Seen early, a condition that fails spares the disk; what counts is the check at the end.
  if (precondition !== undefined) precondition(await files.head(bucket, key));
  const staged = await files.stage();
  try {
    const received = await receiveBody(request, plan, (piece) => staged.write(piece));
    const meta: ObjectMeta = {
      key,
      bytes: received.bytes,
      etag: received.md5.toString('hex'),
      modifiedAt: files.clock.now(),
      checksums: received.checksums,
      ...metadata,
    };
    await staged.finish(meta);
    await files.commit(bucket, key, staged, precondition);
    sendEmpty(response, 200, { ETag: `"${meta.etag}"`, ...checksumHeaders(meta) });
  } finally {
    await staged.discard();
  }
}

export async function getObject(exchange: Exchange): Promise<void> {
  const { request, response, files, bucket, key, query } = exchange;
  if (query.has('partNumber')) throw notImplemented('partNumber');
  const object = await files.open(bucket, key);
  if (object === undefined) throw noSuchKey();
  try {
    const { meta } = object;
    if (checkReadConditions((name) => headerOf(request, name), meta) === 'not-modified') {
      sendEmpty(response, 304, { ETag: `"${meta.etag}"` });
      return;
    }
    const range = parseRange(headerOf(request, 'range'), meta.bytes);
    const { first, end } = range ?? { first: 0, end: meta.bytes };
    const headers: Record<string, string> = {
      ...responseHeaders(meta, range === undefined && headerOf(request, 'x-amz-checksum-mode') === 'ENABLED'),
      ...overrides(query),
      'content-length': String(end - first),
    };
    if (range !== undefined) headers['content-range'] = `bytes ${first}-${end - 1}/${meta.bytes}`;
    const status = range === undefined ? 200 : 206;
    if (request.method === 'HEAD') {
      response.writeHead(status, headers);
      response.end();
      return;
    }
    await sendBytes(response, object, first, end, () => response.writeHead(status, headers));
  } finally {
    object.release();
  }
}

async function sendBytes(
  response: ServerResponse,
  object: OpenObject,
  first: number,
  end: number,
  begin: () => void,
): Promise<void> {
  for (let at = first; at < end || at === first;) {
    const piece = Buffer.allocUnsafe(Math.min(READ_BYTES, end - at));
    await object.read(piece, at);
    // The head is sent only when there is something to follow it: an unreadable file can still be answered with an error.
    if (at === first) begin();
    at += piece.length;
    if (at >= end) {
      response.end(piece);
      return;
    }
    if (!response.write(piece)) {
      await drained(response);
      if (response.destroyed) return;
    }
  }
}

/** Resolves when more may be written, or when there is nobody left to write to. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });
}

/** response-content-type=… and its like replace stored headers (presigned downloads). */
function overrides(query: ReadonlyMap<string, string>): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of query)
    if (/^response-(content-(type|language|disposition|encoding)|expires|cache-control)$/.test(name))
      headers[name.slice('response-'.length)] = value;
  return headers;
}

export async function deleteObject({ request, response, files, bucket, key }: Exchange): Promise<void> {
  if (request.headers['if-match'] !== undefined) throw notImplemented('If-Match on DELETE');
  await files.delete(bucket, [key]);
  sendEmpty(response, 204);
}

async function copyObject({ request, response, files, bucket, key }: Exchange): Promise<void> {
  refuseUnsupportedHeaders(request);
  const [sourceBucket, sourceKey] = copySource(headerOf(request, 'x-amz-copy-source') ?? '');
  const directive = headerOf(request, 'x-amz-metadata-directive') ?? 'COPY';
  if (directive !== 'COPY' && directive !== 'REPLACE')
    throw new S3Error('InvalidArgument', 'Unknown metadata directive.');
  if (sourceBucket === bucket && sourceKey === key && directive === 'COPY')
    throw new S3Error(
      'InvalidRequest',
      'This copy request is illegal because it is trying to copy an object to itself without changing its metadata.',
    );
  const precondition = writePrecondition(request.headers);
  files.bucket(bucket);
  const source = await files.open(sourceBucket, sourceKey);
  if (source === undefined) throw noSuchKey();
  try {
    const conditions = (name: string): string | undefined => headerOf(request, `x-amz-copy-source-${name}`);
    if (checkReadConditions(conditions, source.meta) === 'not-modified')
      throw new S3Error('PreconditionFailed', 'The copy source is not as the conditions ask.');
    const staged = await files.stage();
    try {
      const copied = await copyBytes(source, (piece) => staged.write(piece));
      const metadata =
        directive === 'REPLACE' ? metadataOf(request) : { headers: source.meta.headers, user: source.meta.user };
      const meta: ObjectMeta = { ...copied, ...metadata, key, modifiedAt: files.clock.now() };
      await staged.finish(meta);
      await files.commit(bucket, key, staged, precondition);
      const document = writeXml('CopyObjectResult', [
        ['LastModified', new Date(meta.modifiedAt).toISOString()],
        ['ETag', `"${meta.etag}"`],
      ]);
      sendXml(response, 200, document);
    } finally {
      await staged.discard();
    }
  } finally {
    source.release();
  }
}

/** Bucket and key of x-amz-copy-source, which is percent-encoded and may begin with a slash. */
function copySource(header: string): [bucket: string, key: string] {
  if (header.includes('?versionId=')) throw notImplemented('versionId');
  const path = parseTarget(header.startsWith('/') ? header : `/${header}`).path.slice(1);
  const slash = path.indexOf('/');
  if (slash < 1 || slash === path.length - 1) throw new S3Error('InvalidArgument', 'Invalid copy source object key');
  return [path.slice(0, slash), path.slice(slash + 1)];
}

async function copyBytes(
  source: OpenObject,
  take: (piece: Buffer) => void | Promise<void>,
): Promise<Pick<ObjectMeta, 'bytes' | 'etag' | 'checksums'>> {
  const { meta } = source;
  const digest = new BodyDigest(CHECKSUM_ALGORITHMS.filter((name) => meta.checksums[name] !== undefined));
  for (let at = 0; at < meta.bytes; at += READ_BYTES) {
    const piece = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, meta.bytes - at));
    await source.read(piece, at);
    digest.update(piece);
    const waiting = take(piece);
    if (waiting !== undefined) await waiting;
  }
  const { md5, checksums } = digest.finish();
  return { bytes: meta.bytes, etag: md5.toString('hex'), checksums };
}

function noSuchKey(): S3Error {
  return new S3Error('NoSuchKey', 'The specified key does not exist.');
}
