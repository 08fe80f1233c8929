import type { SimRandom } from './sim-random.ts';

const PAGE = 4096;
/** What a disk writes in one piece. */
export const SECTOR = 512;
const ZERO_PAGE = Buffer.alloc(PAGE);

/** Part of a write inside one page, or a run of whole zero pages. Bytes are never changed afterwards, so pages may share them. */
interface Fragment {
  readonly page: number;
  readonly offset: number;
  readonly bytes: Buffer;
  /** Over 1 only for zero pages. */
  readonly pages: number;
}

/** A write as it was asked for, its bytes copied. */
export interface FileWrite {
  readonly end: number;
  readonly fragments: readonly Fragment[];
  /** Instead of a write: the file ends at `end` from then on. */
  readonly cuts?: true;
}

interface UnsyncedWrite extends FileWrite {
  readonly id: number;
}

/** How a power cut treats what was not synced. */
export type PowerCutFate = 'lost' | 'kept' | 'writes' | 'sectors' | 'prefix';

/** Cuts a write into pages. Copies, because the caller owns its buffers again once the write is answered. */
export function planWrite(pieces: readonly Buffer[], position: number): FileWrite {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const fragments: Fragment[] = [];
  let at = position;
  let zeroFrom = -1;
  const endZeroRun = (page: number): void => {
    if (zeroFrom >= 0) fragments.push({ page: zeroFrom, offset: 0, bytes: ZERO_PAGE, pages: page - zeroFrom });
    zeroFrom = -1;
  };
  for (const piece of pieces) {
    for (let from = 0; from < piece.length;) {
      const page = Math.floor(at / PAGE);
      const offset = at % PAGE;
      const size = Math.min(PAGE - offset, piece.length - from);
      if (size === PAGE && piece[from] === 0 && piece.compare(ZERO_PAGE, 0, PAGE, from, from + PAGE) === 0) {
        if (zeroFrom < 0) zeroFrom = page;
      } else {
        endZeroRun(page);
        fragments.push({ page, offset, bytes: Buffer.from(piece.subarray(from, from + size)), pages: 1 });
      }
      from += size;
      at += size;
    }
  }
  endZeroRun(Math.floor(at / PAGE));
  return { end: position + length, fragments };
}

/** The write as a lying cable delivers it: one bit is another. Zeros for a new file are delivered as they are. */
export function withFlippedBit(write: FileWrite, random: SimRandom): FileWrite {
  const victims = write.fragments.filter(({ bytes }) => bytes !== ZERO_PAGE);
  if (victims.length === 0) return write;
  const victim = random.pick(victims);
  const bytes = Buffer.from(victim.bytes);
  const at = random.between(0, bytes.length - 1);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random.between(0, 7));
  return { ...write, fragments: write.fragments.map((each) => (each === victim ? { ...each, bytes } : each)) };
}

class Pages {
  readonly #pages: Map<number, Buffer>;

  constructor(pages = new Map<number, Buffer>()) {
    this.#pages = pages;
  }

