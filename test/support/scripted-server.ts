import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { systemClock } from '../../gateway/base/clock.ts';
import type { Clock } from '../../gateway/base/clock.ts';

/** What the server does to one request, after it has received all of it. */
export type Reply = (response: ServerResponse, request: ReceivedRequest) => void;

export interface ReceivedRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

export interface ScriptedServer {
  readonly endpoint: string;
  readonly received: ReceivedRequest[];
  /** Forgets what came before and answers the next requests so, in this order; the last reply goes on for ever. */
  script(...replies: readonly Reply[]): void;
  close(): Promise<void>;
}

/** An HTTP server that does exactly what a test tells it, wrong things above all. */
export async function startScriptedServer(): Promise<ScriptedServer> {
  let replies: readonly Reply[] = [];
  const received: ReceivedRequest[] = [];
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('error', () => undefined);
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const whole: ReceivedRequest = { method, url, headers, body: Buffer.concat(pieces) };
      const reply = replies[Math.min(received.length, replies.length - 1)];
      received.push(whole);
      reply?.(response, whole);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // Listening on TCP, it has an address object.
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    received,
    script: (...next) => {
      received.length = 0;
      replies = next;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}

/** Pauses between attempts take no time. Deadlines (more than a minute of patience is none) fire at once when `impatient`. */
export function hastyClock(impatient = false): Clock {
  const longestPauseMs = 2000;
  return {
    ...systemClock,
    startTimer: (delayMs, fire) =>
      systemClock.startTimer(delayMs <= longestPauseMs ? 0 : impatient ? 50 : 60_000, fire),
  };
}

export const reply =
  (status: number, body: string | Buffer = '', headers: Record<string, string> = {}): Reply =>
  (response) => {
    const bytes = Buffer.from(body);
    response.writeHead(status, { 'Content-Length': String(bytes.length), ...headers });
    response.end(bytes);
  };

export const s3Error = (status: number, code: string, message = `about ${code}`): Reply =>
  reply(status, `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`, {
    'Content-Type': 'application/xml',
  });

export const dynamoError = (status: number, name: string, message = `about ${name}`): Reply =>
  reply(status, JSON.stringify({ __type: `com.amazonaws.dynamodb.v20120810#${name}`, message }), {
    'Content-Type': 'application/x-amz-json-1.0',
  });

export const json = (value: unknown): Reply =>
  reply(200, JSON.stringify(value), { 'Content-Type': 'application/x-amz-json-1.0' });

export const hangUp: Reply = (response) => {
  response.destroy();
};

export const neverAnswer: Reply = () => undefined;

/** Announces more than it sends, then breaks off. */
export const breakOff =
  (status: number, announced: number, sent: Buffer, headers: Record<string, string> = {}): Reply =>
  (response) => {
    response.writeHead(status, { 'Content-Length': String(announced), ...headers });
    response.write(sent, () => {
      response.destroy();
    });
  };
