import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { SHARD_BLOCKS } from '../../../gateway/format/run.ts';
import { foldVolume } from '../../../gateway/maintenance/fold.ts';
import { REF, RemoteWorld } from '../../support/remote-world.ts';

const segmentGets = (world: RemoteWorld): number =>
  world.requests.filter((request) => request.startsWith('get ') && request.includes('/segments/')).length;

/** What is counted is what a walk over every block finds. */
async function expectCount(gateway: ReturnType<RemoteWorld['gateway']>): Promise<number> {
  let count = 0;
  for (let at = 0; ;) {
    const found = await gateway.engine.nextMapped(at, 256);
    if (found === undefined) break;
    count += found.blocks.length;
    at = (found.blocks.at(-1) ?? at) + 1;
  }
  expect(await gateway.engine.countMapped()).toBe(count);
  return count;
}

describe('counting mapped blocks', () => {
  it('is right over shards, runs and what is in memory, and reads no shard that nothing has changed', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    expect(await expectCount(gateway)).toBe(0);
    const far = 5 * SHARD_BLOCKS;
    await gateway.commit({ writes: Array.from({ length: 300 }, (_, at) => [at, 1]) });
    await gateway.commit({ writes: Array.from({ length: 200 }, (_, at) => [far + at, 1]) });
    expect(await expectCount(gateway)).toBe(500);
    await gateway.engine.fold();
    expect(await expectCount(gateway)).toBe(500);
    await gateway.commit({
      writes: [
        [7, 2],
        [far + 500, 2],
      ],
      unmaps: [[100, 100]],
    });
    expect(await expectCount(gateway)).toBe(401);
    await gateway.engine.fold();
    expect(await expectCount(gateway)).toBe(401);
    await gateway.commit({ unmaps: [[0, 2 * SHARD_BLOCKS]] });
    expect(await expectCount(gateway)).toBe(201);
    const next = world.gateway();
    await next.open();
    expect(await expectCount(next)).toBe(201);
  });
});

