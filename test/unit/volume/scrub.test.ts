import { describe, expect, test } from 'vitest';
import type { ScrubSide } from '../../../gateway/volume/scrub-pass.ts';
import { FIRST_SCRUB_AFTER_MS, type ScrubReport } from '../../../gateway/volume/scrubber.ts';
import { recordsOn, spoilData, spoilDescriptor, type FoundRecord } from '../../support/log-surgery.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const SLOTS = 384;
const DAY_MS = 24 * 3_600_000;

function record(bench: VolumeBench, block: number): FoundRecord {
  const found = recordsOn(bench.disk, SLOTS).findLast((each) => each.block === block);
  if (found === undefined) throw new Error(`no record of block ${block}`);
  return found;
}

function scrub(bench: VolumeBench, side: ScrubSide, seen?: ScrubSide[]): Promise<ScrubReport> {
  return bench.settle(bench.volume.scrub([side], true, (each) => seen?.push(each)));
}

/** Blocks 10 to 13, 20 and 700, committed unless `dirty`. */
async function written(options: { dirty?: boolean; ramBlocks?: number } = {}): Promise<VolumeBench> {
  const bench = new VolumeBench({ ramBlocks: options.ramBlocks ?? 0, chunkSlots: SLOTS });
  await bench.start();
  bench.shore.holdCommits = options.dirty === true;
  await bench.write(10, 1, 4);
  await bench.write(20, 2);
  await bench.write(700, 3);
  if (options.dirty !== true) await bench.flushRemote();
  return bench;
}

