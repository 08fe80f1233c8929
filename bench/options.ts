import { parseArgs } from 'node:util';
import { parseSize } from '../gateway/base/size.ts';
import { CASES } from './cases.ts';
import type { LoadCase } from './cases.ts';

export interface BenchOptions {
  readonly mode: 'full' | 'quick' | 'smoke';
  readonly rounds: number;
  readonly roundMs: number;
  readonly rampMs: number;
  readonly lunBytes: number;
  readonly cacheSize: string;
  readonly ramSize: string;
  readonly cases: readonly LoadCase[];
  readonly peers: readonly ('farshore' | 'tgtd')[];
  readonly out: string | undefined;
}

export const USAGE = `npm run bench -- [options]
  --quick            short rounds, for a first impression
  --smoke            seconds in all: shows that the benchmark works, its figures mean nothing
  --rounds N         interleaved rounds per case
  --seconds S        measured time of a round
  --size SIZE        size of the LUN, like 1G
  --cache SIZE       Farshore's cache on disk
  --ram SIZE         Farshore's RAM tier
  --only A,B         some cases: ${CASES.map((load) => load.name).join(', ')}
  --peers A,B        farshore, tgtd or both
  --out FILE         where the JSON goes (default: docs/bench/; nowhere with --smoke)`;

const PRESETS = {
  full: { rounds: 3, roundMs: 5000, rampMs: 1000, size: '1G', cache: '4G' },
  quick: { rounds: 2, roundMs: 1500, rampMs: 300, size: '512M', cache: '2G' },
  smoke: { rounds: 1, roundMs: 300, rampMs: 100, size: '64M', cache: '512M' },
} as const;

/** Throws an Error with one sentence for what it does not understand. */
export function parseOptions(words: readonly string[]): BenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...words],
    options: {
      quick: { type: 'boolean' },
      smoke: { type: 'boolean' },
      help: { type: 'boolean' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      size: { type: 'string' },
      cache: { type: 'string' },
      ram: { type: 'string' },
      only: { type: 'string' },
      peers: { type: 'string' },
      out: { type: 'string' },
    },
  });
  if (values.help === true) return 'help';
  const mode = values.smoke === true ? 'smoke' : values.quick === true ? 'quick' : 'full';
  const preset = PRESETS[mode];
  return {
    mode,
    rounds: values.rounds === undefined ? preset.rounds : positive(values.rounds, '--rounds'),
    roundMs: values.seconds === undefined ? preset.roundMs : positive(values.seconds, '--seconds') * 1000,
    rampMs: preset.rampMs,
    lunBytes: parseSize(values.size ?? preset.size, '--size'),
    cacheSize: values.cache ?? preset.cache,
    ramSize: values.ram ?? '256M',
    cases: values.only === undefined ? CASES : chosenCases(values.only.split(',')),
    peers: chosenPeers(values.peers?.split(',') ?? ['tgtd', 'farshore']),
    out: values.out,
  };
}

function positive(text: string, what: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`${what} ${text} is not a positive number`);
  return value;
}

function chosenCases(names: readonly string[]): LoadCase[] {
  return names.map((name) => {
    const found = CASES.find((load) => load.name === name);
    if (found === undefined)
      throw new Error(`there is no case ${name}; there are ${CASES.map((c) => c.name).join(', ')}`);
    return found;
  });
}

function chosenPeers(names: readonly string[]): ('farshore' | 'tgtd')[] {
  return names.map((name) => {
    if (name !== 'farshore' && name !== 'tgtd')
      throw new Error(`there is no peer ${name}; there are farshore and tgtd`);
    return name;
  });
}
