import { describe, expect, it } from 'vitest';
import { UploadThrottle, type UploadLane } from '../../../gateway/replication/upload-throttle.ts';
import type { LineRate } from '../../../gateway/replication/throttle.ts';
import { ManualClock } from '../../support/iscsi-world.ts';

const MB = 1e6;
const BURST_S = 0.25;
/** How exactly the long tests know when something was sent. */
const STEP_MS = 10;

interface Sent {
  readonly at: number;
  readonly bytes: number;
  readonly lane: UploadLane;
}

/** A throttle on a clock that the test moves, and what got through when. */
function world(rate: LineRate) {
  const clock = new ManualClock();
  const throttle = new UploadThrottle(clock, rate);
  const sent: Sent[] = [];
  const failures: unknown[] = [];
  const ask = (bytes: number, lane: UploadLane = 'objects'): void => {
    throttle.take(bytes, lane).then(
      () => sent.push({ at: clock.monotonicMs(), bytes, lane }),
      (error: unknown) => failures.push(error),
    );
  };
  /** In steps, so that what resolves in one is noted at its time. */
  const pass = async (ms: number, stepMs = 1): Promise<void> => {
    for (let gone = 0; gone < ms; gone += stepMs) {
      clock.advance(stepMs);
      await settle();
    }
  };
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
  };
  const bytes = (lane?: UploadLane): number =>
    sent.filter((one) => lane === undefined || one.lane === lane).reduce((sum, one) => sum + one.bytes, 0);
  return { throttle, clock, sent, failures, ask, pass, settle, bytes };
}

