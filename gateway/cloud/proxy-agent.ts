import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest, type AgentOptions } from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { Proxy, ProxyRule } from './proxy.ts';

/** How long a proxy may take to answer CONNECT. */
const CONNECT_TIMEOUT_MS = 5_000;
const PROXY_AUTHENTICATION_REQUIRED = 407;
const OK = 200;

/** Codes of errors that come from the proxy; see aws-errors, which sorts them. */
export const PROXY_REFUSED = 'EPROXYREFUSED';
export const PROXY_TROUBLE = 'EPROXYTROUBLE';

type Connected = (error: Error | null, socket?: Duplex) => void;

/** Agents for one client: https goes through a tunnel (CONNECT) where the rule names a proxy. */
export class TunnelAgent extends HttpsAgent {
  readonly #rule: ProxyRule;
  readonly #options: AgentOptions;

  constructor(options: AgentOptions, rule: ProxyRule) {
    super(options);
    this.#options = options;
    this.#rule = rule;
  }

  override createConnection(options: ConnectionOptions, connected: Connected): Duplex | null | undefined {
    const { host = 'localhost', port = 443 } = options;
    const proxy = this.#rule('https:', host, port);
    if (proxy === undefined) return super.createConnection(options, connected);
    openTunnel(proxy, host, port, this.#options.ca).then(
      (socket) => {
        connected(null, connectTls({ ...options, socket }));
      },
      (error: unknown) => {
        connected(error instanceof Error ? error : new Error(String(error)));
      },
    );
    return undefined;
  }
}

/** Plain http goes to the proxy itself, which is told the whole address. */
export class ForwardingHandler extends NodeHttpHandler {
  readonly #rule: ProxyRule;

  constructor(options: ConstructorParameters<typeof NodeHttpHandler>[0], rule: ProxyRule) {
    super(options);
    this.#rule = rule;
  }

  override async handle(
    ...[request, options]: Parameters<NodeHttpHandler['handle']>
  ): ReturnType<NodeHttpHandler['handle']> {
    const port = request.port ?? 80;
    const proxy = request.protocol === 'http:' ? this.#rule('http:', request.hostname, port) : undefined;
    if (proxy === undefined) return super.handle(request, options);
    const { authorization } = proxy;
    // A copy of its kind: the SDK signs and repeats the request as it was.
    const forwarded = Object.assign(Object.create(Reflect.getPrototypeOf(request)) as typeof request, request, {
      protocol: proxy.protocol,
      hostname: proxy.host,
      port: proxy.port,
      path: `http://${authority(request.hostname, port)}${request.path}`,
      headers: {
        ...request.headers,
        ...(authorization === undefined ? {} : { 'proxy-authorization': authorization }),
      },
    });
    const answer = await super.handle(forwarded, options);
    const { statusCode, reason } = answer.response;
    if (statusCode === PROXY_AUTHENTICATION_REQUIRED)
      throw refusal(proxy, authority(request.hostname, port), statusCode, reason);
    return answer;
  }
}

/** The agent for plain http: the way to the proxy is chosen by ForwardingHandler. */
export function plainAgent(maxSockets: number): HttpAgent {
  return new HttpAgent({ keepAlive: true, maxSockets, noDelay: true });
}

/** A connection to the host through the proxy. Rejects with an error whose code is PROXY_REFUSED (mend the configuration) or PROXY_TROUBLE (passing). */
function openTunnel(proxy: Proxy, host: string, port: number, ca: AgentOptions['ca']): Promise<Socket> {
  const target = authority(host, port);
  return new Promise((resolve, reject) => {
    const request = (proxy.protocol === 'https:' ? httpsRequest : httpRequest)({
      host: proxy.host,
      port: proxy.port,
      method: 'CONNECT',
      path: target,
      agent: false,
      timeout: CONNECT_TIMEOUT_MS,
      headers: {
        host: target,
        ...(proxy.authorization === undefined ? {} : { 'proxy-authorization': proxy.authorization }),
      },
      ...(ca === undefined ? {} : { ca }),
    });
    request.once('connect', ({ statusCode = 0, statusMessage = '' }, socket: Socket, head: Buffer) => {
      if (statusCode === OK && head.length === 0) {
        socket.setTimeout(0);
        resolve(socket);
        return;
      }
      socket.destroy();
      reject(refusal(proxy, target, statusCode, statusMessage));
    });
    request.once('timeout', () => {
      request.destroy(new Error(`no answer within ${CONNECT_TIMEOUT_MS} ms`));
    });
    request.once('error', (error: NodeJS.ErrnoException) => {
      // What is wrong with the certificate of the proxy is told as what is wrong with that of the cloud is.
      if (/CERT|^ERR_TLS|^UNABLE_TO_/.test(error.code ?? '')) reject(error);
      else reject(withCode(`the proxy ${proxy.name} cannot be used: ${error.message}`, PROXY_TROUBLE, error));
    });
    request.end();
  });
}

/** A proxy that cannot reach the target says 5xx; all else is about who may go where. */
function refusal(proxy: Proxy, target: string, status: number, reason: string | undefined): Error {
  const said = `${status}${reason === undefined || reason === '' ? '' : ` ${reason}`}`;
  const message = `the proxy ${proxy.name} does not connect to ${target}: ${said}`;
  if (status >= 500 || status === OK) return withCode(message, PROXY_TROUBLE);
  const mend =
    status === PROXY_AUTHENTICATION_REQUIRED
      ? proxy.authorization === undefined
        ? 'it wants user and password: http://user:password@host:port in cloud.proxy or the environment'
        : 'it does not take the user and password of cloud.proxy or the environment'
      : 'have its administrator allow it, or correct cloud.proxy or the environment';
  return withCode(`${message}; ${mend}`, PROXY_REFUSED);
}

function withCode(message: string, code: string, cause?: Error): Error {
  return Object.assign(new Error(message, cause === undefined ? {} : { cause }), { code });
}

function authority(host: string, port: number): string {
  const name = host.replace(/^\[|\]$/g, '');
  return `${isIP(name) === 6 ? `[${name}]` : name}:${port}`;
}
