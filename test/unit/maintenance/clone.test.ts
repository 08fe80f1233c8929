import { describe, expect, it } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import type { VolumeItem } from '../../../gateway/cloud/version-log.ts';
import { cloneVolume } from '../../../gateway/maintenance/clone.ts';
import { purgeVolume, PURGING } from '../../../gateway/maintenance/purge.ts';
import { RemoteVolumeEngine } from '../../../gateway/replication/remote-volume-engine.ts';
import { blockOf, REF, RemoteWorld } from '../../support/remote-world.ts';

const CLONE = { lineage: REF.lineage, volume: 'clone' };
const identity = {
  volume: 'clone',
  name: 'copy',
  targetName: 'iqn.2026-11.dev.farshore:t:copy',
  naa: Buffer.alloc(16, 7),
  createdAt: 5,
  deletedAt: undefined,
  owner: 'gw',
};
const signal = new AbortController().signal;

function itemOf(world: RemoteWorld, ref: { lineage: string; volume: string } = REF): VolumeItem {
  const item = world.table.getVolume(ref);
  if (item === undefined) throw new Error(`there is no volume ${ref.volume}`);
  return item;
}

/** A volume with history behind and before a fold; answers the version whose content is 1, 2, 3, 0, 5 in blocks 1, 2, 3, 4 and 40,000. */
async function withHistory(
  world: RemoteWorld,
  isFolded: boolean,
): Promise<{ n: number; write: (value: number) => Promise<number> }> {
  const gateway = world.gateway();
  await gateway.open();
  await gateway.commit({
    writes: [
      [1, 1],
      [2, 9],
      [4, 4],
    ],
  });
  await gateway.commit({ writes: [[40_000, 5]] });
  if (isFolded) await gateway.engine.fold();
  await gateway.commit({
    writes: [
      [2, 2],
      [3, 3],
    ],
    unmaps: [[4, 1]],
  });
  const { committedN: n } = await gateway.engine.status();
  return {
    n,
    write: async (value) => {
      await gateway.commit({
        writes: [
          [1, value],
          [3, value],
          [7, value],
        ],
      });
      if (isFolded) await gateway.engine.fold();
      return (await gateway.engine.status()).committedN;
    },
  };
}

function engineOf(world: RemoteWorld): RemoteVolumeEngine {
  const { store, versions, compression, clock, random } = world;
  const reader = { readBlocks: (places: Float64Array) => Promise.resolve([...places.keys()]) };
  return new RemoteVolumeEngine({ store, versions, reader, compression, clock, random, log: silentLog });
}

async function openClone(world: RemoteWorld): Promise<RemoteVolumeEngine> {
  const engine = engineOf(world);
  await engine.open({ ref: CLONE, takeover: false, gateway: 'gw', lastEpoch: 0, logId: 'clone-log' });
  return engine;
}

async function valuesOf(engine: RemoteVolumeEngine, blocks: readonly number[]): Promise<number[]> {
  const values: number[] = [];
  for (const block of blocks) {
    const { data, present } = await engine.read(block, 1);
    if (present[0] === 1 && !data.equals(blockOf(block, data.readDoubleLE(8)))) throw new Error('foreign content');
    values.push(present[0] === 1 ? data.readDoubleLE(8) : 0);
  }
  return values;
}

const BLOCKS = [1, 2, 3, 4, 7, 40_000];
const THEN = [1, 2, 3, 0, 0, 5];

