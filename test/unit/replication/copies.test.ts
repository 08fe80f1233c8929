import { describe, expect, it } from 'vitest';
import { rawCompression } from '../../../gateway/format/compression.ts';
import { packEntry } from '../../../gateway/format/map-entry.ts';
import { decodeRunSection } from '../../../gateway/format/run.ts';
import { decodeSegmentHeader } from '../../../gateway/format/segment.ts';
import type { RemoteVolumeEngine } from '../../../gateway/replication/remote-volume-engine.ts';
import { SectionBuilder } from '../../../gateway/replication/section-builder.ts';
import { blockOf, RemoteWorld } from '../../support/remote-world.ts';

/** Copies blocks that are filled with a number each; those of 0 are zeros, and undefined ones lost. */
async function copy(
  engine: RemoteVolumeEngine,
  blocks: readonly (readonly [block: number, value: number | undefined])[],
  unmaps: readonly number[] = [],
): Promise<Buffer> {
  const kept = blocks.filter(([, value]) => value !== undefined);
  const data = new Uint8Array(kept.length * 4096);
  kept.forEach(([block, value = 0], at) => {
    if (value !== 0) data.set(blockOf(block, value), at * 4096);
  });
  const { header } = await engine.copy({
    ...{ from: 'memory', blocks: Float64Array.from(blocks, ([block]) => block), data },
    unmaps: Float64Array.from(unmaps),
    lost: blocks.filter(([, value]) => value === undefined).map(([block]) => block),
  });
  return header;
}

describe('blocks that are copied beside the log', () => {
  it('are in no version until one has all of them, the later copies over the earlier, and what was there before stays elsewhere', async () => {
    const world = new RemoteWorld();
    const first = world.gateway();
    await first.open();
    await first.commit({
      writes: [
        [1, 1],
        [500, 5],
        [70_000, 7],
      ],
    });
    const headers = [
      await copy(first.engine, [
        [1, 11],
        [2, 12],
        [70_000, 0],
      ]),
      await copy(first.engine, [[40_000, 13]], [400, 200]),
      await copy(first.engine, [
        [2, 22],
        [450, 24],
        [90_000, undefined],
      ]),
      await copy(first.engine, [], [40_000, 1]),
    ];
    expect(await first.values(1, 2)).toEqual([1, 0]);
    await first.engine.noteCopies(Buffer.concat(headers.slice(0, 1)), true);
    await first.engine.noteCopies(Buffer.concat(headers.slice(1)), false);
    const committed = await first.engine.commitCopies({ headers: 4, firstSeq: 2, throughSeq: 9, newestWriteAt: 77 });
    expect(committed).toMatchObject({ n: 3, throughSeq: 9, lost: [] });
    const check = async (gateway: typeof first): Promise<void> => {
      expect(await gateway.values(1, 2)).toEqual([11, 22]);
      expect(await gateway.values(450, 1)).toEqual([24]);
      expect(await gateway.values(500, 1)).toEqual([0]);
      expect(await gateway.values(40_000, 1)).toEqual([0]);
      expect(await gateway.values(70_000, 1)).toEqual([0]);
      expect((await gateway.engine.read(90_000, 1)).present[0]).toBe(2);
    };
    await check(first);
    await first.commit({ writes: [[3, 33]] });
    const second = world.gateway();
    const { lastData } = await second.open();
    expect(lastData).toMatchObject({ epoch: 1, logId: first.logId });
    await check(second);
    await second.engine.fold();
    await check(second);
    expect(await second.engine.verify()).toMatchObject({
      verdict: 'fail',
      problems: [expect.stringContaining('lost')],
    });
    // The version before can still be had.
    const third = world.gateway();
    await third.open();
    await third.engine.rollBackTo(2);
    expect(await third.values(1, 2)).toEqual([1, 0]);
    expect(await third.values(500, 1)).toEqual([5]);
  });

  it('that were copied by an earlier start count as well', async () => {
    const world = new RemoteWorld();
    const first = world.gateway();
    await first.open();
    const header = await copy(first.engine, [[5, 50]]);
    const second = world.gateway();
    await second.open();
    await second.engine.noteCopies(Buffer.concat([header, await copy(second.engine, [[6, 60]])]), true);
    await second.engine.commitCopies({ headers: 2, firstSeq: 1, throughSeq: 1, newestWriteAt: 0 });
    expect(await second.values(5, 2)).toEqual([50, 60]);
    expect(await second.engine.verify()).toMatchObject({ verdict: 'pass', problems: [] });
  });
});

describe('the sections of a manifest', () => {
  it('are the same however little of them is in memory at once', () => {
    const builders = [new SectionBuilder(rawCompression, 1), new SectionBuilder(rawCompression)];
    const identity = {
      ...{ lineage: 'lin', volume: 'vol', n: 1, epoch: 1, kind: 'moved' as const, previousChain: Buffer.alloc(32) },
      ...{ logId: 'log', firstSeq: 0, throughSeq: 0, newestWriteAt: 0, sealedAt: 0, volumeBytes: 2 ** 40 },
    };
    const enter = (segment: number, blocks: number[], unmaps: { block: number; count: number }[]): void => {
      for (const builder of builders) {
        builder.enter({
          ...{ ...identity, number: segment, unmaps, blocks: blocks.length, headerBytes: 256, objectBytes: 512 },
          frames: blocks.map((_, at) => ({ offset: 1 + at, length: 1 })),
          extents: blocks.map((block, frame) => ({ block, count: 1, frame, index: 0 })),
        });
      }
    };
    enter(1, [5, 20_000, 40_000], []);
    enter(2, [6, 20_000], [{ block: 39_000, count: 5_000 }]);
    enter(3, [40_001], [{ block: 5, count: 1 }]);
    const [small, large] = builders.map((builder) => builder.finish());
    expect(small).toEqual(large);
    expect(large?.ranges).toEqual([{ block: 39_000, count: 5_000 }]);
    const entries = new Map<number, number[]>();
    for (const { shard, changes, codec, payload } of large?.sections ?? []) {
      const place = { shard, changes, codec, offset: 0, bytes: payload.length, crc32: 0 };
      expect(() => decodeRunSection(payload, place, rawCompression)).toThrow(/CRC/);
      for (let at = 0; at < changes; at++)
        entries.set(shard * 16_384 + payload.readUInt16LE(2 * at), [
          payload.readUInt32LE(2 * changes + 8 * at),
          payload.readUInt32LE(2 * changes + 8 * at + 4),
        ]);
    }
    const at = (segment: number, offset: number): number[] => {
      const words = new Uint32Array(2);
      packEntry({ segment, offset, length: 1, index: 0 }, words, 0);
      return [...words];
    };
    expect([...entries].sort((a, b) => a[0] - b[0])).toEqual([
      [5, [0, 0]],
      [6, at(2, 1)],
      [20_000, at(2, 2)],
      [40_000, [0, 0]],
      [40_001, at(3, 1)],
    ]);
    expect(decodeSegmentHeader(Buffer.alloc(0))).toHaveProperty('needBytes');
  });
});
