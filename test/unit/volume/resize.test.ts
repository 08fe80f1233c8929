import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const bytes = (blocks: number): number => blocks * BLOCK_SIZE;

describe('a resize of an open volume', () => {
  it('offers the larger size only when its version is committed, behind every write before it', async () => {
    const bench = new VolumeBench({ volumeBlocks: 1000 });
    const volume = await bench.start();
    await bench.write(5, 1);
    bench.shore.holdCommits = true;
    const growing = volume.resize(bytes(2000));
    await bench.pass(5_000);
    expect(volume.geometry().sectors).toBe(1000);
    expect(bench.shore.batches.map(({ volumeBytes }) => volumeBytes)).toEqual([]);
    bench.shore.holdCommits = false;
    await bench.settle(growing);
    expect(volume.geometry().sectors).toBe(2000);
    await bench.write(1999, 7);
    await bench.flushRemote();
    const order = bench.shore.batches.map((batch) => batch.volumeBytes ?? [...batch.blocks]);
    expect(order.indexOf(bytes(2000))).toBeLessThan(
      order.findIndex((batch) => Array.isArray(batch) && batch.includes(1999)),
    );
    expect(await bench.byteOf(1999)).toBe(7);
  });

  it('is what a later start finds, also after a crash right behind the commit, with a write beyond the old end', async () => {
    for (const kind of ['process', 'power'] as const) {
      const bench = new VolumeBench({ volumeBlocks: 1000 });
      const volume = await bench.start();
      await bench.settle(volume.resize(bytes(3000)));
      await bench.write(2999, 3);
      await bench.flush();
      bench.crash(kind);
      const again = await bench.start();
      expect(again.geometry().sectors).toBe(3000);
      expect(await bench.byteOf(2999)).toBe(3);
      expect(await bench.byteOf(1500)).toBe(0);
    }
  });

  it('to a smaller size is refused with the count while data lies beyond, and disturbs nothing', async () => {
    const bench = new VolumeBench({ volumeBlocks: 2000 });
    const volume = await bench.start();
    for (const block of [999, 1000, 1500, 1999]) await bench.write(block, 9);
    await expect(bench.settle(volume.resize(bytes(1000)))).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringContaining('data in 3 blocks (12288 bytes) beyond byte 4096000') as string,
    });
    expect(volume.geometry().sectors).toBe(2000);
    expect(await bench.byteOf(1999)).toBe(9);
    await bench.write(1999, 8);
    expect(bench.shore.item.bytes).toBe(bytes(2000));
  });

  it('to a smaller size works when what lies beyond was unmapped or is zeros, and growing again reads zeros there', async () => {
    const bench = new VolumeBench({ volumeBlocks: 2000 });
    const volume = await bench.start();
    for (const block of [999, 1000, 1500]) await bench.write(block, 9);
    await bench.flushRemote();
    await bench.settle(Promise.resolve(volume.unmap([{ lba: 1000, sectors: 600 }])));
    await bench.settle(volume.resize(bytes(1000)));
    expect(volume.geometry().sectors).toBe(1000);
    expect(bench.shore.item.bytes).toBe(bytes(1000));
    await bench.settle(volume.resize(bytes(2000)));
    for (const block of [1000, 1500, 1999]) expect(await bench.byteOf(block)).toBe(0);
    expect(await bench.byteOf(999)).toBe(9);
  });

  it('to a smaller size refuses a write that was let in before and comes to it late, so that nothing is ever beyond the end', async () => {
    const bench = new VolumeBench({ volumeBlocks: 4000, chunks: 4, maxWaitMs: 60_000 });
    const volume = await bench.start();
    bench.shore.holdCommits = true;
    const filling: Promise<void>[] = [];
    for (let block = 0; block < 1600; block += 1) {
      const written = volume.write(block, [Buffer.alloc(BLOCK_SIZE, 1)], { fua: false });
      filling.push(Promise.resolve(written));
    }
    const late = Promise.resolve(volume.write(3999, [Buffer.alloc(BLOCK_SIZE, 2)], { fua: false }));
    const lateAnswer = late.then(
      () => 'written',
      (error: unknown) => (error as { kind: string }).kind,
    );
    await bench.pass(100);
    const shrinking = volume.resize(bytes(2000)).then(
      () => 'smaller',
      (error: unknown) => (error as { kind: string }).kind,
    );
    await bench.pass(100);
    bench.shore.holdCommits = false;
    await bench.settle(Promise.all(filling));
    const outcome = [await bench.settle(lateAnswer), await bench.settle(shrinking)];
    // Which of the two was first does not matter; both must not happen.
    expect([
      ['written', 'input'],
      ['retry', 'smaller'],
    ]).toContainEqual(outcome);
    await bench.flushRemote();
    expect([...bench.shore.blocks.keys()].some((block) => bytes(block) >= bench.shore.item.bytes)).toBe(false);
  });

  it('is one at a time, and none on a volume that another gateway has', async () => {
    const bench = new VolumeBench({ volumeBlocks: 1000 });
    const volume = await bench.start();
    const first = volume.resize(bytes(1100));
    await expect(volume.resize(bytes(1200))).rejects.toMatchObject({ kind: 'busy' });
    await bench.settle(first);
    volume.onFenced('epoch 9');
    await expect(volume.resize(bytes(1300))).rejects.toMatchObject({ kind: 'fenced' });
  });

  it('leaves no content beyond any end, over any series of writes, unmaps, sizes and crashes', async () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('write' as const), block: fc.nat(199) }),
      fc.record({ do: fc.constant('unmap' as const), block: fc.nat(199) }),
      fc.record({ do: fc.constant('resize' as const), block: fc.integer({ min: 20, max: 200 }) }),
      fc.record({ do: fc.constantFrom('process' as const, 'power' as const), block: fc.constant(0) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.nat(), async (steps, seed) => {
        const bench = new VolumeBench({ seed, volumeBlocks: 100 });
        await bench.start();
        const expected = new Map<number, number>();
        for (const [at, { do: what, block }] of steps.entries()) {
          const { volume } = bench;
          const end = volume.geometry().sectors;
          if (what === 'write' && block < end) {
            await bench.write(block, at + 1);
            expected.set(block, at + 1);
          } else if (what === 'unmap' && block < end) {
            await bench.settle(Promise.resolve(volume.unmap([{ lba: block, sectors: end - block }])));
            for (const each of [...expected.keys()]) if (each >= block) expected.delete(each);
          } else if (what === 'resize') {
            const beyond = [...expected.keys()].some((each) => each >= block);
            const outcome = await bench.settle(
              volume.resize(bytes(block)).then(
                () => true,
                () => false,
              ),
            );
            expect(outcome).toBe(!beyond);
            expect(volume.geometry().sectors).toBe(beyond ? end : block);
          } else if (what === 'process' || what === 'power') {
            await bench.flush();
            bench.crash(what);
            await bench.start();
            expect(bench.volume.geometry().sectors).toBe(end);
          }
        }
        for (let block = 0; block < bench.volume.geometry().sectors; block += 1)
          expect(await bench.byteOf(block)).toBe(expected.get(block) ?? 0);
      }),
      { numRuns: 40 },
    );
  }, 60_000);
});
