import { describe, expect, it } from 'vitest';
import { INLINE_UNITS_PER_SECOND, InlineBudget, MAX_INLINE_BYTES } from '../../../gateway/replication/inline-budget.ts';
import { LOST_BLOCK } from '../../../gateway/replication/remote-volume.ts';
import { RemoteWorld, type TestBatch } from '../../support/remote-world.ts';

const segmentsOf = (world: RemoteWorld): number =>
  world.requests.filter((request) => /^put .*\/segments\//.test(request)).length;
const awaited = (...writes: (readonly [number, number])[]): TestBatch => ({ writes, isAwaited: true });

describe('inline payloads', () => {
  it('are read from memory, move into a segment when they are folded, and can be gone back to', async () => {
    const world = new RemoteWorld();
    const first = world.gateway();
    await first.open();
    await first.commit({
      writes: [
        [1, 1],
        [2, 2],
      ],
    });
    const segments = segmentsOf(world);
    const { n: through } = await first.commit(awaited([2, 22], [3, 33]));
    const { throughSeq } = await first.commit(awaited([3, 333], [9, 99]));
    expect(segmentsOf(world)).toBe(segments);
    expect(await first.values(0, 4)).toEqual([0, 1, 22, 333]);

    const gateway = world.gateway();
    const opened = await gateway.open();
    expect(opened.lastData).toMatchObject({ logId: first.logId, throughSeq });
    const expected = [0, 1, 22, 333, 0, 0, 0, 0, 0, 99];
    expect(await gateway.values(0, 10)).toEqual(expected);
    expect(await gateway.engine.verify()).toMatchObject({ verdict: 'pass', problems: [], blocks: 4 });

    await gateway.engine.rollBackTo(through);
    expect(await gateway.values(0, 10)).toEqual([0, 1, 22, 33, 0, 0, 0, 0, 0, 0]);
    const back = world.gateway();
    await back.open();
    await back.engine.rollBackTo(through + 1);
    expect(await back.values(0, 10)).toEqual(expected);

    await back.engine.fold();
    expect(await back.values(0, 10)).toEqual(expected);
    const cold = world.gateway();
    await cold.open();
    expect(await cold.values(0, 10)).toEqual(expected);
    expect(await cold.engine.verify()).toMatchObject({ verdict: 'pass', problems: [], blocks: 4 });
  });

  it('have no lost blocks: those are in segments, where reads and folds know them', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    const batch = gateway.batch(awaited([1, 11], [2, 22]));
    gateway.logBlocks.delete(batch.places[0] ?? 0);
    expect((await gateway.engine.commit(batch)).lost).toEqual([1]);
    expect([...(await gateway.engine.read(0, 3)).present]).toEqual([0, LOST_BLOCK, 1]);
    await gateway.engine.fold();
    const cold = world.gateway();
    await cold.open();
    expect([...(await cold.engine.read(0, 3)).present]).toEqual([0, LOST_BLOCK, 1]);
  });

  it('are found where a fold has put them, by whoever has the map of the place in memory', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({ writes: [[1, 1]] });
    await gateway.engine.fold();
    // The shard is in memory from here on.
    expect(await gateway.values(0, 2)).toEqual([0, 1]);
    for (const round of [2, 3, 4]) {
      await gateway.commit(awaited([1, round], [7, round]));
      await gateway.engine.fold();
      expect(await gateway.values(0, 8)).toEqual([0, round, 0, 0, 0, 0, 0, round]);
    }
    // Nothing of it is left in the version items either.
    await gateway.engine.fold();
    expect(await gateway.values(7, 1)).toEqual([4]);
  });

  it('carry zeros and unmaps too', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    const segments = segmentsOf(world);
    await gateway.commit(awaited([1, 1], [2, 2], [3, 3]));
    await gateway.commit({ writes: [[1, 0]], unmaps: [[3, 1]], isAwaited: true });
    expect(segmentsOf(world)).toBe(segments);
    expect(await gateway.values(1, 3)).toEqual([0, 2, 0]);
    await gateway.engine.fold();
    expect(await gateway.values(1, 3)).toEqual([0, 2, 0]);
  });

  it('are for batches that somebody waits for, and small ones', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({ writes: [[1, 1]] });
    expect(segmentsOf(world)).toBe(1);
    const many = Array.from({ length: 32 }, (_, at) => [at, at + 1] as const);
    await gateway.commit({ writes: many, isAwaited: true });
    expect(segmentsOf(world)).toBe(2);
    await gateway.commit(awaited([1, 2]));
    expect(segmentsOf(world)).toBe(2);
  });

  it('leave the partition of the table what it needs: beyond the budget a batch goes to S3', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    // Nothing waits in this world, so all of it happens in no time.
    for (let at = 0; at < 200; at++) await gateway.commit(awaited([at, at + 1]));
    expect(segmentsOf(world)).toBeGreaterThan(100);
    expect(segmentsOf(world)).toBeLessThan(180);
    expect(await gateway.values(0, 3)).toEqual([1, 2, 3]);
  });
});