describe('a clone', () => {
  it.each([true, false])('is its source as of the version, whatever came after (folded: %s)', async (isFolded) => {
    const world = new RemoteWorld();
    const { n, write } = await withHistory(world, isFolded);
    await write(8);
    const item = await cloneVolume(world.maintenance, {
      source: itemOf(world),
      n,
      clone: identity,
      attempt: 1,
      signal,
    });
    expect(item).toMatchObject({ ...CLONE, name: 'copy', owner: 'gw', floor: n, retainedFrom: n, bytes: 2 ** 30 });
    const engine = await openClone(world);
    expect(await valuesOf(engine, BLOCKS)).toEqual(THEN);
    expect(await engine.verify()).toMatchObject({ verdict: 'pass', problems: [] });
  });

  it('goes its own way: what is written to either is not seen in the other, also after folds, and it can go back to where it began', async () => {
    const world = new RemoteWorld();
    const { n, write } = await withHistory(world, true);
    await cloneVolume(world.maintenance, { source: itemOf(world), n, clone: identity, attempt: 1, signal });
    const engine = await openClone(world);
    const copied = await engine.copy({
      from: 'memory',
      blocks: Float64Array.of(1),
      unmaps: new Float64Array(),
      data: Uint8Array.from(blockOf(1, 77)),
      lost: [],
    });
    await engine.noteCopies(copied.header, true);
    await engine.commitCopies({ headers: 1, firstSeq: 100, throughSeq: 100, newestWriteAt: 0 });
    await write(8);
    await engine.fold();
    expect(await valuesOf(engine, BLOCKS)).toEqual([77, ...THEN.slice(1)]);
    expect(await engine.verify()).toMatchObject({ verdict: 'pass' });
    const source = world.gateway('gw');
    await source.open();
    expect(await source.values(1, 3)).toEqual([8, 2, 8]);
    await engine.close();
    const again = await openClone(world);
    await again.rollBackTo(n);
    expect(await valuesOf(again, BLOCKS)).toEqual(THEN);
  });

  it('that is made again after a crash half-way is made anew, and one that is whole is found', async () => {
    const world = new RemoteWorld();
    const { n } = await withHistory(world, true);
    const source = itemOf(world);
    let puts = 0;
    world.faults.before = (request) => {
      if (request.startsWith('put ') && request.includes('/volumes/clone/') && ++puts === 2) throw new Error('crash');
    };
    await expect(cloneVolume(world.maintenance, { source, n, clone: identity, attempt: 1, signal })).rejects.toThrow(
      'crash',
    );
    expect(world.table.getVolume(CLONE)).toBeUndefined();
    const made = await cloneVolume(world.maintenance, { source, n, clone: identity, attempt: 2, signal });
    const found = await cloneVolume(world.maintenance, { source, n, clone: identity, attempt: 3, signal });
    expect(found).toEqual(made);
    expect(await valuesOf(await openClone(world), BLOCKS)).toEqual(THEN);
  });

  it('of a version that is not kept any more is refused, and leaves nothing', async () => {
    const world = new RemoteWorld();
    const { n } = await withHistory(world, true);
    const source = { ...itemOf(world), retainedFrom: n + 1 };
    await expect(
      cloneVolume(world.maintenance, { source, n, clone: identity, attempt: 1, signal }),
    ).rejects.toMatchObject({ kind: 'input' });
    expect(world.count('put lineages/lin/volumes/clone')).toBe(0);
  });
});

describe('the purge of a volume', () => {
  async function purge(world: RemoteWorld, ref: { lineage: string; volume: string }): Promise<void> {
    world.table.changeVolume(ref, itemOf(world, ref).epoch, { deletedAt: 1, retainedFrom: PURGING });
    await purgeVolume({ store: world.store, log: world.versions }, itemOf(world, ref), () => undefined);
  }

  it('leaves its clones whole; the purge of the last one of the lineage takes the rest', async () => {
    const world = new RemoteWorld();
    const { n } = await withHistory(world, true);
    await cloneVolume(world.maintenance, { source: itemOf(world), n, clone: identity, attempt: 1, signal });
    await purge(world, REF);
    expect(world.table.getVolume(REF)).toBeUndefined();
    const engine = await openClone(world);
    expect(await valuesOf(engine, BLOCKS)).toEqual(THEN);
    expect(await engine.verify()).toMatchObject({ verdict: 'pass' });
    await engine.close();
    await purge(world, CLONE);
    expect(world.objects.list('', 10).objects).toEqual([]);
  });

  it('that begins while a clone is being made: either the clone is refused, or its segments stay', async () => {
    // At every request of the making of the clone, the whole purge happens.
    for (let at = 1; ; at += 1) {
      const world = new RemoteWorld();
      const { n } = await withHistory(world, true);
      const source = itemOf(world);
      let requests = 0;
      let purging: Promise<void> | undefined;
      const act = async (): Promise<void> => {
        requests += 1;
        if (requests !== at || purging !== undefined) return;
        world.faults.before = () => undefined;
        world.faults.after = () => undefined;
        purging = purge(world, REF);
        await purging;
      };
      world.faults.before = act;
      world.faults.after = act;
      let refusal: unknown;
      try {
        await cloneVolume(world.maintenance, { source, n, clone: identity, attempt: 1, signal });
      } catch (error) {
        refusal = error;
      }
      if (purging === undefined) {
        expect(at).toBeGreaterThan(10);
        return;
      }
      if (refusal === undefined) expect(await valuesOf(await openClone(world), BLOCKS), `at ${at}`).toEqual(THEN);
      else expect(world.table.getVolume(CLONE), `at ${at}`).toBeUndefined();
    }
  });
});
