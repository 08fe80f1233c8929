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
  /** Size of the volume: of a larger one once its version is committed. The file may be longer. */
  bytes: ByteCount;
  #failedSyncs = 0;

  constructor(file: ImageFile, path: string, bytes: ByteCount) {
    this.#file = file;
    this.path = path;
    this.bytes = bytes;
  }

  get blocks(): BlockCount {
    return Math.ceil(this.bytes / BLOCK_SIZE);
  }

  /**
   * Syncs that failed so far, whoever asked for them: only one of several who wrote is told, and the page cache calls clean what the disk did not take.
   * When it has risen since a write, that has to be written again, even where a sync behind it went well.
   */
  get failedSyncs(): number {
    return this.#failedSyncs;
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
    await this.#syncing(() => this.#file.sync());
  }

  /** Rejects with `input` when it is on a device that is smaller than that. */
  async requireRoomFor(bytes: ByteCount): Promise<void> {
    if (!this.#file.isDevice) return;
    const size = await this.size();
    if (size >= bytes) return;
    throw new FarshoreError(
      'input',
      `the device ${this.path} has ${size} bytes, fewer than the ${bytes} the volume is to have; make it larger first (as lvextend does), then repeat the command`,
    );
  }

  /**
   * Makes room for a volume of so many bytes, which reads zeros where it has none yet; durable when it resolves. `bytes` stays what it is. Rejects with
   * `busy`, `stopped`, and what `goOn` throws when it is to end before.
   */
  async grow(bytes: ByteCount, goOn: () => void): Promise<void> {
    const { failedSyncs } = this;
    if (this.#file.isDevice) {
      // Nobody knows what is there, and a read is no proof of what the disk has.
      const first: BlockNumber = this.bytes / BLOCK_SIZE;
      const count: BlockCount = bytes / BLOCK_SIZE - first;
      for (let done = 0; done < count; done += ZERO_BLOCKS) {
        goOn();
        await this.zero(first + done, Math.min(ZERO_BLOCKS, count - done), true);
      }
    } else await this.#setSize(bytes);
    await this.#syncing(() => this.#file.syncWhole());
    if (failedSyncs !== this.#failedSyncs) throw this.syncFailed();
  }

  /** Cuts off a file that is longer than the volume, durably when it resolves. Rejects with `busy`, `stopped`. */
  async cutOff(): Promise<void> {
    if (this.#file.isDevice || (await this.size()) <= this.bytes) return;
    const { failedSyncs } = this;
    await this.#attempt(() => this.#file.truncate(this.bytes));
    await this.#syncing(() => this.#file.syncWhole());
    if (failedSyncs !== this.#failedSyncs) throw this.syncFailed();
  }

  /** Rejects with `stopped`. */
  size(): Promise<ByteCount> {
    return this.#attempt(() => this.#file.size());
  }

  /** What was written may not be there, although the last sync says so. */
  syncFailed(): FarshoreError {
    return new FarshoreError('stopped', `the image ${this.path}: a sync has failed`);
  }

  /** First as it is without what an attempt before may have left behind: what is added then reads zeros. */
  async #setSize(bytes: ByteCount): Promise<void> {
    await this.#attempt(() => this.#file.truncate(this.bytes));
    await this.#attempt(() => this.#file.truncate(bytes));
  }

  async #syncing(work: () => Promise<void>): Promise<void> {
    try {
      await this.#attempt(work);
    } catch (error) {
      this.#failedSyncs++;
      throw error;
    }
  }

  /** After the last write: everything is on stable storage, and the mark is what the next start will find. Rejects as `sync` and `mark`. */
  async finish(): Promise<CleanMark> {
    await this.#syncing(() => this.#file.syncWhole());
    return this.mark();
  }

  /** What it looks like now. Rejects with `stopped`. */
  async mark(): Promise<CleanMark> {
    const head = Buffer.alloc(Math.min(this.bytes, HEAD_BYTES));
    await this.read(0, head);
    return { bytes: this.bytes, lastChange: await this.#file.lastChange(), headCrc: crc32(head) };
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
