import { describe, expect, it } from 'vitest';
import { sleep } from '../../../gateway/base/clock.ts';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import { LOW_RECOUNT_MS, RECOUNT_MS } from '../../../gateway/volume/quota.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const bytes = (blocks: number): number => blocks * BLOCK_SIZE;
const FULL = { kind: 'full' };

/** A volume of 4096 blocks that may have 100. */
async function benchWithQuota(blocks = 100): Promise<VolumeBench> {
  const bench = new VolumeBench();
  bench.shore.item = { ...bench.shore.item, quotaBytes: bytes(blocks) };
  await bench.start();
  await later(bench, 100);
  return bench;
}

/** Time passes, also when nothing else happens. */
async function later(bench: VolumeBench, ms: number): Promise<void> {
  await bench.settle(sleep(bench.clock, ms));
}

async function unmap(bench: VolumeBench, block: number, count: number): Promise<void> {
  await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: block, sectors: count }])));
}

describe('a volume with a quota', () => {
  it('takes blocks up to it, then overwrites and unmaps alone', async () => {
    const bench = await benchWithQuota();
    await bench.write(0, 1, 100);
    await expect(bench.write(500, 2)).rejects.toMatchObject(FULL);
    await bench.write(40, 3, 20);
    expect(await bench.byteOf(45)).toBe(3);
    // Not even a part of it is written.
    await expect(bench.write(95, 4, 10)).rejects.toMatchObject(FULL);
    expect(await bench.byteOf(95)).toBe(1);
    expect(await bench.byteOf(500)).toBe(0);
    expect(bench.volume.space()).toMatchObject({ bytes: bytes(100), lowBytes: bytes(80) });
  });

  it('takes nothing of a write that it has no room for, however many come at once', async () => {
    const bench = await benchWithQuota();
    await bench.write(0, 1, 90);
    await expect(bench.write(500, 2, 20)).rejects.toMatchObject(FULL);
    expect(await bench.byteOf(500)).toBe(0);
    await bench.write(500, 2, 10);
    await bench.flushRemote();
    const other = await benchWithQuota();
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, (_, at) => other.write(at * 10, 1, 10)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(10);
    await other.flushRemote();
    expect([bench.shore.blocks.size, other.shore.blocks.size]).toEqual([100, 100]);
  });

  it('has room again when something was unmapped and that is in a version', async () => {
    const bench = await benchWithQuota();
    await bench.write(0, 1, 100);
    await bench.flushRemote();
    await later(bench, RECOUNT_MS);
    await expect(bench.write(500, 2)).rejects.toMatchObject(FULL);
    await unmap(bench, 0, 10);
    await bench.flushRemote();
    await later(bench, RECOUNT_MS);
    await bench.write(500, 2, 10);
    await bench.flushRemote();
    await later(bench, RECOUNT_MS);
    await expect(bench.write(600, 2)).rejects.toMatchObject(FULL);
    expect(bench.shore.blocks.size).toBe(100);
  });

  it('counts again instead of refusing, when blocks were overwritten often', async () => {
    const bench = await benchWithQuota();
    for (let turn = 0; turn < 20; turn += 1) {
      await bench.write(0, turn, 10);
      await bench.flushRemote();
    }
    await later(bench, RECOUNT_MS);
    await bench.write(100, 9, 50);
    await bench.flushRemote();
    expect(bench.shore.blocks.size).toBe(60);
  });

  it('overwrites blocks that only the far side has, and parts of blocks', async () => {
    const bench = new VolumeBench({ sectorSize: 512 });
    bench.shore.item = { ...bench.shore.item, quotaBytes: bytes(10) };
    for (let block = 0; block < 10; block += 1) bench.shore.blocks.set(block, Buffer.alloc(BLOCK_SIZE, 7));
    const volume = await bench.start();
    await later(bench, 100);
    await bench.write(3, 8);
    await bench.settle(Promise.resolve(volume.write(4 * 8 + 1, [Buffer.alloc(512, 9)], { fua: false })));
    await expect(
      bench.settle(Promise.resolve(volume.write(20 * 8 + 1, [Buffer.alloc(512, 9)], { fua: true }))),
    ).rejects.toMatchObject(FULL);
    expect(await bench.byteOf(3)).toBe(8);
    const sectors = await bench.readBlock(4);
    expect([sectors[511], sectors[512], sectors[1024]]).toEqual([7, 9, 7]);
  });

  it('takes nothing the short way that the long one would refuse', async () => {
    const bench = await benchWithQuota(10);
    await bench.write(0, 1, 10);
    expect(bench.volume.gatherWrite(20, Buffer.alloc(BLOCK_SIZE, 1))).toBe(false);
    bench.volume.setQuota(bytes(20));
    await later(bench, 100);
    expect(bench.volume.gatherWrite(20, Buffer.alloc(BLOCK_SIZE, 1))).toBe(true);
    await bench.settle(Promise.resolve(bench.volume.logGathered()));
    expect(await bench.byteOf(20)).toBe(1);
  });

  it('tells initiators once when four fifths are mapped, and again when it was below seven tenths', async () => {
    const bench = await benchWithQuota();
    const { lowSpace } = bench.volume;
    await bench.write(0, 1, 79);
    expect(lowSpace.notices).toBe(0);
    await bench.write(79, 1);
    await bench.flushRemote();
    await later(bench, RECOUNT_MS + 100);
    expect(lowSpace.notices).toBe(1);
    await bench.write(80, 1, 5);
    await bench.flushRemote();
    expect(lowSpace.notices).toBe(1);
    await unmap(bench, 0, 40);
    await later(bench, LOW_RECOUNT_MS);
    await bench.write(0, 1);
    await bench.flushRemote();
    await later(bench, 100);
    expect(bench.volume.space()?.mappedBytes).toBeLessThan(bytes(70));
    await bench.write(100, 1, 40);
    await bench.flushRemote();
    await later(bench, RECOUNT_MS + 100);
    expect(lowSpace.notices).toBe(2);
    expect(lowSpace.changes).toBe(0);
  });

  it('has it after a crash too, counted anew, and never takes more than a command above it', async () => {
    for (const kind of ['process', 'power'] as const) {
      const bench = await benchWithQuota();
      await bench.write(0, 1, 60);
      await bench.flushRemote();
      await bench.write(100, 1, 39);
      await bench.flush();
      bench.crash(kind);
      await bench.start();
      await later(bench, 100);
      await bench.write(200, 1);
      await expect(bench.write(201, 1)).rejects.toMatchObject(FULL);
      await bench.flushRemote();
      expect(bench.shore.blocks.size).toBe(100);
    }
  });

  it('changes while it is served: a lower one stops new blocks at once, none lets everything in', async () => {
    const bench = await benchWithQuota();
    await bench.write(0, 1, 50);
    bench.volume.setQuota(bytes(20));
    await later(bench, 100);
    await expect(bench.write(500, 2)).rejects.toMatchObject(FULL);
    await bench.write(10, 2);
    expect(bench.volume.lowSpace.changes).toBe(1);
    bench.volume.setQuota(undefined);
    await bench.write(500, 2, 200);
    expect(bench.volume.space()).toBeUndefined();
  });

  it('does not count, and has no limit, without one', async () => {
    const bench = new VolumeBench();
    await bench.start();
    await bench.write(0, 1, 300);
    await bench.flushRemote();
    await later(bench, LOW_RECOUNT_MS);
    expect(bench.shore.counts).toBe(0);
  });

  it('refuses with what is known while the far side is away, and lets blocks be overwritten that are here', async () => {
    const bench = await benchWithQuota(10);
    await bench.write(0, 1, 10);
    await bench.flushRemote();
    bench.shore.holdCommits = true;
    await bench.write(5, 2);
    await expect(bench.write(50, 2)).rejects.toMatchObject(FULL);
    expect(await bench.byteOf(5)).toBe(2);
  });

  it('is counted later when it could not be at the start, and holds from then on', async () => {
    const bench = new VolumeBench();
    bench.shore.item = { ...bench.shore.item, quotaBytes: bytes(10) };
    bench.shore.refusesCounts = true;
    await bench.start();
    await bench.write(0, 1, 10);
    await bench.flushRemote();
    bench.shore.refusesCounts = false;
    await later(bench, RECOUNT_MS);
    // Asked for every command.
    expect(bench.volume.lowSpace.notices).toBe(0);
    await later(bench, 100);
    expect(bench.volume.space()).toMatchObject({ mappedBytes: bytes(10) });
    await expect(bench.write(50, 2)).rejects.toMatchObject(FULL);
    expect(bench.volume.lowSpace.notices).toBe(1);
  });

  it('asks no more often than every few seconds while it cannot be counted', async () => {
    const bench = new VolumeBench();
    bench.shore.item = { ...bench.shore.item, quotaBytes: bytes(10) };
    bench.shore.refusesCounts = true;
    await bench.start();
    for (let turn = 0; turn < 20; turn += 1) {
      await bench.write(turn, 1);
      await bench.flushRemote();
      expect(bench.volume.lowSpace.notices).toBe(0);
      await later(bench, 500);
    }
    expect(bench.shore.counts).toBeGreaterThan(1);
    expect(bench.shore.counts).toBeLessThan(6);
  });
});
