import { describe, expect, it } from 'vitest';
import { decodeRecord } from '../../../gateway/format/version-record.ts';
import { RemoteWorld } from '../../support/remote-world.ts';

function timesOf(world: RemoteWorld, n: number) {
  const item = world.table.getVersion('vol', n);
  if (item === undefined) throw new Error(`there is no version ${n}`);
  return decodeRecord(item.record);
}

describe('the remote half of a volume', () => {
  it('gives back what was committed', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    const opened = await gateway.open();
    expect(opened).toMatchObject({ epoch: 1, n: 1, lastData: undefined });
    const committed = await gateway.commit({
      writes: [
        [3, 30],
        [4, 40],
        [100_000, 5],
      ],
    });
    expect(committed).toMatchObject({ n: 2, throughSeq: 3 });
    expect(await gateway.values(2, 4)).toEqual([0, 30, 40, 0]);
    expect(await gateway.values(100_000, 1)).toEqual([5]);
  });

  it('keeps times from running backwards after a fold of the whole log, on a machine whose clock is behind', async () => {
    const world = new RemoteWorld();
    const first = world.gateway('a');
    await first.open();
    const { n } = await first.commit({ writes: [[1, 1]] });
    expect(await first.engine.fold()).toMatchObject({ n });
    const before = timesOf(world, n);
    const now = world.clock.now.bind(world.clock);
    world.clock.now = () => now() - 3_600_000;
    const opened = await world.gateway('b').open();
    expect(opened.n).toBe(n + 1);
    const after = timesOf(world, opened.n);
    expect(after.newestWriteAt).toBe(before.newestWriteAt);
    expect(after.sealedAt).toBe(before.sealedAt);
  });

  it('opens again from the log alone and after a fold', async () => {
    const world = new RemoteWorld();
    const first = world.gateway('a');
    await first.open();
    await first.commit({
      writes: [
        [1, 1],
        [2, 2],
        [50_000, 3],
      ],
    });
    await first.commit({
      writes: [
        [2, 0],
        [3, 7],
      ],
      unmaps: [[40_000, 20_000]],
    });
    const second = world.gateway('b');
    const opened = await second.open();
    expect(opened.lastData).toEqual({ epoch: 1, logId: first.logId, throughSeq: 5 });
    expect(await second.values(0, 5)).toEqual([0, 1, 0, 7, 0]);
    expect(await second.values(50_000, 1)).toEqual([0]);
    const folded = await second.engine.fold();
    expect(folded).toMatchObject({ n: 4, versionsFolded: 4 });
    expect(await second.values(0, 5)).toEqual([0, 1, 0, 7, 0]);
    const third = world.gateway('c');
    expect((await third.open()).lastData).toEqual({ epoch: 1, logId: first.logId, throughSeq: 5 });
    expect(await third.values(0, 5)).toEqual([0, 1, 0, 7, 0]);
    expect((await third.engine.verify()).verdict).toBe('pass');
    await expect(first.commit({ writes: [[9, 9]] })).rejects.toMatchObject({ kind: 'fenced' });
    expect(first.fenced).toHaveLength(1);
  });
});
