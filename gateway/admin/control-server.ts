import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { describeError, FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { printableJson } from '../base/text.ts';
import { ARGUMENTS, type ArgumentsOf, type Caller, type GatewayApi, type Operation } from './gateway-api.ts';

const MAX_REQUEST_BYTES = 64 * 1024;
/** sun_path of a Unix socket (unix(7)), less the closing zero. */
const MAX_SOCKET_PATH = 107;

/** Who the command line says it is run by. */
export const USER_HEADER = 'x-farshore-user';

/** Where a gateway listens for its administrator. */
export function controlSocketPath(stateDir: string): string {
  return `${stateDir}/control.sock`;
}

/**
 * Serves the API over HTTP on a Unix socket that only this user may open: POST /v1/<operation> with the arguments as JSON; the
 * answer is JSON lines: any number of {progress}, then one {result} or {error: {kind, message}}.
 */
export class ControlServer {
  readonly #server: Server;
  readonly #path: string;

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
  }

  static async listen(stateDir: string, api: GatewayApi, log: Log): Promise<ControlServer> {
    const path = controlSocketPath(stateDir);
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
      throw new FarshoreError(
        'input',
        `the control socket ${path} has a longer path than the system's ${MAX_SOCKET_PATH} bytes; choose a shorter stateDir`,
      );
    }
    // The directory's lock is ours: what is left here is of a process that died.
    rmSync(path, { force: true });
    const server = createServer((request, response) => {
      answer(api, request, response).catch((error: unknown) => {
        log.error({ error: describeError(error) }, 'control request failed');
        response.destroy();
      });
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
    return new ControlServer(server, path);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
    });
    this.#server.closeAllConnections();
    await closed;
    rmSync(this.#path, { force: true });
  }
}

async function answer(api: GatewayApi, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const line = (value: object): void => {
    // Some readers of lines take U+2028 for the end of one.
    if (!response.destroyed) response.write(`${printableJson(JSON.stringify(value))}\n`);
  };
  response.setHeader('content-type', 'application/x-ndjson');
  try {
    const op = operationOf(request);
    const args = parseArguments(op, await readBody(request));
    const result = await api.call(
      op,
      args,
      (progress) => {
        line({ progress });
      },
      callerOf(request),
    );
    line({ result });
  } catch (error) {
    const kind = error instanceof FarshoreError ? error.kind : 'bug';
    line({ error: { kind, message: describeError(error) } });
  }
  response.end();
}

/** A claim, recorded as one: the socket says only that the peer is this user or root. */
function callerOf(request: IncomingMessage): Caller {
  const claimed = request.headers[USER_HEADER];
  const isName = typeof claimed === 'string' && /^[\x21-\x7e]{1,64}$/.test(claimed);
  return { by: `cli:${isName ? claimed : 'unknown'}` };
}

function operationOf(request: IncomingMessage): Operation {
  const name = /^\/v1\/([a-z-]+)$/.exec(request.url ?? '')?.[1];
  if (request.method !== 'POST' || name === undefined || !Object.hasOwn(ARGUMENTS, name)) {
    throw new FarshoreError(
      'input',
      `no such operation: ${request.method ?? ''} ${request.url ?? ''}; is the command line of the same release as the gateway?`,
    );
  }
  return name as Operation; // just found among the keys
}

function parseArguments<Op extends Operation>(op: Op, body: string): ArgumentsOf<Op> {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    throw new FarshoreError('input', `${op}: the arguments are not JSON`, { cause: error });
  }
  const parsed = ARGUMENTS[op].safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    // Our own sentences say what they are about; zod's need the argument's name before them.
    const isOurs = issue?.code === 'invalid_format';
    const where = isOurs ? '' : `${op}: ${issue?.path.join('.') ?? 'arguments'}: `;
    throw new FarshoreError('input', `${where}${issue?.message ?? 'not valid'}`);
  }
  return parsed.data as ArgumentsOf<Op>; // the schema of this very operation accepted it
}

async function readBody(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > MAX_REQUEST_BYTES) throw new FarshoreError('input', 'the request is too long');
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}
