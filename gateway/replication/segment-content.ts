import { BLOCK_SIZE } from '../base/units.ts';
import type { BlockCount, BlockNumber } from '../base/units.ts';
import type { Compression } from '../format/compression.ts';
import { encodeFrame, encodeLostFrame, MAX_FRAME_BLOCKS } from '../format/frame.ts';
import type { BlockRange } from '../format/ids.ts';
import { rangesFromPairs } from '../format/ids.ts';
import type { CommitBatch, LogReader } from './remote-volume.ts';
import { READ_SLICE_BLOCKS, type SegmentMemory } from './segment-memory.ts';

const ZERO_BLOCK = Buffer.alloc(BLOCK_SIZE);

/** A batch in the shape in which it goes into a segment or an inline payload. */
export interface SegmentContent {
  /** Ascending; none of them is all zeros unless there was no room to say so as an unmap. */
  readonly blocks: Float64Array;
  /** Encoded frames of 16 blocks each, the last one possibly shorter. */
  readonly frames: readonly Buffer[];
  /** Ascending, disjoint, not adjacent. */
  readonly unmaps: readonly BlockRange[];
  /** Blocks whose content is lost: each has a frame that says so. */
  readonly lost: readonly BlockNumber[];
}

/**
 * Reads the blocks of a batch from the cache log and makes frames of them. A block of zeros becomes an unmap, which costs
 * no space, while `maxUnmaps` allows; one that can't be read becomes the frame of a lost block. The frames lie in `memory`. Rejects with what the reader rejects with.
 */
export async function buildContent(
  batch: CommitBatch,
  reader: LogReader,
  compression: Compression,
  maxUnmaps: number,
  memory: SegmentMemory,
): Promise<SegmentContent> {
  memory.startOver();
  const count = batch.blocks.length;
  const unmaps = rangesFromPairs(batch.unmaps);
  // Each zero block adds one range at most before neighbours are joined.
  let zerosLeft = Math.max(0, maxUnmaps - unmaps.length);
  const kept = new Float64Array(count);
  const zeros: BlockRange[] = [];
  const frames: Buffer[] = [];
  const lost: BlockNumber[] = [];
  const frame = memory.take(MAX_FRAME_BLOCKS * BLOCK_SIZE);
  let keptCount: BlockCount = 0;
  let framed: BlockCount = 0;
  const closeFrame = (): void => {
    if (keptCount === framed) return;
    const raw = frame.subarray(0, (keptCount - framed) * BLOCK_SIZE);
    frames.push(encodeFrame(raw, kept.subarray(framed, keptCount), compression, memory.take));
    framed = keptCount;
  };
  const slice = memory.take(Math.min(READ_SLICE_BLOCKS, count) * BLOCK_SIZE);
  for (let from = 0; from < count; from += READ_SLICE_BLOCKS) {
    const to = Math.min(count, from + READ_SLICE_BLOCKS);
    const into = slice.subarray(0, (to - from) * BLOCK_SIZE);
    const bad = await reader.readBlocks(
      batch.places.subarray(from, to),
      batch.blocks.subarray(from, to),
      batch.seqs.subarray(from, to),
      into,
    );
    for (let at = from; at < to; at += 1) {
      const block = batch.blocks[at] ?? 0;
      if (bad.includes(at - from)) {
        closeFrame();
        frames.push(encodeLostFrame(block));
        kept[keptCount] = block;
        keptCount += 1;
        framed = keptCount;
        lost.push(block);
        continue;
      }
      const content = into.subarray((at - from) * BLOCK_SIZE, (at - from + 1) * BLOCK_SIZE);
      if (zerosLeft > 0 && content.equals(ZERO_BLOCK)) {
        zeros.push({ block, count: 1 });
        zerosLeft -= 1;
        continue;
      }
      content.copy(frame, (keptCount - framed) * BLOCK_SIZE);
      kept[keptCount] = block;
      keptCount += 1;
      if (keptCount - framed === MAX_FRAME_BLOCKS) closeFrame();
    }
  }
  closeFrame();
  return { blocks: kept.subarray(0, keptCount), frames, unmaps: joinRanges(unmaps, zeros), lost };
}

/** Two ascending, mutually disjoint lists of ranges as one, neighbours joined. */
export function joinRanges(first: readonly BlockRange[], second: readonly BlockRange[]): BlockRange[] {
  const joined: { block: number; count: number }[] = [];
  let i = 0;
  let j = 0;
  while (i < first.length || j < second.length) {
    const a = first[i];
    const b = second[j];
    let next: BlockRange;
    if (a !== undefined && (b === undefined || a.block < b.block)) {
      next = a;
      i += 1;
    } else if (b !== undefined) {
      next = b;
      j += 1;
    } else break;
    const last = joined.at(-1);
    if (last !== undefined && last.block + last.count === next.block) last.count += next.count;
    else joined.push({ block: next.block, count: next.count });
  }
  return joined;
}
