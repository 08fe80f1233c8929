import { MAX_SEGMENT_BLOCKS, MAX_SEGMENT_UNMAPS } from '../format/segment.ts';
import type { BlockCount, BlockNumber, WallMillis, WriteSeq } from '../base/units.ts';
import type { BlockRange } from '../cache/unmap-payload.ts';
import { BlockSet } from './block-set.ts';

/** Blocks entered, those that were unmapped again included. */
const MAX_ENTERED = 8 * MAX_SEGMENT_BLOCKS;

/** A run of operations that becomes one version, coalesced. Arrays as in CommitBatch. */
export interface SealedBatch {
  readonly firstSeq: WriteSeq;
  readonly throughSeq: WriteSeq;
  readonly blocks: Float64Array;
  readonly places: Float64Array;
  readonly seqs: Float64Array;
  readonly unmaps: Float64Array;
  readonly newestWriteAt: WallMillis;
  /** On the monotonic clock: when its oldest write arrived. */
  readonly oldestMs: number;
}

/** Where the blocks of a write lie in the log. */
export interface Placed {
  placeAt(index: number): number;
}

/**
 * Collects logged operations in the order of their sequences until they are sealed. A block counts once, in its newest form; an unmap
 * takes the blocks under it away, and a later write makes a hole in it.
 */
export class BatchBuilder {
  readonly #at = new Map<BlockNumber, number>();
  #places: number[] = [];
  #seqs: number[] = [];
  #unmaps = new BlockSet();
  #firstSeq = 0;
  #throughSeq = 0;
  #newestWriteAt = 0;
  #oldestMs = 0;

  get isEmpty(): boolean {
    return this.#throughSeq === 0;
  }

  /** Distinct dirty blocks. */
  get blocks(): BlockCount {
    return this.#at.size;
  }

  get oldestMs(): number {
    return this.#oldestMs;
  }

  get firstSeq(): WriteSeq {
    return this.#firstSeq;
  }

  /** Whether the batch stays within a segment with this write too. */
  fitsWrite(block: BlockNumber, count: BlockCount): boolean {
    if (this.#unmaps.size >= MAX_SEGMENT_UNMAPS || this.#places.length >= MAX_ENTERED) return false;
    if (this.#at.size + count <= MAX_SEGMENT_BLOCKS) return true;
    let added = 0;
    for (let i = 0; i < count; i++) if (!this.#at.has(block + i)) added++;
    return this.#at.size + added <= MAX_SEGMENT_BLOCKS;
  }

  fitsUnmap(ranges: number): boolean {
    return this.#unmaps.size + ranges <= MAX_SEGMENT_UNMAPS;
  }

  addWrite(
    seq: WriteSeq,
    arrivedAt: WallMillis,
    arrivedMs: number,
    block: BlockNumber,
    count: BlockCount,
    placed: Placed,
  ): void {
    this.#begin(seq, arrivedAt, arrivedMs);
    for (let i = 0; i < count; i++) {
      const at = this.#at.get(block + i);
      if (at === undefined) {
        this.#at.set(block + i, this.#places.length);
        this.#places.push(placed.placeAt(i));
        this.#seqs.push(seq);
      } else {
        this.#places[at] = placed.placeAt(i);
        this.#seqs[at] = seq;
      }
    }
    this.#unmaps.remove(block, count);
  }

  addUnmap(seq: WriteSeq, arrivedAt: WallMillis, arrivedMs: number, ranges: readonly BlockRange[]): void {
    this.#begin(seq, arrivedAt, arrivedMs);
    for (const { block, count } of ranges) {
      this.#unmaps.add(block, count);
      if (count < this.#at.size) {
        for (let i = 0; i < count; i++) this.#at.delete(block + i);
      } else {
        for (const written of [...this.#at.keys()])
          if (written >= block && written < block + count) this.#at.delete(written);
      }
    }
  }

  /** Seals what there is and starts anew. Not on an empty builder. */
  seal(): SealedBatch {
    const blocks = Float64Array.from(this.#at.keys()).sort();
    const places = new Float64Array(blocks.length);
    const seqs = new Float64Array(blocks.length);
    for (let i = 0; i < blocks.length; i++) {
      const at = this.#at.get(blocks[i] ?? 0) ?? 0;
      places[i] = this.#places[at] ?? 0;
      seqs[i] = this.#seqs[at] ?? 0;
    }
    const batch: SealedBatch = {
      firstSeq: this.#firstSeq,
      throughSeq: this.#throughSeq,
      blocks,
      places,
      seqs,
      unmaps: this.#unmaps.pairs(),
      newestWriteAt: this.#newestWriteAt,
      oldestMs: this.#oldestMs,
    };
    this.#at.clear();
    this.#places = [];
    this.#seqs = [];
    this.#unmaps = new BlockSet();
    this.#firstSeq = 0;
    this.#throughSeq = 0;
    this.#newestWriteAt = 0;
    return batch;
  }

  #begin(seq: WriteSeq, arrivedAt: WallMillis, arrivedMs: number): void {
    if (this.#throughSeq === 0) {
      this.#firstSeq = seq;
      this.#oldestMs = arrivedMs;
    }
    this.#throughSeq = seq;
    this.#newestWriteAt = Math.max(this.#newestWriteAt, arrivedAt);
  }
}
