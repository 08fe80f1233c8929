import { describe, expect, it } from 'vitest';
import { REF, RemoteWorld } from '../../support/remote-world.ts';

describe('going back to an earlier version', () => {
  it('gives every version back exactly, wherever the checkpoints lie, as a new version', async () => {
    const world = new RemoteWorld();
    const states: number[][] = [];
    const writer = world.gateway('writer');
    await writer.open();
    states[1] = await writer.values(0, 12);
    const batches = [
      {
        writes: [
          [0, 1],
          [1, 2],
          [2, 3],
        ] as const,
      },
      {
        writes: [
          [1, 20],
          [5, 50],
        ] as const,
      },
      { unmaps: [[0, 200]] as const },
      { writes: [[3, 33]] as const },
      {
        writes: [
          [3, 34],
          [11, 1],
        ] as const,
        unmaps: [[4, 2]] as const,
      },
    ];
    for (const [at, batch] of batches.entries()) {
      const { n } = await writer.commit(batch);
      states[n] = await writer.values(0, 12);
      if (at === 1 || at === 3) await writer.engine.fold();
    }
    for (const [n, state] of states.entries()) {
      if (n === 0) continue;
      const gateway = world.gateway('restorer');
      const opened = await gateway.open();
      const rolledBack = await gateway.engine.rollBackTo(n);
      expect(rolledBack.n).toBe(opened.n + 1);
      expect(await gateway.values(0, 12)).toEqual(state);
      await gateway.commit({ writes: [[7, 700 + n]] });
      expect(await gateway.values(7, 1)).toEqual([700 + n]);
      if (n % 2 === 0) await gateway.engine.fold();
      const expected = state.map((value, block) => (block === 7 ? 700 + n : value));
      expect(await gateway.values(0, 12)).toEqual(expected);
      expect(await gateway.engine.verify()).toMatchObject({ verdict: 'pass', problems: [] });
      const reader = world.gateway('restorer');
      expect((await reader.open()).lastData).toMatchObject({ logId: gateway.logId, throughSeq: 1 });
      expect(await reader.values(0, 12)).toEqual(expected);
    }
  });

  it('can go back over a rollback, also when it is not folded yet', async () => {
    const world = new RemoteWorld();
    const first = world.gateway();
    await first.open();
    await first.commit({ writes: [[1, 1]] });
    await first.commit({
      writes: [
        [1, 2],
        [70_000, 7],
      ],
    });
    const second = world.gateway();
    await second.open();
    await second.engine.rollBackTo(2);
    expect(await second.values(1, 1)).toEqual([1]);
    expect(await second.values(70_000, 1)).toEqual([0]);
    const third = world.gateway();
    const { lastData } = await third.open();
    expect(lastData).toEqual({ epoch: 2, logId: second.logId, throughSeq: 0 });
    await third.engine.rollBackTo(3);
    expect(await third.values(1, 1)).toEqual([2]);
    expect(await third.values(70_000, 1)).toEqual([7]);
    const kinds = (await third.engine.versions(4)).map(({ kind }) => kind);
    expect(kinds).toEqual(['restore', 'takeover', 'restore', 'takeover']);
  });

  it('passes over a checkpoint that was never published or cannot be read', async () => {
    const world = new RemoteWorld();
    const writer = world.gateway();
    await writer.open();
    await writer.commit({ writes: [[1, 1]] });
    await writer.engine.fold();
    await writer.commit({ writes: [[1, 2]] });
    await writer.engine.fold();
    const checkpoints = world.objects.keys().filter((key) => key.includes('/checkpoints/'));
    expect(checkpoints).toHaveLength(2);
    world.objects.delete([checkpoints[0] ?? '']);
    const restorer = world.gateway();
    await restorer.open();
    await restorer.engine.rollBackTo(2);
    expect(await restorer.values(1, 1)).toEqual([1]);
  });

  it('refuses versions that do not exist or cannot be reached any more, with a sentence', async () => {
    const world = new RemoteWorld();
    const writer = world.gateway();
    await writer.open();
    await writer.commit({ writes: [[1, 1]] });
    await writer.commit({ writes: [[1, 2]] });
    const restorer = world.gateway();
    await restorer.open();
    await expect(restorer.engine.rollBackTo(9)).rejects.toMatchObject({ kind: 'input' });
    await expect(restorer.engine.rollBackTo(0)).rejects.toMatchObject({ kind: 'input' });
    world.table.deleteVersions(REF.volume, [2]);
    await expect(restorer.engine.rollBackTo(3)).rejects.toMatchObject({ kind: 'input' });
  });
});
