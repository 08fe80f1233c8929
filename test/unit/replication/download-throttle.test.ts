import { describe, expect, it } from 'vitest';
import { Urgency, type UrgencyLane } from '../../../gateway/base/urgency.ts';
import type { ObjectStore } from '../../../gateway/cloud/object-store.ts';
import { downloadingWithin, DownloadThrottle, inBackground } from '../../../gateway/replication/download-throttle.ts';
import { ManualClock } from '../../support/iscsi-world.ts';

const KB = 1e3;
const MB = 1e6;

interface Passed {
  readonly at: number;
  readonly bytes: number;
  readonly name: string;
}

function world(rate: number | undefined) {
  const clock = new ManualClock();
  const throttle = new DownloadThrottle(clock, rate);
  const passed: Passed[] = [];
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 8; turn += 1) await Promise.resolve();
  };
  const pass = async (ms: number, stepMs = 1): Promise<void> => {
    for (let gone = 0; gone < ms; gone += stepMs) {
      clock.advance(stepMs);
      await settle();
    }
  };
  const ask = (bytes: number, lane: UrgencyLane, name: string = lane): Urgency => {
    const urgency = new Urgency(lane);
    void throttle.takeBy(bytes, urgency).then(() => passed.push({ at: clock.monotonicMs(), bytes, name }));
    return urgency;
  };
  const bytesOf = (name: string): number =>
    passed.filter((one) => one.name === name).reduce((sum, one) => sum + one.bytes, 0);
  return { clock, throttle, passed, settle, pass, ask, bytesOf };
}

describe('the download throttle', () => {
  it('lets what somebody waits for before everything that nobody waits for', async () => {
    const { ask, pass, passed } = world(MB);
    ask(MB, 'background', 'on the line');
    for (let i = 0; i < 8; i += 1) ask(MB, 'background');
    await pass(100);
    ask(64 * KB, 'foreground', 'reader');
    await pass(3000);
    // It waits for the one that is on the line (1 MB less the burst), and for no other.
    expect(passed.find(({ name }) => name === 'reader')?.at).toBeLessThanOrEqual(1000);
    expect(passed.slice(0, 3).map(({ name }) => name)).toEqual(['on the line', 'reader', 'background']);
  });

  it('keeps an eighth of a full line for the background, so that a fold comes to its end', async () => {
    const { throttle, ask, pass, bytesOf } = world(MB);
    for (let i = 0; i < 400; i += 1) ask(128 * KB, 'background');
    for (let second = 0; second < 60; second += 1) {
      while (throttle.waiting < 420) ask(64 * KB, 'foreground');
      await pass(1000, 10);
    }
    const share = bytesOf('background') / (bytesOf('background') + bytesOf('foreground'));
    expect(share).toBeGreaterThan(0.115);
    expect(share).toBeLessThan(0.135);
    expect(bytesOf('background') + bytesOf('foreground')).toBeLessThanOrEqual(60 * MB + 0.25 * MB + 128 * KB);
  });

  it('gives the background no claim to time in which it wanted nothing', async () => {
    const { ask, pass, passed } = world(MB);
    for (let i = 0; i < 200; i += 1) ask(100 * KB, 'foreground');
    await pass(10_000, 10);
    for (let i = 0; i < 20; i += 1) ask(100 * KB, 'background');
    const before = passed.length;
    await pass(1000, 10);
    expect(passed.slice(before).filter(({ name }) => name === 'background').length).toBeLessThanOrEqual(2);
  });

  it('moves what was begun in the background up as soon as somebody comes to wait for it, in order', async () => {
    const { ask, pass, passed } = world(MB);
    ask(MB, 'background', 'on the line');
    const ahead = Array.from({ length: 8 }, (_, at) => ask(MB, 'background', `ahead ${at}`));
    ask(10 * KB, 'foreground', 'reader');
    ahead[5]?.hurry();
    ahead[5]?.hurry();
    ask(10 * KB, 'foreground', 'later reader');
    await pass(5000, 10);
    expect(passed.slice(0, 5).map(({ name }) => name)).toEqual([
      'on the line',
      'reader',
      'ahead 5',
      'later reader',
      'ahead 0',
    ]);
  });

  it('moves nothing that has gone already', async () => {
    const { ask, pass, passed, throttle } = world(MB);
    const gone = ask(KB, 'background', 'gone');
    await pass(1);
    gone.hurry();
    await pass(10);
    expect(passed).toHaveLength(1);
    expect(throttle.waiting).toBe(0);
  });

  it('counts what really came, where the length was not known', async () => {
    const { throttle, clock, settle, pass } = world(MB);
    const sizes = [3 * MB, 100];
    const arrived: number[] = [];
    const store: Pick<ObjectStore, 'get'> = { get: () => Promise.resolve(Buffer.alloc(sizes.shift() ?? 0)) };
    const limited = downloadingWithin(throttle, store as ObjectStore); // nothing else is called
    for (let i = 0; i < 2; i += 1)
      void limited.get('shard').then((content) => arrived.push(content?.length ?? 0, clock.monotonicMs()));
    await settle();
    // The first one's length shows when it is there; until then the second may go as well, which is for the burst.
    expect(arrived[0]).toBe(3 * MB);
    let later = -1;
    void limited.get('another').then(() => (later = clock.monotonicMs()));
    await pass(4000, 10);
    expect(later).toBeGreaterThanOrEqual(2700);
    expect(later).toBeLessThanOrEqual(3000);
  });

  it('puts what comes through a store for the background there, unless it says otherwise', async () => {
    const { throttle, ask, pass, settle, passed } = world(MB);
    const store: Pick<ObjectStore, 'get'> = { get: () => Promise.resolve(Buffer.alloc(10)) };
    const quiet = inBackground(downloadingWithin(throttle, store as ObjectStore)); // nothing else is called
    const note = (name: string) => (): void => void passed.push({ at: 0, bytes: 0, name });
    ask(MB, 'foreground', 'on the line');
    void quiet.get('a', { offset: 0, length: 10 }).then(note('quiet'));
    void quiet.get('b', { offset: 0, length: 10 }, new Urgency('foreground')).then(note('urgent'));
    ask(10, 'foreground', 'reader');
    await settle();
    await pass(2000, 10);
    expect(passed.map(({ name }) => name)).toEqual(['on the line', 'urgent', 'reader', 'quiet']);
  });
});
