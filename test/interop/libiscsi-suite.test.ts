import { describe, expect, it } from 'vitest';
import { improvements, regressions, verdictOf } from './libiscsi-suite.ts';
import type { TestOutcome, Verdict } from './libiscsi-suite.ts';

const summary = (failed: number, ran = 1): string =>
  `Run Summary:    Type  Total    Ran Passed Failed Inactive\n               tests      1      ${ran}      ${1 - failed}      ${failed}        0\n`;

const outcome = (test: string, verdict: Verdict): TestOutcome => ({ test, verdict, seconds: 0, detail: 'why' });

describe("the verdict on a run of libiscsi's tool", () => {
  it('comes from its summary, and is a crash without one', () => {
    expect(verdictOf(summary(0), 'ALL.Read10.Simple')).toBe('pass');
    expect(verdictOf(summary(1), 'ALL.Read10.Simple')).toBe('fail');
    expect(verdictOf(summary(0, 0), 'ALL.Read10.Simple')).toBe('notrun');
    expect(verdictOf('Segmentation fault', 'ALL.Read10.Simple')).toBe('crash');
  });

  it('is a skip when the test itself was skipped, not when its set-up found no reservations to clear', () => {
    const setUp = '[SKIPPED] PERSISTENT RESERVE IN is not implemented.\n';
    expect(verdictOf(`${setUp}${summary(0)}`, 'ALL.Read10.Simple')).toBe('pass');
    expect(verdictOf(`${setUp}${summary(0)}`, 'ALL.PrinReadKeys.Simple')).toBe('skip');
    expect(verdictOf(`[SKIPPED] no such thing\n${summary(0)}`, 'ALL.Read10.Simple')).toBe('skip');
  });
});

describe('the comparison with the baseline', () => {
  const baseline = {
    a: { verdict: 'fail', detail: 'why', reason: '' },
    b: { verdict: 'skip', detail: 'why', reason: '' },
  } as const;

  it('allows what is listed and nothing worse', () => {
    expect(regressions([outcome('a', 'fail'), outcome('b', 'skip'), outcome('c', 'pass')], baseline)).toEqual([]);
    expect(regressions([outcome('a', 'pass'), outcome('b', 'pass')], baseline)).toEqual([]);
    expect(regressions([outcome('a', 'skip')], baseline)).toEqual(['a: skip: why']);
    expect(regressions([outcome('b', 'fail')], baseline)).toEqual(['b: fail: why']);
    expect(regressions([outcome('c', 'skip')], baseline)).toEqual(['c: skip: why']);
    for (const verdict of ['hang', 'crash', 'notrun'] as const) {
      expect(regressions([outcome('a', verdict)], baseline)).toEqual([`a: ${verdict}: why`]);
    }
  });

  it('does not let another failure of a test pass for the one that is known', () => {
    const other = { ...outcome('a', 'fail'), detail: 'why; and something else' };
    expect(regressions([other], baseline)).toEqual(['a: fail: why; and something else']);
  });

  it('names what does better', () => {
    expect(improvements([outcome('a', 'pass'), outcome('b', 'skip'), outcome('c', 'pass')], baseline)).toHaveLength(1);
  });
});
