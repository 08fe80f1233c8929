import { describe, expect, test } from 'vitest';
import { isKind } from '../../../gateway/base/errors.ts';
import { KIND_UNMAP } from '../../../gateway/cache/descriptor.ts';
import { chunkGeometry, chunkOfName, placeOf as placeAt } from '../../../gateway/cache/layout.ts';
import { recordsOn, spoilData, spoilDescriptor, type FoundRecord } from '../../support/log-surgery.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const SLOTS = 384;

/** Three generations of blocks 10 to 13 and one of block 20, stopped cleanly; `dirty`: none of it committed. */
async function written(dirty: boolean): Promise<VolumeBench> {
  const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: SLOTS });
  await bench.start();
  bench.shore.holdCommits = dirty;
  await bench.write(10, 1, 4); // seq 1
  await bench.write(20, 2); // seq 2
  await bench.write(10, 3, 4); // seq 3
  await bench.write(11, 4); // seq 4
  await bench.write(30, 5); // seq 5
  if (!dirty) await bench.flushRemote();
  await bench.stop();
  return bench;
}

function record(bench: VolumeBench, seq: number, block: number): FoundRecord {
  const found = recordsOn(bench.disk, SLOTS).find((each) => each.seq === seq && each.block === block);
  if (found === undefined) throw new Error(`no record of block ${block} with sequence ${seq}`);
  return found;
}

async function kindOfStart(bench: VolumeBench, takeover = false): Promise<string> {
  try {
    await bench.start({ takeover });
    return 'served';
  } catch (error) {
    return isKind(error, 'damaged') ? 'damaged' : String(error);
  }
}

