import { setMaxListeners } from 'node:events';
import { sleep } from '../base/clock.ts';
import type { Clock, Random } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { ErrorKind } from '../base/errors.ts';
import type { WallMillis } from '../base/units.ts';

/** It opens once so many attempts in a row, … */
export const OPEN_AFTER_FAILURES = 5;
/** … and all of so long a time, have failed. */
export const OPEN_AFTER_MS = 5_000;
/** Pause between two probes of an open circuit; doubles from the first to the longest, and is jittered. */
const FIRST_PROBE_PAUSE_MS = 500;
export const LONGEST_PROBE_PAUSE_MS = 4_000;
/** How long a call waits at an open circuit for its turn, or for the end of the trouble, before it fails. */
export const CIRCUIT_PATIENCE_MS = 2_000;

export type CircuitState = 'closed' | 'open' | 'half-open';

export interface CircuitReport {
  /** `half-open`: a probe is under way. */
  readonly state: CircuitState;
  /** Closed: when it closed last, or was made. Otherwise: since when nothing has succeeded. */
  readonly since: WallMillis;
  /** Why it is not closed: what the last attempt failed with. */
  readonly reason: string | undefined;
  /** Since the start: how often it has opened, and how many attempts have failed, repeated or not. */
  readonly openings: number;
  readonly failures: number;
}

/** Of one attempt. One of the two is called, once. */
export interface Turn {
  /** The service has answered as it should, be it that something is not there. */
  succeeded(): void;
  /** `kind`: what the failure is as a FarshoreError. */
  failed(kind: ErrorKind, reason: string): void;
}

interface Outage {
  readonly since: WallMillis;
  readonly sinceMs: number;
  failures: number;
  kind: ErrorKind;
  reason: string;
  /** Of an open circuit. */
  open: { readonly closed: AbortController; nextProbeAtMs: number; pauseMs: number; probes: number } | undefined;
}

/**
 * What is known of a service from the attempts of everybody in this process. A service that answers nothing any more is asked by one probe at a
 * time, at jittered, growing pauses of a few seconds, instead of by everybody who has something to do there: an outage costs neither sockets
 * nor the time that a hopeless request takes, and a service that comes back is not met by all at once. The first answer closes it, and
 * whoever waits goes on in that instant. It never says that something was or was not done: a call that is not let through was not sent.
 */
export class Circuit {
  readonly #clock: Clock;
  readonly #random: Random;
  #closedSince: WallMillis;
  #outage: Outage | undefined;
  #openings = 0;
  #failures = 0;

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
    this.#closedSince = clock.now();
  }

  get report(): CircuitReport {
    const total = { openings: this.#openings, failures: this.#failures };
    const outage = this.#outage;
    if (outage?.open === undefined) return { state: 'closed', since: this.#closedSince, reason: undefined, ...total };
    const state = outage.open.probes > 0 ? 'half-open' : 'open';
    return { state, since: outage.since, reason: outage.reason, ...total };
  }

  /**
   * Resolves when an attempt may be made: at once unless it is open. Rejects, after CIRCUIT_PATIENCE_MS at most, with what the last attempt of
   * anybody failed with; `what` is what would have been tried. Nothing was sent then.
   */
  async enter(what: string): Promise<Turn> {
    const deadlineMs = this.#clock.monotonicMs() + CIRCUIT_PATIENCE_MS;
    for (;;) {
      const outage = this.#outage;
      const open = outage?.open;
      if (outage === undefined || open === undefined) return this.#turn();
      const now = this.#clock.monotonicMs();
      if (now >= open.nextProbeAtMs) return this.#probe(open, now);
      if (now >= deadlineMs) {
        const since = new Date(outage.since).toISOString();
        throw new FarshoreError(
          outage.kind,
          `could not ${what}: nothing has succeeded since ${since}: ${outage.reason}`,
        );
      }
      await sleep(this.#clock, Math.min(open.nextProbeAtMs, deadlineMs) - now, open.closed.signal);
    }
  }

  #turn(onEnd: () => void = () => undefined): Turn {
    return {
      succeeded: () => {
        onEnd();
        this.#close();
      },
      failed: (kind, reason) => {
        onEnd();
        this.#fail(kind, reason);
      },
    };
  }

  #probe(open: NonNullable<Outage['open']>, now: number): Turn {
    open.pauseMs = Math.min(LONGEST_PROBE_PAUSE_MS, open.pauseMs * 2);
    open.nextProbeAtMs = now + open.pauseMs * (0.5 + this.#random.fraction() / 2);
    open.probes += 1;
    return this.#turn(() => {
      open.probes -= 1;
    });
  }

  #close(): void {
    const open = this.#outage?.open;
    this.#outage = undefined;
    if (open === undefined) return;
    this.#closedSince = this.#clock.now();
    open.closed.abort();
  }

  #fail(kind: ErrorKind, reason: string): void {
    this.#failures += 1;
    // Bytes that arrived wrong say nothing of whether the service is there.
    if (kind !== 'retry' && kind !== 'input') return;
    const now = this.#clock.monotonicMs();
    this.#outage ??= { since: this.#clock.now(), sinceMs: now, failures: 0, kind, reason, open: undefined };
    const outage = this.#outage;
    outage.failures += 1;
    Object.assign(outage, { kind, reason });
    if (outage.open !== undefined) return;
    if (outage.failures < OPEN_AFTER_FAILURES || now - outage.sinceMs < OPEN_AFTER_MS) return;
    const closed = new AbortController();
    // Every call that waits listens for the end.
    setMaxListeners(0, closed.signal);
    outage.open = { closed, nextProbeAtMs: now, pauseMs: FIRST_PROBE_PAUSE_MS / 2, probes: 0 };
    this.#openings += 1;
  }
}
