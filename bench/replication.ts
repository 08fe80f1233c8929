/**
 * What replication costs, with the cloud behind the fault proxy at some round trips, against s3backer under tgtd on the same S3 server.
 *   npm run bench:replication -- [--round-trips 5,40] [--written 32M] [--size 256M] [--peers farshore,s3backer] [--smoke] [--out FILE]
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { describeError } from '../gateway/base/errors.ts';
import { formatSize, parseSize } from '../gateway/base/size.ts';
import { GIB, KIB, MIB } from '../gateway/base/units.ts';
import { BUCKET } from '../test/support/local-cloud.ts';
import type { FaultProxyReport } from '../test/support/fault-proxy/fault-proxy.ts';
import {
  CloudProcess,
  GatewayProcess,
  makeSiteDirectory,
  removeSiteDirectory,
} from '../test/support/gateway-process.ts';
import { barePuts, type BareFigures } from './bare-sdk.ts';
import type { LoadCase } from './cases.ts';
import { startProxyProcess, type ProxyProcess } from './fault-proxy-process.ts';
import type { LoadResult } from './generator.ts';
import { LoadProcess } from './load-process.ts';
import type { Portal } from './load.ts';
import { machineData } from './machine.ts';
import { cpuMsOf } from './peers.ts';
import { S3backer } from './s3backer.ts';

const VOLUME = 'replication';
const BLOCK_SIZES = [4 * KIB, 64 * KIB, 256 * KIB];
const RAM_BYTES = 64 * MIB;
const DEPTHS = [1, 32];
/** Of the measured time of a latency. */
const LATENCY_MS = 5_000;
/** A round ends when so much was written, or after this. */
const LONGEST_ROUND_MS = 600_000;
const TARGETS = { requests: 20, throughput: 3, syncLatency: 1.3 } as const;

interface Settings {
  readonly roundTrips: readonly number[];
  readonly writtenBytes: number;
  readonly lunBytes: number;
  readonly peers: readonly string[];
  readonly latencyMs: number;
}

/** A write workload from its first byte until everything is in the cloud. */
interface Drained {
  readonly peer: string;
  readonly writtenBytes: number;
  readonly writeSeconds: number;
  readonly drainedSeconds: number;
  /** Until drained. */
  readonly bytesPerSecond: number;
  readonly cpuSecondsPerGib: number;
  readonly requests: Readonly<Record<string, number>>;
  readonly requestsPerGib: number;
  readonly upBytes: number;
  readonly downBytes: number;
  readonly sentPerWritten: number;
  readonly write: LoadResult;
}

interface Latency {
  readonly depth: number;
  readonly bareS3: BareFigures;
  readonly bareDynamodb: BareFigures;
  readonly sync: LoadResult;
}

interface Outcome {
  readonly roundTripMs: number;
  readonly drained: readonly Drained[];
  readonly notMeasured: readonly string[];
  readonly latency: readonly Latency[];
}

const load = (depth: number, flushEach = false): LoadCase => ({
  ...{ name: `random-write-4k-qd${depth}`, title: `random write 4 KiB, depth ${depth}`, ioBytes: 4 * KIB, depth },
  ...{ pattern: 'random', reads: 0, flushEach },
});

class Bench {
  readonly #settings: Settings;
  readonly #load = new LoadProcess();
  readonly #directory: string;
  readonly #cloud: CloudProcess;
  readonly #proxy: ProxyProcess;

  private constructor(settings: Settings, directory: string, cloud: CloudProcess, proxy: ProxyProcess) {
    this.#settings = settings;
    this.#directory = directory;
    this.#cloud = cloud;
    this.#proxy = proxy;
  }

  static async start(settings: Settings): Promise<Bench> {
    const directory = makeSiteDirectory();
    const cloud = await CloudProcess.start(directory);
    return new Bench(settings, directory, cloud, await startProxyProcess(directory, cloud));
  }

