/**
 * Whether a gateway under load stays as it is: a mixed load on a volume larger than the cache, so that blocks are committed, evicted and fetched again, with initiators that come
 * and go, folds and scrubs; all the while memory, file descriptors and the loop's delay are noted, and in the end they must not have grown.
 *   npm run soak -- [--minutes 60] [--cache 256M] [--lun 384M] [--ram 64M] [--out FILE]
 *   npm run soak -- --smoke      seconds in all: sees what leaks with every command
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { describeError } from '../gateway/base/errors.ts';
import { formatSize, parseSize } from '../gateway/base/size.ts';
import { MIB } from '../gateway/base/units.ts';
import { MAX_DYNAMODB_SOCKETS, MAX_S3_SOCKETS } from '../gateway/cloud/aws-clients.ts';
import type { GatewayReport } from '../gateway/admin/gateway-api.ts';
import { Initiator } from '../gateway/initiator/initiator.ts';
import {
  CloudProcess,
  GatewayProcess,
  makeSiteDirectory,
  removeSiteDirectory,
} from '../test/support/gateway-process.ts';
import type { LoadCase } from './cases.ts';
import { LoadProcess } from './load-process.ts';
import type { Portal } from './load.ts';
import { machineData } from './machine.ts';
import { median, trendOf } from './trend.ts';

const VOLUME = 'soak';
/** Connections to the cloud are kept, and become more the busier it ever was; sessions that are not closed would be thousands. */
const CLOUD_CONNECTIONS = MAX_S3_SOCKETS + MAX_DYNAMODB_SOCKETS;
const SAMPLE_MS = 1000;
/** Sessions that come and go after every round. */
const GUESTS = 8;
const PHASES: readonly LoadCase[] = [
  phase('mixed', 4096, 16, 'random', 0.7),
  phase('reads', 4096, 16, 'random', 1),
  phase('long reads', 256 * 1024, 4, 'sequential', 1),
  phase('long writes', 256 * 1024, 4, 'sequential', 0),
  { ...phase('flushes', 4096, 4, 'random', 0), flushEach: true },
];

interface Shape {
  readonly minutes: number;
  readonly cacheBytes: number;
  readonly ramBytes: number;
  /** Larger than the cache, so that blocks are evicted and fetched again; or not, when there is no time for it. */
  readonly lunBytes: number;
  readonly phaseMs: number;
  /** What a phase may write, so that the cloud's disk has a bound: after it the phase rests. */
  readonly maxWriteBytes: number;
  /** Between two turns of flush, fold and scrub. */
  readonly careEveryMs: number;
  readonly bounds: Bounds;
}

/** By how much a median may grow. */
interface Bounds {
  readonly rssBytes: number;
  readonly heapUsedBytes: number;
  readonly externalBytes: number;
  readonly descriptors: number;
  readonly loopP99Ms: number;
}

interface Sample extends Bounds {
  readonly second: number;
}

const HOUR: Shape = {
  minutes: 60,
  cacheBytes: 256 * MIB,
  ramBytes: 64 * MIB,
  lunBytes: 384 * MIB,
  phaseMs: 4000,
  maxWriteBytes: 12 * MIB,
  careEveryMs: 120_000,
  bounds: {
    rssBytes: 24 * MIB,
    heapUsedBytes: 12 * MIB,
    externalBytes: 16 * MIB,
    descriptors: CLOUD_CONNECTIONS,
    loopP99Ms: 20,
  },
};
/** So short a run is all warm-up: the program is still being compiled, and its heap finds its size. */
const SMOKE: Shape = {
  minutes: 0.2,
  cacheBytes: 256 * MIB,
  ramBytes: 16 * MIB,
  lunBytes: 32 * MIB,
  phaseMs: 500,
  maxWriteBytes: 8 * MIB,
  careEveryMs: 2000,
  bounds: {
    rssBytes: 64 * MIB,
    heapUsedBytes: 32 * MIB,
    externalBytes: 48 * MIB,
    descriptors: CLOUD_CONNECTIONS,
    loopP99Ms: 200,
  },
};

function phase(
  name: string,
  ioBytes: number,
  depth: number,
  pattern: LoadCase['pattern'],
  reads: LoadCase['reads'],
): LoadCase {
  return { name, title: name, ioBytes, depth, pattern, reads, flushEach: false };
}

