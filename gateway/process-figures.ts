import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks';
import type { IntervalHistogram } from 'node:perf_hooks';
import type { Clock } from './base/clock.ts';
import type { ByteCount } from './base/units.ts';

/** The timer whose lateness is the loop's delay; 200 wake-ups a second are all it costs. */
const RESOLUTION_MS = 5;
const NS_PER_MS = 1e6;

/** What this process has cost itself since the interval began; times in ms. The replication worker's thread has a loop and a heap of its own, not counted in `loopDelay`, `gc` and `heap…`. */
export interface ProcessReport {
  /** Length of the interval: since the start, or since the last report that asked for a new one. */
  readonly intervalMs: number;
  /** CPU time of all threads in the interval. */
  readonly cpuMs: number;
  /** Pauses of the thread that serves initiators. */
  readonly gc: { readonly pauses: number; readonly totalMs: number; readonly maxMs: number };
  /** How late that thread comes to what is due. */
  readonly loopDelay: {
    readonly p50Ms: number;
    readonly p99Ms: number;
    readonly p999Ms: number;
    readonly maxMs: number;
  };
  readonly rssBytes: ByteCount;
  readonly heapUsedBytes: ByteCount;
  readonly heapTotalBytes: ByteCount;
  /** Buffers outside the heap, the RAM tier above all; part of RSS. */
  readonly externalBytes: ByteCount;
}

/** Collects from its making to `close`, at a cost that does not depend on the load: a timer, and one note per collection. */
export class ProcessFigures {
  readonly #delay: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #observer: PerformanceObserver;
  readonly #clock: Clock;
  #from: number;
  #cpuBefore = process.cpuUsage();
  #pauses = 0;
  #totalMs = 0;
  #maxMs = 0;

  /** `clock`: the system's, since its monotonic time is what collections are noted in. */
  constructor(clock: Clock) {
    this.#clock = clock;
    this.#from = clock.monotonicMs();
    this.#delay.enable();
    this.#observer = new PerformanceObserver((list) => {
      for (const { duration, startTime } of list.getEntries()) {
        // Told of late: it was before the interval.
        if (startTime < this.#from) continue;
        this.#pauses += 1;
        this.#totalMs += duration;
        this.#maxMs = Math.max(this.#maxMs, duration);
      }
    });
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  /** The interval so far; with `startAnew` the next one begins here. */
  report(startAnew: boolean): ProcessReport {
    const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
    const cpu = process.cpuUsage(this.#cpuBefore);
    const late = (ns: number): number => Math.max(0, ns / NS_PER_MS - RESOLUTION_MS);
    const report: ProcessReport = {
      intervalMs: this.#clock.monotonicMs() - this.#from,
      cpuMs: (cpu.user + cpu.system) / 1000,
      gc: { pauses: this.#pauses, totalMs: this.#totalMs, maxMs: this.#maxMs },
      loopDelay: {
        p50Ms: late(this.#delay.percentile(50)),
        p99Ms: late(this.#delay.percentile(99)),
        p999Ms: late(this.#delay.percentile(99.9)),
        maxMs: late(this.#delay.max),
      },
      rssBytes: rss,
      heapUsedBytes: heapUsed,
      heapTotalBytes: heapTotal,
      externalBytes: external,
    };
    if (startAnew) {
      this.#delay.reset();
      this.#from = this.#clock.monotonicMs();
      this.#cpuBefore = process.cpuUsage();
      this.#pauses = this.#totalMs = this.#maxMs = 0;
    }
    return report;
  }

  close(): void {
    this.#delay.disable();
    this.#observer.disconnect();
  }
}
