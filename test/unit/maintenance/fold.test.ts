import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { foldVolume } from '../../../gateway/maintenance/fold.ts';
import { verifyVolume } from '../../../gateway/maintenance/verify.ts';
import type { TestGateway } from '../../support/remote-world.ts';
import { REF, RemoteWorld } from '../../support/remote-world.ts';

async function written(): Promise<{ world: RemoteWorld; gateway: TestGateway }> {
  const world = new RemoteWorld();
  const gateway = world.gateway();
  await gateway.open();
  await gateway.commit({ writes: Array.from({ length: 1200 }, (_, at) => [at, at + 1]) });
  await gateway.commit({
    writes: [
      [3, 33],
      [70_000, 7],
    ],
  });
  return { world, gateway };
}

async function expectSound(world: RemoteWorld): Promise<void> {
  expect(await verifyVolume(world.maintenance, REF)).toMatchObject({ verdict: 'pass', problems: [] });
  const reader = world.gateway();
  await reader.open();
  expect(await reader.values(0, 5)).toEqual([1, 2, 3, 33, 5]);
  expect(await reader.values(70_000, 1)).toEqual([7]);
}

describe('folding a volume', () => {
  it('says what it did, and does nothing where there is nothing new', async () => {
    const { world } = await written();
    expect(await foldVolume(world.maintenance, REF)).toMatchObject({
      n: 3,
      versionsFolded: 3,
      shardsRewritten: 1,
      runs: 1,
    });
    const objects = world.objects.keys();
    expect(await foldVolume(world.maintenance, REF)).toMatchObject({ n: 3, versionsFolded: 0, runs: 1 });
    expect(world.objects.keys()).toEqual(objects);
    await expectSound(world);
  });

  it(
    'lets only one of two maintainers publish, whatever the order, and neither harms the volume',
    { timeout: 60_000 },
    async () => {
      for (let stop = 0; stop < 12; stop += 1) {
        const { world } = await written();
        let left = stop;
        let second: Promise<unknown> = Promise.resolve();
        world.faults.before = async () => {
          left -= 1;
          if (left !== 0) return;
          // The first maintainer pauses here while the second one does all its work.
          second = foldVolume(world.maintenance, REF);
          await second;
        };
        const first = await foldVolume(world.maintenance, REF).then(
          () => 'done',
          (error: unknown) => (error as FarshoreError).kind,
        );
        await second;
        expect(['done', 'busy']).toContain(first);
        world.faults.before = () => undefined;
        await expectSound(world);
      }
    },
  );

  it('comes through lost answers at every single request', { timeout: 60_000 }, async () => {
    for (let victim = 0; ; victim += 1) {
      const { world } = await written();
      let left = victim;
      world.faults.after = () => {
        left -= 1;
        if (left === -1) throw new FarshoreError('retry', 'the answer was lost');
      };
      const { n } = await foldVolume(world.maintenance, REF);
      expect(n).toBe(3);
      world.faults.after = () => undefined;
      expect(world.table.getVolume(REF)?.checkpoint?.n).toBe(3);
      await expectSound(world);
      if (left >= 0) break;
    }
  });

  it(
    'leaves the volume as it was when it dies at any request, and the next fold succeeds',
    { timeout: 60_000 },
    async () => {
      for (let victim = 0; ; victim += 1) {
        const { world } = await written();
        let left = victim;
        world.faults.before = () => {
          left -= 1;
          if (left < 0) throw new FarshoreError('stopped', 'killed');
        };
        const died = await foldVolume(world.maintenance, REF).then(
          () => false,
          () => true,
        );
        world.faults.before = () => undefined;
        await expectSound(world);
        await foldVolume(world.maintenance, REF);
        expect(world.table.getVolume(REF)?.checkpoint?.n).toBeGreaterThanOrEqual(3);
        await expectSound(world);
        if (!died) break;
      }
    },
  );

  it('keeps who wrote the last data, and the times, over folds of versions without data', async () => {
    const { world, gateway } = await written();
    await foldVolume(world.maintenance, REF);
    for (let start = 0; start < 3; start += 1) {
      const next = world.gateway();
      expect((await next.open()).lastData).toEqual({ epoch: 1, logId: gateway.logId, throughSeq: 1202 });
      await foldVolume(world.maintenance, REF);
    }
    const newest = world.gateway();
    await newest.open();
    const versions = await newest.engine.versions(10);
    const sealed = versions.map(({ sealedAt }) => sealedAt).reverse();
    expect(sealed).toEqual([...sealed].sort((a, b) => a - b));
  });

  it('writes no object for a shard that has become empty', async () => {
    const { world, gateway } = await written();
    await foldVolume(world.maintenance, REF);
    await gateway.commit({ unmaps: [[0, 16_384]] });
    for (let turn = 0; turn < 8; turn += 1) {
      await gateway.commit({ unmaps: [[0, 16_384]] });
      await foldVolume(world.maintenance, REF);
    }
    const cold = world.gateway();
    await cold.open();
    expect(await cold.engine.mapped(0, 70_000)).toEqual({ mapped: false, count: 70_000 });
    expect(await cold.values(70_000, 1)).toEqual([7]);
    expect(await verifyVolume(world.maintenance, REF)).toMatchObject({ verdict: 'pass', blocks: 1 });
  });

  it('does not let an old run speak again for a shard that was rewritten empty', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({
      writes: [
        [5, 5],
        [20_000, 2],
      ],
    });
    await foldVolume(world.maintenance, REF);
    // Enough single changes for a rewrite of the first shard; the run stays for the sake of the second.
    await gateway.commit({ unmaps: Array.from({ length: 20 }, (_, at): [number, number] => [at * 61, 60]) });
    expect(await foldVolume(world.maintenance, REF)).toMatchObject({ shardsRewritten: 1, runs: 1 });
    const cold = world.gateway();
    await cold.open();
    expect(await cold.values(5, 1)).toEqual([0]);
    expect(await cold.values(20_000, 1)).toEqual([2]);
    expect(await verifyVolume(world.maintenance, REF)).toMatchObject({ verdict: 'pass', blocks: 1 });
  });

  it('rejects with not-found for a volume that is not there', async () => {
    const { world } = await written();
    await expect(foldVolume(world.maintenance, { ...REF, volume: 'none' })).rejects.toMatchObject({
      kind: 'not-found',
    });
  });
});
