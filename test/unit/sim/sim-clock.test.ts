import { describe, expect, it } from 'vitest';
import { sleep } from '../../../gateway/base/clock.ts';
import { SimClock, SIM_START } from '../../sim/sim-clock.ts';
import { SimRandom } from '../../sim/sim-random.ts';

function makeClock(seed: number): SimClock {
  return new SimClock(new SimRandom(seed));
}

async function orderOfEqualTimes(seed: number): Promise<{ order: string; hash: string }> {
  const clock = makeClock(seed);
  const order: number[] = [];
  for (let i = 0; i < 10; i++) clock.startTimer(5, () => order.push(i));
  await clock.run();
  return { order: order.join(), hash: clock.traceHash() };
}

describe('the simulated clock', () => {
  it('advances straight to the next event', async () => {
    const clock = makeClock(1);
    const woke: number[] = [];
    void sleep(clock, 3_600_000).then(() => woke.push(clock.monotonicMs()));
    void sleep(clock, 10).then(() => woke.push(clock.monotonicMs()));
    expect(await clock.run()).toBe('idle');
    expect(woke).toEqual([10, 3_600_000]);
    expect(clock.now()).toBe(SIM_START + 3_600_000);
  });

  it('fires events of the same time in an order that only the seed decides', async () => {
    const first = await orderOfEqualTimes(1);
    expect(await orderOfEqualTimes(1)).toEqual(first);
    const orders = await Promise.all([2, 3, 4, 5].map(orderOfEqualTimes));
    expect(new Set([first, ...orders].map(({ order }) => order)).size).toBe(5);
  });

  it('runs every microtask to its end before the next event', async () => {
    const clock = makeClock(1);
    const seen: string[] = [];
    clock.startTimer(1, () => {
      let chain = Promise.resolve();
      for (let i = 0; i < 50; i++) chain = chain.then(() => undefined);
      void chain.then(() => seen.push('chain ended'));
    });
    clock.startTimer(1.001, () => seen.push('next event'));
    await clock.run();
    expect(seen).toEqual(['chain ended', 'next event']);
  });

  it('stops at a time or when a condition holds, and goes on from there', async () => {
    const clock = makeClock(1);
    let fired = 0;
    for (let i = 1; i <= 5; i++) clock.startTimer(i * 10, () => fired++);
    expect(await clock.run({ untilMs: 25 })).toBe('time');
    expect([fired, clock.monotonicMs()]).toEqual([2, 25]);
    expect(await clock.run({ when: () => fired === 4 })).toBe('met');
    expect(clock.monotonicMs()).toBe(40);
  });

  it('drops the timers of a process that has ended', async () => {
    const clock = makeClock(1);
    const life = { name: 'g', alive: true };
    const own = clock.forLife(life, 500);
    let fired = 0;
    own.startTimer(10, () => fired++);
    own.startTimer(20, () => fired++);
    clock.startTimer(15, () => (life.alive = false));
    expect(own.now() - clock.now()).toBe(500);
    await clock.run();
    expect(fired).toBe(1);
  });

  it('does not fire what was cancelled', async () => {
    const clock = makeClock(1);
    let fired = 0;
    const cancel = clock.startTimer(10, () => fired++);
    cancel();
    await clock.run();
    expect(fired).toBe(0);
  });

  it('hands on what an event throws', async () => {
    const clock = makeClock(1);
    clock.startTimer(1, () => {
      throw new Error('broken invariant');
    });
    await expect(clock.run()).rejects.toThrow('broken invariant');
  });
});
