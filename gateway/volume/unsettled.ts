import type { BlockNumber, WriteSeq } from '../base/units.ts';
import type { BlockIndex } from '../cache/block-index.ts';

/** Batches that are remembered one by one; beyond it neighbours become one. */
const MAX_BATCHES = 256;

/** Blocks that are in a version, and where they lay in the log then. */
export interface SettledBatch {
  readonly throughSeq: WriteSeq;
  readonly blocks: Float64Array;
  readonly places: Float64Array;
  readonly lost: ReadonlySet<BlockNumber>;
}

/**
 * Batches that are in a version and have not passed the gate, in order. However long that takes, none is forgotten: a block that nobody marks clean would
 * count as unreplicated for ever, and hold its leaf of the index against new writes. What has been overwritten since goes when batches are joined,
 * so the memory is 16 bytes for each dirty block of the index at most, besides the last batches.
 */
export class Unsettled {
  #batches: SettledBatch[] = [];

  /** `index`: where the blocks lie now. */
  add(batch: SettledBatch, index: Pick<BlockIndex, 'place'>): void {
    this.#batches.push(batch);
    if (this.#batches.length <= MAX_BATCHES) return;
    const joined: SettledBatch[] = [];
    for (let at = 0; at < this.#batches.length; at += 2) joined.push(join(this.#batches.slice(at, at + 2), index));
    this.#batches = joined;
  }

  /** Takes away the oldest one if all of it has passed. */
  take(through: WriteSeq): SettledBatch | undefined {
    const [first] = this.#batches;
    return first !== undefined && first.throughSeq <= through ? this.#batches.shift() : undefined;
  }
}

/** One batch of all of them, which follow one another, without what is elsewhere by now. */
function join(batches: readonly SettledBatch[], index: Pick<BlockIndex, 'place'>): SettledBatch {
  const isHere = ({ blocks, places }: SettledBatch, at: number): boolean => index.place(blocks[at] ?? 0) === places[at];
  let count = 0;
  for (const batch of batches) for (let at = 0; at < batch.blocks.length; at++) if (isHere(batch, at)) count++;
  const blocks = new Float64Array(count);
  const places = new Float64Array(count);
  const lost = new Set<BlockNumber>();
  let to = 0;
  for (const batch of batches) {
    for (let at = 0; at < batch.blocks.length; at++) {
      if (!isHere(batch, at)) continue;
      const block = batch.blocks[at] ?? 0;
      blocks[to] = block;
      places[to++] = batch.places[at] ?? 0;
      if (batch.lost.has(block)) lost.add(block);
    }
  }
  return { throughSeq: batches.at(-1)?.throughSeq ?? 0, blocks, places, lost };
}
