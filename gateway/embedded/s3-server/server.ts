import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Clock, Random } from '../../base/clock.ts';
import { describeError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { closeServer, endWithAnswer, isLocalHost, listen } from '../loopback.ts';
import { checkKey, sendXml } from './exchange.ts';
import { Multipart } from './multipart.ts';
import { ObjectFiles } from './object-files.ts';
import { route } from './router.ts';
import { S3Error } from './s3-error.ts';
import { authenticate } from './sigv4.ts';
import type { KeyPair } from './sigv4.ts';
import { parseTarget } from './uri.ts';
import { writeXml } from './xml.ts';

export interface S3ServerOptions {
  /** Belongs to this process alone; created when missing. */
  readonly dir: string;
  /** 0: any free one. */
  readonly port: number;
  /** Signatures are verified against it; without one any key pair is accepted. */
  readonly keyPair: KeyPair | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface S3Server {
  readonly endpoint: string;
  readonly files: ObjectFiles;
  /** Requests answered so far, by operation. */
  requests(): Readonly<Record<string, number>>;
  close(): Promise<void>;
}

/** Client agents keep sockets for a while; ending them first would lose their next request. */
const KEEP_ALIVE_MS = 120_000;
/** A body that is left over after an early error is read to its end up to this size, so that the client sees the answer. */
const MAX_DRAINED_BYTES = 64 * 1024 * 1024;

/** A small S3-compatible server on loopback, path style, durable in `dir`. */
export async function startS3Server(options: S3ServerOptions): Promise<S3Server> {
  const files = await ObjectFiles.load(options.dir, options.clock, options.random);
  const multipart = await Multipart.load(files);
  const counts = new Map<string, number>();
  const server: Server = createServer(
    { keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: 0, noDelay: true },
    (request, response) => {
      endWithAnswer(server, response);
      answer(request, response).catch((error: unknown) => {
        fail(request, response, error, options);
      });
    },
  );

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader('x-amz-request-id', options.random.bytes(8).toString('hex').toUpperCase());
    response.setHeader('Server', 'Farshore');
    const method = request.method ?? '';
    const target = parseTarget(request.url ?? '');
    if (options.keyPair === undefined) checkHost(request);
    const signer = authenticate({ method, target, headers: request.headers }, options.keyPair, options.clock.now());
    const slash = target.path.indexOf('/', 1);
    const bucket = slash < 0 ? target.path.slice(1) : target.path.slice(1, slash);
    const key = slash < 0 ? '' : target.path.slice(slash + 1);
    checkKey(key);
    const query = new Map(target.query);
    const { operation, handler } = route(method, bucket, key, query);
    counts.set(operation, (counts.get(operation) ?? 0) + 1);
    await handler({ request, response, bucket, key, query, signer, files, multipart });
  }

  const port = await listen(server, options.port, 'S3');
  return {
    endpoint: `http://127.0.0.1:${port}`,
    files,
    requests: () => Object.fromEntries(counts),
    close: async () => {
      await closeServer(server);
      files.close();
    },
  };
}

/** Without signatures, a web page that has its own name resolve to 127.0.0.1 must not get at the data. */
function checkHost(request: IncomingMessage): void {
  const { host } = request.headers;
  if (!isLocalHost(host))
    throw new S3Error('AccessDenied', `This server is for 127.0.0.1 and localhost, not for ${host ?? 'no host'}.`);
}

function fail(request: IncomingMessage, response: ServerResponse, error: unknown, { log }: S3ServerOptions): void {
  // A client that broke off gets no answer, and is nobody's failure.
  const gone = response.destroyed || request.errored !== null;
  if (!(error instanceof S3Error) && !gone)
    log.error({ method: request.method, url: request.url, error: describeError(error) }, 'S3 request failed');
  if (response.headersSent || gone) {
    response.destroy();
    return;
  }
  const failure =
    error instanceof S3Error
      ? error
      : new S3Error('InternalError', 'We encountered an internal error. Please try again.');
  for (const [name, value] of Object.entries(failure.headers)) response.setHeader(name, value);
  drain(request, response);
  if (request.method === 'HEAD') {
    response.writeHead(failure.status);
    response.end();
    return;
  }
  const document = writeXml(
    'Error',
    [
      ['Code', failure.code],
      ['Message', failure.message],
      ['Resource', (request.url ?? '').replace(/\?.*$/, '')],
      ['RequestId', String(response.getHeader('x-amz-request-id') ?? '')],
    ],
    false,
  );
  sendXml(response, failure.status, document);
}

/** Lets the client finish sending what it will get an error for; a very long rest costs it the connection. */
function drain(request: IncomingMessage, response: ServerResponse): void {
  if (request.readableEnded) return;
  const announced = Number(request.headers['content-length'] ?? Number.POSITIVE_INFINITY);
  if (!(announced <= MAX_DRAINED_BYTES)) response.setHeader('Connection', 'close');
  let drained = 0;
  request.on('data', (chunk: Buffer) => {
    drained += chunk.length;
    if (drained > MAX_DRAINED_BYTES) request.destroy();
  });
  request.on('error', () => undefined);
  request.resume();
}
