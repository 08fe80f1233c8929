import type { Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { FarshoreError, describeError } from '../base/errors.ts';

/** Listens on 127.0.0.1, never elsewhere. Resolves with the port; rejects with `in-use` or `input`. */
export function listen(server: Server, port: number, what: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => {
      const code = 'code' in error ? error.code : undefined;
      if (code === 'EADDRINUSE')
        reject(
          new FarshoreError('in-use', `port ${port} for ${what} is in use; stop its owner or choose another port.`),
        );
      else
        reject(
          new FarshoreError('input', `${what} cannot listen on 127.0.0.1:${port}: ${describeError(error)}.`, {
            cause: error,
          }),
        );
    };
    server.once('error', onError);
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      server.off('error', onError);
      // A TCP server has an address object once it listens.
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/** Web pages whose name resolves to 127.0.0.1 are told by the Host they ask for. */
export function isLocalHost(host: string | undefined): boolean {
  return /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/.test(host ?? '');
}

/** Call it for each request: once the server is closing, its connection ends with the answer. */
export function endWithAnswer(server: Server, response: ServerResponse): void {
  response.once('close', () => {
    setImmediate(() => {
      if (!server.listening) server.closeIdleConnections();
    });
  });
}

/** Requests under way are answered, idle connections closed. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.close((error) => {
      if (error === undefined) resolve();
      else reject(error);
    });
    server.closeIdleConnections();
  });
}
