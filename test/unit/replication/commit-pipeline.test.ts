import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import { LOST_BLOCK } from '../../../gateway/replication/remote-volume.ts';
import { segmentKey } from '../../../gateway/format/keys.ts';
import { RemoteWorld } from '../../support/remote-world.ts';

/** Requests that match wait until they are let through. */
class Gate {
  readonly waiting: { readonly request: string; readonly open: () => void }[] = [];
  readonly #matches: (request: string) => boolean;
  #arrived: () => void = () => undefined;

  constructor(matches: (request: string) => boolean) {
    this.#matches = matches;
  }

  readonly pass = (request: string): void | Promise<void> => {
    if (!this.#matches(request)) return;
    return new Promise((open) => {
      this.waiting.push({ request, open });
      this.#arrived();
    });
  };

  /** Resolves when `count` requests are waiting. */
  async arrived(count: number): Promise<void> {
    while (this.waiting.length < count) {
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
  }
}

const FUTURE = Buffer.from('of the future');

function foreignVersion(n: number, epoch: number) {
  return { n, epoch, record: Buffer.from('foreign'), chain: Buffer.alloc(32, 7), inline: Buffer.alloc(0) };
}

const isSegmentPut = (request: string): boolean => request.startsWith('put ') && request.includes('/segments/');

describe('committing batches', () => {
  it('uploads several segments at once and puts each version only after its segment and those before it', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    const gate = new Gate(isSegmentPut);
    world.faults.before = gate.pass;
    const order: number[] = [];
    const commits = [1, 2, 3, 4, 5].map(async (value) => {
      const { n } = await gateway.commit({ writes: [[value, value]] });
      order.push(n);
      // The version is in the map before the commit says so.
      expect(await gateway.values(value, 1)).toEqual([value]);
    });
    await gate.arrived(4);
    const puts = world.count('putVersion');
    // The later segments arrive first: nothing may be put before the first one is there.
    gate.waiting[3]?.open();
    gate.waiting[2]?.open();
    gate.waiting[1]?.open();
    await gate.arrived(5);
    expect(gate.waiting).toHaveLength(5);
    gate.waiting[4]?.open();
    await new Promise((resolve) => setImmediate(resolve));
    expect(world.count('putVersion')).toBe(puts);
    expect(order).toEqual([]);
    gate.waiting[0]?.open();
    await Promise.all(commits);
    expect(order).toEqual([2, 3, 4, 5, 6]);
  });

  it('survives lost answers, errors and lost requests with the same bytes under each number', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    const trouble = (): void => {
      if (world.random.fraction() < 0.3) throw new FarshoreError('retry', 'trouble');
    };
    world.faults.before = trouble;
    world.faults.after = trouble;
    const results = await Promise.all(
      Array.from({ length: 30 }, (_, at) =>
        gateway.commit({
          writes: [
            [at, at + 1],
            [500, at],
          ],
        }),
      ),
    );
    expect(results.map(({ n }) => n)).toEqual(Array.from({ length: 30 }, (_, at) => at + 2));
    world.faults.before = () => undefined;
    world.faults.after = () => undefined;
    expect(await gateway.values(0, 30)).toEqual(Array.from({ length: 30 }, (_, at) => at + 1));
    expect(world.objects.keys().filter((key) => key.includes('/segments/'))).toHaveLength(30);
    expect((await gateway.engine.verify()).verdict).toBe('pass');
  });

  it('never uses a segment number twice, over restarts, lost allocations and failures', async () => {
    const world = new RemoteWorld();
    for (let start = 0; start < 5; start += 1) {
      const gateway = world.gateway('gw');
      await gateway.open();
      let lost = 2;
      world.faults.after = (request) => {
        if (request.startsWith('allocateNumbers') && lost > 0) {
          lost -= 1;
          throw new FarshoreError('retry', 'the answer was lost');
        }
      };
      await gateway.commit({ writes: [[start, 1]] });
      const dying = gateway.commit({ writes: [[start, 2]] });
      await gateway.engine.close();
      await expect(dying).rejects.toMatchObject({ kind: 'stopped' });
    }
    const ranges = world.table.ledger.map(({ from, to }) => [from, to] as const);
    expect(ranges).toHaveLength(15);
    for (const [at, [from]] of ranges.entries()) expect(from).toBe(at === 0 ? 1 : ranges[at - 1]?.[1]);
  });

  it('takes the next range of numbers when one is used up', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    const take = world.table.allocateNumbers.bind(world.table);
    world.table.allocateNumbers = (ref, epoch) => take(ref, epoch, 2);
    for (let value = 1; value <= 5; value += 1) await gateway.commit({ writes: [[value, value]] });
    expect(world.objects.keys().filter((key) => key.includes('/segments/'))).toHaveLength(5);
    expect(await gateway.values(1, 5)).toEqual([1, 2, 3, 4, 5]);
  });

