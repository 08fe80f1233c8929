import { NULL_TARGET_RATIO, REPLICATION_COST } from './cases.ts';
import type { BenchCase, PeerName } from './cases.ts';
import type { LoadResult } from './generator.ts';
import type { ProcessReport } from '../gateway/process-figures.ts';

/** What replication did during one round, until the drain after it. */
export interface ReplicationRound {
  readonly versionsDuringLoad: number;
  readonly versionsInAll: number;
  readonly lagBytesAtEnd: number;
  readonly drainSeconds: number;
  readonly uploadedDuringLoad: number;
  readonly uploadedBytes: number;
  readonly s3Puts: number;
  readonly dynamoWrites: number;
}

export interface RoundRecord {
  readonly case: string;
  readonly peer: PeerName;
  readonly round: number;
  readonly result: LoadResult;
  /** Cores that the target's process kept busy during the run. */
  readonly targetLoad: number;
  readonly replication: ReplicationRound | undefined;
  /** What the gateway says of its process, ramp included. */
  readonly process: ProcessReport | undefined;
}

export interface CaseSummary {
  readonly case: string;
  readonly title: string;
  readonly subject: PeerName;
  readonly peers: Readonly<Partial<Record<PeerName, PeerSummary>>>;
  /** The subject's median rate over tgtd's, and what is asked for. */
  readonly ratio: number | undefined;
  readonly target: number;
  readonly met: boolean | undefined;
  /** The subject's median rate over the null target's. */
  readonly overNull: number | undefined;
  /** What replication takes of the rate: capped, and without a limit. */
  readonly costCapped: number | undefined;
  readonly costUncapped: number | undefined;
  /** Peers in whose rounds the load generator was the limit. */
  readonly generatorLimited: readonly PeerName[];
}

export interface PeerSummary {
  readonly medianPerSecond: number;
  readonly lowestPerSecond: number;
  readonly highestPerSecond: number;
  readonly medianMegabytesPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly busy: number;
  /** CPU time of the target's process per operation, replication included, in µs. */
  readonly cpuMicrosPerOperation: number;
  /** Share of a core that the load generator used, at most. */
  readonly generatorLoad: number;
  /** The worst over the rounds; of gateways only. */
  readonly gcMaxMs: number | undefined;
  readonly loopDelayP999Ms: number | undefined;
  readonly uploadedMegabytesPerSecond: number | undefined;
}

/** Share of a core from which the load generator counts as the limit. */
const SATURATED = 0.95;

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

export function summarise(cases: readonly BenchCase[], rounds: readonly RoundRecord[]): CaseSummary[] {
  return cases.map(({ load, subject, peers, target }) => {
    const of: Partial<Record<PeerName, PeerSummary>> = {};
    for (const peer of peers) {
      const summary = summariseOne(rounds.filter((round) => round.case === load.name && round.peer === peer));
      if (summary !== undefined) of[peer] = summary;
    }
    const over = (one: PeerName, other: PeerName): number | undefined => {
      const [upper, lower] = [of[one]?.medianPerSecond, of[other]?.medianPerSecond];
      return upper === undefined || lower === undefined || lower === 0 ? undefined : upper / lower;
    };
    const cost = (mode: PeerName): number | undefined => {
      const kept = over(mode, 'farshore-paused');
      return kept === undefined ? undefined : 1 - kept;
    };
    const ratio = over(subject, 'tgtd');
    return {
      case: load.name,
      title: load.title,
      subject,
      peers: of,
      ratio,
      target,
      met: ratio === undefined ? undefined : ratio >= target,
      overNull: over(subject, 'null'),
      costCapped: cost('farshore'),
      costUncapped: cost('farshore-uncapped'),
      generatorLimited: peers.filter((peer) => (of[peer]?.generatorLoad ?? 0) > SATURATED),
    };
  });
}

