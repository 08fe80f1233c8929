import { describe, expect, it } from 'vitest';
import {
  limitAt,
  minuteOfWeek,
  parseRatePlan,
  type RatePlan,
  type RatePlanText,
} from '../../../gateway/base/rate-plan.ts';

const MBIT = 1e6;
const parse = (given: RatePlanText): RatePlan => parseRatePlan(given, 'cloud.uploadLimit', { mayPause: true });
const DAY_NAMES = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

/** `Tue 08:00` as a minute of the week. */
function minute(text: string): number {
  const [day = '', time = ''] = text.split(' ');
  const [hours, minutes] = time.split(':').map(Number);
  return DAY_NAMES.indexOf(day) * 1440 + (hours ?? 0) * 60 + (minutes ?? 0);
}
const at = (plan: RatePlan, text: string): number | undefined => limitAt(plan, minute(text)).limit;

describe('a weekly plan of rates', () => {
  it('is one rate for always, none, or a pause', () => {
    expect(at(parse('20Mbit/s'), 'Wed 12:00')).toBe(20 * MBIT);
    expect(at(parse('none'), 'Wed 12:00')).toBeUndefined();
    expect(at(parse('pause'), 'Wed 12:00')).toBe(0);
    expect(at(parse({}), 'Wed 12:00')).toBeUndefined();
  });

  it('has a rate for each span, and the default for the rest of the week', () => {
    const plan = parse({
      default: '100Mbit/s',
      schedule: { 'Mon-Fri 08:00-18:00': '20Mbit/s', 'Sat,Sun 12:00-13:00': 'pause' },
    });
    expect(at(plan, 'Mon 07:59')).toBe(100 * MBIT);
    expect(at(plan, 'Mon 08:00')).toBe(20 * MBIT);
    expect(at(plan, 'Fri 17:59')).toBe(20 * MBIT);
    expect(at(plan, 'Fri 18:00')).toBe(100 * MBIT);
    expect(at(plan, 'Sat 10:00')).toBe(100 * MBIT);
    expect(at(plan, 'Sun 12:30')).toBe(0);
    expect(limitAt(plan, minute('Sun 12:30')).span).toBe('Sat,Sun 12:00-13:00');
    expect(limitAt(plan, minute('Sun 13:00')).span).toBeUndefined();
  });

  it('reaches over midnight, and over the end of the week, where a span ends before it begins', () => {
    const plan = parse({ default: 'none', schedule: { 'Fri-Sun 22:00-06:00': '1Mbit/s' } });
    expect(at(plan, 'Fri 21:59')).toBeUndefined();
    expect(at(plan, 'Fri 22:00')).toBe(MBIT);
    expect(at(plan, 'Sat 05:59')).toBe(MBIT);
    expect(at(plan, 'Sat 06:00')).toBeUndefined();
    // The night belongs to the day on which it begins.
    expect(at(plan, 'Fri 03:00')).toBeUndefined();
    expect(at(plan, 'Sun 23:00')).toBe(MBIT);
    expect(at(plan, 'Mon 05:59')).toBe(MBIT);
    expect(at(plan, 'Mon 06:00')).toBeUndefined();
    const untilMidnight = parse({ schedule: { 'Sun 22:00-00:00': '1Mbit/s' } });
    expect(at(untilMidnight, 'Sun 23:59')).toBe(MBIT);
    expect(at(untilMidnight, 'Mon 00:00')).toBeUndefined();
  });

  it('takes lists and ranges of days, also around the end of the week, whole days, and every day', () => {
    const days = (text: string): string[] => {
      const plan = parse({ schedule: { [text]: '1Mbit/s' } });
      return DAY_NAMES.filter((day) => at(plan, `${day} 12:00`) !== undefined);
    };
    expect(days('Fri-Mon 00:00-24:00')).toEqual(['Mon', 'Fri', 'Sat', 'Sun']);
    expect(days('Tue,Thu-Fri 11:00-13:00')).toEqual(['Tue', 'Thu', 'Fri']);
    expect(days('11:00-13:00')).toEqual(DAY_NAMES);
    expect(days('Wed 00:00-24:00')).toEqual(['Wed']);
  });

  it('lets spans touch', () => {
    const plan = parse({ schedule: { '22:00-06:00': 'none', '06:00-22:00': '1Mbit/s' } });
    for (let time = 0; time < 10_080; time += 1)
      expect(limitAt(plan, time).span).toBe(time % 1440 >= 360 && time % 1440 < 1320 ? '06:00-22:00' : '22:00-06:00');
  });

  it.each([
    [
      { 'Mon-Fri 08:00-18:00': 'none', 'Wed 17:00-19:00': 'none' },
      '"Mon-Fri 08:00-18:00" and "Wed 17:00-19:00" overlap on Wed 17:00',
    ],
    [
      { 'Mon 02:00-03:00': 'none', 'Sun 22:00-04:00': 'none' },
      '"Sun 22:00-04:00" and "Mon 02:00-03:00" overlap on Mon 02:00',
    ],
    [{ 'Mon,Mon-Tue 08:00-18:00': 'none' }, '"Mon,Mon-Tue 08:00-18:00" overlaps itself on Mon 08:00'],
    [
      { 'Mon-Fri 8-18': 'none' },
      'cloud.uploadLimit.schedule "Mon-Fri 8-18" is not DAYS FROM-TO; write it like "Mon-Fri 08:00-18:00"',
    ],
    [{ 'Mo-Fr 08:00-18:00': 'none' }, '"Mo-Fr" is no day'],
    [{ 'mon 08:00-18:00': 'none' }, '"mon" is no day'],
    [{ 'Mon-Wed-Fri 08:00-18:00': 'none' }, '"Mon-Wed-Fri" is no day'],
    [{ 'Mon, 08:00-18:00': 'none' }, '"" is no day'],
    [{ 'Mon 08:00-24:01': 'none' }, '24:01 is no time of day'],
    [{ 'Mon 08:60-18:00': 'none' }, '08:60 is no time of day'],
    [{ 'Mon 08:00-08:00': 'none' }, 'is empty; a whole day is 00:00-24:00'],
    [{ 'Mon 24:00-08:00': 'none' }, 'is empty; a whole day is 00:00-24:00'],
    [
      { 'Mon 08:00-18:00': '20M' },
      'cloud.uploadLimit.schedule "Mon 08:00-18:00": "20M" is not a rate; write it like 200Mbit/s',
    ],
  ])('refuses %j and says why', (schedule, message) => {
    expect(() => parse({ schedule })).toThrow(message);
  });

  it('refuses a pause where somebody would wait for ever', () => {
    const strict = { mayPause: false };
    expect(() => parseRatePlan('pause', 'cloud.downloadLimit', strict)).toThrow(
      'cloud.downloadLimit cannot be "pause"',
    );
    expect(() => parseRatePlan({ schedule: { '08:00-18:00': 'pause' } }, 'cloud.downloadLimit', strict)).toThrow(
      'cloud.downloadLimit.schedule "08:00-18:00": cannot be "pause"',
    );
  });
});

