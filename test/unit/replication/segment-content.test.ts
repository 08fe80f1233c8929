import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { loadCompression, rawCompression } from '../../../gateway/format/compression.ts';
import { frameBlocks } from '../../../gateway/format/frame.ts';
import type { LogReader } from '../../../gateway/replication/remote-volume.ts';
import { buildContent, joinRanges } from '../../../gateway/replication/segment-content.ts';
import { READ_SLICE_BLOCKS, SegmentMemories, SegmentMemory } from '../../../gateway/replication/segment-memory.ts';
import { blockOf } from '../../support/remote-world.ts';

/** Place 0 holds zeros, any other the block's content. */
function readerThatCounts(reads: number[]): LogReader {
  return {
    readBlocks: (places, blocks, _seqs, into) => {
      reads.push(places.length);
      places.forEach((place, at) => blockOf(blocks[at] ?? 0, place).copy(into, at * 4096));
      return Promise.resolve([]);
    },
  };
}

function batchOf(blocks: readonly number[], places: readonly number[], unmaps: readonly number[] = []) {
  return {
    index: 1,
    firstSeq: 1,
    throughSeq: 9,
    blocks: Float64Array.from(blocks),
    places: Float64Array.from(places),
    seqs: Float64Array.from(places),
    unmaps: Float64Array.from(unmaps),
    newestWriteAt: 1,
  };
}

const memory = (): SegmentMemory => new SegmentMemory();

describe('the content of a segment', () => {
  it('is frames of 16 blocks in ascending order, read in slices', async () => {
    const reads: number[] = [];
    const blocks = Array.from({ length: READ_SLICE_BLOCKS + 20 }, (_, at) => 3 * at);
    const content = await buildContent(
      batchOf(
        blocks,
        blocks.map(() => 7),
      ),
      readerThatCounts(reads),
      rawCompression,
      100,
      await new SegmentMemories(1).take(blocks.length),
    );
    expect(reads).toEqual([READ_SLICE_BLOCKS, 20]);
    expect(content.frames.map((frame) => frameBlocks(frame).length)).toEqual([...Array<number>(17).fill(16), 4]);
    expect(content.frames.flatMap((frame) => [...frameBlocks(frame)])).toEqual(blocks);
    expect([...content.blocks]).toEqual(blocks);
  });

  it('says zeros as unmaps, joined with their neighbours', async () => {
    const batch = batchOf([4, 5, 6, 9, 20], [0, 1, 0, 0, 0], [7, 2, 10, 5]);
    const content = await buildContent(batch, readerThatCounts([]), rawCompression, 100, memory());
    expect([...content.blocks]).toEqual([5]);
    expect(content.unmaps).toEqual([
      { block: 4, count: 1 },
      { block: 6, count: 9 },
      { block: 20, count: 1 },
    ]);
  });

  it('stores what repeats in a frame once: sixteen blocks of one content take the room of one', async () => {
    const content = randomBytes(4096);
    const reader: LogReader = {
      readBlocks: (places, _blocks, _seqs, into) => {
        places.forEach((_, at) => content.copy(into, at * 4096));
        return Promise.resolve([]);
      },
    };
    const blocks = Array.from({ length: 32 }, (_, at) => 5 * at);
    const places = blocks.map(() => 1);
    const compression = await loadCompression();
    const { frames } = await buildContent(batchOf(blocks, places), reader, compression, 100, memory());
    expect(frames).toHaveLength(2);
    // Beside the content: the frame's header, sixteen numbers, what zstd needs to say so, and padding to 256 bytes.
    for (const frame of frames) expect(frame.length).toBeLessThanOrEqual(4096 + 512);
  });

  it('stores zeros as data where there is no room for more unmaps', async () => {
    const content = await buildContent(
      batchOf([1, 3, 5], [0, 0, 0], [7, 2]),
      readerThatCounts([]),
      rawCompression,
      2,
      memory(),
    );
    expect(content.unmaps).toEqual([
      { block: 1, count: 1 },
      { block: 7, count: 2 },
    ]);
    expect([...content.blocks]).toEqual([3, 5]);
  });

  it('joins two lists of ranges into one that is ascending and nowhere adjacent', () => {
    const joined = joinRanges(
      [
        { block: 0, count: 2 },
        { block: 8, count: 1 },
      ],
      [
        { block: 2, count: 6 },
        { block: 30, count: 1 },
      ],
    );
    expect(joined).toEqual([
      { block: 0, count: 9 },
      { block: 30, count: 1 },
    ]);
  });
});
