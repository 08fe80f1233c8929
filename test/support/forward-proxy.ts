import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';

export interface ForwardProxy {
  readonly port: number;
  /** What was asked of it: `CONNECT host:port`, `PUT http://…`. */
  readonly asked: string[];
  /** What it answers to the next requests instead of doing them. */
  refusal: number | undefined;
  close(): Promise<void>;
}

/** An HTTP proxy on loopback as companies have them: CONNECT for https, absolute addresses for http, Basic authentication if `userInfo` is given. */
export async function startForwardProxy(userInfo?: string): Promise<ForwardProxy> {
  const wanted = userInfo === undefined ? undefined : `Basic ${Buffer.from(userInfo).toString('base64')}`;
  const open = new Set<Socket>();
  const asked: string[] = [];
  const statusFor = ({ headers }: IncomingMessage): number | undefined => {
    if (wanted !== undefined && headers['proxy-authorization'] !== wanted) return 407;
    return proxy.refusal;
  };
  const server = createServer((incoming, response) => {
    asked.push(`${incoming.method ?? ''} ${incoming.url ?? ''}`);
    const status = statusFor(incoming);
    if (status === undefined) forward(incoming, response);
    else response.writeHead(status).end('no');
  });
  server.on('connect', (incoming: IncomingMessage, near: Socket) => {
    const target = incoming.url ?? '';
    asked.push(`CONNECT ${target}`);
    const status = statusFor(incoming);
    if (status !== undefined) {
      near.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    const { hostname, port } = new URL(`http://${target}`);
    const far = connect(Number(port), hostname.replace(/^\[|\]$/g, ''), () => {
      near.write('HTTP/1.1 200 Connection established\r\n\r\n');
      far.pipe(near).pipe(far);
    });
    for (const socket of [near, far]) {
      open.add(socket);
      socket.on('error', () => {
        near.destroy();
        far.destroy();
      });
      socket.once('close', () => open.delete(socket));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxy: ForwardProxy = {
    port: (server.address() as AddressInfo).port, // it listens on TCP
    asked,
    refusal: undefined,
    close: () => {
      for (const socket of open) socket.destroy();
      server.closeAllConnections();
      return new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
      });
    },
  };
  return proxy;
}

function forward(incoming: IncomingMessage, response: ServerResponse): void {
  const { hostname, port, pathname, search } = new URL(incoming.url ?? '');
  const { 'proxy-authorization': _, ...headers } = incoming.headers;
  const onward = httpRequest({ host: hostname, port, path: `${pathname}${search}`, method: incoming.method, headers });
  onward.once('response', (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
  onward.once('error', () => response.writeHead(502).end());
  incoming.pipe(onward);
}
