import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import dynalite from 'dynalite';
import { FarshoreError, describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { closeServer, endWithAnswer, isLocalHost, listen } from './loopback.ts';

export interface DynamoDbServerOptions {
  /** Directory of its LevelDB store. */
  readonly dir: string;
  /** 0: any free one. */
  readonly port: number;
  readonly log: Log;
}

export interface DynamoDbServer {
  readonly endpoint: string;
  /** Requests answered so far, by operation. */
  requests(): Readonly<Record<string, number>>;
  close(): Promise<void>;
}

const KEEP_ALIVE_MS = 120_000;
/** DynamoDB takes requests of up to 16 MB. */
const MAX_REQUEST_BYTES = 16 * 1024 * 1024;

/**
 * dynalite behind a server of our own. Requests reach it only when they are complete: it throws out of an event handler, and
 * so ends the whole process, when a client breaks off in the middle of one (as a killed gateway does).
 */
export async function startDynamoDbServer({ dir, port, log }: DynamoDbServerOptions): Promise<DynamoDbServer> {
  const counts = new Map<string, number>();
  const server: Server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, noDelay: true }, (request, response) => {
    endWithAnswer(server, response);
    handle(request, response).catch((error: unknown) => {
      log.warn({ error: describeError(error) }, 'DynamoDB request broken off');
      response.destroy();
    });
  });

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!isLocalHost(request.headers.host)) {
      refuse(request, response, 403);
      return;
    }
    const body = await readAll(request);
    if (body === undefined) {
      refuse(request, response, 413);
      return;
    }
    const operation = operationOf(request.headers);
    counts.set(operation, (counts.get(operation) ?? 0) + 1);
    inner.emit('request', new CompleteRequest(request, body), response);
  }

  await checkStore(dir);
  const bound = await listen(server, port, 'DynamoDB');
  // Only now, so that nothing is left open when the port is taken. No request can have come in since.
  const inner = dynalite({ path: dir, createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 });
  return {
    endpoint: `http://127.0.0.1:${bound}`,
    requests: () => Object.fromEntries(counts),
    close: async () => {
      await closeServer(server);
      await closeStore(inner);
    },
  };
}

/** What its keys of table descriptions begin with. */
const TABLES = 'table~';

/** The part of dynalite's own LevelDB package that is used here. */
interface LevelPackage {
  readonly Level: new (path: string, options: { valueEncoding: 'json' }) => Store;
}

interface Store {
  open(): Promise<void>;
  close(): Promise<void>;
  iterator(range: { gte: string; lt: string }): AsyncIterable<[string, unknown]>;
  del(key: string): Promise<void>;
}

/**
 * Opens the store once: dynalite itself would throw a damaged one out of a callback, at the first request. A table that was being made when
 * the last process died would stay so for ever; nothing can be in it, so it goes.
 */
async function checkStore(dir: string): Promise<void> {
  const dynalitePath = createRequire(import.meta.url).resolve('dynalite');
  const { Level } = createRequire(dynalitePath)('level') as LevelPackage;
  const level = new Level(dir, { valueEncoding: 'json' });
  try {
    await level.open();
    for await (const [key, table] of level.iterator({ gte: TABLES, lt: `${TABLES}\uffff` })) {
      if ((table as { TableStatus?: string }).TableStatus === 'CREATING') await level.del(key);
    }
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    throw new FarshoreError('damaged', `the DynamoDB store ${dir} cannot be opened: ${describeError(cause)}.`, {
      cause: error,
    });
  }
  await level.close();
}

/** As much of an IncomingMessage as dynalite looks at. */
class CompleteRequest extends Readable {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;

  constructor({ method, url, headers }: IncomingMessage, body: Buffer) {
    super();
    this.method = method;
    this.url = url;
    this.headers = headers;
    if (body.length > 0) this.push(body);
    this.push(null);
  }

  override _read(): void {
    // Everything has been pushed already.
  }
}

async function readAll(request: IncomingMessage): Promise<Buffer | undefined> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    // A request emits buffers as long as no encoding is set.
    const piece = chunk as Buffer;
    bytes += piece.length;
    if (bytes > MAX_REQUEST_BYTES) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function operationOf(headers: IncomingHttpHeaders): string {
  const target = headers['x-amz-target'];
  return /^DynamoDB_\d+\.(\w{1,64})$/.exec(typeof target === 'string' ? target : '')?.[1] ?? 'unknown';
}

function refuse(request: IncomingMessage, response: ServerResponse, status: number): void {
  response.writeHead(status, { 'Content-Length': '0', Connection: 'close' });
  response.end();
  request.resume();
}

/** dynalite closes its store when its server closes, which refuses to close before it has listened: give it a socket for a moment. */
async function closeStore(inner: Server): Promise<void> {
  await listen(inner, 0, 'DynamoDB');
  await new Promise<void>((resolve, reject) => {
    inner.close((error) => {
      if (error === undefined || (error as Error | null) === null) resolve();
      else reject(new FarshoreError('stopped', `the DynamoDB store did not close: ${describeError(error)}.`));
    });
  });
}
