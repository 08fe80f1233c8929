import type { BlockCount, BlockNumber } from '../base/units.ts';
import { SHARD_BLOCKS } from '../format/run.ts';
import type { VolumeMap } from '../maintenance/volume-map.ts';

/** How many of the `count` blocks from `block` on share the first one's state. */
export async function mappedExtent(
  map: VolumeMap,
  block: BlockNumber,
  count: BlockCount,
): Promise<{ readonly mapped: boolean; readonly count: BlockCount }> {
  const end = block + count;
  const first = await map.entries(block, 1);
  const mapped = first[0] !== 0 || first[1] !== 0;
  let at = block + 1;
  while (at < end) {
    const shard = Math.floor(at / SHARD_BLOCKS);
    const next = await map.nextShard(shard);
    if (next !== shard) {
      if (mapped) break;
      at = next === undefined ? end : Math.min(end, next * SHARD_BLOCKS);
      continue;
    }
    const entries = await map.shardEntries(shard);
    const base = shard * SHARD_BLOCKS;
    const stop = Math.min(end, base + SHARD_BLOCKS);
    while (at < stop && isMapped(entries, at - base) === mapped) at += 1;
    if (at < stop) break;
  }
  return { mapped, count: at - block };
}

/** The next mapped blocks from `from` on, up to `limit` of them; undefined at the end. */
export async function nextMappedBlocks(
  map: VolumeMap,
  from: BlockNumber,
  limit: BlockCount,
): Promise<{ readonly blocks: readonly BlockNumber[] } | undefined> {
  const blocks: BlockNumber[] = [];
  let at = from;
  for (;;) {
    const shard = await map.nextShard(Math.floor(at / SHARD_BLOCKS));
    if (shard === undefined) return blocks.length > 0 ? { blocks } : undefined;
    const base = shard * SHARD_BLOCKS;
    const entries = await map.shardEntries(shard);
    for (let index = Math.max(0, at - base); index < SHARD_BLOCKS; index += 1) {
      if (!isMapped(entries, index)) continue;
      blocks.push(base + index);
      if (blocks.length === limit) return { blocks };
    }
    at = base + SHARD_BLOCKS;
  }
}

/** How many blocks are mapped: of shards that nothing has changed since they were written the checkpoint knows, the others are looked at one by one. */
export async function countMappedBlocks(map: VolumeMap): Promise<BlockCount> {
  let count = 0;
  for (let shard = await map.nextShard(0); shard !== undefined; shard = await map.nextShard(shard + 1)) {
    const known = await map.mappedAsWritten(shard);
    if (known !== undefined) {
      count += known;
      continue;
    }
    const entries = await map.shardEntries(shard);
    for (let index = 0; index < SHARD_BLOCKS; index += 1) if (isMapped(entries, index)) count += 1;
  }
  return count;
}

function isMapped(entries: Uint32Array, index: number): boolean {
  return entries[2 * index] !== 0 || entries[2 * index + 1] !== 0;
}
