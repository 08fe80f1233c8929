import { FarshoreError } from '../base/errors.ts';
import type { ByteCount } from '../base/units.ts';
import { KIB } from '../base/units.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { Compression } from '../format/compression.ts';
import { decodeRunIndex, decodeRunSection, SHARD_BLOCKS } from '../format/run.ts';
import type { RunIndex, RunIndexEntry, RunSection } from '../format/run.ts';

/** A run of at most this size is fetched once as a whole, a larger one section by section. */
export const WHOLE_RUN_BYTES = 256 * KIB;

/** Where a run (or the manifest of a version) lies, as a checkpoint or a version record says. */
export interface RunPlace {
  readonly key: string;
  readonly lineage: string;
  readonly volume: string;
  readonly throughN: number;
  readonly headerBytes: ByteCount;
  readonly objectBytes: ByteCount;
}

/** Map changes that can be asked for shard by shard. */
export interface ShardChanges {
  /** Writes the changes over the 32,768 words of the shard's map. */
  applyToShard(shard: number, entries: Uint32Array): Promise<void>;
  /** The first shard ≥ `from` in which a block is mapped anew; undefined when there is none. */
  nextShard(from: number): Promise<number | undefined>;
}

/**
 * A run in S3, read on demand: the index once, then sections. Rejects with `not-found` when the object is missing, `damaged` when it
 * is not what it should be, `retry` from the store.
 */
export class RunReader implements ShardChanges {
  readonly place: RunPlace;
  readonly #store: ObjectStore;
  readonly #compression: Compression;
  readonly #wholeBytes: ByteCount;
  #index: Promise<RunIndex> | undefined;
  #whole: Buffer | undefined;

  constructor(store: ObjectStore, compression: Compression, place: RunPlace, wholeBytes: ByteCount = WHOLE_RUN_BYTES) {
    this.place = place;
    this.#store = store;
    this.#compression = compression;
    this.#wholeBytes = wholeBytes;
  }

  /** Shared by concurrent callers; a failure is not remembered. */
  index(): Promise<RunIndex> {
    const loading = this.#index ?? this.#loadIndex();
    this.#index = loading;
    loading.catch(() => {
      if (this.#index === loading) this.#index = undefined;
    });
    return loading;
  }

  async section(shard: number): Promise<RunSection | undefined> {
    const entry = indexEntryOf(await this.index(), shard);
    return entry === undefined ? undefined : this.sectionAt(entry);
  }

  async sectionAt(entry: RunIndexEntry): Promise<RunSection> {
    const bytes =
      this.#whole?.subarray(entry.offset, entry.offset + entry.bytes) ?? (await this.#get(entry.offset, entry.bytes));
    return this.#explain(() => decodeRunSection(bytes, entry, this.#compression));
  }

  async applyToShard(shard: number, entries: Uint32Array): Promise<void> {
    const index = await this.index();
    const first = shard * SHARD_BLOCKS;
    forEachRangeIn(index.ranges, first, first + SHARD_BLOCKS, (start, end) => {
      entries.fill(0, 2 * (start - first), 2 * (end - first));
    });
    const section = await this.section(shard);
    if (section !== undefined) applySection(section, entries);
  }

  /** Whether it changes something in the shard. */
  async touchesShard(shard: number): Promise<boolean> {
    const index = await this.index();
    let isTouched = indexEntryOf(index, shard) !== undefined;
    const first = shard * SHARD_BLOCKS;
    forEachRangeIn(index.ranges, first, first + SHARD_BLOCKS, () => {
      isTouched = true;
    });
    return isTouched;
  }

  async nextShard(from: number): Promise<number | undefined> {
    const { sections } = await this.index();
    return sections[firstAtOrAfter(sections, from)]?.shard;
  }

  async #loadIndex(): Promise<RunIndex> {
    const { key, lineage, volume, throughN, headerBytes, objectBytes } = this.place;
    const whole = objectBytes <= this.#wholeBytes;
    const bytes = await this.#get(0, whole ? objectBytes : headerBytes);
    const index = this.#explain(() => decodeRunIndex(bytes));
    const fits =
      !('needBytes' in index) &&
      index.lineage === lineage &&
      index.volume === volume &&
      index.throughN === throughN &&
      index.headerBytes === headerBytes &&
      index.objectBytes === objectBytes;
    if (!fits) throw new FarshoreError('damaged', `object ${key} is not the run that was written there`);
    if (whole) this.#whole = bytes;
    return index;
  }

  async #get(offset: ByteCount, length: ByteCount): Promise<Buffer> {
    const { key } = this.place;
    const bytes = await this.#store.get(key, { offset, length });
    if (bytes === undefined) throw new FarshoreError('not-found', `object ${key} is missing`);
    if (bytes.length !== length)
      throw new FarshoreError('damaged', `object ${key} ends before byte ${offset + length}`);
    return bytes;
  }

  #explain<Result>(decode: () => Result): Result {
    try {
      return decode();
    } catch (error) {
      if (!(error instanceof FarshoreError)) throw error;
      throw new FarshoreError(error.kind, `object ${this.place.key}: ${error.message}`, { cause: error });
    }
  }
}

export function indexEntryOf(index: RunIndex, shard: number): RunIndexEntry | undefined {
  const entry = index.sections[firstAtOrAfter(index.sections, shard)];
  return entry?.shard === shard ? entry : undefined;
}

export function applySection(section: RunSection, entries: Uint32Array): void {
  for (let at = 0; at < section.blocks.length; at += 1) {
    const block = section.blocks[at] ?? 0;
    entries[2 * block] = section.entries[2 * at] ?? 0;
    entries[2 * block + 1] = section.entries[2 * at + 1] ?? 0;
  }
}

/** The parts of ascending, disjoint ranges within [start, end). */
export function forEachRangeIn(
  ranges: readonly { readonly block: number; readonly count: number }[],
  start: number,
  end: number,
  visit: (start: number, end: number) => void,
): void {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle];
    if (range === undefined || range.block + range.count > start) high = middle;
    else low = middle + 1;
  }
  for (let at = low; at < ranges.length; at += 1) {
    const range = ranges[at];
    if (range === undefined || range.block >= end) return;
    visit(Math.max(start, range.block), Math.min(end, range.block + range.count));
  }
}

/** Index of the first of the ascending items whose shard is ≥ `from`. */
export function firstAtOrAfter(items: readonly { readonly shard: number }[], from: number): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((items[middle]?.shard ?? Infinity) >= from) high = middle;
    else low = middle + 1;
  }
  return low;
}
