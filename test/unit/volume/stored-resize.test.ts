import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isKind } from '../../../gateway/base/errors.ts';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import type { RemoteVolume } from '../../../gateway/replication/remote-volume.ts';
import type { BlockState } from '../../../gateway/volume/block-state.ts';
import { resizeVolume } from '../../../gateway/volume/resize.ts';
import { Sealer } from '../../../gateway/volume/sealer.ts';
import type { DiskProbe } from '../../sim/disk-calls.ts';
import { IMAGE, VolumeBench, type BenchOptions } from '../../support/volume-bench.ts';

const SMALL = 300;
const LARGE = 700;
const bytes = (blocks: number): number => blocks * BLOCK_SIZE;

const fail = (): never => {
  throw new Error('nobody has anything to tell');
};

/** A stored volume of `from` blocks with something in its first ones and, where it is large, nothing in the last ones any more. */
async function ready(from: number, options: BenchOptions = {}): Promise<VolumeBench> {
  const bench = new VolumeBench({ stored: true, volumeBlocks: from, ramBlocks: 0, remoteMs: 2, ...options });
  await bench.start();
  await bench.write(0, 1, 20);
  if (from > SMALL) await bench.write(SMALL - 5, 2, 40);
  await bench.flushRemote();
  await bench.pass(3_000);
  if (from > SMALL) await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: SMALL, sectors: from - SMALL }])));
  await bench.write(10, 3, 2);
  return bench;
}

/** The volume serves, with its image, in one of the two sizes, and after a clean stop it is all that the image is. */
async function expectWhole(
  bench: VolumeBench,
  also?: { readonly block: number; readonly fill: number },
): Promise<void> {
  const { volume } = bench;
  expect(volume.status().stored?.image).toBe(IMAGE);
  const size = volume.geometry().sectors;
  expect([SMALL, LARGE]).toContain(size);
  expect(bench.shore.item.bytes).toBe(bytes(size));
  const expected = Buffer.alloc(bytes(size));
  expected.fill(1, 0, bytes(20));
  expected.fill(3, bytes(10), bytes(12));
  if (bench.options.volumeBlocks === LARGE) expected.fill(2, bytes(SMALL - 5), bytes(SMALL));
  if (also !== undefined) expected.fill(also.fill, bytes(also.block), bytes(also.block + 1));
  for (const block of [0, 10, 19, 20, SMALL - 1, size - 1])
    expect(await bench.byteOf(block)).toBe(expected[bytes(block)]);
  await bench.write(size - 1, 9);
  expected.fill(9, bytes(size - 1), bytes(size));
  await bench.flushRemote();
  await bench.stop();
  expect(bench.disk.file(IMAGE)?.size).toBe(bytes(size));
  expect(bench.image(size).equals(expected)).toBe(true);
}

/** What becomes of a resize during which the disk is watched by the probe; undefined when the process died over it. */
async function outcomeOf(bench: VolumeBench, to: number, probe: DiskProbe): Promise<Error | 'done' | undefined> {
  const seen: { outcome: Error | 'done' | undefined } = { outcome: undefined };
  bench.disk.setProbe(probe);
  bench.volume.resize(bytes(to)).then(
    () => (seen.outcome = 'done'),
    (error: unknown) => (seen.outcome = error instanceof Error ? error : new Error(String(error))),
  );
  await bench.clock.run({ when: () => seen.outcome !== undefined || !bench.life.alive });
  bench.disk.setProbe(undefined);
  return seen.outcome;
}

