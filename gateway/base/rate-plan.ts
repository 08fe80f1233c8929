import { formatBitRate, parseBitRate, type BitRate } from './bit-rate.ts';
import { FarshoreError } from './errors.ts';
import type { WallMillis } from './units.ts';

/** Bits per second; 0: paused; undefined: no limit. */
export type RateLimit = BitRate | undefined;

/** As the configuration has it: one rate for always, or one for each of some spans of the week, and another for the rest of it. */
export type RatePlanText =
  string | { readonly default?: string | undefined; readonly schedule?: Readonly<Record<string, string>> | undefined };

/** Minutes since Monday 00:00, as the clock on the wall shows them. */
export type MinuteOfWeek = number;

export interface RateSpan {
  /** As it was written: `Mon-Fri 08:00-18:00`. */
  readonly text: string;
  /** From (inclusive) and to (exclusive); none reaches over the end of the week. */
  readonly ranges: readonly { readonly from: MinuteOfWeek; readonly to: MinuteOfWeek }[];
  readonly limit: RateLimit;
}

/** What a line may be used for, over the week. Plain data. */
export interface RatePlan {
  readonly otherwise: RateLimit;
  /** Disjoint. */
  readonly spans: readonly RateSpan[];
}

const DAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'] as const;
const MINUTES_PER_DAY = 1440;
const MINUTES_PER_WEEK = 7 * MINUTES_PER_DAY;
/** More would be a mistake. */
const MAX_SPANS = 64;
const EXAMPLE = '"Mon-Fri 08:00-18:00"';

export const NO_LIMIT: RatePlan = { otherwise: undefined, spans: [] };

/**
 * A rate (`20Mbit/s`, `none`, `pause`), or `{ default, schedule: { "Mon-Fri 08:00-18:00": 20Mbit/s, "Sat,Sun 22:00-06:00": none } }`. A span whose end is not
 * after its beginning reaches into the next day; without days it is of every day; spans that overlap are refused. `what` names the
 * value in errors (`input`).
 */
export function parseRatePlan(given: RatePlanText, what: string, rules: { readonly mayPause: boolean }): RatePlan {
  if (typeof given === 'string') return { otherwise: parseLimit(given, what, rules), spans: [] };
  const entries = Object.entries(given.schedule ?? {});
  if (entries.length > MAX_SPANS)
    throw new FarshoreError('input', `${what}.schedule has more than ${MAX_SPANS} entries`);
  const otherwise = given.default === undefined ? undefined : parseLimit(given.default, `${what}.default`, rules);
  const spans = entries.map(([text, rate]) => {
    const where = `${what}.schedule "${text}"`;
    return { text, ranges: parseSpan(text, where), limit: parseLimit(rate, `${where}:`, rules) };
  });
  refuseOverlap(spans, what);
  return { otherwise, spans };
}

/** What holds at that minute, and by which span; no `span`: what holds otherwise. */
export function limitAt(
  { otherwise, spans }: RatePlan,
  minute: MinuteOfWeek,
): { readonly limit: RateLimit; readonly span: string | undefined } {
  const span = spans.find(({ ranges }) => ranges.some(({ from, to }) => minute >= from && minute < to));
  return span === undefined ? { limit: otherwise, span: undefined } : { limit: span.limit, span: span.text };
}

/**
 * What a clock on the wall of `timeZone` (the machine's without one) shows at that time. So a span lasts an hour longer or shorter
 * on the day that the clocks change: minutes that are left out belong to no span, and those that come twice belong to theirs twice.
 */
export function minuteOfWeek(at: WallMillis, timeZone?: string): MinuteOfWeek {
  const parts = new Intl.DateTimeFormat('en-US', {
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
    timeZone,
  }).formatToParts(at);
  const part = (type: string): string => parts.find((one) => one.type === type)?.value ?? '';
  const day = DAYS.findIndex((name) => name === part('weekday'));
  return day * MINUTES_PER_DAY + Number(part('hour')) * 60 + Number(part('minute'));
}

