import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { describeError } from '../../gateway/base/errors.ts';
import { BLOCK_SIZE, MIB } from '../../gateway/base/units.ts';
import { LoadProcess } from '../../bench/load-process.ts';
import type { Site } from '../support/gateway-process.ts';

/** What a guest may ask of the host, by the path of an HTTP request: `ask WORD` in its test. */
export class VmHost {
  readonly port: number;
  private readonly server: Server;

  private constructor(server: Server) {
    this.server = server;
    this.port = (server.address() as AddressInfo).port; // it listens on TCP
  }

  /** `outageSeconds`: how long the cache stays full without a cloud when the guest asks for an outage. */
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

/** As full as a cache that waits for the cloud gets: what is left is less than the next write may need. */
const FULL_SHARE = 0.98;
/**
 * A volume that the host fills first, since a guest under emulation writes no faster than a few MiB a second. It may have no more than its part of
 * what is left then, so that it is the guest's writes that meet the full cache.
 */
const FILLER_BYTES = 192 * MIB;
const fillerOf = (volume: string): string => `filler-of-${volume}`;
/** For the guest to fill the rest; without success the cloud comes back, and `wall` says that it never was full. */
const FILL_LIMIT_MS = 600_000;

/** The cloud goes, and comes back so many seconds after the cache is full of what it has not got. */
class Outage {
  readonly #site: Site;
  readonly #seconds: number;
  #secondsToFill: number | undefined;
  #isOver = false;

  private constructor(site: Site, seconds: number) {
    this.#site = site;
    this.#seconds = seconds;
  }

  static async begin(site: Site, volume: string, seconds: number): Promise<Outage> {
    const { gateway } = site;
    const target = gateway.createVolume(fillerOf(volume), String(FILLER_BYTES));
    await site.cloud.end('SIGKILL');
    console.log(`[host] the cloud is away until ${seconds} s after the cache is full`);
    const load = new LoadProcess();
    try {
      const portal = { host: gateway.host, port: gateway.port, target, lun: 0 };
      await load.fill(portal, FILLER_BYTES);
    } finally {
      load.stop();
    }
    console.log(`[host] ${fillerOf(volume)} is written: ${await pressure(gateway)}`);
    const outage = new Outage(site, seconds);
    outage.#run().catch((error: unknown) => {
      console.log(`[host] the outage: ${describeError(error)}`);
    });
    return outage;
  }

  async #run(): Promise<void> {
    const { cloud, gateway } = this.#site;
    const from = performance.now();
    while (this.#secondsToFill === undefined && performance.now() - from < FILL_LIMIT_MS) {
      await pause(1000);
      const { dirtyShare } = (await gateway.call('status', {})).cache;
      if (dirtyShare >= FULL_SHARE) this.#secondsToFill = (performance.now() - from) / 1000;
    }
    if (this.#secondsToFill !== undefined) {
      console.log(`[host] the cache is full after ${this.#secondsToFill.toFixed(0)} s: ${await pressure(gateway)}`);
      await pause(this.#seconds * 1000);
    }
    console.log(`[host] ${gateway.cli('status')}`);
    await cloud.start();
    this.#isOver = true;
    console.log('[host] the cloud is back');
  }

  /** What came of it; throws when the cache was not full all that time, or nothing was told BUSY. */
  async wall(): Promise<string> {
    const { busyWrites } = (await this.#site.gateway.call('status', {})).cache;
    if (!this.#isOver || this.#secondsToFill === undefined) throw new Error('the cache never was full');
    if (busyWrites === 0) throw new Error('no write was told BUSY');
    return `the cache was full after ${this.#secondsToFill.toFixed(0)} s and for ${this.#seconds} s, ${busyWrites} writes were told BUSY`;
  }
}

async function pressure(gateway: Site['gateway']): Promise<string> {
  const { dirtyShare, secondsUntilFull, writeDelayMs, waitingWrites, busyWrites } = (await gateway.call('status', {}))
    .cache;
  const until = secondsUntilFull === undefined ? 'not filling' : `full in ${Math.round(secondsUntilFull)} s`;
  const writes = `a write is held back ${Math.round(writeDelayMs)} ms, ${waitingWrites} wait, ${busyWrites} told BUSY`;
  return `${(dirtyShare * 100).toFixed(1)} % dirty, ${until}, ${writes}`;
}

/** The last one of each site. */
const outages = new WeakMap<Site, Outage>();

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
      outages.set(site, await Outage.begin(site, volume, outageSeconds));
      return String(outageSeconds);
    case 'away':
      await site.cloud.end('SIGKILL');
      console.log(`[host] the cloud is away for ${outageSeconds} s`);
      setTimeout(() => {
        void site.cloud.start().then(() => {
          console.log(`[host] the cloud is back: ${gateway.cli('volume', 'show', volume)}`);
        });
      }, outageSeconds * 1000);
      return String(outageSeconds);
    case 'wall': {
      const outage = outages.get(site);
      if (outage === undefined) throw new Error('there was no outage');
      return outage.wall();
    }
    case 'pressure':
      return pressure(gateway);
    case 'drained': {
      for (const name of [volume, fillerOf(volume)]) gateway.cli('flush', name);
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