describe('the minute of the week', () => {
  const on = (text: string, zone: string): number => minuteOfWeek(Date.parse(text), zone);

  it('is what the clock on the wall shows there', () => {
    expect(on('2026-11-23T00:00:00Z', 'UTC')).toBe(minute('Mon 00:00'));
    expect(on('2026-11-22T23:59:59.999Z', 'UTC')).toBe(minute('Sun 23:59'));
    expect(on('2026-11-23T12:00:00Z', 'Asia/Kolkata')).toBe(minute('Mon 17:30'));
    expect(on('2026-11-23T03:00:00Z', 'America/New_York')).toBe(minute('Sun 22:00'));
  });

  it('leaves an hour out in spring, and has one twice in autumn: a span is then so much shorter or longer', () => {
    const plan = parse({ default: '9Mbit/s', schedule: { 'Sun 01:30-03:30': '1Mbit/s' } });
    const minutesLimited = (from: string): number => {
      let limited = 0;
      for (let ms = Date.parse(from), end = ms + 86_400_000; ms < end; ms += 60_000)
        if (limitAt(plan, minuteOfWeek(ms, 'Europe/Berlin')).limit === MBIT) limited += 1;
      return limited;
    };
    expect(minutesLimited('2026-03-22T00:00:00+01:00')).toBe(120);
    expect(minutesLimited('2026-03-29T00:00:00+01:00')).toBe(60);
    expect(minutesLimited('2026-10-25T00:00:00+02:00')).toBe(180);
    // 02:00 to 03:00 is not there, and what should begin in it begins at 03:00.
    expect(on('2026-03-29T00:59:00Z', 'Europe/Berlin')).toBe(minute('Sun 01:59'));
    expect(on('2026-03-29T01:00:00Z', 'Europe/Berlin')).toBe(minute('Sun 03:00'));
  });
});