describe('a scrub of the cache', () => {
  test('of a whole one looks at every block and finds nothing', async () => {
    const bench = await written();
    const seen: ScrubSide[] = [];
    const { local, running } = await scrub(bench, 'local', seen);
    expect(local).toMatchObject({ checked: 6, found: 0, repaired: 0, unrepairable: 0 });
    expect(local?.finishedAt).not.toBeNull();
    expect(running).toBeUndefined();
    expect(seen.length).toBeGreaterThan(1);
  });

  test('fetches damaged blocks that are replicated again, data and descriptors, before anybody reads them', async () => {
    const bench = await written();
    spoilData(bench.disk, record(bench, 11));
    spoilDescriptor(bench.disk, record(bench, 700));
    expect((await scrub(bench, 'local')).local).toMatchObject({ found: 2, repaired: 2, unrepairable: 0 });
    expect(bench.volume.status()).toMatchObject({ repairedBlocks: 2, damagedBlocks: 0 });
    await bench.pass(1000);
    bench.shore.away = true;
    expect([await bench.byteOf(11), await bench.byteOf(700)]).toEqual([1, 3]);
    expect((await scrub(bench, 'local')).local).toMatchObject({ checked: 6, found: 0 });
  });

  test('counts over all passes since the volume was opened, and remembers when one last came to its end', async () => {
    const bench = await written();
    spoilData(bench.disk, record(bench, 11));
    const first = await scrub(bench, 'local');
    await bench.pass(1000);
    spoilData(bench.disk, record(bench, 20));
    const second = await scrub(bench, 'local');
    expect(second.sinceOpen).toEqual({
      local: { checked: 12, found: 2, repaired: 2, unrepairable: 0 },
      remote: { checked: 0, found: 0, repaired: 0, unrepairable: 0 },
    });
    expect(second.local).toMatchObject({ checked: 6, found: 1, completedBefore: first.local?.finishedAt });
    expect(second.bytesPerSecond).toBe(0);
    bench.crash('process');
    await bench.start();
    const third = await scrub(bench, 'local');
    expect(third.sinceOpen.local).toEqual({ checked: 6, found: 0, repaired: 0, unrepairable: 0 });
    expect(third.local?.completedBefore).toBe(second.local?.finishedAt);
  });

  test('tells how fast it goes while it runs', async () => {
    const bench = new VolumeBench({
      ramBlocks: 0,
      scrub: { enabled: true, localBytesPerSecond: 64 * 4096, remoteBytesPerSecond: 64 * 4096, intervalMs: DAY_MS },
    });
    await bench.start();
    for (let block = 0; block < 1024; block += 64) await bench.write(block, 1, 64);
    await bench.flushRemote();
    const scrubbed = bench.volume.scrub(['local'], false, () => undefined);
    await bench.pass(8_000);
    // A run, then the second that it may take.
    expect(bench.volume.status().scrub.bytesPerSecond).toBeGreaterThan(50 * 4096);
    expect(bench.volume.status().scrub.bytesPerSecond).toBeLessThan(80 * 4096);
    expect((await bench.settle(scrubbed)).bytesPerSecond).toBe(0);
  });

  test('waits for a cloud that is away to mend what it found', async () => {
    const bench = await written();
    spoilData(bench.disk, record(bench, 11));
    bench.shore.away = true;
    const scrubbed = bench.volume.scrub(['local'], true, () => undefined);
    await bench.pass(60_000);
    expect(bench.volume.status().scrub.local).toMatchObject({ finishedAt: null });
    bench.shore.away = false;
    expect((await bench.settle(scrubbed)).local).toMatchObject({ found: 1, repaired: 1 });
    expect(await bench.byteOf(11)).toBe(1);
  });

  test('writes a damaged block that is not replicated yet again from memory', async () => {
    const bench = await written({ dirty: true, ramBlocks: 64 });
    spoilData(bench.disk, record(bench, 11));
    expect((await scrub(bench, 'local')).local).toMatchObject({ found: 1, repaired: 1, unrepairable: 0 });
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    expect([bench.shore.lost.size, bench.shore.blocks.get(11)?.[0]]).toEqual([0, 1]);
  });

  test('raises the alarm for one that is nowhere else, and never gives it out', async () => {
    const bench = await written({ dirty: true });
    spoilData(bench.disk, record(bench, 11));
    spoilData(bench.disk, record(bench, 12));
    const { local } = await scrub(bench, 'local');
    expect(local).toMatchObject({ found: 2, repaired: 0, unrepairable: 2, ranges: [{ first: 11, count: 2 }] });
    await expect(bench.byteOf(11)).rejects.toMatchObject({ kind: 'damaged' });
    expect(bench.volume.status().replicationProblem).toMatch(/block 11 and others/);
    expect(await bench.byteOf(13)).toBe(1);
  });

  test('fetches a block again that has got into a version while it was read for the last time', async () => {
    // Nothing is sealed before somebody asks for it.
    const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: SLOTS, rpoMs: 600_000 });
    await bench.start();
    await bench.write(10, 1, 4);
    spoilData(bench.disk, record(bench, 11));
    const { cache, volume } = bench;
    const readRun = cache.readRun.bind(cache);
    const later = async (): Promise<readonly number[]> => {
      // The disk has changed its mind, and so the worker has read the block whole.
      spoilData(bench.disk, record(bench, 11));
      await volume.flushRemote();
      return [0];
    };
    cache.readRun = (log, place, count, block, into, fromDisk) => {
      if (block !== 11 || fromDisk === true) return readRun(log, place, count, block, into, fromDisk);
      cache.readRun = readRun;
      return later();
    };
    expect((await scrub(bench, 'local')).local).toMatchObject({ found: 1, repaired: 1, unrepairable: 0 });
    expect(bench.volume.status().damagedBlocks).toBe(0);
    expect(await bench.byteOf(11)).toBe(1);
  });

  test('leaves a block alone that an initiator writes while it is read again', async () => {
    const bench = await written({ dirty: true });
    spoilData(bench.disk, record(bench, 11));
    const scrubbed = bench.volume.scrub(['local'], true, () => undefined);
    await bench.pass(500);
    await bench.write(11, 9);
    expect((await bench.settle(scrubbed)).local).toMatchObject({ found: 0, unrepairable: 0 });
    expect(await bench.byteOf(11)).toBe(9);
  });

  test('keeps to its rate', async () => {
    const settings = { localBytesPerSecond: 4096, remoteBytesPerSecond: 4096, intervalMs: 7 * DAY_MS };
    const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: SLOTS, scrub: { enabled: false, ...settings } });
    await bench.start();
    await bench.write(10, 1, 4);
    await bench.write(20, 2);
    await bench.flushRemote();
    const before = bench.clock.monotonicMs();
    await bench.settle(bench.volume.scrub(['local'], false, () => undefined));
    expect(bench.clock.monotonicMs() - before).toBeGreaterThanOrEqual(5_000);
  });
});

