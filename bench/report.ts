import type { LoadCase } from './cases.ts';
import type { LoadResult } from './generator.ts';

/** What replication did during one round, until the drain after it. */
export interface ReplicationRound {
  readonly versionsDuringLoad: number;
  readonly versionsInAll: number;
  readonly lagBytesAtEnd: number;
  readonly drainSeconds: number;
  readonly uploadedBytes: number;
  readonly s3Puts: number;
  readonly dynamoWrites: number;
}

export interface RoundRecord {
  readonly case: string;
  readonly peer: 'farshore' | 'tgtd';
  readonly round: number;
  readonly result: LoadResult;
  /** Cores that the target's process kept busy during the run. */
  readonly targetLoad: number;
  readonly replication: ReplicationRound | undefined;
}

export interface CaseSummary {
  readonly case: string;
  readonly title: string;
  readonly farshore: PeerSummary | undefined;
  readonly tgtd: PeerSummary | undefined;
  /** Farshore's median rate over tgtd's. */
  readonly ratio: number | undefined;
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
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

export function summarise(cases: readonly LoadCase[], rounds: readonly RoundRecord[]): CaseSummary[] {
  return cases.map((load) => {
    const farshore = summariseOne(rounds.filter((round) => round.case === load.name && round.peer === 'farshore'));
    const tgtd = summariseOne(rounds.filter((round) => round.case === load.name && round.peer === 'tgtd'));
    const ratio =
      farshore === undefined || tgtd === undefined ? undefined : farshore.medianPerSecond / tgtd.medianPerSecond;
    return { case: load.name, title: load.title, farshore, tgtd, ratio };
  });
}

function summariseOne(rounds: readonly RoundRecord[]): PeerSummary | undefined {
  if (rounds.length === 0) return undefined;
  const rates = rounds.map(({ result }) => result.operations / result.seconds);
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
  };
}

/** The table for people: medians over the rounds, latencies in ms. */
export function renderTable(summaries: readonly CaseSummary[]): string {
  const header = [
    'case',
    'farshore /s',
    'tgtd /s',
    'ratio',
    'farshore MB/s',
    'tgtd MB/s',
    'p50 ms',
    'tgtd p50',
    'p99 ms',
    'tgtd p99',
    'CPU µs/op',
    'tgtd CPU',
  ];
  const rows = summaries.map((summary) => [
    summary.title,
    rate(summary.farshore?.medianPerSecond),
    rate(summary.tgtd?.medianPerSecond),
    summary.ratio === undefined ? '-' : summary.ratio.toFixed(2),
    rate(summary.farshore?.medianMegabytesPerSecond),
    rate(summary.tgtd?.medianMegabytesPerSecond),
    milliseconds(summary.farshore?.p50Ms),
    milliseconds(summary.tgtd?.p50Ms),
    milliseconds(summary.farshore?.p99Ms),
    milliseconds(summary.tgtd?.p99Ms),
    rate(summary.farshore?.cpuMicrosPerOperation),
    rate(summary.tgtd?.cpuMicrosPerOperation),
  ]);
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

function milliseconds(value: number | undefined): string {
  return value === undefined ? '-' : value.toFixed(value < 1 ? 3 : 1);
}