  copy(): Pages {
    return new Pages(new Map(this.#pages));
  }

  get(page: number): Buffer {
    return this.#pages.get(page) ?? ZERO_PAGE;
  }

  apply(fragment: Fragment): void {
    if (fragment.bytes === ZERO_PAGE) this.#drop(fragment.page, fragment.pages);
    else if (fragment.bytes.length === PAGE) this.#pages.set(fragment.page, fragment.bytes);
    else {
      const page = Buffer.from(this.get(fragment.page));
      fragment.bytes.copy(page, fragment.offset);
      this.#pages.set(fragment.page, page);
    }
  }

  /** Only those sectors of the fragment that `keep` chooses. */
  applySectors(fragment: Fragment, keep: () => boolean): void {
    const touched =
      fragment.pages > 1 ? [...this.#pages.keys()].filter((page) => within(page, fragment)) : [fragment.page];
    for (const number of touched) {
      const page = Buffer.from(this.get(number));
      const end = fragment.offset + fragment.bytes.length;
      for (let from = fragment.offset; from < end;) {
        const to = Math.min(end, (Math.floor(from / SECTOR) + 1) * SECTOR);
        if (keep()) fragment.bytes.copy(page, from, from - fragment.offset, to - fragment.offset);
        from = to;
      }
      this.#pages.set(number, page);
    }
  }

  /** What is behind `bytes`, whole pages, reads zeros. */
  cut(bytes: number): void {
    for (const page of this.#pages.keys()) if (page * PAGE >= bytes) this.#pages.delete(page);
  }

  flipBit(position: number, bit: number): void {
    const page = Buffer.from(this.get(Math.floor(position / PAGE)));
    page[position % PAGE] = (page[position % PAGE] ?? 0) ^ (1 << bit);
    this.#pages.set(Math.floor(position / PAGE), page);
  }

  /** Present pages, for choosing where to do damage. */
  numbers(): number[] {
    return [...this.#pages.keys()];
  }

  #drop(first: number, count: number): void {
    if (count <= this.#pages.size) {
      for (let page = first; page < first + count; page++) this.#pages.delete(page);
      return;
    }
    for (const page of this.#pages.keys()) if (page >= first && page < first + count) this.#pages.delete(page);
  }
}

/** A fragment cut at the borders of sectors; zero pages stay whole pages. */
function sectorsOf(fragment: Fragment): Fragment[] {
  const { page, offset, bytes, pages } = fragment;
  if (pages > 1) return Array.from({ length: pages }, (_, at) => ({ ...fragment, page: page + at, pages: 1 }));
  const cut: Fragment[] = [];
  const end = offset + bytes.length;
  for (let from = offset; from < end;) {
    const to = Math.min(end, (Math.floor(from / SECTOR) + 1) * SECTOR);
    cut.push({ page, offset: from, bytes: Buffer.from(bytes.subarray(from - offset, to - offset)), pages: 1 });
    from = to;
  }
  return cut;
}

function within(page: number, fragment: Fragment): boolean {
  return page >= fragment.page && page < fragment.page + fragment.pages;
}

function copyPages(pages: Pages, into: Buffer, position: number): void {
  for (let done = 0; done < into.length;) {
    const at = position + done;
    const offset = at % PAGE;
    const size = Math.min(PAGE - offset, into.length - done);
    pages.get(Math.floor(at / PAGE)).copy(into, done, offset, offset + size);
    done += size;
  }
}

/** An inode: what the page cache shows, what the platter holds, and the writes between the two, in order. */
export class SimFile {
  #seen = new Pages();
  #seenSize = 0;
  #durable = new Pages();
  #durableSize = 0;
  #unsynced: UnsyncedWrite[] = [];
  #nextId = 1;
  /** After a failed sync the cache may show bytes that are not on the platter and never will be. */
  #doubtful = false;
  /** What the disk can't read any more. */
  readonly #badSectors = new Set<number>();
  /** Pages that the last sync with something to do has brought to the platter. */
  #syncedLast: readonly number[] = [];

  get size(): number {
    return this.#seenSize;
  }

  /** False when `into` reaches past the end. */
  read(into: Buffer, position: number): boolean {
    if (position + into.length > this.#seenSize) return false;
    copyPages(this.#seen, into, position);
    return true;
  }

  /** What a power cut leaves. */
  readDurable(into: Buffer, position: number): boolean {
    if (position + into.length > this.#durableSize) return false;
    copyPages(this.#durable, into, position);
    return true;
  }

  write(write: FileWrite): void {
    for (const fragment of write.fragments) this.#seen.apply(fragment);
    this.#seenSize = Math.max(this.#seenSize, write.end);
    this.#unsynced.push({ ...write, id: this.#nextId++ });
    if (this.#badSectors.size > 0) this.#remapSectors(write);
  }

  /** Makes it longer or shorter, whole pages; volatile like a write. */
  truncate(bytes: number): void {
    this.#seen.cut(bytes);
    this.#seenSize = bytes;
    this.#unsynced.push({ end: bytes, fragments: [], cuts: true, id: this.#nextId++ });
  }

  /** A write that was cut short, by a crash or a full disk: some of its pages, or of its sectors, arrived. */
  writeTorn(write: FileWrite, random: SimRandom): void {
    const bySector = random.chance(0.5);
    const share = random.pick([0.1, 0.5, 0.9]);
    const keep = (): boolean => random.chance(share);
    const fragments = write.fragments.flatMap((fragment) =>
      bySector ? sectorsOf(fragment).filter(keep) : keep() ? [fragment] : [],
    );
    const last = fragments.at(-1);
    if (last === undefined) return;
    this.write({
      end: Math.min(write.end, last.page * PAGE + last.offset + last.bytes.length * last.pages),
      fragments,
    });
  }

  /** From now on reads of one sector in [position, position + bytes) fail, until it is written or `healSectors` is called. */
  spoilSector(position: number, bytes: number, random: SimRandom): void {
    this.#badSectors.add(random.between(Math.floor(position / SECTOR), Math.floor((position + bytes - 1) / SECTOR)));
  }

  healSectors(): void {
    this.#badSectors.clear();
  }

  /** Whether a read of this range meets a bad sector. */
  isBad(position: number, bytes: number): boolean {
    for (const sector of this.#badSectors)
      if (sector * SECTOR < position + bytes && (sector + 1) * SECTOR > position) return true;
    return false;
  }

  /** What a sync that starts now will cover. */
  syncMark(): number {
    return this.#nextId;
  }

  completeSync(mark: number): void {
    const later = this.#unsynced.findIndex((write) => write.id >= mark);
    const covered = later < 0 ? this.#unsynced.splice(0) : this.#unsynced.splice(0, later);
    for (const write of covered) this.#makeDurable(write);
    if (covered.length > 0) this.#syncedLast = covered.flatMap(({ fragments }) => fragments.map(({ page }) => page));
  }

  /** Linux marks the pages clean when writing them fails: what did not arrive is lost, and no later sync reports it again. */
  failSync(random: SimRandom): void {
    const lost = this.#unsynced.splice(0);
    const keep = (): boolean => random.chance(0.5);
    for (const write of lost) this.#durableSectors(write, keep);
    if (lost.length > 0) this.#doubtful = true;
  }

  /** The process is gone; the page cache stays, but clean pages may be read again from the platter. */
  processCrash(random: SimRandom): void {
    if (!this.#doubtful || random.chance(0.5)) return;
    this.#seen = this.#durable.copy();
    for (const { fragments, cuts, end } of this.#unsynced) {
      if (cuts === true) this.#seen.cut(end);
      for (const fragment of fragments) this.#seen.apply(fragment);
    }
    this.#doubtful = false;
  }

  powerCut(fate: PowerCutFate, random: SimRandom): void {
    const unsynced = this.#unsynced.splice(0);
    const sectorChance = random.pick([0.1, 0.5, 0.9]);
    const prefix = random.between(0, unsynced.length);
    unsynced.forEach((write, index) => {
      if (fate === 'kept' || (fate === 'prefix' && index < prefix) || (fate === 'writes' && random.chance(0.5)))
        this.#makeDurable(write);
      else if (fate === 'sectors' || (fate === 'prefix' && index === prefix))
        this.#durableSectors(write, () => random.chance(sectorChance));
    });
    this.#seen = this.#durable.copy();
    this.#seenSize = this.#durableSize;
    this.#doubtful = false;
  }

  /** Flips a bit of a page that holds data (`onlyNewest`: since the last sync), on the platter and in the cache. False when there is none. */
  damage(random: SimRandom, onlyNewest = false): boolean {
    const pages = onlyNewest ? this.#syncedLast : this.#durable.numbers();
    if (pages.length === 0) return false;
    const position = random.pick(pages) * PAGE + random.between(0, PAGE - 1);
    const bit = random.between(0, 7);
    this.#durable.flipBit(position, bit);
    this.#seen.flipBit(position, bit);
    return true;
  }

  /** Flips one bit at a byte position. */
  flipBit(position: number, bit: number): void {
    this.#durable.flipBit(position, bit);
    this.#seen.flipBit(position, bit);
  }

  copy(): SimFile {
    const copy = new SimFile();
    copy.#seen = this.#seen.copy();
    copy.#seenSize = this.#seenSize;
    copy.#durable = this.#durable.copy();
    copy.#durableSize = this.#durableSize;
    copy.#unsynced = [...this.#unsynced];
    copy.#nextId = this.#nextId;
    copy.#doubtful = this.#doubtful;
    copy.#syncedLast = this.#syncedLast;
    for (const sector of this.#badSectors) copy.#badSectors.add(sector);
    return copy;
  }

  /** A disk puts a spare sector in the place of a bad one that is written. */
  #remapSectors({ fragments }: FileWrite): void {
    for (const { page, offset, bytes, pages } of fragments) {
      const from = page * PAGE + offset;
      const to = from + bytes.length * pages;
      for (const sector of this.#badSectors)
        if (sector * SECTOR >= from && (sector + 1) * SECTOR <= to) this.#badSectors.delete(sector);
    }
  }

  #makeDurable(write: FileWrite): void {
    if (write.cuts === true) {
      this.#durable.cut(write.end);
      this.#durableSize = write.end;
      return;
    }
    for (const fragment of write.fragments) this.#durable.apply(fragment);
    this.#durableSize = Math.max(this.#durableSize, write.end);
  }

  #durableSectors(write: FileWrite, keep: () => boolean): void {
    if (write.cuts === true) {
      if (keep()) this.#makeDurable(write);
      return;
    }
    for (const fragment of write.fragments) this.#durable.applySectors(fragment, keep);
    if (keep()) this.#durableSize = Math.max(this.#durableSize, write.end);
  }
}
