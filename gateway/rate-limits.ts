import type { CancelTimer, Clock } from './base/clock.ts';
import { describeError, FarshoreError } from './base/errors.ts';
import type { Log } from './base/log.ts';
import {
  formatLimit,
  limitAt,
  minuteOfWeek,
  parseRatePlan,
  type RateLimit,
  type RatePlan,
  type RatePlanText,
} from './base/rate-plan.ts';
import { DIRECTIONS, type Direction, type LineRate } from './replication/throttle.ts';

const BITS_PER_BYTE = 8;
/** Plans are in minutes. */
const MINUTE_MS = 60_000;

/** Both directions, as they are configured. */
export type RatePlans = Readonly<Record<Direction, RatePlan>>;

/** What a direction of the line may be used for at the moment. */
export interface LimitReport {
  /** Bits per second; 0 while paused; undefined without a limit. */
  readonly limit: RateLimit;
  /** The entry of the schedule that says so; undefined: none does. */
  readonly span: string | undefined;
  /** What holds otherwise, and the rest of the schedule. */
  readonly default: string;
  readonly schedule: Readonly<Record<string, string>>;
  /** By the configuration; `set`: by an administrator, until the next start. */
  readonly by: 'configuration' | 'set';
}

export interface RateLimitsDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** Holds for transfers that have not begun when it resolves. Rejects with `retry` when nobody is there. */
  readonly apply: (direction: Direction, rate: LineRate) => Promise<void>;
  /** Whose clock on the wall counts; left out: the machine's. */
  readonly timeZone?: string | undefined;
}

/** A plan as it is given, of which download limits cannot be a pause. Throws `input`; `what` names it. */
export function parsePlanFor(direction: Direction, given: RatePlanText, what: string): RatePlan {
  return parseRatePlan(given, what, { mayPause: direction === 'upload' });
}

/** What a plan allows now, as throttles take it: bytes per second. */
export function lineRateNow(plan: RatePlan, clock: Pick<Clock, 'now'>, timeZone?: string): LineRate {
  const { limit } = limitAt(plan, minuteOfWeek(clock.now(), timeZone));
  return limit === undefined ? undefined : limit / BITS_PER_BYTE;
}

/**
 * What all volumes together may upload and download, by the plans of the configuration, or what an administrator has set instead until the
 * next start. Looks at the clock on the wall at the beginning of each minute, so that jumps of it, a changed time and a machine that slept are no special cases.
 */
export class RateLimits {
  readonly #deps: RateLimitsDeps;
  readonly #configured: RatePlans;
  readonly #set: Record<Direction, RatePlan | undefined> = { upload: undefined, download: undefined };
  readonly #applied: Record<Direction, LineRate>;
  #cancelTimer: CancelTimer | undefined;

  /** Whoever applies them was started with what `configured` allows now. */
  constructor(deps: RateLimitsDeps, configured: RatePlans) {
    this.#deps = deps;
    this.#configured = configured;
    this.#applied = {
      upload: lineRateNow(configured.upload, deps.clock, deps.timeZone),
      download: lineRateNow(configured.download, deps.clock, deps.timeZone),
    };
    this.#waitForMinute();
  }

  report(direction: Direction): LimitReport {
    const plan = this.#plan(direction);
    const { limit, span } = limitAt(plan, minuteOfWeek(this.#deps.clock.now(), this.#deps.timeZone));
    return {
      limit,
      span,
      default: formatLimit(plan.otherwise),
      schedule: Object.fromEntries(plan.spans.map((each) => [each.text, formatLimit(each.limit)])),
      by: this.#set[direction] === undefined ? 'configuration' : 'set',
    };
  }

  /** From now on, until the next start; without a plan what is configured holds again. Rejects with `retry` when nobody applies it. */
  async set(direction: Direction, plan: RatePlan | undefined): Promise<void> {
    const before = this.#set[direction];
    this.#set[direction] = plan;
    try {
      await this.#apply(direction);
    } catch (error) {
      this.#set[direction] = before;
      throw error;
    }
  }

  close(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #plan(direction: Direction): RatePlan {
    return this.#set[direction] ?? this.#configured[direction];
  }

  #waitForMinute(): void {
    const { clock } = this.#deps;
    this.#cancelTimer = clock.startTimer(MINUTE_MS - (clock.now() % MINUTE_MS), () => {
      for (const direction of DIRECTIONS) void this.#follow(direction);
      this.#waitForMinute();
    });
  }

  async #follow(direction: Direction): Promise<void> {
    const { log } = this.#deps;
    try {
      if (!(await this.#apply(direction))) return;
      const { limit, span } = this.report(direction);
      log.info({ direction, limit: formatLimit(limit), span }, 'the limit of the line has changed by its schedule');
    } catch (error) {
      // The worker is gone, which is told elsewhere; the next minute tries again.
      if (!(error instanceof FarshoreError)) throw error;
      log.warn({ direction, reason: describeError(error) }, 'the limit of the line could not be changed');
    }
  }

  /** Whether it was another one. */
  async #apply(direction: Direction): Promise<boolean> {
    const rate = lineRateNow(this.#plan(direction), this.#deps.clock, this.#deps.timeZone);
    if (rate === this.#applied[direction]) return false;
    await this.#deps.apply(direction, rate);
    this.#applied[direction] = rate;
    return true;
  }
}
