import type { BlockRange } from '../format/ids.ts';
import type { RunSection } from '../format/run.ts';
import { SHARD_BLOCKS } from '../format/run.ts';
import type { BlockCount } from '../base/units.ts';
import type { ChangeMap } from './change-map.ts';
import { applySection, firstAtOrAfter, forEachRangeIn } from './run-reader.ts';
import type { RunReader } from './run-reader.ts';

/** What a fold adds to the map: the changes of a stretch of the log, or a manifest. */
export interface FoldSource {
  /** Shards with a section, ascending, and the changes in each. */
  readonly shards: readonly number[];
  readonly counts: readonly BlockCount[];
  readonly ranges: readonly BlockRange[];
  /** Writes ranges and section over the words of the shard's map. */
  applyToShard(shard: number, entries: Uint32Array): Promise<void>;
  /** The sections of these shards (ascending), one after the other. */
  sections(shards: ReadonlySet<number>): Promise<readonly RunSection[]>;
}

/** Where the content of an inline payload went, by block; undefined for a block that was not inline. */
export type Relocation = ReadonlyMap<number, readonly [high: number, low: number]>;

/** `relocated` gives the entries of blocks that were inline and are in a segment now. */
export function sourceOfChanges(changes: ChangeMap, relocated: Relocation): FoldSource {
  const sections = sectionsOf(changes, relocated);
  const ranges = changes.ranges().map(({ start, end }) => ({ block: start, count: end - start }));
  return {
    shards: sections.map(({ shard }) => shard),
    counts: sections.map(({ blocks }) => blocks.length),
    ranges,
    applyToShard: (shard, entries) => {
      const first = shard * SHARD_BLOCKS;
      forEachRangeIn(ranges, first, first + SHARD_BLOCKS, (start, end) => {
        entries.fill(0, 2 * (start - first), 2 * (end - first));
      });
      const section = sections[firstAtOrAfter(sections, shard)];
      if (section?.shard === shard) applySection(section, entries);
      return Promise.resolve();
    },
    sections: (shards) => Promise.resolve(sections.filter(({ shard }) => shards.has(shard))),
  };
}

/** A manifest is a run already; nothing of it is held in memory. */
export async function sourceOfManifest(run: RunReader): Promise<FoldSource> {
  const index = await run.index();
  return {
    shards: index.sections.map(({ shard }) => shard),
    counts: index.sections.map(({ changes }) => changes),
    ranges: index.ranges,
    applyToShard: (shard, entries) => run.applyToShard(shard, entries),
    sections: async (shards) => {
      const sections: RunSection[] = [];
      for (const entry of index.sections) if (shards.has(entry.shard)) sections.push(await run.sectionAt(entry));
      return sections;
    },
  };
}

function sectionsOf(changes: ChangeMap, relocated: Relocation): RunSection[] {
  const sections: RunSection[] = [];
  let shard = -1;
  let blocks: number[] = [];
  let entries: number[] = [];
  const close = (): void => {
    if (blocks.length > 0)
      sections.push({ shard, blocks: Uint16Array.from(blocks), entries: Uint32Array.from(entries) });
    blocks = [];
    entries = [];
  };
  changes.forEachSorted((block, high, low) => {
    const itsShard = Math.floor(block / SHARD_BLOCKS);
    if (itsShard !== shard) {
      close();
      shard = itsShard;
    }
    const moved = relocated.get(block);
    blocks.push(block - shard * SHARD_BLOCKS);
    entries.push(moved?.[0] ?? high, moved?.[1] ?? low);
  });
  close();
  return sections;
}
