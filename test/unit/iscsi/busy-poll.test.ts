import { expect, test } from 'vitest';
import { BusyPoll } from '../../../gateway/iscsi/busy-poll.ts';

/** A loop whose turns take 10 µs each, as long as somebody asks for one. */
class Loop {
  nowMs = 1000;
  next: (() => void) | undefined;
  readonly poll: BusyPoll;

  constructor(mostMs: number) {
    this.poll = new BusyPoll(
      { monotonicMs: () => this.nowMs },
      (then) => {
        this.next = then;
      },
      mostMs,
    );
  }

  /** Goes around until nobody asks, or for `ms`; how long it was awake. */
  run(ms = 100): number {
    const from = this.nowMs;
    while (this.next !== undefined && this.nowMs - from < ms) {
      const then = this.next;
      this.next = undefined;
      this.nowMs += 0.01;
      then();
    }
    return this.nowMs - from;
  }

  /** Chunks that come so far apart; how long the loop was awake after each. */
  receive(count: number, apartMs: number): number[] {
    return Array.from({ length: count }, () => {
      this.poll.stir();
      const arrivesMs = this.nowMs + apartMs;
      const awake = this.run(apartMs - 0.005);
      this.nowMs = arrivesMs;
      return awake;
    });
  }
}

test('while commands follow each other closely, the loop is awake when the next one comes', () => {
  const awake = new Loop(0.2).receive(20, 0.08);
  expect(awake.slice(6).every((ms) => ms >= 0.075)).toBe(true);
});

test('commands that come now and then find it asleep: it gives up after a few', () => {
  const loop = new Loop(0.2);
  loop.receive(20, 0.05);
  const awake = loop.receive(20, 5);
  expect(awake.every((ms) => ms < 0.22)).toBe(true);
  expect(awake.slice(6)).toEqual(Array(14).fill(0));
});

test('when nothing comes any more it sleeps after the longest moment', () => {
  const loop = new Loop(0.2);
  loop.receive(20, 0.05);
  loop.poll.stir();
  expect(loop.run()).toBeCloseTo(0.2, 1);
  expect(loop.next).toBeUndefined();
});

test('without a moment to spare it never waits awake', () => {
  expect(new Loop(0).receive(20, 0.01)).toEqual(Array(20).fill(0));
});

test('a clock that stands still does not keep it awake', () => {
  const loop = new Loop(0.2);
  loop.receive(20, 0.05);
  loop.poll.stir();
  const standing = loop.nowMs;
  let turns = 0;
  for (let then = loop.next; then !== undefined && turns < 100_000; then = loop.next) {
    loop.next = undefined;
    loop.nowMs = standing;
    turns += 1;
    then();
  }
  expect([loop.next, turns]).toEqual([undefined, 1000]);
});
