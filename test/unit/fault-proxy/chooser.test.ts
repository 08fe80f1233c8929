import { describe, expect, it } from 'vitest';
import { FaultChooser } from '../../support/fault-proxy/chooser.ts';
import { checkPlan, type FaultRule } from '../../support/fault-proxy/plan.ts';

const LOST = { deliver: 'once', answer: 'reset' } as const;
const SLOW_DOWN = { deliver: 'never', answer: { status: 503, code: 'SlowDown' } } as const;
const put = { service: 's3', operation: 'PutObject', accessKey: 'one' } as const;
const get = { service: 's3', operation: 'GetObject', accessKey: 'one' } as const;

function fates(rules: readonly FaultRule[], seed: number, count: number): string {
  const chooser = new FaultChooser({ seed, rules: [...rules] });
  return Array.from({ length: count }, () => (chooser.choose(put) === undefined ? '.' : 'x')).join('');
}

describe('the fates that a plan gives to requests', () => {
  it('are the same for the same requests and the same seed, and others with another', () => {
    const rules = [{ fault: LOST, share: 0.5 }];
    expect(fates(rules, 1, 64)).toBe(fates(rules, 1, 64));
    expect(fates(rules, 1, 64)).not.toBe(fates(rules, 2, 64));
    expect(fates(rules, 1, 1000).split('x').length - 1).toBeGreaterThan(400);
    expect(fates(rules, 1, 1000).split('x').length - 1).toBeLessThan(600);
  });

  it('do not change for one rule because requests that it does not match come between', () => {
    const rules: FaultRule[] = [{ fault: LOST, operations: ['PutObject'], share: 0.5 }];
    const chooser = new FaultChooser({ seed: 1, rules });
    const mixed = Array.from({ length: 64 }, () => {
      expect(chooser.choose(get)).toBeUndefined();
      return chooser.choose(put) === undefined ? '.' : 'x';
    }).join('');
    expect(mixed).toBe(fates(rules, 1, 64));
  });

  it('begin after so many requests, and end after so many faults', () => {
    expect(fates([{ fault: LOST, after: 3, times: 2 }], 1, 8)).toBe('...xx...');
  });

  it('are those of the first rule that applies', () => {
    const chooser = new FaultChooser({
      rules: [
        { fault: SLOW_DOWN, accessKeys: ['two'] },
        { fault: SLOW_DOWN, service: 'dynamodb' },
        { fault: LOST, operations: ['PutObject'] },
        { fault: SLOW_DOWN },
      ],
    });
    expect(chooser.choose(put)).toEqual(LOST);
    expect(chooser.choose(get)).toEqual(SLOW_DOWN);
    expect(chooser.choose({ ...put, accessKey: 'two' })).toEqual(SLOW_DOWN);
    expect(chooser.fired).toEqual([1, 0, 1, 1]);
  });

  it('are refused when a request that never arrives is to be answered by the service', () => {
    expect(() => checkPlan({ rules: [{ fault: { deliver: 'never', answer: 'true' } }] })).toThrow("delivered 'never'");
    expect(() => checkPlan({ rules: [{ fault: { deliver: 'late', answer: 'half' } }] })).toThrow("delivered 'late'");
    expect(checkPlan({ rules: [{ fault: LOST }] })).toBeDefined();
  });
});
