import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MaybePromise } from '../../../gateway/base/block-device.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { Admission } from '../../../gateway/cache/admission.ts';
import { FillRate } from '../../../gateway/cache/fill-rate.ts';
import { FREE_SHARE, MAX_DELAY_MS, weightOf, writeDelayMs } from '../../../gateway/cache/pressure.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { SimRandom } from '../../sim/sim-random.ts';

const TOTAL = 10_000;

/** A cache of TOTAL slots that a cloud takes `drain` slots a second from. */
class Cache {
  readonly clock = new SimClock(new SimRandom(1));
  readonly used = new Map<string, number>();
  readonly volumes: readonly { readonly name: string }[];
  readonly admission: Admission<{ readonly name: string }>;

  constructor(...names: string[]) {
    this.volumes = names.map((name) => ({ name }));
    for (const name of names) this.used.set(name, 0);
    const weight = ({ name }: { readonly name: string }): number =>
      weightOf(this.used.get(name) ?? 0, this.dirty, names.length);
    this.admission = new Admission(this.clock, 20_000, {
      space: () => TOTAL - this.dirty,
      share: () => (this.dirty + this.admission.reserved) / TOTAL,
      weight,
      isKeptFrom: (writer) => names.length > 1 && this.dirty / TOTAL > 15 / 16 && weight(writer) === 1,
      pressed: () => undefined,
    });
  }

  get dirty(): number {
    return [...this.used.values()].reduce((sum, each) => sum + each, 0);
  }

  /** One write; resolves with how long it was held back, or with 'busy'. */
  async write(volume: number, slots = 1): Promise<number | 'busy'> {
    const writer = this.volumes[volume] ?? { name: '' };
    const from = this.clock.monotonicMs();
    try {
      await this.admission.reserve(slots, writer);
    } catch (error) {
      expect(error).toMatchObject({ kind: 'busy' });
      return 'busy';
    }
    this.used.set(writer.name, (this.used.get(writer.name) ?? 0) + slots);
    this.admission.release(slots);
    return this.clock.monotonicMs() - from;
  }

  commit(volume: number, slots: number): void {
    const { name } = this.volumes[volume] ?? { name: '' };
    this.used.set(name, Math.max(0, (this.used.get(name) ?? 0) - slots));
    this.admission.poke();
  }
}

describe('the delay of a write', () => {
  it('is none up to half of the cache, rises without jumps, and never beyond its bound', () => {
    expect(writeDelayMs(0)).toBe(0);
    expect(writeDelayMs(FREE_SHARE)).toBe(0);
    expect(writeDelayMs(1)).toBe(MAX_DELAY_MS);
    expect(writeDelayMs(7)).toBe(MAX_DELAY_MS);
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1e-3, noNaN: true }),
        (a, step) => {
          const rise = writeDelayMs(a + step) - writeDelayMs(a);
          expect(rise).toBeGreaterThanOrEqual(0);
          // Its slope is nowhere above 4 · MAX / (1 − ½).
          expect(rise).toBeLessThanOrEqual(8 * MAX_DELAY_MS * step + 1e-9);
        },
      ),
    );
  });

  it('is that of the share at the time, in whole: measured on writes with a clock of its own', async () => {
    const cache = new Cache('v');
    const measured: number[] = [];
    for (let share = 0; share < 1; share += 0.05) {
      cache.used.set('v', Math.round(share * TOTAL));
      const expected = writeDelayMs(share);
      const took = await cache.clock.settle(cache.write(0));
      expect(took).toBeGreaterThanOrEqual(expected <= 0.5 ? 0 : expected - 0.5);
      expect(took).toBeLessThanOrEqual(writeDelayMs(share + 0.001) + 1);
      measured.push(Number(took));
    }
    expect(measured).toEqual([...measured].sort((a, b) => a - b));
  });
});

