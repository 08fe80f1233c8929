import { crc32 } from '../../base/crc32.ts';
import { FarshoreError, isKind } from '../../base/errors.ts';
import type { ImageFile } from '../../base/image.ts';
import { BLOCK_SIZE, MIB, type BlockCount, type BlockNumber, type ByteCount } from '../../base/units.ts';
import type { CleanMark } from './stored-state.ts';

/** What a clean mark has the checksum of: partition tables, and the superblock of a file system at its start or in a first partition at 1 MiB. */
const HEAD_BYTES: ByteCount = 4 * MIB;

/** Blocks that are looked at before zeros are written over them. */
const ZERO_BLOCKS: BlockCount = 256;
const ZEROS = Buffer.alloc(ZERO_BLOCKS * BLOCK_SIZE);

/** The raw image behind a stored volume: block b of the volume lies at b × 4096, and nothing else is in it. */
export class Image {
  readonly path: string;
  readonly #file: ImageFile;
  readonly #bytes: ByteCount;

  constructor(file: ImageFile, path: string, bytes: ByteCount) {
    this.#file = file;
    this.path = path;
    this.#bytes = bytes;
  }

  /** Fills `into`, whole blocks. Rejects with `stopped` when the disk fails. */
  async read(block: BlockNumber, into: Buffer): Promise<void> {
    await this.#attempt(() => this.#file.read(into, block * BLOCK_SIZE));
  }

  /** Whole blocks; not durable before `sync`. Rejects with `busy` (its file system is full) or `stopped`. */
  async write(block: BlockNumber, data: Buffer): Promise<void> {
    await this.#attempt(() => this.#file.write([data], block * BLOCK_SIZE));
  }

  /**
   * Makes the blocks read zeros. Unless everything is to be `rewritten`, only where they do not yet: what a sparse file has not allocated
   * stays so.
   */
  async zero(block: BlockNumber, count: BlockCount, rewritten: boolean): Promise<void> {
    const found = Buffer.allocUnsafe(Math.min(count, ZERO_BLOCKS) * BLOCK_SIZE);
    for (let at = 0; at < count; at += ZERO_BLOCKS) {
      const bytes = Math.min(count - at, ZERO_BLOCKS) * BLOCK_SIZE;
      const here = found.subarray(0, bytes);
      if (rewritten || !(await this.#isZero(block + at, here))) await this.write(block + at, ZEROS.subarray(0, bytes));
    }
  }

  async #isZero(block: BlockNumber, here: Buffer): Promise<boolean> {
    try {
      await this.read(block, here);
    } catch (error) {
      // A sector that can't be read can often be written.
      if (!isKind(error, 'stopped')) throw error;
      return false;
    }
    return here.equals(ZEROS.subarray(0, here.length));
  }

  /** After a rejection everything written since the last success has to be written again. */
  async sync(): Promise<void> {
    await this.#attempt(() => this.#file.sync());
  }

  /** After the last write: everything is on stable storage, and the mark is what the next start will find. Rejects as `sync` and `mark`. */
  async finish(): Promise<CleanMark> {
    await this.#attempt(() => this.#file.syncWhole());
    return this.mark();
  }

  /** What it looks like now. Rejects with `stopped`. */
  async mark(): Promise<CleanMark> {
    const head = Buffer.alloc(Math.min(this.#bytes, HEAD_BYTES));
    await this.read(0, head);
    return { bytes: this.#bytes, lastChange: await this.#file.lastChange(), headCrc: crc32(head) };
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Its own name in what its disk says, and `damaged` (it has become shorter) is the disk's failure too. */
  async #attempt<T>(work: () => T | Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isKind(error, 'stopped', 'damaged', 'busy')) throw error;
      const kind = error.kind === 'busy' ? 'busy' : 'stopped';
      throw new FarshoreError(kind, `the image ${this.path}: ${error.message}`, { cause: error });
    }
  }
}

export function isSameMark(a: CleanMark, b: CleanMark): boolean {
  return a.bytes === b.bytes && a.lastChange === b.lastChange && a.headCrc === b.headCrc;
}