async function main(shape: Shape, out: string | undefined): Promise<void> {
  const machine = machineData();
  const directory = makeSiteDirectory();
  const load = new LoadProcess();
  const cloud = await CloudProcess.start(directory);
  let gateway: GatewayProcess | undefined;
  try {
    const sizes = { cacheSize: String(shape.cacheBytes), ramSize: String(shape.ramBytes) };
    gateway = await GatewayProcess.start({ directory, cloud, ...sizes });
    const { lunBytes } = shape;
    const target = gateway.createVolume(VOLUME, String(lunBytes));
    const portal = { host: gateway.host, port: gateway.port, target, lun: 0 };
    await load.fill(portal, lunBytes);
    const sampler = new Sampler(gateway);
    const counts = { rounds: 0, operations: 0, logins: 0, scrubs: 0 };
    // What was seen until something broke is told all the same.
    const broken = await soak(gateway, load, portal, shape, counts).then(
      () => undefined,
      (error: unknown) => describeError(error),
    );
    const samples = await sampler.end();
    const report = await gateway.call('status', {});
    const trends = trendsOf(samples, shape.bounds);
    const happened = { ...counts, ...happenedIn(report, shape) };
    console.log(
      Object.entries(happened)
        .map(([what, count]) => `${what} ${count}`)
        .join(', '),
    );
    for (const { name, before, after, bound, isFlat } of trends)
      console.log(
        `${name.padEnd(14)} ${show(name, before).padStart(10)} then ${show(name, after).padStart(10)}, may grow by ${show(name, bound)}: ${isFlat ? 'flat' : 'IT GROWS'}`,
      );
    // A soak in which nothing happened shows nothing.
    if (broken !== undefined) console.log(`it ended early: ${broken}`);
    const missing = Object.entries(happened).filter(([, count]) => count === 0);
    if (missing.length > 0 && broken === undefined)
      throw new Error(`there were no ${missing.map(([what]) => what).join(', no ')}`);
    if (out !== undefined) {
      mkdirSync(dirname(out), { recursive: true });
      const { minutes, cacheBytes, ramBytes } = shape;
      const figures = {
        minutes,
        broken,
        cacheBytes,
        ramBytes,
        lunBytes,
        happened,
        trends,
        byMinute: byMinute(samples),
      };
      writeFileSync(out, `${JSON.stringify({ at: new Date().toISOString(), machine, ...figures }, null, 2)}\n`);
      console.log(`Written to ${out}`);
    }
    if (broken !== undefined || trends.some(({ isFlat }) => !isFlat)) process.exitCode = 1;
  } finally {
    load.stop();
    await gateway?.end();
    await cloud.end();
    removeSiteDirectory(directory);
  }
}

interface Counts {
  rounds: number;
  operations: number;
  logins: number;
  scrubs: number;
}

async function soak(
  gateway: GatewayProcess,
  load: LoadProcess,
  portal: Portal,
  shape: Shape,
  counts: Counts,
): Promise<void> {
  const until = performance.now() + shape.minutes * 60_000;
  const care = careFor(gateway, shape, until);
  // Seen at the end.
  care.catch(() => undefined);
  while (performance.now() < until) {
    for (const phase of PHASES) {
      const from = performance.now();
      const { operations } = await load.run(portal, {
        ...{ load: phase, lunBytes: shape.lunBytes, rampMs: 0, durationMs: shape.phaseMs },
        ...{ maxWriteBytes: shape.maxWriteBytes, seed: counts.logins + 1 },
      });
      counts.operations += operations;
      counts.logins += 1;
      await pause(Math.max(0, from + shape.phaseMs - performance.now()));
    }
    await Promise.all(Array.from({ length: GUESTS }, () => visit(portal)));
    counts.logins += GUESTS;
    counts.rounds += 1;
  }
  counts.scrubs = await care;
}

/** What goes on beside the load, one after the other, until the time is over; answers how often. */
async function careFor(gateway: GatewayProcess, shape: Shape, until: number): Promise<number> {
  let turns = 0;
  while (performance.now() < until) {
    await gateway.call('flush', { name: VOLUME });
    await gateway.call('fold', { name: VOLUME });
    await gateway.call('scrub', { name: VOLUME, sides: ['local', 'remote'], now: true });
    turns += 1;
    await pause(Math.max(0, Math.min(shape.careEveryMs, until - performance.now())));
  }
  return turns;
}

/** A session that looks in and goes. */
async function visit(portal: Portal): Promise<void> {
  const disk = await Initiator.connect(portal);
  await disk.read(0, 8);
  await disk.close();
}