  it('commits a block that the log has lost as lost, and everything else', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({ writes: [[2, 9]] });
    const broken = gateway.batch({
      writes: [
        [1, 1],
        [2, 2],
        [3, 3],
      ],
    });
    gateway.logBlocks.delete(broken.places[1] ?? 0);
    expect(await gateway.engine.commit(broken)).toMatchObject({ n: 3, lost: [2] });
    expect(await gateway.commit({ writes: [[4, 4]] })).toMatchObject({ n: 4, lost: [] });
    // What an older version has of it is not its content.
    const { present, data } = await gateway.engine.read(1, 4);
    expect([...present]).toEqual([1, LOST_BLOCK, 1, 1]);
    expect(data).toHaveLength(3 * BLOCK_SIZE);
    expect(await gateway.values(3, 2)).toEqual([3, 4]);
    const report = await gateway.engine.verify();
    expect(report.verdict).toBe('fail');
    expect(report.problems).toEqual([expect.stringMatching(/block 2 was lost on its gateway/)]);

    // It is the same after a fold and for another gateway, and mended by the next write.
    await gateway.engine.fold();
    const other = world.gateway('other');
    await other.open();
    expect([...(await other.engine.read(1, 4)).present]).toEqual([1, LOST_BLOCK, 1, 1]);
    expect((await other.engine.verify()).verdict).toBe('fail');
    await other.commit({ writes: [[2, 5]] });
    expect(await other.values(1, 4)).toEqual([1, 5, 3, 4]);
    expect((await other.engine.verify()).verdict).toBe('pass');
  });

  it.each(['put ', 'allocateNumbers'])('tells an operator when it has failed for a while at %s', async (request) => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    let away = true;
    world.faults.before = (asked) => {
      if (away && asked.startsWith(request)) throw new FarshoreError('retry', 'the cloud is away');
    };
    const commit = gateway.commit({ writes: [[1, 1]] });
    let problem: string | undefined;
    for (let turn = 0; turn < 10_000 && problem === undefined; turn += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      ({ problem } = await gateway.engine.status());
    }
    expect(problem).toMatch(/nothing is replicated: the gateway cannot .* since .*: the cloud is away/);
    away = false;
    await commit;
    expect((await gateway.engine.status()).problem).toBeUndefined();
  });

  it('takes a block for lost only when it stays unreadable', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    const batch = gateway.batch({ writes: [[2, 2]] });
    const place = batch.places[0] ?? 0;
    const held = gateway.logBlocks.get(place);
    if (held === undefined) throw new Error('the batch lies in the log');
    gateway.logBlocks.delete(place);
    const commit = gateway.engine.commit(batch);
    await new Promise((resolve) => setImmediate(resolve));
    gateway.logBlocks.set(place, held);
    expect(await commit).toMatchObject({ lost: [] });
    expect(await gateway.values(2, 1)).toEqual([2]);
  });

  describe('when a segment number of its own holds other bytes', () => {
    async function rolledBack() {
      const world = new RemoteWorld();
      const gateway = world.gateway();
      await gateway.open();
      await gateway.commit({ writes: [[1, 1]] });
      const { number = 0 } = { number: world.table.ledger[0]?.from };
      const put = (): unknown => world.objects.put(segmentKey('lin', number + 1), FUTURE, crc32(FUTURE));
      return { world, gateway, put };
    }

    it('is fenced when its epoch has passed: it is a machine that was rolled back with its memory', async () => {
      const { world, gateway, put } = await rolledBack();
      put();
      await world.gateway('other').open();
      await expect(gateway.commit({ writes: [[2, 2]] })).rejects.toMatchObject({ kind: 'fenced' });
      expect(gateway.fenced).toHaveLength(1);
    });

    it('is fenced when a copy of it has put the version, also while that is still on its way', async () => {
      const { world, gateway, put } = await rolledBack();
      put();
      const commit = gateway.commit({ writes: [[2, 2]] });
      let looks = 0;
      world.faults.before = (request) => {
        if (!request.startsWith('getVersion') || (looks += 1) !== 2) return;
        world.table.putVersion('vol', foreignVersion(3, 1), 1);
      };
      await expect(commit).rejects.toMatchObject({ kind: 'fenced' });
      await expect(commit).rejects.toThrow(/a copy of this gateway writes to volume/);
      expect(gateway.fenced).toHaveLength(1);
    });

    it('is damage when nobody else can be found', async () => {
      const { gateway, put } = await rolledBack();
      put();
      await expect(gateway.commit({ writes: [[2, 2]] })).rejects.toMatchObject({ kind: 'damaged' });
      expect(gateway.fenced).toHaveLength(0);
    });
  });

  it('rejects with fenced what was under way when another gateway took over, and tells so once', async () => {
    const world = new RemoteWorld();
    const old = world.gateway('old');
    await old.open();
    await old.commit({ writes: [[1, 1]] });
    const gate = new Gate(isSegmentPut);
    world.faults.before = gate.pass;
    const commits = [2, 3].map((value) => old.commit({ writes: [[value, value]] }));
    await gate.arrived(2);
    world.faults.before = () => undefined;
    const taker = world.gateway('taker');
    expect(await taker.open()).toMatchObject({ epoch: 2, lastData: { epoch: 1, logId: old.logId, throughSeq: 1 } });
    for (const { open } of gate.waiting) open();
    for (const commit of commits) await expect(commit).rejects.toMatchObject({ kind: 'fenced' });
    expect(old.fenced).toHaveLength(1);
    await expect(old.values(0, 1)).rejects.toMatchObject({ kind: 'fenced' });
    expect(await taker.values(0, 5)).toEqual([0, 1, 0, 0, 0]);
  });

  it('does not give up a commit because of a refusal that an administrator can mend', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    let refusals = 20;
    world.faults.before = (request) => {
      if (!isSegmentPut(request) || refusals === 0) return;
      refusals -= 1;
      throw new FarshoreError('input', 'access denied');
    };
    expect(await gateway.commit({ writes: [[1, 1]] })).toMatchObject({ n: 2 });
    expect(refusals).toBe(0);
  });

  it('writes zeros as an unmap, and a version of nothing but zeros without a frame', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({
      writes: [
        [1, 1],
        [2, 2],
        [3, 3],
      ],
    });
    const committed = await gateway.commit({
      writes: [
        [1, 0],
        [2, 0],
      ],
      unmaps: [[3, 4]],
    });
    expect(committed.storedBytes).toBeLessThan(1024);
    expect(await gateway.engine.mapped(0, 100)).toEqual({ mapped: false, count: 100 });
  });
});
