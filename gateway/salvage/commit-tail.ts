import { BLOCK_SIZE, type BlockCount, type BlockNumber, type ByteCount, type WriteSeq } from '../base/units.ts';
import { MAX_SEGMENT_BLOCKS, MAX_SEGMENT_UNMAPS } from '../format/segment.ts';
import type { Copied, RemoteVolume } from '../replication/remote-volume.ts';
import { BlockSet } from '../volume/block-set.ts';
import type { SalvagedRecord, SalvageFile } from '../volume/salvage-reader.ts';

/** What the writes of a salvage file came to. */
export interface TailOutcome {
  /** Blocks uploaded, those that were written again and uploaded twice included. */
  readonly blocks: BlockCount;
  /** Blocks whose newest content is lost: the version says so, and a read of them fails until they are written again. */
  readonly lost: readonly BlockNumber[];
  /** Unmaps of which nobody knows any more what they unmapped: what lies there is still mapped. */
  readonly lostUnmaps: number;
  /** Blocks beyond the end of the volume: it was made smaller after them. */
  readonly beyond: BlockCount;
}

/** Lost blocks that are told of one by one. */
export const MAX_LOST_TOLD = 4096;

export interface TailRequest {
  readonly file: SalvageFile;
  readonly passOverDamage: boolean;
  /** Writes up to this one are in the volume already. */
  readonly after: WriteSeq;
  readonly volumeBytes: ByteCount;
  readonly onProgress?: (blocks: BlockCount) => void;
}

/**
 * Makes one version of all the writes in the file after `after`: they are uploaded beside the log a segment at a time, and nothing of them counts
 * before the one put at the end, so a crash leaves nothing but objects of no version. Rejects as `RemoteVolume.copy` and the file do.
 */
export async function commitTail(remote: RemoteVolume, request: TailRequest): Promise<TailOutcome> {
  const upload = new TailUpload(remote, request);
  await remote.noteCopies(Buffer.alloc(0), true);
  await request.file.read((record) => upload.add(record), { passOverDamage: request.passOverDamage });
  return upload.finish();
}

class TailUpload {
  readonly #remote: RemoteVolume;
  readonly #request: TailRequest;
  readonly #volumeBlocks: BlockCount;
  readonly #lost = new Set<BlockNumber>();
  /** Content of each block of the segment being gathered; undefined: lost. */
  #blocks = new Map<BlockNumber, Buffer | undefined>();
  #unmaps = new BlockSet();
  #headers = 0;
  #firstSeq: WriteSeq = 0;
  #lastSeq: WriteSeq = 0;
  #uploaded: BlockCount = 0;
  #lostUnmaps = 0;
  #beyond: BlockCount = 0;

  constructor(remote: RemoteVolume, request: TailRequest) {
    this.#remote = remote;
    this.#request = request;
    this.#volumeBlocks = Math.ceil(request.volumeBytes / BLOCK_SIZE);
  }

  async add(record: SalvagedRecord): Promise<void> {
    if (record.seq <= this.#request.after) return;
    this.#firstSeq ||= record.seq;
    this.#lastSeq = record.seq;
    if (record.kind === 'lost-unmap') {
      this.#lostUnmaps += 1;
      return;
    }
    const count = record.kind === 'write' ? 1 : record.count;
    const within = Math.max(0, Math.min(count, this.#volumeBlocks - record.block));
    this.#beyond += count - within;
    if (within === 0) return;
    if (record.kind === 'write') await this.#write(record.block, record.data);
    else await this.#unmap(record.block, within);
  }

  async finish(): Promise<TailOutcome> {
    await this.#uploadGathered();
    if (this.#lastSeq > 0) {
      await this.#remote.commitCopies({
        headers: this.#headers,
        firstSeq: this.#firstSeq,
        throughSeq: this.#lastSeq,
        newestWriteAt: 0,
      });
    }
    return {
      blocks: this.#uploaded,
      lost: [...this.#lost].sort((a, b) => a - b).slice(0, MAX_LOST_TOLD),
      lostUnmaps: this.#lostUnmaps,
      beyond: this.#beyond,
    };
  }

  async #write(block: BlockNumber, data: Buffer | undefined): Promise<void> {
    const isFull = this.#blocks.size >= MAX_SEGMENT_BLOCKS && !this.#blocks.has(block);
    if (isFull || this.#unmaps.size >= MAX_SEGMENT_UNMAPS - 1) await this.#uploadGathered();
    this.#blocks.set(block, data);
    this.#unmaps.remove(block, 1);
    if (data === undefined) this.#lost.add(block);
    else this.#lost.delete(block);
  }

  async #unmap(block: BlockNumber, count: BlockCount): Promise<void> {
    if (this.#unmaps.size >= MAX_SEGMENT_UNMAPS - 1) await this.#uploadGathered();
    this.#unmaps.add(block, count);
    for (const blocks of [this.#blocks, this.#lost])
      for (const each of [...blocks.keys()]) if (each >= block && each < block + count) blocks.delete(each);
  }

  async #uploadGathered(): Promise<void> {
    if (this.#blocks.size === 0 && this.#unmaps.size === 0) return;
    const { header } = await this.#copy();
    await this.#remote.noteCopies(header, false);
    this.#headers += 1;
    this.#request.onProgress?.(this.#uploaded);
  }

  async #copy(): Promise<Copied> {
    const blocks = Float64Array.from(this.#blocks.keys()).sort();
    const lost = [...blocks].filter((block) => this.#blocks.get(block) === undefined);
    const pieces = [...blocks].flatMap((block) => this.#blocks.get(block) ?? []);
    // Not from a shared pool: it is moved to another thread.
    const data = new Uint8Array(pieces.length * BLOCK_SIZE);
    pieces.forEach((piece, at) => {
      data.set(piece, at * BLOCK_SIZE);
    });
    const unmaps = this.#unmaps.pairs();
    this.#uploaded += blocks.length;
    this.#blocks = new Map();
    this.#unmaps = new BlockSet();
    return this.#remote.copy({ from: 'memory', blocks, unmaps, data, lost });
  }
}
