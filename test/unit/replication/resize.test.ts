import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { REF, RemoteWorld, type TestGateway } from '../../support/remote-world.ts';

const SMALL = 2 ** 30;
const LARGE = 2 ** 31;

async function opened(world: RemoteWorld): Promise<{ gateway: TestGateway; bytes: number }> {
  const gateway = world.gateway();
  const { item } = await gateway.open();
  return { gateway, bytes: item.bytes };
}

/** Lets everything be done that waits for nothing but its turn. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe('a resize in the version log', () => {
  it('is a version behind the writes before it, and what opens the volume next has the new size and the last data', async () => {
    const world = new RemoteWorld(SMALL);
    const { gateway } = await opened(world);
    await gateway.commit({ writes: [[1, 1]] });
    const { n } = await gateway.resize(LARGE);
    expect(n).toBe(3);
    const [newest] = await gateway.engine.versions(1);
    expect(newest).toMatchObject({ n: 3, kind: 'resize', blocks: 0 });
    const next = world.gateway();
    const { item, lastData } = await next.open();
    expect(item.bytes).toBe(LARGE);
    expect(lastData).toMatchObject({ logId: gateway.logId, throughSeq: 1 });
    expect(await next.engine.verify()).toMatchObject({ verdict: 'pass', problems: [] });
  });

  it('counts although its gateway died before the volume item was told, and the next one tells it', async () => {
    const world = new RemoteWorld(SMALL);
    const { gateway } = await opened(world);
    world.faults.before = (request) => {
      if (request.startsWith('changeVolume')) throw new FarshoreError('stopped', 'the power is off');
    };
    await gateway.resize(LARGE);
    expect(world.table.getVolume(REF)?.bytes).toBe(SMALL);
    delete world.faults.before;
    expect((await opened(world)).bytes).toBe(LARGE);
    await settled();
    expect(world.table.getVolume(REF)?.bytes).toBe(LARGE);
  });

  it('whose answer was lost is found by the walk of the next start, takeover records in between or not', async () => {
    const world = new RemoteWorld(SMALL);
    const { gateway } = await opened(world);
    const seen = { cut: false };
    world.faults.after = (request) => {
      if (request.startsWith('putVersion') && request.includes('n=2')) seen.cut = true;
      if (seen.cut) throw new FarshoreError('retry', 'no answer');
    };
    const resizing = gateway.resize(LARGE);
    resizing.catch(() => undefined);
    while (!seen.cut) await new Promise((resolve) => setImmediate(resolve));
    await gateway.engine.close();
    await expect(resizing).rejects.toMatchObject({ kind: 'stopped' });
    delete world.faults.after;
    for (let start = 0; start < 3; start += 1) expect((await opened(world)).bytes).toBe(LARGE);
  });

  it('that was not put before a takeover never counts, and its gateway learns that it is fenced', async () => {
    const world = new RemoteWorld(SMALL);
    const { gateway } = await opened(world);
    const taker = await opened(world);
    expect(taker.bytes).toBe(SMALL);
    await expect(gateway.resize(LARGE)).rejects.toMatchObject({ kind: 'fenced' });
    expect((await opened(world)).bytes).toBe(SMALL);
    expect(world.table.getVolume(REF)?.bytes).toBe(SMALL);
  });

  it('is in the checkpoint after a fold of the whole log, and in what follows it', async () => {
    const world = new RemoteWorld(SMALL);
    const { gateway } = await opened(world);
    await gateway.resize(LARGE);
    await gateway.engine.fold();
    const { gateway: second, bytes } = await opened(world);
    expect(bytes).toBe(LARGE);
    await second.engine.fold();
    // Nothing but the checkpoint says so any more: no record follows it, and the item is old.
    world.table.changeVolume(REF, 2, { bytes: SMALL });
    const { gateway: third, bytes: again } = await opened(world);
    expect(again).toBe(LARGE);
    await third.commit({ writes: [[LARGE / 4096 - 1, 9]] });
    expect((await opened(world)).bytes).toBe(LARGE);
  });

  it('cuts off what it unmaps: after growing again the blocks there read zeros, folded or not', async () => {
    for (const fold of [false, true]) {
      const world = new RemoteWorld(LARGE);
      const { gateway } = await opened(world);
      const beyond = SMALL / 4096 + 5;
      await gateway.commit({ writes: [[beyond, 7]] });
      await gateway.resize(SMALL, [SMALL / 4096, (LARGE - SMALL) / 4096]);
      if (fold) await gateway.engine.fold();
      await gateway.resize(LARGE);
      expect(await gateway.values(beyond, 1)).toEqual([0]);
      const { gateway: next, bytes } = await opened(world);
      expect(bytes).toBe(LARGE);
      expect(await next.values(beyond, 1)).toEqual([0]);
      expect(await next.engine.nextMapped(0, 16)).toBeUndefined();
    }
  });

  it('is undone and done again by going back over it: every version has the size it had', async () => {
    const world = new RemoteWorld(SMALL);
    const { gateway } = await opened(world);
    await gateway.commit({ writes: [[1, 1]] });
    await gateway.resize(LARGE);
    const beyond = SMALL / 4096;
    await gateway.commit({ writes: [[beyond, 2]] });
    for (const [n, size, value] of [
      [2, SMALL, 0],
      [3, LARGE, 0],
      [4, LARGE, 2],
      [2, SMALL, 0],
    ] as const) {
      const { gateway: restorer } = await opened(world);
      expect(await restorer.engine.rollBackTo(n)).toMatchObject({ volumeBytes: size });
      expect(await restorer.values(beyond, 1)).toEqual([value]);
      if (n === 3) await restorer.engine.fold();
      const { gateway: next, bytes } = await opened(world);
      expect(bytes).toBe(size);
      await settled();
      expect(world.table.getVolume(REF)?.bytes).toBe(size);
      expect(await next.engine.verify()).toMatchObject({ verdict: 'pass', problems: [] });
    }
  });
});