describe('a scrub of S3', () => {
  test('of whole objects looks at every mapped block and finds nothing', async () => {
    const bench = await written();
    expect((await scrub(bench, 'remote')).remote).toMatchObject({ checked: 6, found: 0, unrepairable: 0 });
  });

  test('writes what the cache still has of damaged objects again, as the next version', async () => {
    const bench = await written();
    for (const block of [11, 12, 700]) bench.shore.unreadable.add(block);
    expect((await scrub(bench, 'remote')).remote).toMatchObject({ found: 3, repaired: 3, unrepairable: 0 });
    await bench.flushRemote();
    expect([...bench.shore.unreadable]).toEqual([]);
    expect(bench.shore.batches.at(-1)?.blocks).toEqual(Float64Array.of(11, 12, 700));
    expect([11, 12, 700].map((block) => bench.shore.blocks.get(block)?.[0])).toEqual([1, 1, 3]);
    expect((await scrub(bench, 'remote')).remote).toMatchObject({ found: 0 });
  });

  test('says which blocks are nowhere any more', async () => {
    const bench = await written();
    bench.shore.unreadable.add(11);
    spoilData(bench.disk, record(bench, 11));
    const { remote } = await scrub(bench, 'remote');
    expect(remote).toMatchObject({ found: 1, repaired: 0, unrepairable: 1, ranges: [{ first: 11, count: 1 }] });
  });

  test('does not undo what an initiator writes or unmaps meanwhile', async () => {
    const bench = await written({ ramBlocks: 64 });
    bench.shore.unreadable.add(11);
    bench.shore.unreadable.add(12);
    const unmapped = bench.volume.unmap([{ lba: 12, sectors: 1 }]);
    const wrote = bench.volume.write(11, [Buffer.alloc(4096, 9)], { fua: false });
    await scrub(bench, 'remote');
    await bench.settle(Promise.all([unmapped, wrote]));
    await bench.flushRemote();
    expect([await bench.byteOf(11), await bench.byteOf(12)]).toEqual([9, 0]);
  });

  test('notices content that is whole and another one', async () => {
    const bench = await written();
    bench.shore.blocks.set(20, Buffer.alloc(4096, 77));
    const { remote } = await scrub(bench, 'remote');
    expect(remote).toMatchObject({ found: 1, repaired: 0, unrepairable: 1, ranges: [{ first: 20, count: 1 }] });
    expect(await bench.byteOf(20)).toBe(2);
  });
});

describe('the schedule of scrubs', () => {
  const scrubEvery = (intervalMs: number) => ({
    enabled: true,
    localBytesPerSecond: 1024,
    remoteBytesPerSecond: 1024 * 1024,
    intervalMs,
  });

  test('begins a pass at the open, and the next one when it is time', async () => {
    const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: SLOTS, scrub: scrubEvery(7 * DAY_MS) });
    await bench.start();
    await bench.write(10, 1);
    await bench.flushRemote();
    await bench.pass(2 * 3_600_000);
    const first = bench.volume.status().scrub;
    expect(first.local?.finishedAt).not.toBeNull();
    expect(first.remote?.finishedAt).not.toBeNull();
    spoilData(bench.disk, record(bench, 10));
    await bench.pass(6 * DAY_MS);
    expect(bench.volume.status().scrub.local?.startedAt).toBe(first.local?.startedAt);
    await bench.pass(2 * DAY_MS);
    expect(bench.volume.status().scrub.local).toMatchObject({ found: 1, repaired: 1 });
  });

  test('goes on after a restart where it was, give or take a minute', async () => {
    const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: SLOTS, scrub: scrubEvery(7 * DAY_MS) });
    await bench.start();
    for (let block = 0; block < 100; block += 2) await bench.write(block, 1);
    await bench.flushRemote();
    await bench.stop();
    await bench.start();
    await bench.pass(FIRST_SCRUB_AFTER_MS + 100_000);
    const { startedAt, position } = bench.volume.status().scrub.local ?? { startedAt: 0, position: 0 };
    expect(position).toBeGreaterThan(10);
    bench.crash('process');
    await bench.start();
    await bench.pass(FIRST_SCRUB_AFTER_MS + 1);
    const after = bench.volume.status().scrub.local;
    expect(after?.startedAt).toBe(startedAt);
    expect(after?.position).toBeGreaterThan(0);
    await bench.pass(DAY_MS);
    expect(bench.volume.status().scrub.local).toMatchObject({ startedAt, found: 0 });
    expect(bench.volume.status().scrub.local?.finishedAt).not.toBeNull();
  });

  test('takes a position that cannot be read for none', async () => {
    const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: SLOTS, scrub: scrubEvery(7 * DAY_MS) });
    await bench.start();
    await bench.write(10, 1);
    await bench.pass(DAY_MS);
    await bench.stop();
    const file = bench.disk.paths().find((path) => path.endsWith('.scrub'));
    if (file === undefined) throw new Error('nothing was saved');
    bench.disk.file(file)?.flipBit(0, 1);
    await bench.start();
    await bench.pass(DAY_MS);
    expect(bench.volume.status().scrub.local?.checked).toBe(1);
  });
});
