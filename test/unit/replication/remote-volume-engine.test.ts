import { describe, expect, it } from 'vitest';
import { RemoteWorld } from '../../support/remote-world.ts';

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
