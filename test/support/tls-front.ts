import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

export interface Authority {
  /** PEM. */
  readonly caFile: string;
  readonly keyFile: string;
  readonly certificateFile: string;
}

/** A certificate authority of our own in `dir`, and a certificate for loopback that it has signed. */
export function makeAuthority(dir: string, name: string): Authority {
  const at = (file: string): string => join(dir, `${name}-${file}`);
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { stdio: 'ignore' });
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    at('ca.key'),
    '-out',
    at('ca.pem'),
    '-days',
    '2',
    '-subj',
    `/CN=${name} CA`,
  );
  openssl('req', ...key, '-keyout', at('key.pem'), '-out', at('request.pem'), '-subj', '/CN=localhost');
  writeFileSync(at('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  const signed = [
    '-CA',
    at('ca.pem'),
    '-CAkey',
    at('ca.key'),
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    at('names'),
  ];
  openssl('x509', '-req', '-in', at('request.pem'), '-out', at('certificate.pem'), ...signed);
  return { caFile: at('ca.pem'), keyFile: at('key.pem'), certificateFile: at('certificate.pem') };
}

export interface TlsFront {
  /** https://localhost:port. */
  readonly endpoint: string;
  /** Requests that came. */
  readonly requests: string[];
  close(): Promise<void>;
}

/** TLS in front of a plain endpoint; `refuse` may answer in its place: status and body. */
export async function startTlsFront(
  { keyFile, certificateFile }: Authority,
  behind: string,
  refuse: (request: IncomingMessage) => { readonly status: number; readonly body: string } | undefined = () =>
    undefined,
): Promise<TlsFront> {
  const { hostname: host, port } = new URL(behind);
  const requests: string[] = [];
  const server = createServer(
    { key: readFileSync(keyFile), cert: readFileSync(certificateFile) },
    (incoming, response) => {
      requests.push(`${incoming.method ?? ''} ${incoming.url ?? ''}`);
      const refusal = refuse(incoming);
      if (refusal !== undefined) {
        incoming.resume();
        response.writeHead(refusal.status, { 'content-type': 'application/xml' }).end(refusal.body);
        return;
      }
      const { method, url: path, headers } = incoming;
      const onward = httpRequest({ host, port, path, method, headers });
      onward.once('response', (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      onward.once('error', () => response.destroy());
      incoming.pipe(onward);
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    endpoint: `https://localhost:${(server.address() as AddressInfo).port}`, // it listens on TCP
    requests,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
      });
    },
  };
}