describe('damage in the cache log', () => {
  test('of committed data is repaired from the remote', async () => {
    const bench = await written(false);
    spoilData(bench.disk, record(bench, 4, 11));
    spoilData(bench.disk, record(bench, 2, 20));
    await bench.start();
    expect(await bench.byteOf(11)).toBe(4);
    expect(await bench.byteOf(20)).toBe(2);
    expect(bench.volume.status().repairedBlocks).toBe(2);
    expect(bench.volume.status().damagedBlocks).toBe(0);
  });

  test('of the descriptor of a committed write does not bring an older copy back', async () => {
    const bench = await written(false);
    spoilDescriptor(bench.disk, record(bench, 4, 11));
    await bench.start();
    expect(await bench.byteOf(11)).toBe(4);
    expect(await bench.byteOf(10)).toBe(3);
  });

  test('of one descriptor of a committed write of many blocks does not either', async () => {
    const bench = await written(false);
    spoilDescriptor(bench.disk, record(bench, 3, 12));
    await bench.start();
    for (const block of [10, 12, 13]) expect(await bench.byteOf(block)).toBe(3);
  });

  test('of an uncommitted block makes reads of that block fail, and a new write mends it', async () => {
    const bench = await written(true);
    spoilData(bench.disk, record(bench, 4, 11));
    await bench.start();
    await expect(bench.byteOf(11)).rejects.toMatchObject({ kind: 'damaged' });
    expect(await bench.byteOf(10)).toBe(3);
    expect(await bench.byteOf(12)).toBe(3);
    expect(bench.volume.status().damagedBlocks).toBe(1);
    await bench.write(11, 9);
    expect(await bench.byteOf(11)).toBe(9);
    expect(bench.volume.status().damagedBlocks).toBe(0);
  });

  test('of one descriptor of an uncommitted write of many blocks blocks that block alone', async () => {
    const bench = await written(true);
    spoilDescriptor(bench.disk, record(bench, 3, 12));
    await bench.start();
    await expect(bench.byteOf(12)).rejects.toMatchObject({ kind: 'damaged' });
    expect(await bench.byteOf(10)).toBe(3);
    expect(await bench.byteOf(11)).toBe(4);
    expect(await bench.byteOf(13)).toBe(3);
  });

  test('that loses a whole uncommitted write keeps the volume from being served, until a takeover gives it up', async () => {
    const bench = await written(true);
    spoilDescriptor(bench.disk, record(bench, 4, 11));
    expect(await kindOfStart(bench)).toBe('damaged');
    bench.crash('process');
    expect(await kindOfStart(bench)).toBe('damaged');
    bench.crash('process');
    expect(await kindOfStart(bench, true)).toBe('served');
    expect(await bench.byteOf(20)).toBe(0);
    expect(bench.disk.paths().filter((path) => path.startsWith('salvage/'))).toHaveLength(1);
  });

  test('that loses the last synced write is noticed too', async () => {
    const bench = await written(true);
    spoilDescriptor(bench.disk, record(bench, 5, 30));
    expect(await kindOfStart(bench)).toBe('damaged');
  });

  describe.each(['process', 'power'] as const)(
    'in what was flushed last, before a %s crash and with nothing written after it',
    (kind) => {
      /** `count` blocks from 30 on are written and flushed; a moment later everything ends. */
      async function flushed(count: number): Promise<VolumeBench> {
        const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: SLOTS });
        await bench.start();
        bench.shore.holdCommits = true;
        await bench.write(10, 1, 4); // seq 1
        await bench.write(30, 2, count); // seq 2
        await bench.flush();
        await bench.pass(100);
        bench.crash(kind, { fate: 'lost' });
        return bench;
      }

      test('is told, and nothing else is lost with it', async () => {
        const bench = await flushed(1);
        spoilData(bench.disk, record(bench, 2, 30));
        await bench.start();
        await expect(bench.byteOf(30)).rejects.toMatchObject({ kind: 'damaged' });
        expect(await bench.byteOf(10)).toBe(1);
      });

      test('is told of one block of a write of many', async () => {
        const bench = await flushed(3);
        spoilDescriptor(bench.disk, record(bench, 2, 32));
        await bench.start();
        await expect(bench.byteOf(32)).rejects.toMatchObject({ kind: 'damaged' });
        expect([await bench.byteOf(30), await bench.byteOf(31)]).toEqual([2, 2]);
      });

      test('keeps the volume from being served when nobody knows what was lost', async () => {
        const bench = await flushed(1);
        spoilDescriptor(bench.disk, record(bench, 2, 30));
        expect(await kindOfStart(bench)).toBe('damaged');
      });
    },
  );

  test('of the state file of the volume is noticed and says what to do, and a takeover goes on without it', async () => {
    const bench = await written(false);
    const path = 'volumes/vol.json';
    const file = bench.disk.file(path);
    const content = Buffer.alloc(file?.size ?? 0);
    file?.read(content, 0);
    // Another log's identity: without the checksum what only this gateway has would be taken for somebody else's.
    file?.flipBit(content.indexOf('"logId"') + '"logId": "'.length, 0);
    await expect(bench.start()).rejects.toThrow(/volumes\/vol\.json.*checksum.*--takeover/);
    bench.crash('process');
    expect(await kindOfStart(bench, true)).toBe('served');
    expect([await bench.byteOf(11), await bench.byteOf(20)]).toEqual([4, 2]);
  });

  test.each(['damaged', 'gone'] as const)(
    'a takeover past a state file that is %s keeps the writes that only the log here has in a salvage file, as often as it has to be tried',
    async (how) => {
      const bench = await written(false);
      await bench.start();
      bench.shore.holdCommits = true;
      await bench.write(50, 8, 2);
      await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 20, sectors: 1 }])));
      bench.crash('process');
      const path = 'volumes/vol.json';
      if (how === 'damaged') bench.disk.file(path)?.flipBit(40, 0);
      else await bench.settle(bench.disk.mount({ name: 'administrator', alive: true }).remove(path));
      // The first attempt dies after it has taken the volume over.
      const opening = bench.open({ takeover: true });
      await bench.clock.run({ when: () => bench.disk.paths().some((each) => each.endsWith('.fsv')) });
      bench.crash('power');
      void opening;
      bench.shore.holdCommits = false;
      expect(await kindOfStart(bench, true)).toBe('served');
      expect([await bench.byteOf(20), await bench.byteOf(50)]).toEqual([2, 0]);
      const salvaged = bench.disk.paths().findLast((each) => each.endsWith('.fsv'));
      const content = Buffer.alloc(bench.disk.file(salvaged ?? '')?.size ?? 0);
      bench.disk.file(salvaged ?? '')?.read(content, 0);
      const records = 16 + content.readUInt32LE(8);
      // Two blocks with their data, an unmap, the end: what is in a version is not kept.
      expect(content.length).toBe(records + 2 * (32 + 4096) + 32 + 32);
      expect(content.subarray(records + 32, records + 32 + 4096)).toEqual(Buffer.alloc(4096, 8));
      // Nothing is kept twice once the volume was served again.
      const files = bench.disk.paths().filter((each) => each.endsWith('.fsv')).length;
      await bench.stop();
      await bench.start({ takeover: true });
      expect(bench.disk.paths().filter((each) => each.endsWith('.fsv'))).toHaveLength(files);
    },
  );

  test('of a committed unmap drops what it may have unmapped', async () => {
    const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: SLOTS });
    await bench.start();
    await bench.write(10, 1, 4);
    await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: 11, sectors: 2 }])));
    await bench.flushRemote();
    await bench.stop();
    const unmap = recordsOn(bench.disk, SLOTS).find(({ kind }) => kind === KIND_UNMAP);
    if (unmap === undefined) throw new Error('no unmap in the log');
    spoilData(bench.disk, unmap);
    await bench.start();
    expect([await bench.byteOf(10), await bench.byteOf(11), await bench.byteOf(13)]).toEqual([1, 0, 1]);
  });

  test('of both copies of a chunk header sets the chunk aside, and what the remote has is served', async () => {
    const bench = await written(false);
    const { path } = record(bench, 4, 11);
    bench.disk.file(path)?.flipBit(20, 1);
    bench.disk.file(path)?.flipBit(2048 + 20, 1);
    await bench.start();
    expect([await bench.byteOf(11), await bench.byteOf(20), await bench.byteOf(10)]).toEqual([4, 2, 3]);
    expect(bench.disk.paths()).toContain(`${path}.bad`);
  });

  test('of one copy of a chunk header changes nothing', async () => {
    const bench = await written(true);
    const { path } = record(bench, 4, 11);
    bench.disk.file(path)?.flipBit(20, 1);
    await bench.start();
    expect(await bench.byteOf(11)).toBe(4);
  });

  test('of an uncommitted block does not keep anything else from being replicated, and the version says that the block is lost', async () => {
    const bench = await written(true);
    spoilData(bench.disk, record(bench, 4, 11));
    await bench.start();
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    expect([...bench.shore.lost]).toEqual([11]);
    expect(bench.shore.blocks.get(30)?.[0]).toBe(5);
    await bench.write(31, 6);
    await bench.flushRemote();
    await expect(bench.byteOf(11)).rejects.toMatchObject({ kind: 'damaged' });
    expect([await bench.byteOf(10), await bench.byteOf(12), await bench.byteOf(31)]).toEqual([3, 3, 6]);
    expect(bench.volume.status()).toMatchObject({ state: 'serving', dirtyBlocks: 0, damagedBlocks: 1 });
    expect(bench.volume.status().replicationProblem).toMatch(/block 11.*[Ww]riting them again mends/);

    // A restart does not make it whole, nor does it take an older version's content for it.
    await bench.stop();
    await bench.start();
    await expect(bench.byteOf(11)).rejects.toMatchObject({ kind: 'damaged' });
    expect(await bench.byteOf(12)).toBe(3);
    expect(bench.volume.status().damagedBlocks).toBe(1);
    await bench.write(11, 9);
    expect(await bench.byteOf(11)).toBe(9);
    expect(bench.volume.status()).toMatchObject({ damagedBlocks: 0, replicationProblem: undefined });
    await bench.flushRemote();
    expect([bench.shore.blocks.get(11)?.[0], bench.shore.lost.size]).toEqual([9, 0]);
  });

  test('of an uncommitted block that memory still has is mended from there', async () => {
    const bench = new VolumeBench({ ramBlocks: 64, chunkSlots: SLOTS });
    await bench.start();
    bench.shore.holdCommits = true;
    await bench.write(10, 1, 4);
    await bench.write(11, 2);
    spoilData(bench.disk, record(bench, 2, 11));
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    await bench.pass(10);
    await bench.flushRemote();
    expect(bench.shore.lost.size).toBe(0);
    expect(bench.shore.blocks.get(11)?.[0]).toBe(2);
    await bench.stop();
    await bench.start();
    expect(await bench.byteOf(11)).toBe(2);
  });

  test('of a block that memory still has is not mended with what a write under way has made old', async () => {
    const bench = new VolumeBench({ ramBlocks: 64, chunkSlots: SLOTS, sectorSize: 512 });
    await bench.start();
    await bench.write(11, 2);
    await bench.flushRemote();
    const batch = bench.shore.batches.find(({ blocks }) => blocks.includes(11));
    const place = batch?.places[batch.blocks.indexOf(11)] ?? 0;
    // Half of block 10, which has to be fetched first, and all of block 11.
    const written = bench.volume.write(10 * 8 + 4, [Buffer.alloc(4096 + 2048, 9)], { fua: false });
    bench.volume.onBlocksLost([{ block: 11, place }]);
    await bench.settle(Promise.resolve(written));
    await bench.pass(100);
    expect(await bench.byteOf(11)).toBe(9);
    await bench.flushRemote();
    expect(bench.shore.blocks.get(11)?.[0]).toBe(9);
  });

  test('of a block that memory still has is not mended over a newer write that lies where it lay, in its chunk used anew', async () => {
    const bench = new VolumeBench({ ramBlocks: 16, chunkSlots: SLOTS, chunks: 4 });
    await bench.start();
    await bench.write(11, 2);
    await bench.flushRemote();
    const batch = bench.shore.batches.find(({ blocks }) => blocks.includes(11));
    const place = batch?.places[batch.blocks.indexOf(11)] ?? 0;
    // It has to wait for room.
    let letIn: () => void = () => undefined;
    const { cache } = bench;
    const reserve = cache.reserve.bind(cache);
    cache.reserve = async (slots, log) => {
      cache.reserve = reserve;
      await new Promise<void>((resolve) => {
        letIn = resolve;
      });
      await reserve(slots, log);
    };
    bench.volume.onBlocksLost([{ block: 11, place }]);
    const placeOf = (): number => {
      const found = recordsOn(bench.disk, SLOTS).findLast(({ block }) => block === 11);
      return found === undefined ? 0 : placeAt(chunkOfName(found.path.slice('cache/'.length)) ?? -1, found.slot);
    };
    // Until the pool has gone round, and block 11 comes to lie at the very same place.
    for (let chunk = 0; chunk < 40; chunk++) {
      for (let slot = 0; slot < chunkGeometry(SLOTS).dataSlots - 1; slot += 16) {
        const count = Math.min(16, chunkGeometry(SLOTS).dataSlots - 1 - slot);
        await bench.write(100 + slot, 1, count);
      }
      await bench.write(11, 9);
      await bench.flushRemote();
      if (chunk > 0 && placeOf() === place) break;
    }
    expect(placeOf()).toBe(place);
    letIn();
    await bench.pass(100);
    expect(await bench.byteOf(11)).toBe(9);
    await bench.flushRemote();
    expect(bench.shore.blocks.get(11)?.[0]).toBe(9);
  });

  test('of an uncommitted block that is overwritten before it is replicated harms nobody', async () => {
    const bench = await written(true);
    spoilData(bench.disk, record(bench, 4, 11));
    await bench.start();
    await expect(bench.byteOf(11)).rejects.toMatchObject({ kind: 'damaged' });
    await bench.write(11, 9);
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    expect(await bench.byteOf(11)).toBe(9);
    expect(bench.shore.blocks.get(11)?.[0]).toBe(9);
  });
});
