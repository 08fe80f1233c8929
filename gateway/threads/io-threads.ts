import type { GatewayReport, ThreadReport } from '../admin/gateway-api.ts';
import { FarshoreError, isKind } from '../base/errors.ts';
import type { ByteCount } from '../base/units.ts';
import type { CatalogueVolume } from '../catalogue.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import type { EndedSession } from '../iscsi/server.ts';
import type { ProcessReport } from '../process-figures.ts';
import type { ReservationReport } from '../scsi/reservations/report.ts';
import type { SeenSession, SessionsControl } from '../sessions-control.ts';
import type { IoThread } from './io-thread.ts';

/** How many threads there are to be: those that are configured, and those that have volumes, however few are configured now. */
export function threadsNeeded(configured: number, volumes: readonly CatalogueVolume[]): number {
  return volumes.reduce((most, { thread }) => Math.max(most, (thread ?? 0) + 1), configured);
}

/** The threads that own volumes, all together; the catalogue says whose each volume is. */
export class IoThreads implements SessionsControl {
  readonly #threads: readonly [IoThread, ...IoThread[]];
  readonly #configured: number;
  readonly #catalogue: { readonly volumes: readonly CatalogueVolume[] };

  /** `threads` by number, the main one first; new volumes are placed on the first `configured`. */
  constructor(
    threads: readonly [IoThread, ...IoThread[]],
    configured: number,
    catalogue: { readonly volumes: readonly CatalogueVolume[] },
  ) {
    this.#threads = threads;
    this.#configured = configured;
    this.#catalogue = catalogue;
  }

  /** The thread of a volume of the catalogue. */
  of({ thread }: Pick<CatalogueVolume, 'thread'>): IoThread {
    return this.#threads[thread ?? 0] ?? this.#threads[0];
  }

  /** The number of the thread of a volume, by identifier. */
  numberOf(volume: string): number {
    return this.#catalogue.volumes.find((entry) => entry.volume === volume)?.thread ?? 0;
  }

  /**
   * Where a volume is to be, as the catalogue has it: on the thread that is asked for, or else where it is already, or on the one with the fewest. Throws
   * `input` for a thread there is not.
   */
  placeFor(volume: string, asked?: number): Pick<CatalogueVolume, 'thread'> {
    if (asked !== undefined && asked >= this.#configured) {
      throw new FarshoreError(
        'input',
        `there is no I/O thread ${asked}: they are numbered from 0 to ${this.#configured - 1} (threads: ${this.#configured} in the configuration)`,
      );
    }
    const known = this.#catalogue.volumes.find((entry) => entry.volume === volume);
    const thread = asked ?? (known === undefined ? this.#leastLoaded() : (known.thread ?? 0));
    return thread === 0 ? {} : { thread };
  }

  #leastLoaded(): number {
    const counts = Array.from({ length: this.#configured }, () => 0);
    for (const { thread = 0, deletedAt } of this.#catalogue.volumes)
      if (deletedAt === undefined && thread < counts.length) counts[thread] = (counts[thread] ?? 0) + 1;
    return counts.indexOf(Math.min(...counts));
  }

  /** Forgets what any thread has of a closed volume. */
  async forgetVolume(ref: VolumeRef): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.forgetVolume(ref)));
  }

  /**
   * Gives up what threads have of volumes that are another's: a move was cut short when the volume was the new one's already. Nothing was written
   * since, so that what is kept (see surrenderVolume) is in the cloud as well; `told` with where.
   */
  async clearLeftovers(
    told: (entry: CatalogueVolume, thread: number, kept: string | undefined) => void,
  ): Promise<void> {
    for (const thread of this.#threads) {
      const others = this.#catalogue.volumes.filter((entry) => (entry.thread ?? 0) !== thread.number);
      if (others.length === 0) continue;
      const kept = new Set(await thread.keeps(others.map(({ volume }) => volume)));
      for (const entry of others)
        if (kept.has(entry.volume)) {
          try {
            told(entry, thread.number, await thread.surrenderVolume(entry));
          } catch (error) {
            // It is in nobody's way, and the next start tries again; the volumes that are served must not wait for it.
            if (!(error instanceof FarshoreError) || error.kind === 'bug') throw error;
          }
        }
    }
  }

