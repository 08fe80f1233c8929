import { invariant } from '../../base/errors.ts';
import type { Disk } from '../../base/disk.ts';
import type { BlockCount, BlockNumber, ByteCount, Epoch, WallMillis, WriteSeq } from '../../base/units.ts';
import { Mutex } from '../../cache/mutex.ts';
import type { BlockRange } from '../../cache/unmap-payload.ts';
import type { VolumeRef } from '../../cloud/version-log.ts';
import { decodeSegmentHeader } from '../../format/segment.ts';
import { BlockBits, PAGE_BLOCKS } from './block-bits.ts';
import { CopyJournal, journalDamaged } from './copy-journal.ts';
import type { Image } from './image.ts';
import { MarkPages } from './mark-pages.ts';
import { journalPath, marksPath, type ChangedSince } from './stored-state.ts';

/** The image: how large the volume is that lies in it. */
type Sized = Readonly<Pick<Image, 'blocks'>>;

/**
 * The blocks that the image has and no version, as of a write: everything up to `through` is in a version, or its blocks are marked. Each marked block
 * either is still to be copied, or a segment that the journal knows has it; the bits on the disk are those that are to be copied, and at
 * least those. A bit goes there only after the journal's record is durable, and whoever marks a block again brings it back before `through` moves.
 */
export class Changes {
  readonly generation: number;
  readonly isFull: boolean;
  readonly since: WallMillis;
  through: WriteSeq;
  readonly #disk: Disk;
  readonly #journalPath: string;
  readonly #epoch: Epoch;
  #journal: CopyJournal;
  /** A sync of the journal has failed, or not all of it could be read: nobody knows what of it is on the disk. */
  #isJournalDoubtful = false;
  /** How far it is durable: bits were cleared by what it has up to there. */
  #settledEnd: ByteCount = 0;
  /** What was found damaged at the start, for the log. */
  problem: string | undefined;
  readonly #image: Sized;
  readonly #pages: MarkPages;
  readonly #files = new Mutex();
  /** To be copied. */
  #todo = new BlockBits();
  /** Taken to be copied; the disk does not know yet that they were. */
  #held = new BlockBits();
  /** All of these, and those that the journal knows. */
  readonly #marked = new BlockBits();
  readonly #changedPages = new Set<number>();
  #appended: BlockRange[] = [];

  private constructor(
    place: { readonly disk: Disk; readonly ref: VolumeRef; readonly epoch: Epoch },
    record: ChangedSince,
    image: Sized,
    pages: MarkPages,
    journal: CopyJournal,
  ) {
    this.#disk = place.disk;
    this.#journalPath = journalPath(place.ref, record.generation);
    this.#epoch = place.epoch;
    this.generation = record.generation;
    this.isFull = record.isFull;
    this.since = record.since;
    this.through = record.through;
    this.#image = image;
    this.#pages = pages;
    this.#journal = journal;
  }

  /** A new generation, which is nobody's before the state of the image names it. */
  static async begin(disk: Disk, ref: VolumeRef, record: ChangedSince, image: Sized, epoch: Epoch): Promise<Changes> {
    const pages = await MarkPages.begin(disk, marksPath(ref, record.generation), record.generation);
    const journal = await CopyJournal.begin(disk, journalPath(ref, record.generation), record.generation, epoch);
    return new Changes({ disk, ref, epoch }, record, image, pages, journal);
  }

