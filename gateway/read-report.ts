import { sleep, type Clock } from './base/clock.ts';
import { SampleWindow } from './base/sample-window.ts';
import type { ReadsReport } from './admin/gateway-api.ts';
import type { ReadCounts } from './volume/read-path.ts';

const WINDOW_MS = 600_000;
/** How often a volume's counts are looked at: 32 samples are all that is kept. */
const READ_SAMPLE_MS = 20_000;
const NO_READS: ReadCounts = { ram: 0, log: 0, missed: 0 };

/** What became of a volume's reads: since it was opened, and over the last ten minutes. */
export class ReadWindow {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #samples: SampleWindow<ReadCounts>;

  /** Made when the volume was just opened. */
  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
    // Half: two samples are never exactly so far apart.
    this.#samples = new SampleWindow(clock, WINDOW_MS, READ_SAMPLE_MS / 2);
    this.#samples.note(NO_READS);
  }

  note(counts: ReadCounts): void {
    this.#samples.note(counts);
  }

  report(now: ReadCounts): ReadsReport {
    const { atMs = this.#clock.monotonicMs(), value: then = NO_READS } = this.#samples.oldest ?? {};
    const recent = { ram: now.ram - then.ram, log: now.log - then.log, missed: now.missed - then.missed };
    return readsReport(now, recent, (this.#clock.monotonicMs() - atMs) / 1000);
  }
}

/** Has every volume note its counts now and then, until the signal aborts. */
export async function sampleVolumes(
  clock: Clock,
  volumes: () => Iterable<{ sample(): Promise<void> }>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await Promise.all([...volumes()].map((volume) => volume.sample()));
    await sleep(clock, READ_SAMPLE_MS, signal);
  }
}

function readsReport(sinceOpen: ReadCounts, recent: ReadCounts, seconds: number): ReadsReport {
  return {
    ...sinceOpen,
    hitRatio: hitRatio(sinceOpen),
    recent: { ...recent, hitRatio: hitRatio(recent), seconds },
  };
}

/** Of all volumes together; the window is the longest of theirs. */
export function sumOfReads(reports: readonly ReadsReport[]): ReadsReport {
  const add = (counts: readonly ReadCounts[]): ReadCounts =>
    counts.reduce(
      (sum, { ram, log, missed }) => ({ ram: sum.ram + ram, log: sum.log + log, missed: sum.missed + missed }),
      NO_READS,
    );
  const recent = reports.map((report) => report.recent);
  return readsReport(add(reports), add(recent), Math.max(0, ...recent.map(({ seconds }) => seconds)));
}

function hitRatio({ ram, log, missed }: ReadCounts): number | undefined {
  const all = ram + log + missed;
  return all === 0 ? undefined : (ram + log) / all;
}
