import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../gateway/base/clock.ts';
import { ProcessFigures } from '../../gateway/process-figures.ts';

let figures: ProcessFigures | undefined;

afterEach(() => figures?.close());

/** Keeps the thread from everything else. */
function block(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until;);
}

describe('the figures of the process', () => {
  it('see that the loop was held up, in the interval in which it was', async () => {
    figures = new ProcessFigures(systemClock);
    await pause(30);
    block(120);
    await pause(30);
    const held = figures.report(true);
    expect(held.loopDelay.maxMs).toBeGreaterThan(60);
    expect(held.cpuMs).toBeGreaterThan(0);
    expect(held.rssBytes).toBeGreaterThan(held.heapUsedBytes);
    await pause(30);
    const after = figures.report(false);
    expect(after.intervalMs).toBeLessThan(held.intervalMs + 10_000);
    expect(after.loopDelay.p50Ms).toBeLessThanOrEqual(after.loopDelay.maxMs);
  });

  it('count the pauses of the collector', async () => {
    figures = new ProcessFigures(systemClock);
    const before = figures.report(true);
    const kept: unknown[] = [];
    for (let round = 0; round < 400_000; round += 1) {
      if (round % 40_000 === 0) kept.length = 0;
      kept.push({ round, more: [round] });
    }
    // The observer is told after the fact, in a turn of its own.
    for (let look = 0; look < 100 && figures.report(false).gc.pauses === 0; look += 1) await pause(10);
    const after = figures.report(false);
    expect(before.gc.pauses).toBe(0);
    expect(after.gc.pauses).toBeGreaterThan(0);
    expect(after.gc.maxMs).toBeGreaterThan(0);
    expect(after.gc.totalMs).toBeGreaterThanOrEqual(after.gc.maxMs);
  });
});