function summariseOne(rounds: readonly RoundRecord[]): PeerSummary | undefined {
  if (rounds.length === 0) return undefined;
  const rates = rounds.map(({ result }) => result.operations / result.seconds);
  const processes = rounds.flatMap((round) => round.process ?? []);
  const worst = (values: readonly number[]): number | undefined =>
    values.length === 0 ? undefined : Math.max(...values);
  const uploads = rounds.flatMap(({ replication, result }) =>
    replication === undefined ? [] : [replication.uploadedDuringLoad / result.seconds / 1e6],
  );
  return {
    medianPerSecond: median(rates),
    lowestPerSecond: Math.min(...rates),
    highestPerSecond: Math.max(...rates),
    medianMegabytesPerSecond: median(rounds.map(({ result }) => result.bytes / result.seconds / 1e6)),
    p50Ms: median(rounds.map(({ result }) => result.p50Ms)),
    p99Ms: median(rounds.map(({ result }) => result.p99Ms)),
    p999Ms: median(rounds.map(({ result }) => result.p999Ms)),
    busy: rounds.reduce((sum, { result }) => sum + result.busy, 0),
    cpuMicrosPerOperation: median(
      rounds.map(({ result, targetLoad }) => (targetLoad * 1e6 * result.seconds) / Math.max(1, result.operations)),
    ),
    generatorLoad: Math.max(...rounds.map(({ result }) => result.generatorLoad)),
    gcMaxMs: worst(processes.map(({ gc }) => gc.maxMs)),
    loopDelayP999Ms: worst(processes.map(({ loopDelay }) => loopDelay.p999Ms)),
    uploadedMegabytesPerSecond: uploads.length === 0 ? undefined : median(uploads),
  };
}

/** The comparison for people: medians over the rounds. `*`: the load generator was the limit. */
export function renderTable(summaries: readonly CaseSummary[]): string {
  const rows = summaries.map((summary) => {
    const subject = summary.peers[summary.subject];
    const { tgtd } = summary.peers;
    const limited = (peer: PeerName): string => (summary.generatorLimited.includes(peer) ? '*' : '');
    return [
      summary.title,
      `${rate(subject?.medianPerSecond)}${limited(summary.subject)}`,
      `${rate(tgtd?.medianPerSecond)}${limited('tgtd')}`,
      share(summary.ratio),
      summary.target.toFixed(1),
      verdict(summary.met),
      share(summary.overNull),
      verdict(summary.overNull === undefined ? undefined : summary.overNull >= NULL_TARGET_RATIO),
      latencies(subject),
      latencies(tgtd),
      rate(subject?.cpuMicrosPerOperation),
      milliseconds(subject?.gcMaxMs),
      milliseconds(subject?.loopDelayP999Ms),
    ];
  });
  return table(
    [
      'case',
      'Farshore /s',
      'tgtd /s',
      'ratio',
      'target',
      'met',
      '÷ null',
      `≥ ${NULL_TARGET_RATIO}`,
      'p50/p99/p99.9 ms',
      "tgtd's",
      'CPU µs/op',
      'GC max ms',
      'loop p99.9 ms',
    ],
    rows,
  );
}

/** What replication costs: the same gateway with uploads paused, capped and without a limit. */
export function renderReplication(summaries: readonly CaseSummary[]): string {
  const modes: readonly (readonly [PeerName, string])[] = [
    ['farshore-paused', 'paused'],
    ['farshore', 'capped at 200 Mbit/s'],
    ['farshore-uncapped', 'no limit'],
  ];
  const rows = summaries
    .filter((summary) => summary.peers['farshore-paused'] !== undefined)
    .flatMap((summary) =>
      modes.map(([peer, title], at) => {
        const one = summary.peers[peer];
        const cost = peer === 'farshore' ? summary.costCapped : at === 0 ? undefined : summary.costUncapped;
        return [
          at === 0 ? summary.title : '',
          title,
          rate(one?.medianPerSecond),
          cost === undefined ? '-' : `${(cost * 100).toFixed(0)} %`,
          peer === 'farshore' ? verdict(cost === undefined ? undefined : cost <= REPLICATION_COST) : '',
          latencies(one),
          rate(one?.uploadedMegabytesPerSecond),
          milliseconds(one?.gcMaxMs),
          milliseconds(one?.loopDelayP999Ms),
        ];
      }),
    );
  return table(
    [
      'replication',
      'uploads',
      'Farshore /s',
      'cost',
      `≤ ${REPLICATION_COST * 100} %`,
      'p50/p99/p99.9 ms',
      'MB/s up',
      'GC max ms',
      'loop p99.9 ms',
    ],
    rows,
  );
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ');
  return [line(header), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

function rate(value: number | undefined): string {
  return value === undefined ? '-' : Math.round(value).toLocaleString('en');
}

function share(value: number | undefined): string {
  return value === undefined ? '-' : value.toFixed(2);
}

function verdict(met: boolean | undefined): string {
  return met === undefined ? '-' : met ? 'yes' : 'NO';
}

function latencies(one: PeerSummary | undefined): string {
  return one === undefined ? '-' : [one.p50Ms, one.p99Ms, one.p999Ms].map(milliseconds).join(' / ');
}

function milliseconds(value: number | undefined): string {
  return value === undefined ? '-' : value.toFixed(value < 1 ? 3 : 1);
}
