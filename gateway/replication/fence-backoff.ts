import type { Random } from '../base/clock.ts';

const FIRST_DELAY_MS = 50;
export const LONGEST_DELAY_MS = 5_000;
const MOST_DOUBLINGS = 7;

/** How long to wait before attempt 1, 2, …: doubling from 50 ms up to 5 s, each between half of it and the whole. */
export function backoffMs(attempt: number, random: Random): number {
  const doublings = Math.min(Math.max(attempt - 1, 0), MOST_DOUBLINGS);
  const longest = Math.min(FIRST_DELAY_MS * 2 ** doublings, LONGEST_DELAY_MS);
  return longest * (0.5 + random.fraction() / 2);
}
