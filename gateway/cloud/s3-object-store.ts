import { Readable } from 'node:stream';
import {
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import type { GetObjectCommandOutput, S3Client } from '@aws-sdk/client-s3';
import { FarshoreError, invariant } from '../base/errors.ts';
import { MIB } from '../base/units.ts';
import type { ByteCount } from '../base/units.ts';
import { classifyFailure, toFarshoreError } from './aws-errors.ts';
import type { CallContext } from './aws-errors.ts';
import { callCloud } from './cloud-call.ts';
import type { CallTools } from './cloud-call.ts';
import { crc32 as computeCrc32 } from '../base/crc32.ts';
import { decodeCrc32, encodeCrc32 } from './crc32-header.ts';
import type { ObjectHead, ObjectPage, ObjectStore } from './object-store.ts';

export interface S3ObjectStoreOptions extends CallTools {
  readonly client: S3Client;
  readonly bucket: string;
  /** Where requests go, for messages. */
  readonly place: string;
}

/** Everything but the body must be done within this. */
const BASE_DEADLINE_MS = 20_000;
/** The slowest uplink a body may travel on before its request is given up. */
const SLOWEST_BYTES_PER_SECOND = 16 * 1024;
/** Larger objects are never written by us (a single PUT ends at 5 GiB); a guard for memory. */
export const MAX_OBJECT_BYTES = 1024 * MIB;
/** Bodies up to this size are sent as one buffer; the copy costs less than the extra writes to the socket. */
const JOIN_BELOW_BYTES = MIB / 2;
export const MAX_KEYS_PER_CALL = 1000;

/** ObjectStore on S3 or anything that speaks its protocol, through the AWS SDK. */
export class S3ObjectStore implements ObjectStore {
  readonly #options: S3ObjectStoreOptions;

  constructor(options: S3ObjectStoreOptions) {
    this.#options = options;
    adjustRequests(options.client);
  }

  async put(key: string, body: readonly Buffer[], crc32: number): Promise<'created' | 'exists'> {
    const bytes = body.reduce((sum, piece) => sum + piece.length, 0);
    return this.#call(`put ${key} (${bytes} bytes)`, 'unapplied', bytes, async (signal) => {
      const command = new PutObjectCommand({
        Bucket: this.#options.bucket,
        Key: key,
        Body: bytes <= JOIN_BELOW_BYTES ? joined(body) : Readable.from(body, { objectMode: false }),
        ContentLength: bytes,
        ContentType: 'application/octet-stream',
        ChecksumCRC32: encodeCrc32(crc32),
        IfNoneMatch: '*',
      });
      try {
        const { ETag: tag } = await this.#options.client.send(command, { abortSignal: signal });
        // Every S3 names what it has stored; a network that wants somebody to sign in says 200 to anything.
        if (tag === undefined) throw incomplete(this.#context(`put ${key}`), 'the answer is not that of an S3 service');
        return 'created';
      } catch (error) {
        if (classifyFailure(error).status === 412) return 'exists';
        throw error;
      }
    });
  }

  async get(
    key: string,
    range?: { readonly offset: ByteCount; readonly length: ByteCount },
  ): Promise<Buffer | undefined> {
    if (range?.length === 0) return (await this.head(key)) === undefined ? undefined : Buffer.alloc(0);
    const what =
      range === undefined ? `get ${key}` : `get ${key} from ${range.offset} to ${range.offset + range.length}`;
    const expected = range?.length ?? 64 * MIB;
    return this.#call(what, 'always', expected, async (signal) => {
      const command = new GetObjectCommand({
        Bucket: this.#options.bucket,
        Key: key,
        ...(range === undefined ? {} : { Range: `bytes=${range.offset}-${range.offset + range.length - 1}` }),
      });
      try {
        const answer = await this.#options.client.send(command, { abortSignal: signal });
        const content = await readBody(answer, range, this.#context(what));
        // A range has no checksum of its own in S3; its reader checks the frames.
        const expectedCrc32 = range === undefined ? decodeCrc32(answer.ChecksumCRC32) : undefined;
        if (expectedCrc32 === undefined || expectedCrc32 === computeCrc32(content)) return content;
        throw new FarshoreError('damaged', `S3: could not ${what}: the bytes are not what their checksum says.`);
      } catch (error) {
        if (this.#isAbsent(error)) return undefined;
        // InvalidRange: the object is there and ends at or before the offset.
        if (range !== undefined && classifyFailure(error).status === 416) return Buffer.alloc(0);
        throw error;
      }
    });
  }

  async head(key: string): Promise<ObjectHead | undefined> {
    const what = `ask about ${key}`;
    return this.#call(what, 'always', 0, async (signal) => {
      const { client, bucket } = this.#options;
      try {
        const answer = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key, ChecksumMode: 'ENABLED' }), {
          abortSignal: signal,
        });
        const bytes = answer.ContentLength;
        if (bytes === undefined) throw incomplete(this.#context(what), 'the answer has no Content-Length');
        return { bytes, crc32: decodeCrc32(answer.ChecksumCRC32) };
      } catch (error) {
        if (classifyFailure(error).status !== 404) throw error;
      }
      // A 404 to HEAD has no body: it takes a GET to tell "no such key" from "no such bucket".
      try {
        const answer = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key, Range: 'bytes=0-0' }), {
          abortSignal: signal,
        });
        discardBody(answer);
      } catch (error) {
        if (this.#isAbsent(error)) return undefined;
        if (classifyFailure(error).status !== 416) throw error;
      }
      throw incomplete(this.#context(what), 'the object appeared while asking');
    });
  }

  async list(prefix: string, limit: number, startAfter?: string): Promise<ObjectPage> {
    invariant(limit >= 1 && limit <= MAX_KEYS_PER_CALL, `a page has 1 to ${MAX_KEYS_PER_CALL} objects, not ${limit}`);
    const what = `list ${prefix}`;
    return this.#call(what, 'always', MIB, async (signal) => {
      const answer = await this.#options.client.send(
        new ListObjectsV2Command({
          Bucket: this.#options.bucket,
          Prefix: prefix,
          MaxKeys: limit,
          ...(startAfter === undefined ? {} : { StartAfter: startAfter }),
        }),
        { abortSignal: signal },
      );
      const objects = (answer.Contents ?? []).map(({ Key: key, Size: bytes }) => {
        if (key === undefined || bytes === undefined)
          throw incomplete(this.#context(what), 'an entry has no key or size');
        return { key, bytes };
      });
      const last = objects.at(-1);
      if (answer.IsTruncated !== true) return { objects, next: undefined };
      if (last === undefined) throw incomplete(this.#context(what), 'a page is empty but not the last');
      return { objects, next: last.key };
    });
  }

  async delete(keys: readonly string[]): Promise<void> {
    invariant(keys.length <= MAX_KEYS_PER_CALL, `at most ${MAX_KEYS_PER_CALL} keys at once, not ${keys.length}`);
    let left = [...keys];
    if (left.length === 0) return;
    const what = `delete ${keys.length} objects`;
    await this.#call(what, 'always', MIB, async (signal) => {
      const answer = await this.#options.client.send(
        new DeleteObjectsCommand({
          Bucket: this.#options.bucket,
          Delete: { Objects: left.map((key) => ({ Key: key })), Quiet: true },
          // The request must carry one; of those S3 offers, CRC-32 is in Node itself.
          ChecksumAlgorithm: 'CRC32',
        }),
        { abortSignal: signal },
      );
      const errors = (answer.Errors ?? []).filter(({ Code: code }) => code !== 'NoSuchKey');
      const [first] = errors;
      if (first === undefined) return;
      left = errors.map(({ Key: key }) => key ?? '').filter((key) => key !== '');
      const passing = /^(InternalError|SlowDown|ServiceUnavailable|OperationAborted)$/.test(first.Code ?? '');
      const said = `S3: could not delete ${first.Key ?? 'an object'}: ${first.Message ?? first.Code ?? 'no reason given'}.`;
      throw new FarshoreError(passing ? 'retry' : 'input', said);
    });
  }

  #context(what: string): CallContext {
    return { service: 'S3', resource: this.#options.bucket, place: this.#options.place, what };
  }

  #call<T>(
    what: string,
    repeat: 'always' | 'unapplied',
    bodyBytes: ByteCount,
    attempt: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const deadlineMs = BASE_DEADLINE_MS + Math.ceil((bodyBytes / SLOWEST_BYTES_PER_SECOND) * 1000);
    return callCloud(this.#options, { ...this.#context(what), repeat, deadlineMs }, attempt);
  }

  #isAbsent(error: unknown): boolean {
    const { status, code } = classifyFailure(error);
    if (status !== 404) return false;
    if (code === 'NoSuchKey') return true;
    throw toFarshoreError(error, this.#context('reach the bucket'));
  }
}

