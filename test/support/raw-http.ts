import { request as httpRequest } from 'node:http';
import type { Agent, IncomingHttpHeaders } from 'node:http';

export interface RawAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** `<Code>` of an error document, '' when there is none. */
  readonly code: string;
}

export interface RawRequest {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
  /** Send the body in these pieces, one by one, with Transfer-Encoding: chunked. */
  readonly pieces?: readonly Buffer[];
  readonly agent?: Agent;
}

/** One HTTP request, byte for byte as asked: no SDK that would mend it. */
export function rawHttp(
  endpoint: string,
  { method, path, headers, body, pieces, agent }: RawRequest,
): Promise<RawAnswer> {
  const { hostname, port } = new URL(endpoint);
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { hostname, port, method, path, headers: { ...headers }, ...(agent && { agent }) },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', reject);
        response.on('end', () => {
          const whole = Buffer.concat(parts);
          const code = /<Code>(\w+)<\/Code>/.exec(whole.toString('latin1'))?.[1] ?? '';
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: whole, code });
        });
      },
    );
    request.on('error', reject);
    for (const piece of pieces ?? []) request.write(piece);
    request.end(body);
  });
}