describe('back-pressure', () => {
  /** `writers` at a time, each its next write when the last is let in, until `untilMs`; the cloud takes `perSecond` in ten steps a second. */
  async function load(cache: Cache, writers: number, perSecond: number, untilMs: number): Promise<number[]> {
    const { clock } = cache;
    const delays: number[] = [];
    let isOver = false;
    const writer = async (): Promise<void> => {
      while (!isOver) {
        const took = await cache.write(0);
        if (took !== 'busy') delays.push(took);
        // What a disk takes anyway.
        await new Promise<void>((resolve) => {
          clock.startTimer(1, resolve);
        });
      }
    };
    const drain = (): void => {
      cache.commit(0, perSecond / 10);
      if (!isOver) clock.startTimer(100, drain);
    };
    drain();
    const all = Array.from({ length: writers }, writer);
    await clock.run({ untilMs });
    isOver = true;
    await clock.settle(Promise.all(all));
    return delays;
  }

  it('lets a writer settle where its writes come in as fast as the cloud takes them, without one of them being refused', async () => {
    for (const perSecond of [50, 200, 1_000]) {
      const cache = new Cache('v');
      // One and a half times as long as the cloud needs for all of it: it has settled then, and a quick cloud is not simulated for longer than a slow one.
      const settledMs = 1.5 * (TOTAL / perSecond) * 1_000;
      await load(cache, 32, perSecond, settledMs);
      const before = cache.dirty;
      const delays = await load(cache, 32, perSecond, settledMs + 30_000);
      // 30 s: as much has come in as has gone out, and the cache is neither idle nor full.
      expect(Math.abs(delays.length / 30 - perSecond) / perSecond).toBeLessThan(0.1);
      expect(Math.abs(cache.dirty - before)).toBeLessThan(TOTAL / 50);
      expect(cache.dirty / TOTAL).toBeGreaterThan(FREE_SHARE);
      expect(cache.dirty / TOTAL).toBeLessThan(0.95);
    }
  });

  it('without a cloud makes the second half last many times as long as the first, then says busy, and lets everybody in when the cloud is back', async () => {
    const cache = new Cache('v');
    const { clock } = cache;
    await load(cache, 32, 0, 600);
    const half = clock.monotonicMs() * (TOTAL / 2 / cache.dirty);
    while (cache.dirty < TOTAL * 0.9) await load(cache, 32, 0, clock.monotonicMs() + 1_000);
    expect(clock.monotonicMs()).toBeGreaterThan(20 * half);
    cache.used.set('v', TOTAL);
    const late = Array.from({ length: 100 }, () => cache.write(0));
    await clock.run({ untilMs: clock.monotonicMs() + 19_000 });
    expect(cache.admission.waiting).toBe(100);
    await clock.run({ untilMs: clock.monotonicMs() + 1_500 });
    expect(await clock.settle(Promise.all(late))).toEqual(Array.from({ length: 100 }, () => 'busy'));
    expect(cache.admission.refused).toBe(100);
    const next = Array.from({ length: 100 }, () => cache.write(0));
    await clock.run({ untilMs: clock.monotonicMs() + 5_000 });
    cache.commit(0, TOTAL);
    const from = clock.monotonicMs();
    expect(await clock.settle(Promise.all(next))).not.toContain('busy');
    // Not one timer had to run out: what held them back is gone.
    expect(clock.monotonicMs() - from).toBeLessThan(1);
  });

  it('keeps the order of the writes of one volume, whatever their sizes and however the share moves', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ slots: fc.integer({ min: 1, max: 256 }), commit: fc.nat(400), pauseMs: fc.nat(800) }), {
          maxLength: 40,
        }),
        fc.integer({ min: 4_000, max: TOTAL }),
        async (steps, dirty) => {
          const cache = new Cache('v');
          cache.used.set('v', dirty);
          const order: number[] = [];
          const all = steps.map(async ({ slots, commit, pauseMs }, at) => {
            const written = cache.write(0, slots).then((took) => {
              if (took !== 'busy') order.push(at);
            });
            cache.clock.startTimer(pauseMs, () => {
              cache.commit(0, commit);
            });
            await written;
          });
          await cache.clock.settle(Promise.all(all));
          expect(order).toEqual([...order].sort((a, b) => a - b));
          expect(cache.admission.waiting).toBe(0);
          expect(cache.admission.reserved).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('answers in the same turn up to half of the cache, and holds nobody back then', () => {
    const cache = new Cache('v', 'w');
    const [v = { name: '' }] = cache.volumes;
    cache.used.set('v', TOTAL / 2 - 8);
    for (let at = 0; at < 8; at += 1) expect(cache.admission.reserve(1, v)).toBeUndefined();
    expect(cache.admission.waiting).toBe(0);
  });

  it('does not let a write overtake one of its volume that was let in within this very turn and has not heard it', async () => {
    const cache = new Cache('v');
    const [v = { name: '' }] = cache.volumes;
    cache.used.set('v', TOTAL);
    const order: string[] = [];
    const hear = async (name: string, reserved: MaybePromise<void>): Promise<void> => {
      if (reserved !== undefined) await reserved;
      order.push(name);
    };
    const first = hear('first', cache.admission.reserve(1, v));
    await cache.clock.run({ untilMs: 3_000 });
    cache.commit(0, TOTAL);
    const second = hear('second', cache.admission.reserve(1, v));
    await cache.clock.settle(Promise.all([first, second]));
    expect(order).toEqual(['first', 'second']);
    // And afterwards it answers at once again.
    expect(cache.admission.reserve(1, v)).toBeUndefined();
  });

  it('refuses at once what waits of a volume that takes no writes any more, and goes on with the others', async () => {
    const cache = new Cache('closed', 'other');
    const [closed = { name: '' }, other = { name: '' }] = cache.volumes;
    cache.used.set('closed', TOTAL * 0.45);
    cache.used.set('other', TOTAL * 0.45);
    const error = new FarshoreError('stopped', 'closed');
    const refused = [1, 2, 3].map(() => Promise.resolve(cache.admission.reserve(1, closed)));
    const late = Promise.resolve(cache.admission.reserve(1, other));
    for (const each of refused) each.catch(() => undefined);
    const from = cache.clock.monotonicMs();
    cache.admission.turnAway(closed, error);
    for (const each of refused) await expect(each).rejects.toBe(error);
    expect(cache.clock.monotonicMs()).toBe(from);
    expect(cache.admission.waiting).toBe(1);
    await cache.clock.settle(late);
    expect(cache.clock.monotonicMs() - from).toBeGreaterThan(700);
    expect(cache.admission.reserved).toBe(1);
  });

  it('hardly slows a volume that is not the cause, and keeps the last of the cache for it', async () => {
    const cache = new Cache('flood', 'small');
    cache.used.set('flood', TOTAL * 0.9);
    const slow = cache.write(0);
    expect(await cache.clock.settle(cache.write(1))).toBeLessThan(1);
    expect(await cache.clock.settle(slow)).toBeGreaterThan(700);
    cache.used.set('flood', TOTAL * 0.95);
    const refused = cache.write(0);
    const served: (number | 'busy')[] = [];
    for (let at = 0; at < 100; at += 1) served.push(await cache.clock.settle(cache.write(1)));
    expect(served).not.toContain('busy');
    // It is slowed in proportion to what is its own doing: at most one fiftieth here.
    expect(Math.max(...served.map(Number))).toBeLessThan(MAX_DELAY_MS / 40);
    expect(await cache.clock.settle(refused)).toBe('busy');
  });

  it('is not overtaken for ever: a long write gets its room although short ones keep coming', async () => {
    const cache = new Cache('long', 'short');
    cache.used.set('long', 4_999);
    cache.used.set('short', 5_000);
    const long = cache.write(0, 200);
    const short = { isOver: false };
    const shorts = (async () => {
      while (!short.isOver) await cache.write(1);
    })();
    for (let at = 0; at < 40; at += 1) {
      cache.clock.startTimer(at * 100, () => {
        cache.commit(1, 50);
        cache.commit(0, 50);
      });
    }
    expect(await cache.clock.settle(long)).toBeLessThan(10_000);
    short.isOver = true;
    cache.commit(1, TOTAL);
    await cache.clock.settle(shorts);
  });
});