describe('reading', () => {
  it('fetches neighbouring frames with one request and keeps the last ones in memory', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({ writes: Array.from({ length: 256 }, (_, at) => [at, at + 1]) });
    expect(await gateway.values(0, 96)).toEqual(Array.from({ length: 96 }, (_, at) => at + 1));
    expect(segmentGets(world)).toBe(1);
    await gateway.values(3, 40);
    expect(segmentGets(world)).toBe(1);
    await gateway.values(0, 256);
    expect(segmentGets(world)).toBe(2);
  });

  it('lets concurrent readers of a frame share one request', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({
      writes: [
        [1, 1],
        [2, 2],
      ],
    });
    const results = await Promise.all([gateway.values(1, 1), gateway.values(2, 1), gateway.values(0, 4)]);
    expect(results).toEqual([[1], [2], [0, 1, 2, 0]]);
    expect(segmentGets(world)).toBe(1);
  });

  it('asks S3 for nothing where nothing is mapped', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({ writes: [[5, 5]] });
    const before = world.requests.length;
    expect(await gateway.values(1000, 200)).toEqual(new Array(200).fill(0));
    expect(world.requests).toHaveLength(before);
  });

  it('loads the shard of a cold block once, however many ask', async () => {
    const world = new RemoteWorld();
    const writer = world.gateway();
    await writer.open();
    await writer.commit({ writes: Array.from({ length: 1500 }, (_, at) => [at, at + 1]) });
    await writer.engine.fold();
    const reader = world.gateway();
    await reader.open();
    await Promise.all([reader.values(0, 10), reader.values(700, 10), reader.values(1400, 10)]);
    expect(world.requests.filter((request) => request.includes('/shards/') && request.startsWith('get'))).toHaveLength(
      1,
    );
  });

  it('goes on where another maintainer has folded and the objects it knew are gone', async () => {
    const world = new RemoteWorld();
    const writer = world.gateway();
    await writer.open();
    await writer.commit({ writes: Array.from({ length: 1500 }, (_, at) => [at, at + 1]) });
    await writer.engine.fold();
    const reader = world.gateway();
    await reader.open();
    await reader.commit({ writes: Array.from({ length: 1500 }, (_, at) => [at, at + 2]) });
    await foldVolume(world.maintenance, REF);
    const [old] = world.objects.keys().filter((key) => key.includes('/shards/'));
    world.objects.delete([old ?? '']);
    expect(await reader.values(10, 2)).toEqual([12, 13]);
    expect(await reader.values(1499, 3)).toEqual([1501, 0, 0]);
    expect(await reader.engine.status()).toMatchObject({ checkpointN: 4, overlayEntries: 0 });
  });

  it('says damaged when an object stays missing, and retry when the cloud is away', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({ writes: [[1, 1]] });
    world.faults.before = () => {
      throw new FarshoreError('retry', 'no route');
    };
    await expect(gateway.values(1, 1)).rejects.toMatchObject({ kind: 'retry' });
    world.faults.before = () => undefined;
    expect(await gateway.values(1, 1)).toEqual([1]);
    const cold = world.gateway();
    await cold.open();
    world.objects.delete(world.objects.keys().filter((key) => key.includes('/segments/')));
    await expect(cold.values(1, 1)).rejects.toMatchObject({ kind: 'damaged' });
  });

  it('fetches a frame that arrived damaged once more', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({ writes: [[1, 1]] });
    const get = world.objects.get.bind(world.objects);
    let spoiled = 1;
    world.objects.get = (key, range) => {
      const bytes = get(key, range);
      if (spoiled-- > 0) bytes?.writeUInt8(bytes.readUInt8(200) ^ 1, 200);
      return bytes;
    };
    expect(await gateway.values(1, 1)).toEqual([1]);
  });

  it('answers what is mapped and what comes next over shards, runs and changes in memory', async () => {
    const world = new RemoteWorld(2 ** 36);
    const gateway = world.gateway();
    await gateway.open();
    const far = 5 * SHARD_BLOCKS;
    await gateway.commit({ writes: Array.from({ length: 1100 }, (_, at) => [at + 4, 1]) });
    await gateway.engine.fold();
    await gateway.commit({ writes: [[far, 2]] });
    await gateway.engine.fold();
    await gateway.commit({
      writes: [
        [far + 1, 3],
        [9 * SHARD_BLOCKS - 1, 4],
      ],
      unmaps: [[500, 100]],
    });
    expect(await gateway.engine.mapped(0, 1000)).toEqual({ mapped: false, count: 4 });
    expect(await gateway.engine.mapped(4, 100_000)).toEqual({ mapped: true, count: 496 });
    expect(await gateway.engine.mapped(550, 10)).toEqual({ mapped: false, count: 10 });
    expect(await gateway.engine.mapped(1104, 10_000_000)).toEqual({ mapped: false, count: far - 1104 });
    expect(await gateway.engine.mapped(far, 10)).toEqual({ mapped: true, count: 2 });
    expect(await gateway.engine.mapped(9 * SHARD_BLOCKS, 7)).toEqual({ mapped: false, count: 7 });
    expect(await gateway.engine.nextMapped(1103, 256)).toEqual({ blocks: [1103, far, far + 1, 9 * SHARD_BLOCKS - 1] });
    expect(await gateway.engine.nextMapped(0, 2)).toEqual({ blocks: [4, 5] });
    expect(await gateway.engine.nextMapped(9 * SHARD_BLOCKS, 2)).toBeUndefined();
    await expectCount(gateway);
  });

  it('never shows what another gateway wrote after a takeover, not even out of its own fold', async () => {
    const world = new RemoteWorld();
    const old = world.gateway('old');
    await old.open();
    await old.commit({ writes: [[1, 1]] });
    const other = world.gateway('other');
    await other.open();
    await other.commit({ writes: [[1, 2]] });
    expect(await old.values(1, 1)).toEqual([1]);
    await old.engine.fold();
    await expect(old.values(1, 1)).rejects.toMatchObject({ kind: 'fenced' });
    expect(old.fenced).toHaveLength(1);
    expect(await other.values(1, 1)).toEqual([2]);
  });

  it('folds by itself at its thresholds, and lets commits wait when folds cannot keep up', async () => {
    const world = new RemoteWorld();
    const foldAt = { segments: 4, versions: 1000, inlineBytes: 1e9, ranges: 1000 };
    const gateway = world.gateway('gw', { foldAt });
    await gateway.open();
    let away = true;
    world.faults.before = (request) => {
      if (away && request.startsWith('raiseMaintenanceEpoch')) throw new FarshoreError('retry', 'away');
    };
    const commits = Array.from({ length: 20 }, (_, at) => gateway.commit({ writes: [[at, at + 1]] }));
    await Promise.all(commits.slice(0, 16));
    const { checkpointN, committedN } = await gateway.engine.status();
    expect(checkpointN).toBe(0);
    expect(committedN).toBeGreaterThanOrEqual(17);
    // An operator hears of it when it does not pass.
    let { problem } = await gateway.engine.status();
    for (let turn = 0; turn < 10_000 && problem === undefined; turn += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      ({ problem } = await gateway.engine.status());
    }
    expect(problem).toMatch(/cannot be folded since .*: away; nothing more is replicated until it can be/);
    away = false;
    await Promise.all(commits);
    expect((await gateway.engine.status()).problem).toBeUndefined();
    expect((await gateway.engine.status()).checkpointN).toBeGreaterThan(0);
    expect(await gateway.values(0, 20)).toEqual(Array.from({ length: 20 }, (_, at) => at + 1));
  });
});
