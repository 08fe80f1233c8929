import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { FarshoreError, describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { OpenPortal, PortalAddress } from './target-registry.ts';

/** Where to listen; port 0 is any free one, an IPv6 link-local host carries its zone (fe80::1%eth0). */
export interface PortalSettings extends PortalAddress {
  /** See OpenPortal. */
  readonly advertise?: readonly PortalAddress[] | undefined;
}

/** The listening sockets. */
export class Portals {
  readonly #log: Log;
  readonly #accept: (socket: Socket) => void;
  readonly #servers: Server[] = [];
  readonly #open: OpenPortal[] = [];

  constructor(log: Log, accept: (socket: Socket) => void) {
    this.#log = log;
    this.#accept = accept;
  }

  get open(): readonly OpenPortal[] {
    return this.#open;
  }

  /** `in-use` when it cannot be opened. */
  async listen(settings: PortalSettings): Promise<OpenPortal> {
    const portal = { host: settings.host, port: await this.#bind(settings), advertise: settings.advertise };
    this.#open.push(portal);
    return portal;
  }

  #bind({ host, port }: PortalSettings): Promise<number> {
    const server = createServer({ noDelay: true, keepAlive: true, pauseOnConnect: true }, this.#accept);
    this.#servers.push(server);
    const where = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    // Later errors are about connections that could not be accepted, for want of file descriptors for example.
    server.on('error', (error) => {
      this.#log.warn({ portal: where, error: describeError(error) }, 'iSCSI portal failure');
    });
    return new Promise((resolve, reject) => {
      server.once('error', (error) => {
        reject(new FarshoreError('in-use', `The iSCSI portal ${where} cannot be opened: ${describeError(error)}.`));
      });
      server.listen(port, host, () => {
        resolve((server.address() as AddressInfo).port); // a TCP server that listens has one
      });
    });
  }

  /** Takes no more connections; those there are stay. */
  close(): void {
    for (const server of this.#servers) server.close();
    this.#open.length = 0;
  }
}
