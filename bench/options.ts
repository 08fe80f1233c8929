import { parseArgs } from 'node:util';
import { parseSize } from '../gateway/base/size.ts';
import { CASES } from './cases.ts';
import type { BenchCase, PeerName } from './cases.ts';

export interface BenchOptions {
  readonly mode: 'full' | 'quick' | 'smoke';
  readonly rounds: number;
  readonly roundMs: number;
  readonly rampMs: number;
  readonly lunBytes: number;
  readonly cacheSize: string;
  readonly ramSize: string;
  /** Of farshore-disk, which is to find most of the LUN in its log on disk alone. */
  readonly smallRamSize: string;
  /** What a round may write, so that what has to be uploaded has a bound. */
  readonly maxWriteBytes: number;
  readonly warmUpMs: number;
  readonly cases: readonly BenchCase[];
  readonly out: string | undefined;
}

const PEERS: readonly PeerName[] = [...new Set(CASES.flatMap(({ peers }) => peers))];

export const USAGE = `npm run bench -- [options]
  --quick            short rounds, for a first impression
  --smoke            seconds in all: shows that the benchmark works, its figures mean nothing
  --rounds N         interleaved rounds per case
  --seconds S        measured time of a round
  --size SIZE        size of the LUN, like 1G
  --cache SIZE       Farshore's cache on disk
  --ram SIZE         Farshore's RAM tier; by default it holds the LUN, as the page cache holds tgtd's file
  --only A,B         some cases: ${CASES.map(({ load }) => load.name).join(', ')}
  --peers A,B        some peers: ${PEERS.join(', ')}
  --out FILE         where the JSON goes (default: docs/bench/; nowhere with --smoke)`;

const PRESETS = {
  full: {
    rounds: 3,
    roundMs: 4000,
    rampMs: 500,
    warmUpMs: 500,
    size: '1G',
    cache: '4G',
    ram: '1280M',
    written: '400M',
  },
  quick: {
    rounds: 2,
    roundMs: 1500,
    rampMs: 300,
    warmUpMs: 300,
    size: '512M',
    cache: '2G',
    ram: '640M',
    written: '200M',
  },
  smoke: { rounds: 1, roundMs: 150, rampMs: 50, warmUpMs: 0, size: '64M', cache: '256M', ram: '96M', written: '32M' },
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
    ramSize: values.ram ?? preset.ram,
    smallRamSize: mode === 'smoke' ? '16M' : '64M',
    maxWriteBytes: parseSize(preset.written, 'written'),
    warmUpMs: preset.warmUpMs,
    cases: chosenCases(values.only?.split(','), values.peers?.split(',')),
    out: values.out,
  };
}

function positive(text: string, what: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`${what} ${text} is not a positive number`);
  return value;
}

/** Some cases, with some of their peers. */
function chosenCases(names: readonly string[] | undefined, peers: readonly string[] | undefined): BenchCase[] {
  const unknown = peers?.find((name) => !PEERS.includes(name as PeerName)); // a name of none is what is looked for
  if (unknown !== undefined) throw new Error(`there is no peer ${unknown}; there are ${PEERS.join(', ')}`);
  const cases = names?.map((name) => {
    const found = CASES.find(({ load }) => load.name === name);
    if (found === undefined)
      throw new Error(`there is no case ${name}; there are ${CASES.map(({ load }) => load.name).join(', ')}`);
    return found;
  });
  return (cases ?? CASES)
    .map((one) => ({ ...one, peers: one.peers.filter((name) => peers === undefined || peers.includes(name)) }))
    .filter((one) => one.peers.length > 0);
}