describe('the time until the cache is full', () => {
  it('is that of the net rate of the last minute, and unknown while it does not fill', async () => {
    const clock = new SimClock(new SimRandom(1));
    const rate = new FillRate(clock);
    expect(rate.secondsUntilFull(0)).toBeUndefined();
    let share = 0;
    const step = async (seconds: number, perSecond: number): Promise<void> => {
      for (let at = 0; at < seconds; at += 1) {
        rate.note(share);
        clock.startTimer(1_000, () => undefined);
        await clock.run({ untilMs: clock.monotonicMs() + 1_000 });
        share += perSecond;
      }
    };
    await step(100, 0.004);
    expect(rate.secondsUntilFull(share)).toBeCloseTo((1 - share) / 0.004, 0);
    await step(100, 0);
    expect(rate.secondsUntilFull(share)).toBeUndefined();
    await step(30, -0.001);
    expect(rate.secondsUntilFull(share)).toBeUndefined();
    await step(70, 0.001);
    expect(rate.secondsUntilFull(share)).toBeCloseTo((1 - share) / 0.001, 0);
  });

  it('is no time at all when it is full, whether it goes on filling or not', () => {
    const rate = new FillRate(new SimClock(new SimRandom(1)));
    rate.note(1);
    expect(rate.secondsUntilFull(1)).toBe(0);
  });
});