const adjusted = new WeakSet<S3Client>();

/**
 * Two headers that the SDK would pay for with work we do not want. Of a put it would hash the body with SHA-256 to sign it: integrity is already
 * in the signed header x-amz-checksum-crc32, secrecy and authenticity of the way in TLS. Of a whole get it would pass the body through a
 * second stream to check it, where we have it in one buffer anyway.
 */
function adjustRequests(client: S3Client): void {
  if (adjusted.has(client)) return;
  adjusted.add(client);
  client.middlewareStack.add(
    (next, context) => (args) => {
      const { request } = args;
      if (hasHeaders(request)) {
        if (context.commandName === 'PutObjectCommand') request.headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
        if (context.commandName === 'GetObjectCommand' && request.headers['range'] === undefined)
          request.headers['x-amz-checksum-mode'] = 'ENABLED';
      }
      return next(args);
    },
    { step: 'build', name: 'farshoreHeaders' },
  );
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const answered = await next(args);
      refuseWebPage(answered.response, context.commandName ?? 'a request');
      return answered;
    },
    // Before anything is made of the answer.
    { step: 'deserialize', priority: 'low', name: 'farshoreWebPage' },
  );
}

/**
 * A network that wants somebody to sign in says 200 to anything, with a page of its own: taken for S3's answer, an object would be there, have
 * other bytes than were put, or a list be empty. No object of ours is a web page.
 */