/** `20Mbit/s`, `none`, `paused`. */
export function formatLimit(limit: RateLimit): string {
  return limit === undefined ? 'none' : limit === 0 ? 'paused' : formatBitRate(limit);
}

function parseLimit(text: string, what: string, { mayPause }: { readonly mayPause: boolean }): RateLimit {
  if (text === 'none') return undefined;
  if (text !== 'pause') return parseBitRate(text, what);
  if (mayPause) return 0;
  throw new FarshoreError(
    'input',
    `${what} cannot be "pause": whoever reads what is not in the cache would wait for ever; name a rate, like 1Mbit/s`,
  );
}

function parseSpan(text: string, where: string): RateSpan['ranges'] {
  const match = /^(?:([A-Za-z,-]+) )?(\d\d):(\d\d)-(\d\d):(\d\d)$/.exec(text);
  if (match === null) throw new FarshoreError('input', `${where} is not DAYS FROM-TO; write it like ${EXAMPLE}`);
  const [, days, fromHour, fromMinute, toHour, toMinute] = match;
  const from = timeOfDay(fromHour, fromMinute, where);
  const to = timeOfDay(toHour, toMinute, where);
  if (from === MINUTES_PER_DAY || from === to)
    throw new FarshoreError('input', `${where} is empty; a whole day is 00:00-24:00`);
  const length = to > from ? to - from : to + MINUTES_PER_DAY - from;
  return daysOf(days, where).flatMap((day) => {
    const start = day * MINUTES_PER_DAY + from;
    const end = start + length;
    if (end <= MINUTES_PER_WEEK) return [{ from: start, to: end }];
    // The night from Sunday to Monday.
    return [
      { from: start, to: MINUTES_PER_WEEK },
      { from: 0, to: end - MINUTES_PER_WEEK },
    ];
  });
}

function timeOfDay(hour: string | undefined, minute: string | undefined, where: string): number {
  const time = Number(hour) * 60 + Number(minute);
  if (Number(minute) < 60 && time <= MINUTES_PER_DAY) return time;
  throw new FarshoreError('input', `${where}: ${hour ?? ''}:${minute ?? ''} is no time of day (00:00 to 24:00)`);
}

/** `Mon-Fri`, `Sat,Sun`, `Fri-Mon,Wed`; all of them without any. */
function daysOf(text: string | undefined, where: string): number[] {
  if (text === undefined) return DAYS.map((_, day) => day);
  return text.split(',').flatMap((part) => {
    const [first = -1, last = first, ...more] = part.split('-').map((name) => DAYS.findIndex((day) => day === name));
    if (first === -1 || last === -1 || more.length > 0)
      throw new FarshoreError('input', `${where}: "${part}" is no day, and no range of days; write it like ${EXAMPLE}`);
    const count = ((last - first + 7) % 7) + 1;
    return Array.from({ length: count }, (_, at) => (first + at) % 7);
  });
}

function refuseOverlap(spans: readonly RateSpan[], what: string): void {
  const all = spans
    .flatMap(({ text, ranges }) => ranges.map((range) => ({ text, ...range })))
    .sort((a, b) => a.from - b.from);
  all.forEach((span, at) => {
    const before = all[at - 1];
    if (before === undefined || before.to <= span.from) return;
    const pair =
      before.text === span.text ? `"${span.text}" overlaps itself` : `"${before.text}" and "${span.text}" overlap`;
    throw new FarshoreError(
      'input',
      `${what}.schedule: ${pair} on ${timeText(span.from)}; each time may have one rate`,
    );
  });
}

function timeText(minute: MinuteOfWeek): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const ofDay = minute % MINUTES_PER_DAY;
  return `${DAYS[Math.floor(minute / MINUTES_PER_DAY)] ?? ''} ${two(Math.floor(ofDay / 60))}:${two(ofDay % 60)}`;
}
