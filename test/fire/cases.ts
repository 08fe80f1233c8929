import type { Fault, FaultPlan, FaultRule } from '../support/fault-proxy/plan.ts';

/** One kind of trouble, as a gateway meets it. */
export interface FireCase {
  readonly name: string;
  readonly plan: FaultPlan;
  /** Goes on until so many requests have met a fault (counted by the proxy), or so many versions were committed under it, or a circuit is not closed. */
  readonly until: { readonly faults: number } | { readonly versions: number } | { readonly open: 's3' | 'dynamodb' };
}

const HOUR_MS = 3_600_000;
const refused = (status: number, code: string): Fault => ({ deliver: 'never', answer: { status, code } });
const s3 = (fault: Fault, share: number): FaultRule => ({ fault, share, service: 's3' });
const table = (fault: Fault, share: number): FaultRule => ({ fault, share, service: 'dynamodb' });
const both = (fault: Fault, share: number): FaultRule => ({ fault, share });
const SOME = { faults: 8 };

const RESET: Fault = { deliver: 'never', answer: 'reset' };
const MIDST: Fault = { deliver: 'half', answer: 'reset' };
const HALF_ANSWER: Fault = { deliver: 'once', answer: 'half' };
const LOST: Fault = { deliver: 'once', answer: 'reset' };
const TWICE: Fault = { deliver: 'twice', answer: 'true' };
const LATE: Fault = { deliver: 'late', answer: 'reset', lateMs: 1_500 };
const PORTAL: Fault = { deliver: 'never', answer: 'portal' };
const CORRUPT: FaultRule = { fault: { deliver: 'corrupt', answer: 'true' }, operations: ['PutObject'], share: 0.5 };
const SLOW_DOWN = refused(503, 'SlowDown');
const THROTTLED = refused(400, 'ProvisionedThroughputExceededException');

/** Every fault by itself. */
export const FIRE_CASES: readonly FireCase[] = [
  { name: 'long round trips with much jitter', plan: { roundTripMs: 300, jitterMs: 400 }, until: { versions: 3 } },
  {
    name: 'a narrow line',
    plan: { upBytesPerSecond: 192 * 1024, downBytesPerSecond: 64 * 1024, roundTripMs: 60 },
    until: { versions: 3 },
  },
  { name: 'resets before anything arrives', plan: { rules: [both(RESET, 0.6)] }, until: SOME },
  { name: 'resets in the midst of bodies', plan: { rules: [both(MIDST, 0.4), both(HALF_ANSWER, 0.4)] }, until: SOME },
  {
    name: '500',
    plan: { rules: [s3(refused(500, 'InternalError'), 0.5), table(refused(500, 'InternalServerError'), 0.5)] },
    until: SOME,
  },
  {
    name: '500 after it was done',
    plan: { rules: [both({ deliver: 'once', answer: { status: 500, code: 'InternalError' } }, 0.5)] },
    until: SOME,
  },
  { name: '503 SlowDown', plan: { rules: [s3(SLOW_DOWN, 0.7)] }, until: SOME },
  { name: 'a throttled table', plan: { rules: [table(THROTTLED, 0.7)] }, until: SOME },
  { name: 'a partition of few write units', plan: { writeUnitsPerSecond: 1 }, until: { faults: 2 } },
  { name: 'lost responses', plan: { rules: [both(LOST, 0.6)] }, until: SOME },
  {
    name: 'responses that never come',
    plan: { rules: [both({ deliver: 'once', answer: 'silence' }, 0.4)] },
    until: { faults: 3 },
  },
  { name: '412 of what one has done oneself', plan: { rules: [both(TWICE, 0.7)] }, until: SOME },
  { name: '412 of nothing', plan: { rules: [s3(refused(412, 'PreconditionFailed'), 0.5)] }, until: { faults: 3 } },
  {
    name: '409',
    plan: {
      rules: [
        s3(refused(409, 'ConditionalRequestConflict'), 0.6),
        table(refused(400, 'TransactionConflictException'), 0.6),
      ],
    },
    until: SOME,
  },
  { name: 'requests that land late', plan: { rules: [both(LATE, 0.4)] }, until: SOME },
  { name: 'wrong checksums', plan: { rules: [CORRUPT] }, until: { faults: 3 } },
  {
    name: 'expired credentials',
    plan: { rules: [s3(refused(400, 'ExpiredToken'), 1), table(refused(400, 'ExpiredTokenException'), 1)] },
    until: SOME,
  },
  { name: 'a clock an hour behind', plan: { clockSkewMs: HOUR_MS }, until: { versions: 2 } },
  { name: 'a clock an hour ahead', plan: { clockSkewMs: -HOUR_MS }, until: { versions: 2 } },
  { name: 'a page that asks to sign in', plan: { rules: [both(PORTAL, 0.6)] }, until: SOME },
  // One at a time: without the table nobody gets as far as asking S3.
  { name: 'a bucket that is away', plan: { rules: [s3(RESET, 1)] }, until: { open: 's3' } },
  { name: 'a table that is away', plan: { rules: [table(RESET, 1)] }, until: { open: 'dynamodb' } },
];

/** Everything at once, as much as lets something through, and what must not be mixed with others. */
export const SHORT_CASES: readonly FireCase[] = [
  {
    name: 'everything at once',
    plan: {
      ...{ roundTripMs: 5, jitterMs: 40, clockSkewMs: HOUR_MS, writeUnitsPerSecond: 50 },
      rules: [
        ...[RESET, MIDST, HALF_ANSWER, LOST, TWICE, LATE].map((fault) => both(fault, 0.06)),
        ...[s3(SLOW_DOWN, 0.1), table(THROTTLED, 0.1), { ...CORRUPT, share: 0.1 }],
        { ...s3(PORTAL, 0.06), operations: ['PutObject'] },
      ],
    },
    until: { faults: 20 },
  },
  ...FIRE_CASES.filter(({ name }) => name === 'expired credentials' || name === 'a bucket that is away'),
];