  async sessions(): Promise<readonly SeenSession[]> {
    return (await Promise.all(this.#threads.map((thread) => thread.sessions()))).flat();
  }

  session(tsih: number): Promise<SeenSession | undefined> {
    return this.#whoHas((thread) => thread.session(tsih));
  }

  endSession(tsih: number, reason?: string): Promise<EndedSession | undefined> {
    return this.#whoHas((thread) => thread.endSession(tsih, reason));
  }

  /** The answer of the one thread that has one. A thread that does not answer keeps nobody from it, and counts only when no other has. */
  #whoHas<T>(ask: (thread: IoThread) => Promise<T | undefined>): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const all = this.#threads.map(async (thread) => {
        const answer = await ask(thread);
        if (answer !== undefined) resolve(answer);
      });
      void Promise.allSettled(all).then((outcomes) => {
        for (const outcome of outcomes) if (outcome.status === 'rejected') reject(outcome.reason as Error);
        resolve(undefined);
      });
    });
  }

  reservations(name: string): Promise<ReservationReport> {
    return this.#named(name).reservations(name);
  }

  clearReservations(name: string): Promise<void> {
    return this.#named(name).clearReservations(name);
  }

  #named(name: string): IoThread {
    return this.of(this.#catalogue.volumes.find((entry) => entry.name === name) ?? {});
  }

  async allocatedBytes(): Promise<ByteCount> {
    const caches = await Promise.all(this.#threads.map((thread) => thread.cache()));
    return caches.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0);
  }

  /**
   * The cache logs as one, the main thread's figures, and each thread's own where there are several. A thread that does not answer is told as such, and
   * what it has is not in the sums.
   */
  async report(newInterval: boolean): Promise<{
    readonly cache: GatewayReport['cache'];
    readonly process: ProcessReport;
    readonly threads: readonly ThreadReport[] | undefined;
  }> {
    const all = await Promise.all(this.#threads.map((thread) => this.#reportOf(thread, newInterval)));
    const [main, ...others] = all;
    // It is this very thread, which has just answered.
    if (main?.cache === undefined || main.process === undefined) throw new FarshoreError('bug', 'no main thread');
    const problem = others.find((other) => other.problem !== undefined)?.problem;
    const cache = others.reduce(
      (sum, other) => (other.cache === undefined ? sum : together(sum, other.cache)),
      main.cache,
    );
    return {
      cache: problem === undefined ? cache : { ...cache, state: problem },
      process: main.process,
      threads: others.length === 0 ? undefined : all,
    };
  }

  async #reportOf(thread: IoThread, newInterval: boolean): Promise<ThreadReport> {
    const volumes = this.#catalogue.volumes.filter((entry) => (entry.thread ?? 0) === thread.number);
    const known = { thread: thread.number, volumes: volumes.map(({ name }) => name) };
    try {
      const [{ report: cache }, process] = await Promise.all([thread.cache(), thread.figures(newInterval)]);
      return { ...known, cache, process };
    } catch (error) {
      if (!isKind(error, 'retry')) throw error;
      return { ...known, problem: error.message };
    }
  }
}

type CacheReport = GatewayReport['cache'];

/** Sums, and of what has none the worse: the log that is fullest, or has stopped. */
function together(a: CacheReport, b: CacheReport): CacheReport {
  const soonest = Math.min(a.secondsUntilFull ?? Infinity, b.secondsUntilFull ?? Infinity);
  return {
    bytes: a.bytes + b.bytes,
    usedBytes: a.usedBytes + b.usedBytes,
    dirtyBytes: a.dirtyBytes + b.dirtyBytes,
    indexBytes: a.indexBytes + b.indexBytes,
    ramBytes: a.ramBytes + b.ramBytes,
    counts: {
      ramHits: a.counts.ramHits + b.counts.ramHits,
      fills: a.counts.fills + b.counts.fills,
      moved: a.counts.moved + b.counts.moved,
      evicted: a.counts.evicted + b.counts.evicted,
      reclaimedChunks: a.counts.reclaimedChunks + b.counts.reclaimedChunks,
      readAhead: {
        fetched: a.counts.readAhead.fetched + b.counts.readAhead.fetched,
        used: a.counts.readAhead.used + b.counts.readAhead.used,
        wasted: a.counts.readAhead.wasted + b.counts.readAhead.wasted,
      },
    },
    dirtyShare: Math.max(a.dirtyShare, b.dirtyShare),
    secondsUntilFull: soonest === Infinity ? undefined : soonest,
    writeDelayMs: Math.max(a.writeDelayMs, b.writeDelayMs),
    waitingWrites: a.waitingWrites + b.waitingWrites,
    busyWrites: a.busyWrites + b.busyWrites,
    state: a.state === 'serving' ? b.state : a.state,
  };
}