describe('the budget', () => {
  it('is what a partition has, less what versions with segments need of it', () => {
    const clock = { ms: 0, monotonicMs: () => clock.ms };
    const budget = new InlineBudget(clock);
    const spend = (seconds: number, besides: number): number => {
      let units = 0;
      for (const end = clock.ms + seconds * 1000; clock.ms < end; clock.ms += 10) {
        for (let at = 0; at < besides; at++) budget.noteVersion();
        while (budget.takes(4096)) units += 5;
      }
      return units / seconds;
    };
    spend(1, 0);
    expect(spend(10, 0)).toBeGreaterThan(INLINE_UNITS_PER_SECOND * 0.95);
    expect(spend(10, 0)).toBeLessThanOrEqual(INLINE_UNITS_PER_SECOND);
    expect(spend(10, 4)).toBeLessThanOrEqual(INLINE_UNITS_PER_SECOND - 390);
    expect(budget.takes(MAX_INLINE_BYTES + 1)).toBe(false);
  });
});

describe('what became of versions when somebody else has the volume', () => {
  async function taken(world: RemoteWorld): Promise<{ old: ReturnType<RemoteWorld['gateway']>; through: number }> {
    const old = world.gateway('old');
    await old.open();
    const { throughSeq } = await old.commit(awaited([1, 1]));
    return { old, through: throughSeq };
  }

  const ended = (commit: Promise<unknown>): Promise<string> =>
    commit.then(
      () => 'committed',
      (error: unknown) => (error instanceof Error && 'kind' in error ? String(error.kind) : String(error)),
    );

  it('is proven when the takeover stands: what was sent before it is there, what came after it never will be', async () => {
    const world = new RemoteWorld();
    const { old, through } = await taken(world);
    // Put, and the answer is lost until the volume has a new owner.
    let lost = 0;
    let isCut = true;
    world.faults.after = async (request) => {
      if (!request.startsWith('putVersion') || !isCut) return;
      lost += 1;
      await new Promise<void>((resolve) => {
        const wait = (): void => {
          if (isCut) setImmediate(wait);
          else resolve();
        };
        wait();
      });
    };
    const committed = ended(old.commit(awaited([1, 2])));
    while (lost === 0) await new Promise((resolve) => setImmediate(resolve));
    delete world.faults.after;
    await expect(old.engine.provenThrough()).rejects.toMatchObject({ kind: 'bug' });
    await world.gateway('new').open();
    await old.engine.confirmOwnership();
    const late = ended(old.commit(awaited([1, 3])));
    isCut = false;
    expect(['fenced', 'committed']).toContain(await committed);
    expect(await late).toBe('fenced');
    expect(await old.engine.provenThrough()).toBe(through + 1);
  });

  it('is never known when a copy of the gateway has gone on: it has the same log, and makes versions of it', async () => {
    const world = new RemoteWorld();
    const { old, through } = await taken(world);
    await world.gateway(old.name).open();
    await old.engine.confirmOwnership();
    await expect(old.engine.provenThrough()).rejects.toMatchObject({ kind: 'not-found' });
    // Nor when another one has it by now: what the copy had is in the history.
    await world.gateway('new').open();
    await expect(old.engine.provenThrough()).rejects.toMatchObject({ kind: 'not-found' });
    expect(through).toBeGreaterThan(0);
  });

  it('is not known as long as nobody has gone on from there', async () => {
    const world = new RemoteWorld();
    const { old, through } = await taken(world);
    world.table.raiseEpoch(
      { lineage: 'lin', volume: 'vol' },
      old.engine.epoch ?? 0,
      (old.engine.epoch ?? 0) + 1,
      'new',
    );
    await old.engine.confirmOwnership();
    await expect(old.engine.provenThrough()).rejects.toMatchObject({ kind: 'retry' });
    await world.gateway('new').open();
    expect(await old.engine.provenThrough()).toBe(through);
  });
});