describe('the upload throttle', () => {
  it('lets everything through at once while there is no limit', async () => {
    const { throttle, ask, settle, sent } = world(undefined);
    for (let i = 0; i < 100; i += 1) ask(8 * MB);
    await settle();
    expect(sent).toHaveLength(100);
    expect(throttle.waiting).toBe(0);
  });

  it.each([
    ['large uploads', 8 * MB, 25 * MB],
    ['small ones', 50_000, 25 * MB],
    ['uploads larger than a second of the line', 8 * MB, MB],
  ])('keeps to the rate over a long time with %s, and to its burst in any time', async (_, size, rate) => {
    const { ask, pass, settle, sent, throttle } = world(rate);
    const seconds = 60;
    const keepAsking = (): void => {
      while (throttle.waiting < 4) ask(size);
    };
    keepAsking();
    for (let at = 0; at < seconds * 1000; at += STEP_MS) {
      await pass(STEP_MS, STEP_MS);
      keepAsking();
      await settle();
    }
    const total = sent.reduce((sum, one) => sum + one.bytes, 0);
    const burst = rate * BURST_S;
    expect(total).toBeLessThanOrEqual(rate * seconds + burst + size);
    expect(total).toBeGreaterThanOrEqual(rate * seconds - burst - size);
    // In any window, from every upload on.
    for (const windowMs of [100, 1000, 7000]) {
      let sum = 0;
      let to = 0;
      let most = 0;
      for (const first of sent) {
        while (to < sent.length && (sent[to]?.at ?? 0) <= first.at + windowMs) sum += sent[to++]?.bytes ?? 0;
        most = Math.max(most, sum);
        sum -= first.bytes;
      }
      expect(most, `${windowMs} ms`).toBeLessThanOrEqual((rate * (windowMs + STEP_MS)) / 1000 + burst + size + 1);
    }
  });

  it('after a pause lets out no more than its burst and one upload', async () => {
    const { ask, pass, settle, bytes } = world(MB);
    await pass(3_600_000, 60_000);
    for (let i = 0; i < 1000; i += 1) ask(10_000);
    await settle();
    expect(bytes()).toBeGreaterThanOrEqual(MB * BURST_S);
    expect(bytes()).toBeLessThanOrEqual(MB * BURST_S + 10_000);
  });

  it('starves neither the large uploads nor the small', async () => {
    const { ask, pass, throttle, sent, bytes } = world(MB);
    for (let i = 0; i < 20; i += 1) ask(2 * MB, 'objects');
    for (let second = 0; second < 60; second += 1) {
      // More small ones than the line takes.
      while (throttle.waiting < 400) ask(5_000, 'versions');
      await pass(1000, 10);
    }
    expect(bytes('objects')).toBeGreaterThan(20 * MB);
    expect(sent.filter((one) => one.lane === 'versions').length).toBeGreaterThan(9);
    // The small one waits for the large one that is on the line, and for no more.
    const firstSmall = sent.find((one) => one.lane === 'versions')?.at ?? Infinity;
    expect(firstSmall).toBeLessThanOrEqual(2100);
  });

  it('lets a small version go while megabytes are on the line, and keeps to the rate all the same', async () => {
    const { ask, pass, sent, bytes } = world(MB);
    for (let i = 0; i < 20; i += 1) ask(8 * MB);
    await pass(100);
    ask(5000, 'versions');
    await pass(1);
    expect(sent.filter(({ lane }) => lane === 'versions')).toHaveLength(1);
    // As many as there can be: they get half of the line at once, and take turns for the rest.
    for (let ms = 0; ms < 60_000; ms += 10) {
      ask(8000, 'versions');
      await pass(10, 10);
    }
    expect(bytes()).toBeLessThan(60 * MB + 8 * MB + BURST_S * MB + MB);
    expect(bytes('objects')).toBeGreaterThan(14 * MB);
    expect(bytes('versions')).toBeGreaterThan(29 * MB);
  });

  it('keeps the order of a lane', async () => {
    const { ask, pass, sent } = world(MB);
    const sizes = [300_000, 1, 500_000, 2, 3, 200_000];
    for (const size of sizes) ask(size);
    await pass(5000, 10);
    expect(sent.map((one) => one.bytes)).toEqual(sizes);
  });

  it('goes by a new rate at once, faster or slower, and lets go of everything when there is no limit any more', async () => {
    const { throttle, ask, pass, settle, bytes, sent } = world(MB);
    for (let i = 0; i < 100; i += 1) ask(MB);
    await pass(10_000, 10);
    const before = bytes();
    expect(before).toBeGreaterThanOrEqual(10 * MB);
    expect(before).toBeLessThanOrEqual(11.25 * MB);
    throttle.setRate(10 * MB);
    await pass(2000, 10);
    expect(bytes() - before).toBeGreaterThanOrEqual(19 * MB);
    expect(bytes() - before).toBeLessThanOrEqual(23 * MB);
    throttle.setRate(0);
    const paused = bytes();
    await pass(600_000, 10_000);
    expect(bytes()).toBe(paused);
    throttle.setRate(MB / 10);
    await pass(100_000, 1000);
    expect(bytes() - paused).toBeLessThanOrEqual(12 * MB);
    expect(bytes() - paused).toBeGreaterThanOrEqual(8 * MB);
    throttle.setRate(undefined);
    await settle();
    expect(sent).toHaveLength(100);
    // And back: no more than the burst is given on trust.
    throttle.setRate(MB);
    for (let i = 0; i < 1000; i += 1) ask(1000);
    await settle();
    expect(bytes() - 100 * MB).toBeLessThanOrEqual(MB * BURST_S + 1000);
  });

  it('rejects what waits when it is closed, and what comes later', async () => {
    const { throttle, ask, settle, failures, sent } = world(0);
    ask(1);
    ask(1, 'versions');
    throttle.close();
    ask(1);
    await settle();
    expect(sent).toHaveLength(0);
    expect(failures).toMatchObject([{ kind: 'stopped' }, { kind: 'stopped' }, { kind: 'stopped' }]);
  });

  it('says busy instead of queueing without end', async () => {
    const { ask, settle, failures } = world(0);
    for (let i = 0; i < 4097; i += 1) ask(1);
    await settle();
    expect(failures).toMatchObject([{ kind: 'busy' }]);
  });
});
