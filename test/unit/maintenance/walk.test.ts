import { describe, expect, it } from 'vitest';
import type { VersionItem, VersionLog } from '../../../gateway/cloud/version-log.ts';
import { decodeRecord } from '../../../gateway/format/version-record.ts';
import { MAX_READER_WALKS } from '../../../gateway/maintenance/walk-machine.ts';
import { walkLog, walkLogInto } from '../../../gateway/maintenance/walk.ts';
import { FenceWorld, REF, inlineVersion } from '../replication/fence-world.ts';

/** A log of a takeover and `versions` versions, and the table as a reader sees it, without a network between. */
async function logOf(versions: number): Promise<{ world: FenceWorld; log: VersionLog }> {
  const world = new FenceWorld(1);
  const writer = await world.gateway('a').open();
  const all = Array.from({ length: versions }, (_, i) => inlineVersion(`v${i}`, i));
  await world.clock.settle(Promise.all(all.map((version) => writer.append(version.fields, version).committed)));
  return { world, log: directly(world) };
}

/** Only what a walk needs. */
function directly(world: FenceWorld): VersionLog {
  const { table } = world.cloud;
  const away = async (): Promise<never> => {
    throw new Error('a walk only reads');
  };
  const log: Pick<VersionLog, 'getVolume' | 'listVersions'> = {
    getVolume: async (ref) => table.getVolume(ref),
    listVersions: async (volume, from, limit) => table.listVersions(volume, from, limit),
  };
  // The target is never looked at: the proxy answers every method.
  return new Proxy<VersionLog>({} as VersionLog, {
    get: (_target, method) => (Reflect.get(log, method) as unknown) ?? away,
  });
}

function fold(world: FenceWorld, n: number): void {
  const { table } = world.cloud;
  const maintenanceEpoch = (table.getVolume(REF)?.maintenanceEpoch ?? 0) + 1;
  table.raiseMaintenanceEpoch(REF, maintenanceEpoch - 1);
  const { epoch, chain } = world.history()[n - 1] ?? fail(`no version ${n}`);
  expect(table.publishCheckpoint(REF, { sequence: maintenanceEpoch, maintenanceEpoch, n, epoch, chain })).toBe('ok');
}

function fail(why: string): never {
  throw new Error(why);
}

/** Puts an altered item in the place of version n. */
function replace(world: FenceWorld, n: number, change: (item: VersionItem) => Partial<VersionItem>): void {
  const item = world.cloud.table.getVersion(REF.volume, n) ?? fail(`no version ${n}`);
  world.cloud.table.deleteVersions(REF.volume, [n]);
  world.cloud.table.putVersion(REF.volume, { ...item, ...change(item) }, 0);
}

describe("a reader's walk", () => {
  it('gives every version in order, over many pages, and the item as read afterwards', async () => {
    const { world, log } = await logOf(30);
    const { item, records, tail } = await walkLog(log, REF);
    expect(records.map(({ record }) => record.n)).toEqual(Array.from({ length: 31 }, (_, i) => i + 1));
    expect(records[1]?.record).toEqual(decodeRecord(records[1]?.item.record ?? Buffer.alloc(0)));
    expect(records[0]?.record.kind).toBe('takeover');
    expect(tail).toEqual({ n: 31, epoch: 1, chain: world.history()[30]?.chain });
    expect(item).toBe(world.cloud.table.getVolume(REF));
  });

  it('begins after the checkpoint', async () => {
    const { world, log } = await logOf(5);
    fold(world, 4);
    const { records, tail } = await walkLog(log, REF);
    expect(records.map(({ record }) => record.n)).toEqual([5, 6]);
    fold(world, 6);
    const nothing = await walkLog(log, REF);
    expect(nothing.records).toEqual([]);
    expect(nothing.tail).toEqual(tail);
  });

  it('ends at the version it was asked to, or before when the log does', async () => {
    const { log } = await logOf(20);
    expect((await walkLog(log, REF, { through: 9 })).tail.n).toBe(9);
    expect((await walkLog(log, REF, { through: 90 })).tail.n).toBe(21);
  });

  it('says so when the version asked for is folded away', async () => {
    const { world, log } = await logOf(5);
    fold(world, 4);
    expect((await walkLog(log, REF, { through: 4 })).records).toEqual([]);
    await expect(walkLog(log, REF, { through: 3 })).rejects.toMatchObject({ kind: 'input' });
  });

  it('says so when there is no such volume', async () => {
    const { log } = await logOf(0);
    await expect(walkLog(log, { ...REF, volume: 'other' })).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('starts over when versions were folded and deleted under its feet, and forgets what it gave', async () => {
    const { world, log } = await logOf(20);
    let restarts = 0;
    const seen: number[] = [];
    const { item, tail } = await walkLogInto(log, REF, {
      onRestart: () => {
        restarts += 1;
        seen.length = 0;
      },
      onRecord: ({ record }) => {
        seen.push(record.n);
        if (record.n !== 5 || restarts > 1) return;
        fold(world, 15);
        const { maintenanceEpoch } = world.cloud.table.getVolume(REF) ?? fail('no volume');
        world.cloud.table.raiseFloor(REF, 15, maintenanceEpoch);
        world.cloud.table.deleteVersions(REF.volume, [6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
      },
    });
    expect(restarts).toBe(2);
    expect(seen).toEqual([16, 17, 18, 19, 20, 21]);
    expect(tail.n).toBe(21);
    expect(item.checkpoint?.n).toBe(15);
  });

  it('starts over when the epoch moved, and gives up with retry when it never comes to rest', async () => {
    const { world, log } = await logOf(3);
    let walks = 0;
    const walk = walkLogInto(log, REF, {
      onRestart: () => {
        walks += 1;
        const { epoch } = world.cloud.table.getVolume(REF) ?? fail('no volume');
        world.cloud.table.raiseEpoch(REF, epoch, epoch + 1, 'b');
      },
      onRecord: () => undefined,
    });
    await expect(walk).rejects.toMatchObject({ kind: 'retry' });
    expect(walks).toBe(MAX_READER_WALKS);
  });

  it("ends before a gap, and before what an older writer left beyond another's takeover", async () => {
    const { world, log } = await logOf(3);
    const b = await world.gateway('b').open();
    const stray = world.history()[3] ?? fail('no version 4');
    world.cloud.table.putVersion(REF.volume, { ...stray, n: 8 }, 0);
    expect((await walkLog(log, REF)).tail.n).toBe(b.takeoverN);
    world.cloud.table.putVersion(REF.volume, { ...stray, n: 6 }, 0);
    expect((await walkLog(log, REF)).tail.n).toBe(b.takeoverN);
  });

  it.each([
    ['a chain that does not follow', (item: VersionItem) => ({ chain: Buffer.alloc(32, item.n) })],
    ['a record that was altered', (item: VersionItem) => ({ record: Buffer.from(item.record).fill(7, 20, 24) })],
    ['a record of another version', (item: VersionItem) => ({ epoch: item.epoch + 1 })],
    ['inline bytes that were altered', () => ({ inline: Buffer.from('altered') })],
  ])('calls %s damage', async (_what, change) => {
    const { world, log } = await logOf(6);
    replace(world, 4, change);
    await expect(walkLog(log, REF)).rejects.toMatchObject({ kind: 'damaged' });
  });
});
