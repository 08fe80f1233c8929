import { BLOCK_SIZE } from '../../gateway/base/units.ts';
import type { SectorSpan } from './history.ts';
import type { SimRandom } from './sim-random.ts';

export const SECTORS_PER_BLOCK = BLOCK_SIZE / 512;
/** Blocks of a shard (format/run.ts), so that the areas lie in several of them and across their borders. */
const SHARD_BLOCKS = 16_384;

export interface Area {
  readonly firstBlock: number;
  readonly blocks: number;
}

/** The parts of the volume that the workload writes and the checker looks at; everything else stays unwritten. */
export interface VolumeShape {
  readonly blocks: number;
  readonly areas: readonly Area[];
  /** Share of the calls that go to the first area, whatever their number. */
  readonly hotShare: number;
  /** Share of the calls that are for one block at most. */
  readonly smallShare: number;
}

export function chooseShape(random: SimRandom): VolumeShape {
  const shards = random.between(2, 4);
  const blocks = shards * SHARD_BLOCKS - random.pick([0, 0, 5000]);
  const small = random.between(4, 24);
  const areas: Area[] = [
    { firstBlock: 0, blocks: small },
    { firstBlock: SHARD_BLOCKS - random.between(1, 8), blocks: random.between(10, 32) },
    { firstBlock: blocks - 8, blocks: 8 },
  ];
  return { blocks, areas, hotShare: 0, smallShare: 0.6 };
}

export function* sectorsOfAreas(shape: VolumeShape): Iterable<number> {
  for (const { firstBlock, blocks } of shape.areas)
    for (let at = 0; at < blocks * SECTORS_PER_BLOCK; at++) yield firstBlock * SECTORS_PER_BLOCK + at;
}

/** The parts of a span that lie in areas. */
export function clipToAreas(shape: VolumeShape, span: SectorSpan): SectorSpan[] {
  const clipped: SectorSpan[] = [];
  for (const { firstBlock, blocks } of shape.areas) {
    const from = Math.max(span.lba, firstBlock * SECTORS_PER_BLOCK);
    const to = Math.min(span.lba + span.sectors, (firstBlock + blocks) * SECTORS_PER_BLOCK);
    if (from < to) clipped.push({ lba: from, sectors: to - from });
  }
  return clipped;
}

/** A span in one area: often whole blocks, often one, seldom many. */
export function chooseSpan(random: SimRandom, shape: VolumeShape, mostBlocks: number): SectorSpan {
  const [hot] = shape.areas;
  const area = hot !== undefined && random.chance(shape.hotShare) ? hot : random.pick(shape.areas);
  const areaSectors = area.blocks * SECTORS_PER_BLOCK;
  const most = Math.min(area.blocks, mostBlocks);
  const blocks = random.chance(shape.smallShare) ? 1 : random.between(1, most);
  const first = random.between(0, area.blocks - blocks);
  const base = area.firstBlock * SECTORS_PER_BLOCK;
  if (random.chance(0.6)) return { lba: base + first * SECTORS_PER_BLOCK, sectors: blocks * SECTORS_PER_BLOCK };
  const lba = random.between(0, areaSectors - 1);
  const sectors = random.between(1, Math.min(areaSectors - lba, blocks * SECTORS_PER_BLOCK));
  return { lba: base + lba, sectors };
}

/** Sizes that a resize chooses from, in blocks: whole, without the last area, and without a part of it. */
export function sizesOf({ blocks, areas }: VolumeShape): readonly [number, number, number] {
  let last = areas[0] ?? { firstBlock: 1, blocks: 0 };
  for (const area of areas) if (area.firstBlock > last.firstBlock) last = area;
  return [blocks, last.firstBlock, last.firstBlock + Math.ceil(last.blocks / 2)];
}