describe('a resize of a volume with an image', () => {
  test('makes the file longer, and what is added reads zeros', async () => {
    const bench = await ready(SMALL);
    await bench.settle(bench.volume.resize(bytes(LARGE)));
    expect(bench.volume.geometry().sectors).toBe(LARGE);
    await expectWhole(bench);
  });

  test('makes it shorter behind its version, and grown again it has nothing of what was there', async () => {
    const bench = await ready(LARGE);
    await bench.settle(bench.volume.resize(bytes(SMALL)));
    expect(bench.disk.file(IMAGE)?.size).toBe(bytes(SMALL));
    await bench.settle(bench.volume.resize(bytes(LARGE)));
    expect(await bench.byteOf(SMALL + 10)).toBe(0);
    await expectWhole(bench);
  });

  test('to a smaller size is refused while data lies beyond, and the image stays as it is', async () => {
    const bench = await ready(LARGE);
    await bench.write(LARGE - 2, 8);
    await expect(bench.settle(bench.volume.resize(bytes(SMALL)))).rejects.toMatchObject({ kind: 'input' });
    expect(bench.disk.file(IMAGE)?.size).toBe(bytes(LARGE));
    await expectWhole(bench, { block: LARGE - 2, fill: 8 });
  });

  test('goes no further than the device it lies on, and clears what is there', async () => {
    const bench = new VolumeBench({
      ...{ stored: true, volumeBlocks: SMALL, ramBlocks: 0, seedImage: Buffer.alloc(bytes(SMALL), 5) },
    });
    bench.imageFaults.deviceBytes = bytes(SMALL);
    await bench.start();
    await bench.flushRemote();
    await expect(bench.settle(bench.volume.resize(bytes(LARGE)))).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringContaining('make it larger first') as string,
    });
    const file = await bench.settle(bench.disk.mount({ alive: true, name: 'lvextend' }).open(IMAGE, 'write'));
    await bench.settle(Promise.resolve(file.write([Buffer.alloc(bytes(LARGE - SMALL), 0x55)], bytes(SMALL))));
    bench.imageFaults.deviceBytes = bytes(LARGE);
    await bench.settle(bench.volume.resize(bytes(LARGE)));
    for (const block of [SMALL, LARGE - 1]) expect(await bench.byteOf(block)).toBe(0);
    await bench.write(LARGE - 1, 6);
    await bench.stop();
    expect([0, SMALL - 1, SMALL, LARGE - 1].map((block) => bench.image(LARGE)[bytes(block)])).toEqual([5, 5, 0, 6]);
  });

  test.each([
    ['grows', SMALL, LARGE],
    ['shrinks', LARGE, SMALL],
  ])('leaves it whole wherever a crash strikes while it %s', async (_what, from, to) => {
    for (const [kind, moment] of [
      ['process', 'begun'],
      ['power', 'begun'],
      ['power', 'done'],
    ] as const)
      for (let call = 1, isOver = false; !isOver; call++) {
        const bench = await ready(from, { seed: call });
        const first = bench.disk.calls;
        isOver =
          (await outcomeOf(bench, to, {
            [moment]: ({ n }: { readonly n: number }) => {
              if (n !== first + call) return;
              bench.life.alive = false;
              bench.disk.crash(kind);
            },
          })) === 'done';
        // Those 12 answered writes were not flushed by anybody but the resize.
        if (!bench.life.alive) {
          await bench.start();
          await bench.write(10, 3, 2);
          if (from === LARGE && bench.volume.geometry().sectors === LARGE)
            await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: SMALL, sectors: LARGE - SMALL }])));
        }
        await expectWhole(bench);
      }
  });

  test.each([
    ['grows', SMALL, LARGE],
    ['shrinks', LARGE, SMALL],
  ])('is refused or done, and harms nothing, where a call of the disk fails while it %s', async (_what, from, to) => {
    for (const fault of ['EIO', 'ENOSPC'] as const)
      for (let call = 1, isOver = false; !isOver; call++) {
        const bench = await ready(from, { seed: call });
        const first = bench.disk.calls;
        let failed = false;
        const outcome = await outcomeOf(bench, to, {
          fault: ({ n, kind, path }) => {
            if (n < first + call || failed || path.startsWith('cache/') || kind === 'read') return undefined;
            failed = true;
            return fault;
          },
        });
        isOver = !failed;
        if (outcome !== 'done') expect(isKind(outcome, 'stopped', 'busy')).toBe(true);
        // What was not brought to the image, because a sync has failed that others counted on, is in the log still.
        await bench.write(11, 3);
        await bench.pass(10_000);
        await bench.flush();
        bench.crash('power', { fate: 'lost' });
        await bench.start();
        await expectWhole(bench);
      }
  });

  test('waits until what the image alone has is a version', async () => {
    const bench = new VolumeBench({ stored: true, volumeBlocks: SMALL, seedImage: Buffer.alloc(bytes(SMALL), 5) });
    bench.shore.holdCommits = true;
    await bench.start();
    await expect(bench.settle(bench.volume.resize(bytes(LARGE)))).rejects.toMatchObject({ kind: 'busy' });
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    await bench.settle(bench.volume.resize(bytes(LARGE)));
    await bench.stop();
    expect(bench.disk.file(IMAGE)?.size).toBe(bytes(LARGE));
  });

  // The log overflows while the image is made ready: then nothing was handed to the remote, and nothing has changed.
  test('that comes to nothing at the last moment leaves the volume as large as it was, and is no success when it is repeated', async () => {
    const clock = new VolumeBench().clock;
    const sealer = new Sealer(clock, { rpoMs: 1_000 }, { fenced: fail, failed: fail, lost: fail });
    const state = { volumeBlocks: LARGE, log: { assignedThrough: 0 } };
    const parts = {
      name: 'vol',
      state: state as unknown as BlockState,
      remote: { nextMapped: () => Promise.resolve(undefined) } as unknown as RemoteVolume,
      sealer,
      image: {
        prepareSize: () => {
          sealer.suspend();
          return Promise.resolve();
        },
        resized: () => Promise.reject(new Error('it was not')),
      },
    };
    await expect(resizeVolume(parts, bytes(SMALL))).rejects.toMatchObject({ kind: 'busy' });
    expect(state.volumeBlocks).toBe(LARGE);
  });

  test('that is committed when the log overflows already leaves no write beyond the old end out of the version', async () => {
    const bench = new VolumeBench({ stored: true, volumeBlocks: 4_000, chunks: 10, ramBlocks: 16, maxWaitMs: 2_000 });
    await bench.start();
    bench.shore.holdCommits = true;
    const growing = bench.volume.resize(bytes(9_000));
    await bench.pass(1_000);
    for (let block = 0; bench.volume.status().stored?.catchUp === undefined; block += 40)
      await bench.write(block, 1, 40);
    bench.shore.holdCommits = false;
    await bench.settle(growing);
    bench.shore.holdCommits = true;
    for (let block = 4_000; block < 8_800; block += 40) await bench.write(block, 1 + ((block / 40) % 250), 40);
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    for (let block = 4_000; block < 8_800; block += 40)
      expect([block, bench.shore.blocks.get(block)?.[7]]).toEqual([block, 1 + ((block / 40) % 250)]);
    await bench.stop();
  });

  test('leaves no content beyond any end, over any series of writes, unmaps, sizes and crashes', async () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('write' as const), block: fc.nat(199) }),
      fc.record({ do: fc.constant('unmap' as const), block: fc.nat(199) }),
      fc.record({ do: fc.constant('resize' as const), block: fc.integer({ min: 20, max: 200 }) }),
      fc.record({ do: fc.constantFrom('process' as const, 'power' as const, 'stop' as const), block: fc.constant(0) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), fc.nat(), async (steps, seed) => {
        const bench = new VolumeBench({ seed, volumeBlocks: 100, stored: true });
        await bench.start();
        let size = 100;
        let expected = Buffer.alloc(bytes(size));
        for (const [at, { do: what, block }] of steps.entries()) {
          if (what === 'write' && block < size) {
            await bench.write(block, at + 1);
            expected.fill(at + 1, bytes(block), bytes(block + 1));
          } else if (what === 'unmap' && block < size) {
            await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: block, sectors: size - block }])));
            expected.fill(0, bytes(block));
          } else if (what === 'resize') {
            if (expected.subarray(bytes(block)).some((byte) => byte !== 0)) continue;
            await bench.settle(bench.volume.resize(bytes(block)));
            size = block;
            const before = expected;
            expected = Buffer.alloc(bytes(size));
            before.copy(expected);
          } else if (what === 'stop') {
            await bench.stop();
            expect(bench.disk.file(IMAGE)?.size).toBe(bytes(size));
            expect(bench.image(size).equals(expected)).toBe(true);
            await bench.start();
          } else if (what === 'process' || what === 'power') {
            await bench.flush();
            bench.crash(what);
            await bench.start();
          }
          expect(bench.volume.geometry().sectors).toBe(size);
        }
        await bench.stop();
        expect(bench.image(size).equals(expected)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });
});
