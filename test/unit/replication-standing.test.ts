import { describe, expect, it } from 'vitest';
import { missesTarget, replicationState, type ReplicationState } from '../../gateway/replication-standing.ts';

const RPO = { rpoSeconds: 5 };

/** Every combination; the last fact counts most. */
function* combinations() {
  for (const isFenced of [false, true])
    for (const isBlocked of [false, true])
      for (const isDegraded of [false, true])
        for (const isCatchingUp of [false, true])
          for (const lagSeconds of [0, 4.9, 5, 5.1, 86_400])
            yield { isFenced, isBlocked, isDegraded, isCatchingUp, lagSeconds, ...RPO };
}

describe('the state of replication', () => {
  it('is the gravest of what is so, in every combination', () => {
    let looked = 0;
    for (const facts of combinations()) {
      const so: [boolean, ReplicationState][] = [
        [facts.isFenced, 'fenced'],
        [facts.isBlocked, 'blocked'],
        [facts.isDegraded, 'degraded'],
        [facts.isCatchingUp, 'catching-up'],
        [facts.lagSeconds > 5, 'lagging'],
        [true, 'synced'],
      ];
      expect(replicationState(facts), JSON.stringify(facts)).toBe(so.find(([is]) => is)?.[1]);
      looked += 1;
    }
    expect(looked).toBe(80);
  });

  it('misses its target when the oldest write is older than that, whatever else is so, unless nothing is known of it', () => {
    for (const facts of combinations())
      expect(missesTarget(facts), JSON.stringify(facts)).toBe(!facts.isFenced && facts.lagSeconds > 5);
  });
});