function refuseWebPage(response: unknown, command: string): void {
  if (!hasHeaders(response) || response.headers['content-type']?.startsWith('text/html') !== true) return;
  const status: unknown = Reflect.get(response, 'statusCode');
  if (typeof status !== 'number' || status >= 300) return;
  const body: unknown = Reflect.get(response, 'body');
  if (body instanceof Readable) body.on('error', () => undefined).resume();
  const name = command.replace(/Command$/, '');
  throw new FarshoreError('retry', `S3: ${name} was answered with a web page: does this network want a sign-in?`);
}

function hasHeaders(request: unknown): request is { headers: Partial<Record<string, string>> } {
  return typeof request === 'object' && request !== null && 'headers' in request && typeof request.headers === 'object';
}

function joined(body: readonly Buffer[]): Buffer {
  const [only] = body;
  return body.length === 1 && only !== undefined ? only : Buffer.concat(body);
}

function incomplete({ service, what }: CallContext, why: string): FarshoreError {
  return new FarshoreError('retry', `${service}: could not ${what}: ${why}.`);
}

function discardBody({ Body: body }: GetObjectCommandOutput): void {
  if (body instanceof Readable) body.on('error', () => undefined).resume();
}

/** Reads exactly the bytes the answer announces, and checks that they are the ones asked for. */
async function readBody(
  answer: GetObjectCommandOutput,
  range: { readonly offset: ByteCount; readonly length: ByteCount } | undefined,
  context: CallContext,
): Promise<Buffer> {
  const { Body: body, ContentLength: length } = answer;
  if (!(body instanceof Readable) || length === undefined) throw incomplete(context, 'the answer has no length');
  const expected = range === undefined ? length : expectedOfRange(answer.ContentRange, range);
  if (expected === undefined || expected !== length || length > MAX_OBJECT_BYTES) {
    body.destroy();
    const got = answer.ContentRange ?? `${length} bytes`;
    throw new FarshoreError('damaged', `${context.service}: could not ${context.what}: the answer holds ${got}.`);
  }
  const whole = Buffer.allocUnsafeSlow(length);
  let at = 0;
  for await (const chunk of body) {
    invariant(chunk instanceof Uint8Array, 'a response body arrives in bytes');
    if (at + chunk.length > length) throw incomplete(context, 'the body is longer than announced');
    whole.set(chunk, at);
    at += chunk.length;
  }
  if (at !== length) throw incomplete(context, `the body ended after ${at} of ${length} bytes`);
  return whole;
}

/** Bytes a truthful answer to the range has, from its `Content-Range: bytes 0-99/1234`; undefined when it answers something else. */
function expectedOfRange(
  contentRange: string | undefined,
  range: { readonly offset: ByteCount; readonly length: ByteCount },
): ByteCount | undefined {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(contentRange ?? '');
  if (match === null) return undefined;
  const [first, last, total] = match.slice(1).map(Number) as [number, number, number];
  const end = Math.min(range.offset + range.length, total);
  return first === range.offset && last + 1 === end ? end - first : undefined;
}