function happenedIn({ cache, volumes }: GatewayReport, shape: Shape): Readonly<Record<string, number>> {
  const { fills, evicted, reclaimedChunks } = cache.counts;
  const commits = volumes[0]?.committedN ?? 0;
  return shape.lunBytes > shape.cacheBytes ? { commits, fills, evicted, reclaimedChunks } : { commits };
}

/** Looks at the gateway every second from its making until `end`. */
class Sampler {
  readonly #gateway: GatewayProcess;
  readonly #samples: Sample[] = [];
  readonly #over = new AbortController();
  readonly #run: Promise<void>;

  constructor(gateway: GatewayProcess) {
    this.#gateway = gateway;
    this.#run = this.#sample();
    // Seen by `end`.
    this.#run.catch(() => undefined);
  }

  /** Everything that was seen. Rejects when the gateway could not be asked. */
  async end(): Promise<readonly Sample[]> {
    this.#over.abort();
    await this.#run;
    return this.#samples;
  }

  async #sample(): Promise<void> {
    const from = performance.now();
    let told = 0;
    while (!this.#over.signal.aborted) {
      const { process } = await this.#gateway.call('status', { newInterval: true });
      const second = Math.round((performance.now() - from) / 1000);
      const { rssBytes, heapUsedBytes, externalBytes, loopDelay } = process;
      // proc(5)
      const descriptors = readdirSync(`/proc/${this.#gateway.pid() ?? 'none'}/fd`).length;
      const sample = { second, rssBytes, heapUsedBytes, externalBytes, descriptors, loopP99Ms: loopDelay.p99Ms };
      this.#samples.push(sample);
      if (second >= told * 60) {
        told += 1;
        console.log(
          `${String(Math.round(second / 60)).padStart(4)} min  RSS ${formatSize(rssBytes)}  heap ${formatSize(heapUsedBytes)}  external ${formatSize(externalBytes)}  descriptors ${descriptors}`,
        );
      }
      await pause(SAMPLE_MS, undefined, { signal: this.#over.signal }).catch(() => undefined);
    }
  }
}

const FIGURES = ['rssBytes', 'heapUsedBytes', 'externalBytes', 'descriptors', 'loopP99Ms'] as const;

function trendsOf(samples: readonly Sample[], bounds: Bounds): readonly ReturnType<typeof trendOf>[] {
  return FIGURES.map((name) => trendOf({ name, values: samples.map((sample) => sample[name]), bound: bounds[name] }));
}

/** Medians of each minute: an hour of seconds would fill the file. */
function byMinute(samples: readonly Sample[]): readonly Bounds[] {
  const minutes = Math.floor((samples.at(-1)?.second ?? 0) / 60) + 1;
  return Array.from({ length: minutes }, (_, minute) => {
    const some = samples.filter(({ second }) => Math.floor(second / 60) === minute);
    const of = (name: keyof Bounds): number => median(some.map((sample) => sample[name]));
    return {
      ...{ rssBytes: of('rssBytes'), heapUsedBytes: of('heapUsedBytes'), externalBytes: of('externalBytes') },
      ...{ descriptors: of('descriptors'), loopP99Ms: of('loopP99Ms') },
    };
  });
}

function show(name: string, value: number): string {
  return name.endsWith('Bytes') ? formatSize(value) : value.toFixed(name.endsWith('Ms') ? 1 : 0);
}

try {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string' },
      cache: { type: 'string' },
      lun: { type: 'string' },
      ram: { type: 'string' },
      out: { type: 'string' },
      smoke: { type: 'boolean', default: false },
    },
  });
  const preset = values.smoke ? SMOKE : HOUR;
  const shape: Shape = {
    ...preset,
    minutes: values.minutes === undefined ? preset.minutes : Number(values.minutes),
    cacheBytes: values.cache === undefined ? preset.cacheBytes : parseSize(values.cache, '--cache'),
    lunBytes: values.lun === undefined ? preset.lunBytes : parseSize(values.lun, '--lun'),
    ramBytes: values.ram === undefined ? preset.ramBytes : parseSize(values.ram, '--ram'),
  };
  const day = new Date().toISOString().slice(0, 10);
  const kept = values.smoke ? undefined : join(resolve(import.meta.dirname, '../docs/bench'), `${day}-soak.json`);
  await main(shape, values.out ?? kept);
} catch (error) {
  console.error(`soak: ${describeError(error)}`);
  process.exitCode = 1;
}
