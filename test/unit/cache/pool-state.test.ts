import { describe, expect, test } from 'vitest';
import { PoolState } from '../../../gateway/cache/pool-state.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { SimDisk } from '../../sim/sim-disk.ts';
import { SimRandom } from '../../sim/sim-random.ts';

async function setUp(seed: number) {
  const random = new SimRandom(seed);
  const clock = new SimClock(random);
  const disk = new SimDisk('disk', clock, random);
  const life = { alive: true, name: 'gateway' };
  const port = disk.mount(life);
  await clock.settle(port.makeDirectory('cache'));
  await clock.settle(port.syncDirectory(''));
  return { random, clock, disk, life, port };
}

const never = (): boolean => false;

describe('the state of a pool', () => {
  test('is not there before it was created', async () => {
    const { clock, port } = await setUp(1);
    expect(await clock.settle(PoolState.open(port))).toBeUndefined();
  });

  test('keeps numbers and marks, and marks only rise', async () => {
    const { random, clock, port } = await setUp(1);
    const state = await clock.settle(PoolState.create(port, random, 384));
    const first = await clock.settle(state.register('a', never));
    const second = await clock.settle(state.register('b', (number) => number === 2));
    expect([first, second]).toEqual([1, 3]);
    await clock.settle(state.raiseMarks([[1, { forgetThrough: 10, reclaimedThrough: 7 }]]));
    await clock.settle(
      state.raiseMarks([
        [1, { forgetThrough: 8, committedThrough: 9 }],
        [77, { forgetThrough: 1 }],
      ]),
    );
    const again = await clock.settle(PoolState.open(port));
    expect(again?.marks(1)).toMatchObject({
      forgetThrough: 10,
      reclaimedThrough: 7,
      committedThrough: 9,
      syncedThrough: 0,
    });
    expect(again?.numbersOf('b')).toEqual([3]);
    expect(again?.poolId.equals(state.poolId)).toBe(true);
    await clock.settle(state.release(1));
    expect((await clock.settle(PoolState.open(port)))?.isRegistered(1)).toBe(false);
  });

  test('remembers where a log was cut off for as long as chunks from before are there', async () => {
    const { random, clock, port } = await setUp(1);
    const state = await clock.settle(PoolState.create(port, random, 384));
    await clock.settle(state.register('a', never));
    await clock.settle(state.cutOff(1, { beforeGeneration: 5, lastSeq: 100 }, 1));
    await clock.settle(state.cutOff(1, { beforeGeneration: 9, lastSeq: 200 }, 3));
    const again = await clock.settle(PoolState.open(port));
    expect([4, 5, 8, 9].map((generation) => again?.keyLimit(1, generation))).toEqual([100, 200, 200, Infinity]);
    await clock.settle(again?.cutOff(1, { beforeGeneration: 12, lastSeq: 300 }, 6) ?? Promise.resolve());
    expect([4, 8, 11, 12].map((generation) => again?.keyLimit(1, generation))).toEqual([200, 200, 300, Infinity]);
  });

  test('is the old or the new one after a power cut in the middle of saving', async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const { random, clock, disk, life, port } = await setUp(seed);
      const state = await clock.settle(PoolState.create(port, random, 384));
      await clock.settle(state.register('a', never));
      await clock.settle(state.raiseMarks([[1, { forgetThrough: 1 }]]));
      void state.raiseMarks([[1, { forgetThrough: 2 }]]);
      await clock.run({ untilMs: clock.monotonicMs() + random.fraction() * 1.5 });
      life.alive = false;
      disk.crash('power');
      const again = await clock.settle(PoolState.open(disk.mount({ alive: true, name: 'gateway' })));
      expect([1, 2]).toContain(again?.marks(1).forgetThrough);
    }
  });

  test('survives the damage of one copy, and refuses when both are damaged', async () => {
    const { random, clock, disk, port } = await setUp(3);
    const state = await clock.settle(PoolState.create(port, random, 384));
    await clock.settle(state.register('a', never));
    await clock.settle(state.raiseMarks([[1, { forgetThrough: 5 }]]));
    disk.file('cache/pool.state')?.flipBit(30, 0);
    expect((await clock.settle(PoolState.open(port)))?.isRegistered(1)).toBe(true);
    // Opening has mended it.
    disk.file('cache/pool.state')?.flipBit(256 * 1024 + 30, 0);
    expect((await clock.settle(PoolState.open(port)))?.marks(1).forgetThrough).toBe(5);
    for (const at of [30, 256 * 1024 + 30]) disk.file('cache/pool.state')?.flipBit(at, 0);
    await expect(clock.settle(PoolState.open(port))).rejects.toMatchObject({ kind: 'damaged' });
  });
});
