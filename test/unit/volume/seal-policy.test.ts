import { describe, expect, test } from 'vitest';
import {
  CommitTimes,
  decideSeal,
  gatherMs,
  MAX_BATCHES_IN_FLIGHT,
  SEAL_BLOCKS,
  type SealInput,
} from '../../../gateway/volume/seal-policy.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const young: SealInput = {
  blocks: 5,
  isEmpty: false,
  ageMs: 100,
  urgent: false,
  rpoMs: 5000,
  commitMs: undefined,
  ahead: 0,
};

describe('sealing', () => {
  test('does nothing for an empty batch, however urgent', () => {
    expect(decideSeal({ ...young, isEmpty: true, blocks: 0, urgent: true, ageMs: 1e9 })).toEqual({ kind: 'nothing' });
  });

  test('waits until half the RPO target has passed, before anything is known of the line', () => {
    expect(decideSeal(young)).toEqual({ kind: 'wait', waitMs: 2400 });
    expect(decideSeal({ ...young, ageMs: 2500 })).toEqual({ kind: 'seal' });
  });

  test('comes early when somebody waits', () => {
    expect(decideSeal({ ...young, urgent: true })).toEqual({ kind: 'seal' });
  });

  test('comes by size', () => {
    expect(decideSeal({ ...young, blocks: SEAL_BLOCKS })).toEqual({ kind: 'seal' });
  });

  test('lets a batch grow that would have to wait anyway, but not beyond a segment', () => {
    const behind = { ...young, ahead: MAX_BATCHES_IN_FLIGHT, ageMs: 1e6, urgent: true };
    expect(decideSeal(behind)).toEqual({ kind: 'nothing' });
    expect(decideSeal({ ...behind, blocks: SEAL_BLOCKS })).toEqual({ kind: 'seal' });
  });

  test('counts unmaps alone as something to seal', () => {
    expect(decideSeal({ ...young, blocks: 0, ageMs: 2500 })).toEqual({ kind: 'seal' });
  });
});

describe('how long a batch gathers', () => {
  test('is all the target allows, less twice what commits take', () => {
    expect(gatherMs(5000, 1000)).toBe(3000);
    // A fast line may become slower; one that keeps up needs no more than half the target.
    expect(gatherMs(5000, 1)).toBe(4375);
    expect(gatherMs(5000, 4000)).toBe(2500);
    expect(gatherMs(5000, undefined)).toBe(2500);
    expect(decideSeal({ ...young, commitMs: 100 })).toEqual({ kind: 'wait', waitMs: 4275 });
  });

  test('goes by the worst commits lately, of which an outage is soon forgotten', () => {
    const times = new CommitTimes(5000);
    expect(times.worstMs).toBeUndefined();
    times.note(100);
    expect(times.worstMs).toBe(100);
    times.note(600_000);
    expect(times.worstMs).toBe(5000);
    for (let at = 0; at < 30; at += 1) times.note(100);
    expect(times.worstMs).toBeLessThan(320);
    expect(times.worstMs).toBeGreaterThan(100);
  });
});

const TICK_MS = 200;

/** A block every 200 ms, somewhere, for two minutes of simulated time: versions made, and the largest lag that anybody saw, from the second half minute on. */
async function writeSteadily(commitMs: number): Promise<{ readonly versions: number; readonly worstLag: number }> {
  const bench = new VolumeBench({ rpoMs: 5000, remoteMs: commitMs, ramBlocks: 0 });
  await bench.start();
  let worstLag = 0;
  let before = 0;
  for (let tick = 0; tick < 150_000 / TICK_MS; tick += 1) {
    if (tick === 30_000 / TICK_MS) before = bench.shore.batches.length;
    await bench.write((tick * 7) % 600, (tick % 255) + 1);
    await bench.pass(TICK_MS);
    if (before > 0) worstLag = Math.max(worstLag, bench.volume.status().lagSeconds);
  }
  const versions = bench.shore.batches.length - before;
  await bench.stop();
  return { versions, worstLag };
}

describe('a volume that is written all the time', () => {
  // With a target of 5 s the fewest versions of two minutes are 120 / (5 - commit): no batch can wait longer.
  test.each([
    [20, 29],
    [100, 29],
    [500, 31],
    [1000, 42],
    [2000, 49],
  ])('meets its target with the fewest versions when commits take %d ms', async (commitMs, most) => {
    const { versions, worstLag } = await writeSteadily(commitMs);
    expect(worstLag).toBeLessThanOrEqual(5);
    expect(versions).toBeLessThanOrEqual(most);
    // Half the target, as it would be for any line, makes one each 2.5 s.
    if (commitMs <= 1000) expect(versions).toBeLessThan(48);
  });
});