  async at(roundTripMs: number): Promise<Outcome> {
    await this.#proxy.control.setPlan({ roundTripMs });
    const drained: Drained[] = [];
    const notMeasured: string[] = [];
    const latency: Latency[] = [];
    if (this.#settings.peers.includes('farshore')) {
      const site = join(this.#directory, `farshore-${roundTripMs}`);
      mkdirSync(site);
      const options = { directory: site, cloud: this.#proxy, cacheSize: '1G', ramSize: String(RAM_BYTES) };
      const gateway = await GatewayProcess.start(options);
      try {
        drained.push(tell(await this.#farshore(gateway, `${VOLUME}-${roundTripMs}`)));
        for (const depth of DEPTHS) {
          const bare = await this.#bare(depth);
          latency.push({ ...bare, sync: await this.#sync(gateway, `sync-${roundTripMs}-${depth}`, depth) });
        }
      } finally {
        await gateway.end('SIGTERM');
      }
    }
    if (this.#settings.peers.includes('s3backer')) {
      const problem = S3backer.problem();
      if (problem !== undefined) notMeasured.push(`s3backer: ${problem}`);
      else for (const blockBytes of BLOCK_SIZES) drained.push(tell(await this.#s3backer(blockBytes, roundTripMs)));
    }
    return { roundTripMs, drained, notMeasured, latency };
  }

  /** Fold and compaction included: what a fold leaves is looked after by nobody later. */
  async #farshore(gateway: GatewayProcess, name: string): Promise<Drained> {
    const target = gateway.createVolume(name, String(this.#settings.lunBytes));
    const cpu = (): number => cpuMsOf(gateway.pid());
    return this.#measured('farshore', { host: gateway.host, port: gateway.port, target, lun: 0 }, cpu, async () => {
      await gateway.call('flush', { name });
      await gateway.call('fold', { name });
      return cpu();
    });
  }

  async #s3backer(blockBytes: number, roundTripMs: number): Promise<Drained> {
    const directory = join(this.#directory, `s3backer-${blockBytes}-${roundTripMs}`);
    mkdirSync(directory);
    const backer = await S3backer.start({
      ...{ directory, s3Port: this.#proxy.s3Port, bucket: BUCKET, blockBytes, cacheBytes: RAM_BYTES },
      // Nothing is there from another round trip.
      prefix: `s3backer-${blockBytes}-${roundTripMs}-`,
      lunBytes: this.#settings.lunBytes,
    });
    try {
      const name = `s3backer ${formatSize(blockBytes)} blocks`;
      return await this.#measured(
        name,
        backer.portal,
        () => backer.cpuMs(),
        () => backer.drain(),
      );
    } finally {
      await backer.stop();
    }
  }

  async #measured(peer: string, portal: Portal, cpuMs: () => number, drain: () => Promise<number>): Promise<Drained> {
    const { writtenBytes, lunBytes } = this.#settings;
    const [before, cpuBefore] = [await this.#proxy.control.report(), cpuMs()];
    const from = performance.now();
    const write = await this.#load.run(portal, {
      ...{ load: load(32), lunBytes, rampMs: 0, durationMs: LONGEST_ROUND_MS, maxWriteBytes: writtenBytes },
      ...{ stores: true, seed: 7 },
    });
    const writeSeconds = (performance.now() - from) / 1000;
    const cpuAfter = await drain();
    const drainedSeconds = (performance.now() - from) / 1000;
    const { requests, upBytes, downBytes } = between(before, await this.#proxy.control.report());
    const total = Object.values(requests).reduce((sum, count) => sum + count, 0);
    return {
      ...{ peer, writtenBytes: write.bytes, writeSeconds, drainedSeconds, write, requests, upBytes, downBytes },
      bytesPerSecond: write.bytes / drainedSeconds,
      cpuSecondsPerGib: (((cpuAfter - cpuBefore) / 1000) * GIB) / write.bytes,
      requestsPerGib: (total * GIB) / write.bytes,
      sentPerWritten: upBytes / write.bytes,
    };
  }

  /** Of a volume whose writes are acked when they are in a committed version. */
  async #sync(gateway: GatewayProcess, name: string, depth: number): Promise<LoadResult> {
    const { lunBytes, latencyMs: durationMs } = this.#settings;
    const target = gateway.createVolume(name, String(lunBytes), 512, '--replication', 'sync');
    const portal = { host: gateway.host, port: gateway.port, target, lun: 0 };
    return this.#load.run(portal, { load: load(depth), lunBytes, rampMs: 500, durationMs, stores: true, seed: 7 });
  }

  async #bare(depth: number): Promise<Omit<Latency, 'sync'>> {
    const durationMs = this.#settings.latencyMs;
    const options = { bytes: 4 * KIB, depth, durationMs };
    const bareS3 = await barePuts(this.#proxy, 's3', options);
    const bareDynamodb = await barePuts(this.#proxy, 'dynamodb', options);
    return { depth, bareS3, bareDynamodb };
  }

  async stop(): Promise<void> {
    this.#load.stop();
    await this.#proxy.end();
    await this.#cloud.end();
    removeSiteDirectory(this.#directory);
  }
}

function between(before: FaultProxyReport, after: FaultProxyReport) {
  const requests: Record<string, number> = {};
  let [upBytes, downBytes] = [0, 0];
  for (const service of ['s3', 'dynamodb'] as const) {
    for (const [operation, now] of Object.entries(after.operations[service])) {
      const then = before.operations[service][operation];
      const count = now.requests - (then?.requests ?? 0);
      if (count > 0) requests[`${service} ${operation}`] = count;
      upBytes += now.upBytes - (then?.upBytes ?? 0);
      downBytes += now.downBytes - (then?.downBytes ?? 0);
    }
  }
  return { requests, upBytes, downBytes };
}

function tell(drained: Drained): Drained {
  const { peer, writtenBytes, drainedSeconds, bytesPerSecond, cpuSecondsPerGib, requestsPerGib } = drained;
  console.log(
    `  ${peer.padEnd(24)} ${formatSize(writtenBytes)} written and drained in ${drainedSeconds.toFixed(1)} s, ${formatSize(bytesPerSecond)}/s, ${requestsPerGib.toFixed(0)} requests/GiB, ${drained.sentPerWritten.toFixed(2)} bytes sent per byte, ${cpuSecondsPerGib.toFixed(1)} s of CPU/GiB`,
  );
  return drained;
}

/** Farshore against the best of s3backer's block sizes, by each figure. */
function verdicts({ drained, latency, notMeasured }: Outcome): Record<string, number> {
  const ours = drained.find(({ peer }) => peer === 'farshore');
  const others = drained.filter(({ peer }) => peer !== 'farshore');
  const ratios: Record<string, number> = {};
  if (ours !== undefined && others.length > 0) {
    ratios['requests'] = Math.min(...others.map(({ requestsPerGib }) => requestsPerGib)) / ours.requestsPerGib;
    ratios['throughput'] = ours.bytesPerSecond / Math.max(...others.map(({ bytesPerSecond }) => bytesPerSecond));
    show(
      'requests: the best s3backer ÷ Farshore',
      ratios['requests'],
      TARGETS.requests,
      ratios['requests'] >= TARGETS.requests,
    );
    show(
      'throughput: Farshore ÷ the best s3backer',
      ratios['throughput'],
      TARGETS.throughput,
      ratios['throughput'] >= TARGETS.throughput,
    );
  }
  for (const { depth, bareS3, bareDynamodb, sync } of latency) {
    console.log(
      `  bare SDK, 4 KiB at depth ${depth}: S3 p50 ${bareS3.p50Ms.toFixed(1)} ms, ${bareS3.perSecond.toFixed(0)}/s; DynamoDB p50 ${bareDynamodb.p50Ms.toFixed(1)} ms, ${bareDynamodb.perSecond.toFixed(0)}/s`,
    );
    const bare = bareDynamodb.p50Ms;
    const ratio = (ratios[`sync p50 at depth ${depth} ÷ bare DynamoDB`] = sync.p50Ms / bare);
    console.log(
      `  sync at depth ${depth}: p50 ${sync.p50Ms.toFixed(1)} ms, p99 ${sync.p99Ms.toFixed(1)} ms, ${(sync.operations / sync.seconds).toFixed(0)}/s`,
    );
    if (depth === 1) show('sync p50 at depth 1 ÷ a bare put', ratio, TARGETS.syncLatency, ratio <= TARGETS.syncLatency);
  }
  for (const line of notMeasured) console.log(`  not measured: ${line}`);
  return ratios;
}

function show(what: string, ratio: number, target: number, isMet: boolean): void {
  console.log(`  ${what}: ${ratio.toFixed(2)}, target ${target}: ${isMet ? 'met' : 'NOT MET'}`);
}

async function main(settings: Settings, out: string | undefined): Promise<void> {
  const machine = machineData();
  const bench = await Bench.start(settings);
  const outcomes: (Outcome & { readonly ratios: Readonly<Record<string, number>> })[] = [];
  try {
    for (const roundTripMs of settings.roundTrips) {
      console.log(`round trip ${roundTripMs} ms, random writes of 4 KiB at depth 32:`);
      const outcome = await bench.at(roundTripMs);
      outcomes.push({ ...outcome, ratios: verdicts(outcome) });
    }
  } finally {
    await bench.stop();
  }
  if (out === undefined) return;
  mkdirSync(dirname(out), { recursive: true });
  const figures = { at: new Date().toISOString(), machine, settings, targets: TARGETS, outcomes };
  writeFileSync(out, `${JSON.stringify(figures, null, 2)}\n`);
  console.log(`Written to ${out}`);
}

try {
  const { values } = parseArgs({
    options: {
      'round-trips': { type: 'string', default: '5,40' },
      written: { type: 'string' },
      size: { type: 'string', default: '256M' },
      peers: { type: 'string', default: 'farshore,s3backer' },
      smoke: { type: 'boolean', default: false },
      out: { type: 'string' },
    },
  });
  const day = new Date().toISOString().slice(0, 10);
  const file = join(resolve(import.meta.dirname, '../docs/bench'), `${day}-replication.json`);
  const settings = {
    roundTrips: values['round-trips'].split(',').map(Number),
    writtenBytes: parseSize(values.written ?? (values.smoke ? '1M' : '32M'), '--written'),
    lunBytes: parseSize(values.size, '--size'),
    peers: values.peers.split(','),
    latencyMs: values.smoke ? 300 : LATENCY_MS,
  };
  await main(settings, values.out ?? (values.smoke ? undefined : file));
} catch (error) {
  console.error(`bench:replication: ${describeError(error)}`);
  process.exitCode = 1;
}
