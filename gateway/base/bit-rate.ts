import { FarshoreError } from './errors.ts';

/** Bits per second, as lines are sold: k is 1000. */
export type BitRate = number;

const UNITS: Readonly<Record<string, number>> = { bit: 1, kbit: 1e3, Mbit: 1e6, Gbit: 1e9 };
/** Slower than this no segment would get through within a reasonable time. */
const SLOWEST: BitRate = 64_000;
const FASTEST: BitRate = 1e12;

/**
 * `200Mbit/s`: a number and one of bit/s, kbit/s, Mbit/s, Gbit/s, in exactly these letters, since `MB/s` and `mbit/s` may mean anything.
 * `what` names the value in the error (`input`).
 */
export function parseBitRate(text: string, what: string): BitRate {
  const match = /^(\d{1,15}(?:\.\d{1,9})?) ?(bit|kbit|Mbit|Gbit)\/s$/.exec(text);
  const unit = UNITS[match?.[2] ?? ''];
  if (match?.[1] === undefined || unit === undefined) {
    throw new FarshoreError(
      'input',
      `${what} "${text}" is not a rate; write it like 200Mbit/s (bit/s, kbit/s, Mbit/s or Gbit/s)`,
    );
  }
  const rate = Math.round(Number(match[1]) * unit);
  if (rate < SLOWEST || rate > FASTEST)
    throw new FarshoreError('input', `${what} "${text}" is not between ${formatBitRate(SLOWEST)} and 1000Gbit/s`);
  return rate;
}

/** `200Mbit/s`: the form that parseBitRate takes, in the largest unit that makes it 1 or more. */
export function formatBitRate(rate: BitRate): string {
  const [unit, factor] = Object.entries(UNITS).findLast(([, size]) => rate >= size) ?? ['bit', 1];
  return `${Number((rate / factor).toFixed(3))}${unit}/s`;
}
