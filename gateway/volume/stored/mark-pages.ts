import { crc32 } from '../../base/crc32.ts';
import { parentOf, type Disk, type DiskFile } from '../../base/disk.ts';
import { isKind } from '../../base/errors.ts';
import type { BlockCount, ByteCount } from '../../base/units.ts';
import { type BlockBits, PAGE_BLOCKS } from './block-bits.ts';

/** A page lies alone in its sectors, so that a torn write of one is no other's trouble: a sector of head, 4 KiB of bits. */
const HEAD_BYTES = 512;
const BITS_BYTES = PAGE_BLOCKS / 8;
const STRIDE = HEAD_BYTES + BITS_BYTES;
const MAGIC = 0x4b4d5346; // FSMK
const BLANK_PAGE = Buffer.alloc(STRIDE);
const NO_BITS = new Uint32Array(PAGE_BLOCKS / 32);

/** What the marks on the disk are read with. */
export interface MarksToLoad {
  readonly generation: number;
  /** It began with every block of the volume. */
  readonly isFull: boolean;
  readonly volumeBlocks: BlockCount;
  /** How far the journal of the copies is whole. */
  readonly journalEnd: ByteCount;
}

/**
 * A durable set of blocks, as pages of bits that carry a checksum, the generation they belong to, their number, and how far the journal was durable when
 * their bits were cleared. What can't be read, or is torn, counts as all ones: too many blocks are copied then, never too few; so does a page that rests
 * on more of the journal than there is. A page of an older generation is as one that was never written: empty, or full where the generation
 * began with everything.
 */
export class MarkPages {
  readonly #file: DiskFile;
  readonly #generation: number;
  /** Pages that are not what they were when the generation began. */
  readonly #written = new Set<number>();
  /** How much of the journal the pages rested on that were loaded. */
  needed: ByteCount = 0;
  /** What the page cache says of pages that this process has not written and synced is no proof of what is on the disk. */
  #isTrusted = false;

  private constructor(file: DiskFile, generation: number) {
    this.#file = file;
    this.#generation = generation;
  }

  /** Makes the file of a new generation, durably. */
  static async begin(disk: Disk, path: string, generation: number): Promise<MarkPages> {
    await disk.remove(path);
    const file = await disk.open(path, 'create');
    await disk.syncDirectory(parentOf(path));
    return new MarkPages(file, generation);
  }

  /** Opens what a generation has left behind and enters it into `bits`. Without the file every block counts. */
  static async load(disk: Disk, path: string, what: MarksToLoad, bits: BlockBits): Promise<MarkPages> {
    const { generation, isFull, volumeBlocks, journalEnd } = what;
    let file: DiskFile;
    try {
      file = await disk.open(path, 'write');
    } catch (error) {
      if (!isKind(error, 'not-found')) throw error;
      bits.add(0, volumeBlocks);
      return MarkPages.begin(disk, path, generation);
    }
    const pages = new MarkPages(file, generation);
    const size = await file.size();
    for (let number = 0; number * PAGE_BLOCKS < volumeBlocks; number++) {
      const first = number * PAGE_BLOCKS;
      const count = Math.min(PAGE_BLOCKS, volumeBlocks - first);
      const found = (number + 1) * STRIDE <= size ? await pages.#read(number, journalEnd) : 'blank';
      if (found === 'torn' || (found === 'blank' && isFull)) bits.add(first, count);
      else if (found !== 'blank') bits.addPage(number, found);
      if (found !== 'blank') pages.#written.add(number);
    }
    return pages;
  }

  /** The numbers of those that have to be written, `changed` or not, for the next sync to be worth something. */
  due(changed: Iterable<number>): Set<number> {
    return this.#isTrusted ? new Set(changed) : new Set([...changed, ...this.#written]);
  }

  /** Not durable before `sync`. `journalEnd`: how far the journal is durable that the missing bits rest on. */
  async write(number: number, journalEnd: ByteCount, words: Readonly<Uint32Array> = NO_BITS): Promise<void> {
    this.#written.add(number);
    const page = Buffer.alloc(STRIDE);
    page.writeUInt32LE(MAGIC, 0);
    page.writeUIntLE(this.#generation, 8, 6);
    page.writeUInt32LE(number, 16);
    page.writeUIntLE(journalEnd, 20, 6);
    for (const [at, word] of words.entries()) page.writeUInt32LE(word, HEAD_BYTES + 4 * at);
    page.writeUInt32LE(crc32(page.subarray(8)), 4);
    await this.#file.write([page], number * STRIDE);
  }

  /** After a rejection all pages are due. */
  async sync(): Promise<void> {
    this.#isTrusted = false;
    await this.#file.sync();
    this.#isTrusted = true;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #read(number: number, journalEnd: ByteCount): Promise<Uint32Array | 'blank' | 'torn'> {
    const page = Buffer.alloc(STRIDE);
    try {
      await this.#file.read(page, number * STRIDE);
    } catch (error) {
      if (!isKind(error, 'stopped', 'damaged')) throw error;
      return 'torn';
    }
    if (page.equals(BLANK_PAGE)) return 'blank';
    const isWhole = page.readUInt32LE(0) === MAGIC && page.readUInt32LE(4) === crc32(page.subarray(8));
    if (!isWhole || page.readUInt32LE(16) !== number) return 'torn';
    const generation = page.readUIntLE(8, 6);
    if (generation !== this.#generation) return generation < this.#generation ? 'blank' : 'torn';
    const needed = page.readUIntLE(20, 6);
    this.needed = Math.max(this.needed, needed);
    if (needed > journalEnd) return 'torn';
    return Uint32Array.from({ length: PAGE_BLOCKS / 32 }, (_, at) => page.readUInt32LE(HEAD_BYTES + 4 * at));
  }
}
