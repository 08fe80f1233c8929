import type { Clock } from './base/clock.ts';
import { SampleWindow } from './base/sample-window.ts';
import type { ByteCount } from './base/units.ts';
import { monthlyCost, type MonthlyCost } from './cost.ts';
import type { RequestCounts } from './replication/remote-volume.ts';

const DAY_MS = 86_400_000;
const DAY_SAMPLES = 48;
/** By what was committed in it the time until nothing lags is told. */
const DRAIN_WINDOW_MS = 60_000;
const DRAIN_SAMPLE_MS = 5_000;
/** Figures of less time say nothing about a month. */
const LEAST_COST_SECONDS = 600;

/** What a volume has used since it was opened. */
export interface Usage {
  /** Written by initiators, in whole blocks. */
  readonly writtenBytes: ByteCount;
  /** Uploaded: segments, data inside versions, maps, and what was sent again. */
  readonly sentBytes: ByteCount;
  readonly fetchedBytes: ByteCount;
  readonly requests: RequestCounts;
}

export interface UsageReport extends Usage {
  /** Written ÷ sent: what overwrites before a version, zeros and compression have saved; undefined: nothing was sent. */
  readonly coalescing: number | undefined;
  /** The same over the last day, or `seconds` when it was opened later. */
  readonly day: Usage & { readonly coalescing: number | undefined; readonly seconds: number };
  /** What S3 has of the volume's lineage; undefined: not counted yet. */
  readonly storedBytes: ByteCount | undefined;
  /** If it goes on as in the last day; undefined before there are ten minutes of it. */
  readonly monthlyCost: MonthlyCost | undefined;
}

const NO_REQUESTS: RequestCounts = { s3Put: 0, s3Get: 0, s3Other: 0, dynamoWrite: 0, dynamoRead: 0 };
const NO_USAGE: Usage = { writtenBytes: 0, sentBytes: 0, fetchedBytes: 0, requests: NO_REQUESTS };

/** What became of a volume's writes since it was opened, over the last day, and how fast they are committed. */
export class UsageWindow {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #day: SampleWindow<Usage>;
  readonly #committed: SampleWindow<ByteCount>;
  #last = NO_USAGE;

  /** Made when the volume was just opened. */
  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
    this.#day = new SampleWindow(clock, DAY_MS, DAY_MS / DAY_SAMPLES);
    this.#committed = new SampleWindow(clock, DRAIN_WINDOW_MS, DRAIN_SAMPLE_MS);
    this.#day.note(NO_USAGE);
    this.#committed.note(0);
  }

  /** Called now and then; `usage` is left out when nobody told it, `committedBytes` are blocks of the log that versions have taken since the opening. */
  note(usage: Usage | undefined, committedBytes: ByteCount): void {
    if (usage !== undefined) {
      this.#last = usage;
      this.#day.note(usage);
    }
    this.#committed.note(committedBytes);
  }

  /** Until what no version has now is in one, at the pace of the last minute: 0 when there is nothing; undefined when nothing is committed. */
  drainSeconds(lagBytes: ByteCount, committedBytes: ByteCount): number | undefined {
    if (lagBytes === 0) return 0;
    const { atMs, value } = this.#committed.oldest ?? { atMs: 0, value: 0 };
    const seconds = (this.#clock.monotonicMs() - atMs) / 1000;
    const pace = seconds <= 0 ? 0 : (committedBytes - value) / seconds;
    return pace <= 0 ? undefined : lagBytes / pace;
  }

  /** As last told. */
  report(storedBytes: ByteCount | undefined): UsageReport {
    const now = this.#last;
    const { atMs = this.#clock.monotonicMs(), value: then = NO_USAGE } = this.#day.oldest ?? {};
    const seconds = (this.#clock.monotonicMs() - atMs) / 1000;
    const day: Usage = {
      writtenBytes: now.writtenBytes - then.writtenBytes,
      sentBytes: now.sentBytes - then.sentBytes,
      fetchedBytes: now.fetchedBytes - then.fetchedBytes,
      requests: {
        s3Put: now.requests.s3Put - then.requests.s3Put,
        s3Get: now.requests.s3Get - then.requests.s3Get,
        s3Other: now.requests.s3Other - then.requests.s3Other,
        dynamoWrite: now.requests.dynamoWrite - then.requests.dynamoWrite,
        dynamoRead: now.requests.dynamoRead - then.requests.dynamoRead,
      },
    };
    const figures = { requests: day.requests, downloadedBytes: day.fetchedBytes, seconds };
    return {
      ...now,
      coalescing: coalescing(now),
      day: { ...day, coalescing: coalescing(day), seconds },
      storedBytes,
      monthlyCost: seconds < LEAST_COST_SECONDS ? undefined : monthlyCost(figures, storedBytes),
    };
  }
}

function coalescing({ writtenBytes, sentBytes }: Usage): number | undefined {
  return sentBytes === 0 ? undefined : writtenBytes / sentBytes;
}
