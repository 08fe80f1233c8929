import { expect } from 'vitest';
import { GOOD, ReservationBench, TYPES } from './reservation-bench.ts';

/** Unit attentions of reservations (SPC-4 5.13), as `attentions` tells them: additional sense code and qualifier. */
export const PREEMPTED = '2a03';
export const RELEASED = '2a04';
export const REGISTRATION_GONE = '2a05';

export const [WE, EA] = [TYPES['write exclusive'], TYPES['exclusive access']];
export const [WERO, EARO] = [TYPES['write exclusive, registrants only'], TYPES['exclusive access, registrants only']];
export const [WEAR, EAAR] = [TYPES['write exclusive, all registrants'], TYPES['exclusive access, all registrants']];

/** A, B and C registered with keys 1, 2 and 3. */
export async function threeRegistrants(): Promise<ReservationBench> {
  const unit = new ReservationBench();
  for (const [who, newKey] of [
    ['A', 1n],
    ['B', 2n],
    ['C', 3n],
  ] as const)
    expect((await unit.out(who, 'register', { newKey })).status).toBe(GOOD);
  return unit;
}
