import type { DiskFile } from '../base/disk.ts';
import type { WriteSeq } from '../base/units.ts';
import type { Queue } from './s3-fifo.ts';

/** What a chunk holds of one volume. */
export interface ChunkShare {
  /** Lowest and highest sequence of writes and unmaps; 0 when there are none. */
  minSeq: WriteSeq;
  maxSeq: WriteSeq;
  /** Lowest and highest key: sequences, and what fills are as of. */
  minKey: WriteSeq;
  maxKey: WriteSeq;
}

/**
 * `free`: made ready, empty. `open`: being appended to. `sealed`: full. `reclaiming`: its index entries go.
 * `retired`: the disk failed under it; never used again.
 */
export type ChunkState = 'free' | 'open' | 'sealed' | 'reclaiming' | 'retired';

/** One chunk file of the pool. */
export class Chunk {
  readonly number: number;
  readonly file: DiskFile;
  generation: number;
  state: ChunkState = 'free';
  /** Where it stands when it is full. What a start finds is main's: which of it was fetched for the first time, nobody knows any more. */
  queue: Queue = 'main';
  readonly shares = new Map<number, ChunkShare>();
  /** The descriptor table as written so far, while the chunk is open. */
  table: Buffer | undefined;
  /** Appends under way. */
  pending = 0;
  /** Batches on their way to the remote that point into it: it stays as it is for them. */
  pins = 0;
  /** Writes or unmaps went in since the last successful sync began. */
  unsynced = false;

  constructor(number: number, file: DiskFile, generation: number) {
    this.number = number;
    this.file = file;
    this.generation = generation;
  }

  noteWrite(volume: number, seq: WriteSeq): void {
    const share = this.#share(volume, seq);
    share.minSeq = share.minSeq === 0 ? seq : Math.min(share.minSeq, seq);
    share.maxSeq = Math.max(share.maxSeq, seq);
  }

  noteFill(volume: number, asOf: WriteSeq): void {
    this.#share(volume, asOf);
  }

  #share(volume: number, key: WriteSeq): ChunkShare {
    let share = this.shares.get(volume);
    if (share === undefined) {
      share = { minSeq: 0, maxSeq: 0, minKey: key, maxKey: key };
      this.shares.set(volume, share);
    }
    share.minKey = Math.min(share.minKey, key);
    share.maxKey = Math.max(share.maxKey, key);
    return share;
  }
}

/** The lowest sequence that the chunks have of the volume's writes and unmaps; 1 when they have none. */
export function lowestSeq(chunks: readonly Chunk[], volume: number): WriteSeq {
  const seqs = chunks.map(({ shares }) => shares.get(volume)?.minSeq ?? 0).filter((seq) => seq > 0);
  return seqs.length === 0 ? 1 : Math.min(...seqs);
}
