import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { describeError } from '../../gateway/base/errors.ts';
import { BLOCK_SIZE } from '../../gateway/base/units.ts';
import type { Site } from '../support/gateway-process.ts';

/** What a guest may ask of the host, by the path of an HTTP request: `ask WORD` in its test. */
export class VmHost {
  readonly port: number;
  private readonly server: Server;

  private constructor(server: Server) {
    this.server = server;
    this.port = (server.address() as AddressInfo).port; // it listens on TCP
  }

  /** `outageSeconds`: how long the cloud is away when the guest asks for that. */
  static async start(site: Site, volume: string, outageSeconds: number): Promise<VmHost> {
    const server = createServer((request, response) => {
      perform(site, volume, (request.url ?? '').slice(1), outageSeconds).then(
        (answer) => response.end(`${answer}\n`),
        (error: unknown) => {
          console.log(`[host] ${request.url ?? ''}: ${describeError(error)}`);
          response.writeHead(500).end();
        },
      );
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    return new VmHost(server);
  }

  async close(): Promise<void> {
    await new Promise((resolve) => {
      this.server.close(resolve);
      this.server.closeAllConnections();
    });
  }
}

/** The cloud goes, and comes back after a while. */
async function beginOutage({ cloud }: Site, seconds: number): Promise<void> {
  await cloud.end('SIGKILL');
  console.log(`[host] the cloud is away for ${seconds} s`);
  void pause(seconds * 1000).then(async () => {
    await cloud.start();
    console.log('[host] the cloud is back');
  });
}

async function perform(site: Site, volume: string, word: string, outageSeconds: number): Promise<string> {
  const { gateway } = site;
  switch (word) {
    case 'restart':
    case 'kill': {
      const signal = word === 'kill' ? 'SIGKILL' : 'SIGTERM';
      console.log(`[host] ${signal} to the gateway, and a new start`);
      await gateway.end(signal);
      await gateway.start();
      return 'started';
    }
    case 'grow': {
      const { bytes } = await gateway.call('volume-show', { name: volume });
      console.log('[host] the volume is made twice as large');
      gateway.cli('volume', 'resize', volume, String(2 * bytes));
      return 'grown';
    }
    case 'outage':
      await beginOutage(site, outageSeconds);
      return String(outageSeconds);
    case 'pressure': {
      const { dirtyShare, secondsUntilFull, writeDelayMs } = (await gateway.call('status', {})).cache;
      const until = secondsUntilFull === undefined ? 'not filling' : `full in ${Math.round(secondsUntilFull)} s`;
      return `${(dirtyShare * 100).toFixed(1)} % dirty, ${until}, a write is held back ${Math.round(writeDelayMs)} ms`;
    }
    case 'drained': {
      gateway.cli('flush', volume);
      const { verdict } = JSON.parse(gateway.cli('verify', volume, '--json')) as { verdict: string };
      const { dirtyShare } = (await gateway.call('status', {})).cache;
      return `everything is in the cloud, verify: ${verdict}, ${(dirtyShare * 100).toFixed(1)} % dirty`;
    }
    case 'live': {
      // The blocks of the newest version, each read back and checked.
      gateway.cli('flush', volume);
      const { blocks } = JSON.parse(gateway.cli('verify', volume, '--json')) as { blocks: number };
      return String(blocks * BLOCK_SIZE);
    }
    default:
      throw new Error(`nothing is called "${word}"`);
  }
}
