import { crc32 } from 'node:zlib';
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
    expect(again?.lowestNewGeneration).toBe(9);
    await clock.settle(again?.cutOff(1, { beforeGeneration: 12, lastSeq: 300 }, 6) ?? Promise.resolve());
    expect([4, 8, 11, 12].map((generation) => again?.keyLimit(1, generation))).toEqual([200, 200, 300, Infinity]);
  });

  test('keeps one cut however often a start dies after it', async () => {
    const { random, clock, port } = await setUp(1);
    const state = await clock.settle(PoolState.create(port, random, 384));
    await clock.settle(state.register('a', never));
    for (let start = 1; start <= 20; start++)
      await clock.settle(state.cutOff(1, { beforeGeneration: 4 + start, lastSeq: 100 - Math.floor(start / 8) }, 1));
    expect(state.cuts(1)).toBe(1);
    expect([1, 23, 24].map((generation) => state.keyLimit(1, generation))).toEqual([98, 98, Infinity]);
  });

  test('goes on remembering a cut that stands for that of a start which died: what that one zeroed may still be on the platter', async () => {
    const { random, clock, port } = await setUp(1);
    const state = await clock.settle(PoolState.create(port, random, 384));
    await clock.settle(state.register('a', never));
    const died = { beforeGeneration: 5, lastSeq: 100 };
    await clock.settle(state.cutOff(1, died, 1));
    const again = { beforeGeneration: 6, lastSeq: 100 };
    await clock.settle(state.cutOff(1, again, 1));
    state.forgetEnd(1, again);
    expect([4, 5, 6].map((generation) => state.keyLimit(1, generation))).toEqual([100, 100, Infinity]);
    // The chunks from before are gone, and with them what the first one may have left.
    const alone = { beforeGeneration: 9, lastSeq: 200 };
    await clock.settle(state.cutOff(1, alone, 7));
    state.forgetEnd(1, alone);
    expect(state.cuts(1)).toBe(0);
  });

  test('gives a released number to nobody else before all others', async () => {
    const { random, clock, port } = await setUp(1);
    const state = await clock.settle(PoolState.create(port, random, 384));
    expect(await clock.settle(state.register('a', never))).toBe(1);
    await clock.settle(state.release(1));
    const again = await clock.settle(PoolState.open(port));
    expect(await clock.settle(again?.register('b', never) ?? Promise.resolve(0))).toBe(2);
  });

  test('is durable when a saving that had failed is asked for again', async () => {
    const { random, clock, disk, port } = await setUp(1);
    const state = await clock.settle(PoolState.create(port, random, 384));
    await clock.settle(state.register('a', never));
    disk.faults.noSpace = 1;
    await expect(clock.settle(state.raiseMarks([[1, { forgetThrough: 7 }]]))).rejects.toMatchObject({ kind: 'busy' });
    disk.faults.noSpace = 0;
    await clock.settle(state.raiseMarks([[1, { forgetThrough: 7 }]]));
    disk.crash('power');
    expect((await clock.settle(PoolState.open(port)))?.marks(1).forgetThrough).toBe(7);
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
    disk.file('cache/pool.state')?.flipBit(512 * 1024 + 30, 0);
    expect((await clock.settle(PoolState.open(port)))?.marks(1).forgetThrough).toBe(5);
    for (const at of [30, 512 * 1024 + 30]) disk.file('cache/pool.state')?.flipBit(at, 0);
    await expect(clock.settle(PoolState.open(port))).rejects.toMatchObject({ kind: 'damaged' });
  });

  test.each([0, 1])(
    'survives a power cut and the damage of copy %i together, with all that was acted on',
    async (copy) => {
      const { random, clock, disk, life, port } = await setUp(3);
      const state = await clock.settle(PoolState.create(port, random, 384));
      await clock.settle(state.register('a', never));
      await clock.settle(state.raiseMarks([[1, { forgetThrough: 5 }]]));
      life.alive = false;
      disk.crash('power', { fate: 'lost' });
      disk.file('cache/pool.state')?.flipBit(copy * 512 * 1024 + 30, 0);
      const again = await clock.settle(PoolState.open(disk.mount({ alive: true, name: 'gateway' })));
      expect(again?.marks(1).forgetThrough).toBe(5);
    },
  );

  test('of another release is refused, and the message says what it is and what to do', async () => {
    const { clock, port } = await setUp(1);
    const file = await clock.settle(port.open('cache/pool.state', 'create'));
    await clock.settle(file.write([Buffer.alloc(512 * 1024)], 0));
    const opening = clock.settle(PoolState.open(port));
    await expect(opening).rejects.toThrow(/another release of Farshore.*--takeover/);
    await expect(opening).rejects.toMatchObject({ kind: 'damaged' });
  });

  test('whose content is of another format is refused too', async () => {
    const { clock, port } = await setUp(1);
    const body = Buffer.from(JSON.stringify({ format: 1, poolId: '0'.repeat(32), slots: 384, volumes: [] }));
    const prefix = Buffer.alloc(20);
    prefix.write('FSPOOL01');
    prefix.writeUInt32LE(body.length, 12);
    prefix.writeUInt32LE(crc32(body, crc32(prefix.subarray(0, 16))), 16);
    const file = await clock.settle(port.open('cache/pool.state', 'create'));
    await clock.settle(file.write([prefix, body, Buffer.alloc(1024 * 1024 - 20 - body.length)], 0));
    await expect(clock.settle(PoolState.open(port))).rejects.toThrow(/is not of format 2/);
  });
});
