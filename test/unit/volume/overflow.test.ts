import { describe, expect, test } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import type { BlockState } from '../../../gateway/volume/block-state.ts';
import { Overflow, OVERFLOW_SHARE, overflowShare } from '../../../gateway/volume/stored/overflow.ts';

/** Whether a volume gives way that has everything in its image, and so much of a cache that is so full. */
async function givesWay(dirtyShare: number, weight: number, isOpen = false): Promise<boolean> {
  let gave = false;
  // All that `look` asks.
  const state = { cache: { dirtyShare, pressure: { weight: () => weight } }, log: { appendedThrough: 10 } };
  const overflow = new Overflow(state as unknown as BlockState, silentLog, {
    settledThrough: () => 5,
    destagedThrough: () => 10,
    suspend: () => undefined,
    resume: () => undefined,
    isOpen: () => isOpen,
    raise: () => {
      gave = true;
      return Promise.resolve();
    },
    hurryImage: () => undefined,
  });
  overflow.look();
  await overflow.stop();
  return gave;
}

describe('a stored volume beside others', () => {
  test('gives way at five eighths when it has its even share of what fills the cache', async () => {
    expect(await givesWay(OVERFLOW_SHARE, 1)).toBe(true);
    expect(await givesWay(OVERFLOW_SHARE - 0.01, 1)).toBe(false);
  });

  test('goes on in the log when another one floods the cache, until nearly all of it is full', async () => {
    expect(await givesWay(0.8, 0.1)).toBe(false);
    expect(await givesWay(15 / 16, 0)).toBe(true);
    expect(overflowShare(0.5)).toBeCloseTo((OVERFLOW_SHARE + 15 / 16) / 2);
  });

  test('that has given way already goes on doing so: its versions are made of the image anyway', async () => {
    expect(await givesWay(OVERFLOW_SHARE, 0.1, true)).toBe(true);
  });
});
