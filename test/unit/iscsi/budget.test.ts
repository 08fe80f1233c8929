import { describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../../gateway/base/units.ts';
import { ByteBudget } from '../../../gateway/iscsi/budget.ts';
import type { BudgetShare } from '../../../gateway/iscsi/budget.ts';

const LIMIT = 240 * MIB;

/** Takes pieces of 1 MiB for as long as it may. */
function fill(share: BudgetShare, most = Number.MAX_SAFE_INTEGER): number {
  let taken = 0;
  while (taken < most && share.take(MIB)) taken += 1;
  return taken;
}

/** Wants so many pieces, one after the other. */
class Waiter {
  got = 0;
  readonly share: BudgetShare;
  readonly #bytes: number;
  #wanted: number;

  constructor(share: BudgetShare, bytes: number, wanted = 1) {
    this.share = share;
    this.#bytes = bytes;
    this.#wanted = wanted;
    if (!this.retryBudget()) share.wait(this);
  }

  retryBudget(): boolean {
    while (this.#wanted > 0) {
      if (!this.share.take(this.#bytes)) return false;
      this.#wanted -= 1;
      this.got += 1;
    }
    return true;
  }
}

describe('a budget', () => {
  test('never goes to one name as a whole, in however many sessions it asks', () => {
    const budget = new ByteBudget(LIMIT);
    const sessions = Array.from({ length: 36 }, () => budget.shareOf('here', 'hog'));
    expect(sessions.map((share) => fill(share)).reduce((sum, count) => sum + count)).toBe(80);
    expect(sessions[0]?.take(0)).toBe(true); // a write that brings nothing along waits for its turn
  });

  test('nor to one origin, however many names it gives itself', () => {
    const budget = new ByteBudget(LIMIT);
    const counts = Array.from({ length: 500 }, (_, index) => fill(budget.shareOf('here', `name ${index}`)));
    expect(counts.reduce((sum, count) => sum + count)).toBe(120);
    expect(fill(budget.shareOf('there', 'host'))).toBe(40);
  });

  test('is left to others in part, however many origins take what they can', () => {
    const budget = new ByteBudget(LIMIT);
    const hogs = Array.from({ length: 22 }, (_, index) => budget.shareOf(`origin ${index}`, 'hog'));
    for (let round = 0; round < 100; round += 1) for (const hog of hogs) fill(hog, 1);
    expect(budget.usedBytes).toBeLessThanOrEqual((LIMIT * 22) / 24 + 22 * MIB);
    expect(budget.shareOf('elsewhere', 'host').take(8 * MIB)).toBe(true);
  });

  test('is exceeded for the first small request of a session, and for no second one', () => {
    const budget = new ByteBudget(MIB);
    const origins = Array.from({ length: 300 }, (_, index) => budget.shareOf(`origin ${index}`, 'hog'));
    for (const origin of origins) origin.take(64 * KIB);
    for (const origin of origins) expect(origin.take(512)).toBe(false);
    expect(budget.shareOf('elsewhere', 'host').take(64 * KIB + 1)).toBe(false);
    expect(budget.shareOf('elsewhere', 'host').take(64 * KIB)).toBe(true);
  });

  test('counts what a session has left behind, though nobody of the name is there any more', () => {
    const budget = new ByteBudget(LIMIT);
    const gone = budget.shareOf('here', 'hog');
    fill(gone);
    gone.close();
    const again = budget.shareOf('here', 'hog');
    expect(fill(again)).toBe(0);
    gone.release(80 * MIB);
    expect(fill(again)).toBe(80);
    expect(budget.accounts).toBe(2);
    again.release(80 * MIB);
    again.close();
    expect(budget.accounts).toBe(0);
  });
});

describe('those that wait', () => {
  test('are served by how little they hold, and among equals in turn', () => {
    const budget = new ByteBudget(30 * MIB);
    const holders = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => budget.shareOf(name, name));
    for (const [index, holder] of holders.entries()) holder.take((index < 2 ? 3 : 6) * MIB);
    expect(budget.usedBytes).toBe(30 * MIB);
    const rich = new Waiter(budget.shareOf('a', 'a'), MIB, 3);
    const poor = [new Waiter(budget.shareOf('x', 'x'), MIB, 2), new Waiter(budget.shareOf('y', 'y'), MIB, 2)];
    expect([rich.got, ...poor.map(({ got }) => got)]).toEqual([0, 0, 0]);
    holders[5]?.release(MIB);
    expect([rich.got, ...poor.map(({ got }) => got)]).toEqual([0, 1, 0]);
    holders[5]?.release(MIB);
    expect([rich.got, ...poor.map(({ got }) => got)]).toEqual([0, 1, 1]);
    holders[5]?.release(4 * MIB);
    expect([rich.got, ...poor.map(({ got }) => got)]).toEqual([0, 2, 2]);
  });

  test('are not overtaken for ever by those that want less', () => {
    const budget = new ByteBudget(8 * MIB);
    const holders = Array.from({ length: 64 }, (_, index) => budget.shareOf(`${index}`, 'busy'));
    for (const holder of holders) expect(holder.take(128 * KIB)).toBe(true);
    const large = new Waiter(budget.shareOf('large', 'large'), 8 * MIB);
    for (const holder of holders) {
      holder.release(128 * KIB);
      // What is small goes on, one at a time in each session.
      expect([holder.take(128 * KIB), holder.take(64 * KIB), holder.take(512)]).toEqual([false, true, false]);
    }
    expect(large.got).toBe(0);
    for (const holder of holders) holder.release(64 * KIB);
    expect(large.got).toBe(1);
  });

  test('do not wait for one that cannot have any because its own name has too much', () => {
    const budget = new ByteBudget(LIMIT);
    const hog = budget.shareOf('here', 'hog');
    fill(hog);
    const waiting = new Waiter(budget.shareOf('here', 'hog'), MIB);
    const host = budget.shareOf('there', 'host');
    expect([waiting.got, fill(host, 10)]).toEqual([0, 10]);
    expect([hog.deprivesOthers(), host.deprivesOthers()]).toEqual([false, false]);
  });

  test('are reason enough to hurry whoever has more, and nobody else', () => {
    const budget = new ByteBudget(20 * MIB);
    const shares = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => budget.shareOf(name, name));
    for (const share of shares) share.take(3 * MIB);
    const large = new Waiter(budget.shareOf('poor', 'poor'), 8 * MIB);
    expect(large.got).toBe(0);
    expect([shares[0]?.deprivesOthers(), large.share.deprivesOthers()]).toEqual([true, false]);
    large.share.forget(large);
    expect(shares[0]?.deprivesOthers()).toBe(false);
  });

  test('go on when whoever stood before them leaves', () => {
    const budget = new ByteBudget(10 * MIB);
    const holder = budget.shareOf('a', 'a');
    holder.take(5 * MIB);
    const first = new Waiter(budget.shareOf('b', 'b'), 8 * MIB);
    const second = new Waiter(budget.shareOf('c', 'c'), 4 * MIB);
    expect([first.got, second.got]).toEqual([0, 0]);
    first.share.forget(first);
    expect(second.got).toBe(1);
  });
});

describe('what is parked', () => {
  test('lets its own session begin more while it waits, as far as there is room', () => {
    const budget = new ByteBudget(24 * MIB);
    const share = budget.shareOf('here', 'host');
    share.take(2 * MIB); // under way
    share.take(MIB);
    share.park(MIB);
    const waiter = {
      retryBudget: (): boolean => share.takeRest(20 * MIB),
    };
    expect(waiter.retryBudget()).toBe(false);
    share.wait(waiter);
    expect(share.take(MIB)).toBe(true);
    expect(budget.shareOf('here', 'host').take(MIB)).toBe(false); // another session comes after those that wait
  });

  test('is counted for who begins more, and not for who completes what it has begun', () => {
    const budget = new ByteBudget(LIMIT);
    const share = budget.shareOf('here', 'host');
    const other = budget.shareOf('there', 'other');
    other.take(MIB); // somebody may give something back: nobody is let through
    const begun = fill(share);
    share.park(begun * MIB);
    expect(share.take(MIB)).toBe(false);
    expect(share.takeRest(MIB)).toBe(true);
  });

  test('is never set aside beyond the limit, though all of it is parked', () => {
    const budget = new ByteBudget(MIB);
    const shares = Array.from({ length: 100 }, (_, index) => budget.shareOf(`${index}`, 'early'));
    for (const share of shares) while (share.takeParked(100 * KIB));
    expect(budget.usedBytes).toBeLessThanOrEqual(MIB);
    expect(budget.shareOf('late', 'late').take(100 * KIB)).toBe(true); // the one that can bring things on
  });
});
