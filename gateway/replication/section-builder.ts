import { crc32 } from '../base/crc32.ts';
import { FarshoreError } from '../base/errors.ts';
import type { BlockCount, BlockNumber, ByteCount } from '../base/units.ts';
import type { Compression } from '../format/compression.ts';
import type { BlockRange } from '../format/ids.ts';
import type { PackedSection } from '../format/run.ts';
import { decodeRunSection, MAX_RUN_BYTES, MAX_RUN_RANGES, packSection, SHARD_BLOCKS } from '../format/run.ts';
import { segmentEntries } from '../format/segment-decode.ts';
import type { SegmentHeader } from '../format/segment-layout.ts';

/** Shards whose entries are in memory as they are (130 KiB each); the others are kept compressed. */
const MAX_RAW_SHARDS = 512;

/** An unmap of at most this many blocks is entered block by block, and a longer one as a range. */
const SHORT_UNMAP_BLOCKS: BlockCount = 64;

/** Left of a run for its header and index. */
const MAX_SECTION_BYTES: ByteCount = MAX_RUN_BYTES / 2;

interface RawShard {
  /** One bit for each block of which the section says something. */
  readonly present: Uint32Array;
  readonly entries: Uint32Array;
}

/**
 * Gathers what segments say of the map, the later ones over the earlier, into the sections and ranges of one run. Memory is bounded: what has
 * not been touched for a while is held as it will be stored.
 */
export class SectionBuilder {
  readonly #compression: Compression;
  readonly #mostRaw: number;
  /** In the order in which they were touched. */
  readonly #raw = new Map<number, RawShard>();
  readonly #packed = new Map<number, PackedSection>();
  #packedBytes: ByteCount = 0;
  #ranges: { start: BlockNumber; end: BlockNumber }[] = [];

  constructor(compression: Compression, mostRaw = MAX_RAW_SHARDS) {
    this.#compression = compression;
    this.#mostRaw = mostRaw;
  }

  /** Throws `busy` when all of it would not fit a run. */
  enter(header: SegmentHeader): void {
    for (const { block, count } of header.unmaps) this.#unmap(block, count);
    if (header.blocks === 0) return;
    const { blocks, entries } = segmentEntries(header);
    for (let at = 0; at < blocks.length; at += 1)
      this.#set(blocks[at] ?? 0, entries[2 * at] ?? 0, entries[2 * at + 1] ?? 0);
  }

  /** All of it, ascending. Nothing may be entered any more. */
  finish(): { readonly sections: readonly PackedSection[]; readonly ranges: readonly BlockRange[] } {
    for (const [shard, raw] of this.#raw) this.#pack(shard, raw);
    this.#raw.clear();
    const sections = [...this.#packed.values()].sort((a, b) => a.shard - b.shard);
    return { sections, ranges: this.#ranges.map(({ start, end }) => ({ block: start, count: end - start })) };
  }

  #unmap(block: BlockNumber, count: BlockCount): void {
    const end = block + count;
    const isRange = count > SHORT_UNMAP_BLOCKS && this.#ranges.length < MAX_RUN_RANGES - 1;
    if (isRange) this.#addRange(block, end);
    for (let at = block; at < end;) {
      const shard = Math.floor(at / SHARD_BLOCKS);
      const stop = Math.min(end, (shard + 1) * SHARD_BLOCKS);
      // Entries win over ranges: those that lie in this one say zeros from now on, and of the others the range does.
      if (!isRange || this.#raw.has(shard) || this.#packed.has(shard)) {
        const { present, entries } = this.#shard(shard);
        for (let index = at - shard * SHARD_BLOCKS; index < stop - shard * SHARD_BLOCKS; index += 1) {
          const word = index >>> 5;
          const bit = 1 << (index & 31);
          if (isRange && ((present[word] ?? 0) & bit) === 0) continue;
          present[word] = (present[word] ?? 0) | bit;
          entries[2 * index] = 0;
          entries[2 * index + 1] = 0;
        }
      }
      at = stop;
    }
  }

  #addRange(start: BlockNumber, end: BlockNumber): void {
    const ranges = this.#ranges;
    const last = ranges.at(-1);
    if (last === undefined || last.end < start) {
      ranges.push({ start, end });
      return;
    }
    // Those it overlaps or touches become one with it.
    const from = lowerBound(ranges, start);
    let to = from;
    let first = start;
    let stop = end;
    for (let range = ranges[to]; range !== undefined && range.start <= end; range = ranges[to]) {
      first = Math.min(first, range.start);
      stop = Math.max(stop, range.end);
      to += 1;
    }
    ranges.splice(from, to - from, { start: first, end: stop });
  }

  #set(block: BlockNumber, high: number, low: number): void {
    const number = Math.floor(block / SHARD_BLOCKS);
    const { present, entries } = this.#shard(number);
    const index = block - number * SHARD_BLOCKS;
    present[index >>> 5] = (present[index >>> 5] ?? 0) | (1 << (index & 31));
    entries[2 * index] = high;
    entries[2 * index + 1] = low;
  }

  #shard(number: number): RawShard {
    let raw = this.#raw.get(number);
    if (raw !== undefined) return raw;
    raw = this.#unpack(number);
    this.#raw.set(number, raw);
    const [oldest] = this.#raw;
    if (this.#raw.size > this.#mostRaw && oldest !== undefined) {
      this.#raw.delete(oldest[0]);
      this.#pack(...oldest);
    }
    return raw;
  }

  #unpack(number: number): RawShard {
    const raw = { present: new Uint32Array(SHARD_BLOCKS / 32), entries: new Uint32Array(2 * SHARD_BLOCKS) };
    const packed = this.#packed.get(number);
    if (packed === undefined) return raw;
    this.#packed.delete(number);
    this.#packedBytes -= packed.payload.length;
    const { shard, changes, codec, payload } = packed;
    const place = { shard, changes, codec, offset: 0, bytes: payload.length, crc32: crc32(payload) };
    const { blocks, entries } = decodeRunSection(payload, place, this.#compression);
    blocks.forEach((index, at) => {
      raw.present[index >>> 5] = (raw.present[index >>> 5] ?? 0) | (1 << (index & 31));
      raw.entries[2 * index] = entries[2 * at] ?? 0;
      raw.entries[2 * index + 1] = entries[2 * at + 1] ?? 0;
    });
    return raw;
  }

  #pack(shard: number, { present, entries }: RawShard): void {
    const blocks = new Uint16Array(SHARD_BLOCKS);
    const kept = new Uint32Array(2 * SHARD_BLOCKS);
    let count = 0;
    for (let index = 0; index < SHARD_BLOCKS; index += 1) {
      if (((present[index >>> 5] ?? 0) & (1 << (index & 31))) === 0) continue;
      blocks[count] = index;
      kept[2 * count] = entries[2 * index] ?? 0;
      kept[2 * count + 1] = entries[2 * index + 1] ?? 0;
      count += 1;
    }
    if (count === 0) return;
    const section = { shard, blocks: blocks.slice(0, count), entries: kept.slice(0, 2 * count) };
    const packed = packSection(section, this.#compression);
    this.#packed.set(shard, packed);
    this.#packedBytes += packed.payload.length;
    if (this.#packedBytes > MAX_SECTION_BYTES)
      throw new FarshoreError('busy', `the map of what is to be one version has more than ${MAX_SECTION_BYTES} bytes`);
  }
}

/** Index of the first range whose end is at or beyond `start`. */
function lowerBound(ranges: readonly { readonly end: BlockNumber }[], start: BlockNumber): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ranges[middle]?.end ?? 0) >= start) high = middle;
    else low = middle + 1;
  }
  return low;
}