  /** What the last process left behind. */
  static async load(disk: Disk, ref: VolumeRef, record: ChangedSince, image: Sized, epoch: Epoch): Promise<Changes> {
    const todo = new BlockBits();
    const { generation, isFull } = record;
    const copied: BlockRange[] = [];
    const journal = await CopyJournal.load(disk, journalPath(ref, generation), generation, epoch, (bytes) => {
      const header = decodeSegmentHeader(bytes);
      invariant(!('needBytes' in header), 'the journal holds whole headers');
      copied.push(...header.extents, ...header.unmaps);
    });
    const what = { generation, isFull, volumeBlocks: image.blocks, journalEnd: journal.end };
    const pages = await MarkPages.load(disk, marksPath(ref, generation), what, todo);
    const changes = new Changes({ disk, ref, epoch }, record, image, pages, journal);
    changes.#settledEnd = journal.end;
    changes.#todo = todo;
    for (let at = todo.next(0); at !== undefined;) {
      const count = todo.run(at, PAGE_BLOCKS);
      changes.#marked.add(at, count);
      at = todo.next(at + count);
    }
    for (const { block, count } of copied) changes.#marked.add(block, count);
    if (pages.needed > journal.end) {
      changes.problem = journalDamaged(changes.#journalPath, journal.end, pages.needed).message;
      // Before anything is appended: the journal may get as long as it was, and the pages would seem to rest on that.
      await changes.save();
    }
    return changes;
  }

  /** The image has its newest content, or one that is about to be overwritten; no version has. */
  isMarked(block: BlockNumber): boolean {
    return this.#marked.has(block);
  }

  get markedBlocks(): BlockCount {
    return this.#marked.size;
  }

  /** Marked, and not copied yet. */
  get openBlocks(): BlockCount {
    return this.#todo.size + this.#held.size;
  }

  /**
   * Headers of the segments that were copied, one behind the other, in portions; and how many there are. Rejects with `stopped` when the
   * journal is damaged: what cannot be read is to be copied again after the next `settle`.
   */
  async copiedHeaders(visit: (headers: Buffer) => Promise<void>): Promise<number> {
    const journal = this.#journal;
    let isWhole = false;
    try {
      await journal.portions(visit);
      isWhole = true;
    } finally {
      // The next settle finds out what is left of it.
      if (!isWhole && journal === this.#journal) this.#isJournalDoubtful = true;
    }
    return journal.records;
  }

  get hasTodo(): boolean {
    return this.#todo.size > 0;
  }

  /** As the state of the image has it. */
  record(through: WriteSeq): ChangedSince {
    const { generation, isFull, since } = this;
    return { generation, through, isFull, since };
  }

  /** Not durable before `save`. */
  mark(first: BlockNumber, most: BlockCount): void {
    // A shrunken volume has no blocks there any more, and nobody could ever copy them.
    const count = Math.min(most, this.#image.blocks - first);
    if (count <= 0) return;
    this.#todo.add(first, count);
    this.#marked.add(first, count);
    this.#note(first, count);
  }

  /** Makes all marks durable. Rejects with `busy` or `stopped`: then nothing may rest on the new ones. */
  save(): Promise<void> {
    return this.#files.run(async () => {
      await this.#writePages();
      await this.#pages.sync();
    });
  }

  /** The next marked blocks from `from` on, which the caller copies; undefined when there are none behind it. */
  take(from: BlockNumber, most: BlockCount): BlockRange | undefined {
    const block = this.#todo.next(from);
    if (block === undefined) return undefined;
    const count = this.#todo.run(block, most);
    this.#todo.remove(block, count);
    this.#held.add(block, count);
    return { block, count };
  }

  /** They were not copied after all. */
  giveBack(ranges: readonly BlockRange[]): void {
    for (const { block, count } of ranges) {
      this.#todo.add(block, count);
      this.#held.remove(block, count);
    }
  }

  /** A segment in S3 has them. */
  copied(ranges: readonly BlockRange[], header: Buffer): Promise<void> {
    return this.#files.run(async () => {
      await this.#trustJournal();
      await this.#journal.append(header);
      this.#appended.push(...ranges);
    });
  }

  /** What was copied so far needs not be copied again after a restart. Comes before any of it is taken again. */
  settle(): Promise<void> {
    return this.#files.run(async () => {
      await this.#trustJournal();
      const settled = this.#appended;
      if (settled.length === 0) return;
      this.#isJournalDoubtful = true;
      await this.#journal.sync();
      this.#isJournalDoubtful = false;
      this.#settledEnd = this.#journal.end;
      this.#appended = [];
      for (const { block, count } of settled) {
        this.#held.remove(block, count);
        this.#note(block, count);
      }
      // Else a power cut would bring back all the bits, and days of copying with them.
      await this.#writePages();
      await this.#pages.sync();
    });
  }

  /** What is still to be copied, for the next generation. */
  *leftOver(): Generator<BlockRange> {
    for (const bits of [this.#todo, this.#held]) {
      for (let block = bits.next(0); block !== undefined;) {
        const count = bits.run(block, PAGE_BLOCKS);
        yield { block, count };
        block = bits.next(block + count);
      }
    }
  }

  close(): Promise<void> {
    return this.#files.run(async () => {
      await this.#pages.close();
      await this.#journal.close();
    });
  }

  /** Writes it anew after a failure; what was not durable before that is copied once more. */
  async #trustJournal(): Promise<void> {
    if (!this.#isJournalDoubtful) return;
    const old = this.#journal;
    this.#journal = await CopyJournal.load(
      this.#disk,
      this.#journalPath,
      this.generation,
      this.#epoch,
      () => undefined,
    );
    try {
      this.giveBack(this.#appended);
      this.#appended = [];
      // Bits were cleared by what is gone now. Of which blocks nobody knows.
      if (this.#journal.end < this.#settledEnd) this.#copyAllAgain();
      this.#settledEnd = this.#journal.end;
      // As at the start: the pages may not seem to rest on what is appended.
      await this.#writePages();
      await this.#pages.sync();
      this.#isJournalDoubtful = false;
    } finally {
      await old.close();
    }
  }

  /** Everything that no version has, but for what is being copied at this moment. */
  #copyAllAgain(): void {
    for (const number of this.#marked.pages()) {
      const held = this.#held.page(number);
      const words = this.#marked.page(number)?.map((word, at) => word & ~(held?.[at] ?? 0));
      if (words !== undefined) this.#todo.addPage(number, words);
      this.#changedPages.add(number);
    }
  }

  async #writePages(): Promise<void> {
    const due = this.#pages.due(this.#changedPages);
    for (const number of due) {
      this.#changedPages.delete(number);
      try {
        await this.#pages.write(number, this.#settledEnd, this.#bitsOf(number));
      } catch (error) {
        for (const each of due) this.#changedPages.add(each);
        throw error;
      }
    }
  }

  #bitsOf(number: number): Readonly<Uint32Array> | undefined {
    const todo = this.#todo.page(number);
    const held = this.#held.page(number);
    if (todo === undefined || held === undefined) return todo ?? held;
    return todo.map((word, at) => word | (held[at] ?? 0));
  }

  #note(first: BlockNumber, count: BlockCount): void {
    for (let page = Math.floor(first / PAGE_BLOCKS); page * PAGE_BLOCKS < first + count; page++)
      this.#changedPages.add(page);
  }
}
