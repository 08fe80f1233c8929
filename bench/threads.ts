/**
 * What a second I/O thread is worth: two volumes of a gateway with one thread against two volumes of a gateway with two, the same load on both volumes at the same time, by two load
 * generators in processes of their own, rounds taken in turn.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeError } from '../gateway/base/errors.ts';
import { MIB } from '../gateway/base/units.ts';
import {
  CloudProcess,
  GatewayProcess,
  makeSiteDirectory,
  removeSiteDirectory,
} from '../test/support/gateway-process.ts';
import { CASES, writes } from './cases.ts';
import type { LoadCase } from './cases.ts';
import { LoadProcess } from './load-process.ts';
import type { Portal } from './load.ts';
import { machineData } from './machine.ts';

const USAGE = `npm run bench:threads -- [options]
  --rounds N      interleaved rounds per case (default: 3)
  --seconds S     measured time of a round (default: 3)
  --only A,B      some cases: ${CASES.map(({ load }) => load.name).join(', ')}
  --out FILE      where the JSON goes (default: nowhere)`;

const NAMES = ['first', 'second'];
const LUN_BYTES = 256 * MIB;
/** What a round may write to each volume, so that what has to be uploaded has a bound. */
const MAX_WRITE_BYTES = 100 * MIB;
const CAP = '200Mbit/s';
const RAMP_MS = 300;
const DEFAULT_CASES = [
  'random-read-4k-qd32',
  'random-write-4k-qd32',
  'mixed-70-30-4k-qd32',
  'sequential-read-256k-qd8',
];

interface Site {
  readonly threads: number;
  readonly cloud: CloudProcess;
  readonly gateway: GatewayProcess;
  readonly portals: readonly Portal[];
}

interface Round {
  readonly case: string;
  readonly threads: number;
  readonly round: number;
  /** Of both volumes together. */
  readonly perSecond: number;
  readonly p99Ms: readonly number[];
  /** Share of one core each generator used. */
  readonly generatorLoads: readonly number[];
}

async function startSite(directory: string, threads: number): Promise<Site> {
  mkdirSync(directory, { recursive: true });
  const cloud = await CloudProcess.start(directory);
  const gateway = await GatewayProcess.start({ directory, cloud, threads, cacheSize: '2G', ramSize: '640M' });
  const portals: Portal[] = [];
  for (const name of NAMES) {
    const { thread } = await gateway.call('volume-create', {
      name,
      bytes: LUN_BYTES,
      sectorSize: 512,
      replication: 'async',
    });
    const target = (await gateway.call('volume-show', { name })).target;
    portals.push({ host: gateway.host, port: gateway.port + thread, target, lun: 0 });
  }
  return { threads, cloud, gateway, portals };
}

async function drain({ gateway }: Site): Promise<void> {
  await gateway.call('limit', { set: { direction: 'upload', plan: 'none' } });
  for (const name of NAMES) await gateway.call('flush', { name });
  await gateway.call('limit', { set: { direction: 'upload', plan: CAP } });
}

async function measure(
  site: Site,
  loads: readonly LoadProcess[],
  load: LoadCase,
  round: number,
  seconds: number,
): Promise<Round> {
  const results = await Promise.all(
    site.portals.map((portal, at) => {
      const process = loads[at];
      if (process === undefined) throw new Error('each volume has a load generator');
      return process.run(portal, {
        load,
        lunBytes: LUN_BYTES,
        rampMs: RAMP_MS,
        durationMs: seconds * 1000,
        maxWriteBytes: MAX_WRITE_BYTES,
        seed: round * 10 + at,
      });
    }),
  );
  if (writes(load)) await drain(site);
  const perSecond = Math.round(results.reduce((sum, each) => sum + each.operations / each.seconds, 0));
  console.log(
    `round ${round}  ${site.threads} thread${site.threads === 1 ? ' ' : 's'}  ${load.title}: ${perSecond.toLocaleString('en')}/s`,
  );
  return {
    case: load.name,
    threads: site.threads,
    round,
    perSecond,
    p99Ms: results.map(({ p99Ms }) => p99Ms),
    generatorLoads: results.map(({ generatorLoad }) => generatorLoad),
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '3' },
      only: { type: 'string' },
      out: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    console.log(USAGE);
    return;
  }
  const names = values.only?.split(',') ?? DEFAULT_CASES;
  const cases = CASES.map(({ load }) => load).filter(({ name }) => names.includes(name));
  if (cases.length < names.length)
    throw new Error(`there are the cases ${CASES.map(({ load }) => load.name).join(', ')}`);
  const machine = machineData();
  const directory = makeSiteDirectory();
  const loads = NAMES.map(() => new LoadProcess());
  const sites: Site[] = [];
  try {
    for (const threads of [1, 2]) {
      const site = await startSite(join(directory, `t${threads}`), threads);
      sites.push(site);
      for (const portal of site.portals) await loads[0]?.fill(portal, LUN_BYTES);
      await drain(site);
    }
    const rounds: Round[] = [];
    for (const load of cases) {
      for (let round = 1; round <= Number(values.rounds); round += 1) {
        // Who goes first changes.
        for (const site of round % 2 === 1 ? sites : sites.toReversed())
          rounds.push(await measure(site, loads, load, round, Number(values.seconds)));
      }
    }
    const of = (load: LoadCase, threads: number): number =>
      median(
        rounds.filter((each) => each.case === load.name && each.threads === threads).map((each) => each.perSecond),
      );
    const summaries = cases.map((load) => ({
      case: load.name,
      one: of(load, 1),
      two: of(load, 2),
      ratio: of(load, 2) / of(load, 1),
    }));
    console.log(
      `\ntwo volumes, both loaded; medians of ${values.rounds} rounds on ${machine.cpus} cores, load before ${machine.loadBefore.toFixed(1)}`,
    );
    for (const { case: name, one, two, ratio } of summaries)
      console.log(
        `${name.padEnd(26)} one thread ${one.toLocaleString('en').padStart(9)}/s, two ${two.toLocaleString('en').padStart(9)}/s, ratio ${ratio.toFixed(2)}`,
      );
    console.log('The load generators and the embedded clouds share these cores.');
    if (values.out !== undefined) {
      mkdirSync(dirname(values.out), { recursive: true });
      writeFileSync(
        values.out,
        `${JSON.stringify({ at: new Date().toISOString(), machine, summaries, rounds }, null, 2)}\n`,
      );
    }
  } finally {
    for (const load of loads) load.stop();
    for (const { gateway, cloud } of sites) {
      await gateway.end();
      await cloud.end();
    }
    removeSiteDirectory(directory);
  }
}

try {
  await main();
} catch (error) {
  console.error(describeError(error));
  process.exitCode = 1;
}
