import type { GatewayReport } from '../../gateway/admin/gateway-api.ts';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { startSite, type Site } from '../support/gateway-process.ts';

export interface WorkingSetSettings {
  readonly cacheBytes: number;
  /** Size of the volume, all of which is used, in caches. */
  readonly ratio: number;
  /** Reads and writes between the filling and the last look at everything. */
  readonly operations: number;
  readonly seed: number;
  readonly tell?: (line: string) => void;
}

export interface WorkingSetReport {
  /** Blocks whose content was looked at. */
  readonly checked: number;
  /** A sentence for each of the first reads that answered what they must not. */
  readonly wrong: readonly string[];
  /** What was in the cache of what was read: at the end, and how it moved on the way. */
  readonly hitRatios: readonly number[];
  readonly counts: GatewayReport['cache']['counts'];
  readonly versions: number;
  readonly mostRssBytes: number;
  readonly verdict: string;
}

const VOLUME = 'workingset';
const BLOCK = 4096;
const MAGIC = 0x5e7b10c5;
/** A worker has every so many-th stretch of blocks for itself, so that it knows what they hold. */
const WORKERS = 8;
const STRETCH_BLOCKS = 256;
const LONG_BLOCKS = 128;
const MOST_BLOCKS = 32;
/** Of the operations, and of the stretches they go to: what is used most. */
const HOT = { operations: 0.7, stretches: 0.06 } as const;
const WRITES = 0.3;
const MOST_WRONG = 20;
const SAMPLE_MS = 250;
const RAM_MIB = 16;

/**
 * A volume that is larger than the cache, read and written by several at once while everything is committed, evicted and fetched again; every block that
 * is read is compared with what was written to it last, and in the end that is every block there is.
 */
export async function workingSet(settings: WorkingSetSettings): Promise<WorkingSetReport> {
  const { cacheBytes } = settings;
  const site = await startSite({ cacheSize: String(cacheBytes), ramSize: `${RAM_MIB}M`, rpoSeconds: 1 });
  try {
    return await new WorkingSet(site, settings).run();
  } finally {
    await site.close();
  }
}

class WorkingSet {
  readonly #site: Site;
  readonly #settings: WorkingSetSettings;
  readonly #random: SimRandom;
  readonly #blocks: number;
  /** How often each block was written. */
  readonly #written: Uint32Array;
  readonly #wrong: string[] = [];
  readonly #hitRatios: number[] = [];
  #checked = 0;
  #mostRssBytes = 0;

  constructor(site: Site, settings: WorkingSetSettings) {
    this.#site = site;
    this.#settings = settings;
    this.#random = new SimRandom(`working set ${settings.seed}`);
    this.#blocks = (settings.cacheBytes * settings.ratio) / BLOCK;
    this.#written = new Uint32Array(this.#blocks);
  }

  async run(): Promise<WorkingSetReport> {
    const { gateway } = this.#site;
    const { tell = () => undefined, operations } = this.#settings;
    const target = gateway.createVolume(VOLUME, String(this.#blocks * BLOCK), 4096);
    const initiator = await Initiator.connect({ host: gateway.host, port: gateway.port, target });
    const over = new AbortController();
    const sampling = this.#sample(over.signal);
    try {
      await this.#eachLong((first) => this.#write(initiator, first, LONG_BLOCKS));
      tell(`${this.#blocks} blocks written`);
      let left = operations;
      const worker = async (number: number): Promise<void> => {
        for (; left > 0 && this.#wrong.length === 0; left -= 1) await this.#operation(initiator, number);
      };
      await Promise.all(Array.from({ length: WORKERS }, (_, number) => worker(number)));
      tell(`${operations} operations done, ${this.#checked} blocks looked at`);
      await gateway.call('flush', { name: VOLUME });
      await this.#eachLong((first) => this.#check(initiator, first, LONG_BLOCKS));
    } finally {
      over.abort();
      await sampling;
    }
    await initiator.close();
    const { verdict } = await gateway.call('verify', { name: VOLUME });
    const report = await gateway.call('status', {});
    this.#note(report);
    return {
      checked: this.#checked,
      wrong: this.#wrong,
      hitRatios: this.#hitRatios,
      counts: report.cache.counts,
      versions: report.volumes[0]?.committedN ?? 0,
      mostRssBytes: this.#mostRssBytes,
      verdict,
    };
  }

  async #sample(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#note(await this.#site.gateway.call('status', {}));
      await new Promise((resolve) => {
        setTimeout(resolve, SAMPLE_MS);
      });
    }
  }

  #note({ process, reads }: GatewayReport): void {
    this.#mostRssBytes = Math.max(this.#mostRssBytes, process.rssBytes);
    const { hitRatio } = reads;
    if (hitRatio !== undefined && hitRatio !== this.#hitRatios.at(-1)) this.#hitRatios.push(hitRatio);
  }

  /** The whole volume, a few long pieces at a time. */
  async #eachLong(work: (first: number) => Promise<void>): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < this.#blocks) {
        const first = next;
        next += LONG_BLOCKS;
        await work(first);
      }
    };
    await Promise.all(Array.from({ length: WORKERS }, worker));
  }

  async #operation(initiator: Initiator, worker: number): Promise<void> {
    const rows = this.#blocks / (STRETCH_BLOCKS * WORKERS);
    const isHot = this.#random.chance(HOT.operations);
    const row = this.#random.between(0, Math.max(1, Math.floor(isHot ? rows * HOT.stretches : rows)) - 1);
    const count = this.#random.between(1, MOST_BLOCKS);
    const from = (row * WORKERS + worker) * STRETCH_BLOCKS;
    const first = from + this.#random.between(0, STRETCH_BLOCKS - count);
    if (this.#random.chance(WRITES)) await this.#write(initiator, first, count);
    else await this.#check(initiator, first, count);
  }

  async #write(initiator: Initiator, first: number, count: number): Promise<void> {
    for (let block = first; block < first + count; block += 1) this.#written[block] = (this.#written[block] ?? 0) + 1;
    await initiator.write(first, this.#content(first, count));
  }

  async #check(initiator: Initiator, first: number, count: number): Promise<void> {
    const found = await initiator.read(first, count);
    this.#checked += count;
    const wanted = this.#content(first, count);
    if (found.equals(wanted)) return;
    for (let index = 0; index < count && this.#wrong.length < MOST_WRONG; index += 1) {
      const at = index * BLOCK;
      if (found.compare(wanted, at, at + BLOCK, at, at + BLOCK) === 0) continue;
      const [magic, block, time] = [0, 4, 8].map((offset) => found.readUInt32LE(at + offset));
      this.#wrong.push(
        `block ${first + index}, written ${this.#written[first + index] ?? 0} times, begins with ${(magic ?? 0).toString(16)}: block ${block ?? 0} as of its write ${time ?? 0}`,
      );
    }
  }

  /** Every 16 bytes say which block this is, and which write of it; so a mix shows, and uploads are short. */
  #content(first: number, count: number): Buffer {
    const data = Buffer.allocUnsafe(count * BLOCK);
    for (let index = 0; index < count; index += 1) {
      const [at, block] = [index * BLOCK, first + index];
      const time = this.#written[block] ?? 0;
      data.writeUInt32LE(MAGIC, at);
      data.writeUInt32LE(block, at + 4);
      data.writeUInt32LE(time, at + 8);
      data.writeUInt32LE((Math.imul(block, 0x9e3779b1) ^ Math.imul(time, 0x85ebca6b)) >>> 0, at + 12);
      for (let done = 16; done < BLOCK; done *= 2) data.copyWithin(at + done, at, at + done);
    }
    return data;
  }
}
