import { sleep } from '../../gateway/base/clock.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber, type ByteCount } from '../../gateway/base/units.ts';
import { RECOUNT_MS } from '../../gateway/volume/quota.ts';
import { SECTORS_PER_BLOCK } from './areas.ts';
import { Violation, type History, type SectorSpan } from './history.ts';
import type { SimGateway } from './sim-gateway.ts';
import type { World } from './world.ts';

/** In blocks; undefined: none. */
export type QuotaBlocks = BlockCount | undefined;

/** Between two looks whether a volume has been counted, and how often one is taken. */
const LOOK_MS = 500;
const MOST_LOOKS = 240;

export function quotaBlocksOf(bytes: ByteCount | undefined): QuotaBlocks {
  return bytes === undefined ? undefined : bytes / BLOCK_SIZE;
}

/**
 * Which quotas the volume item may have: the last that was answered, or one of which nobody knows what became of it. It is there before it is in
 * force, and survives every gateway; what a fenced one still tries can't take effect.
 */
export class Quotas {
  /** Blocks that were written, or zeroed in part, by anybody: no other is ever mapped. */
  readonly touched = new Set<BlockNumber>();
  #known: QuotaBlocks;
  readonly #unsettled = new Set<{ readonly blocks: QuotaBlocks }>();

  constructor(blocks: QuotaBlocks) {
    this.#known = blocks;
  }

  /** Answers with what is to be called when it was answered. */
  begin(blocks: QuotaBlocks): () => void {
    const change = { blocks };
    this.#unsettled.add(change);
    return () => {
      // The answer of one that was fenced meanwhile comes late.
      if (this.#unsettled.delete(change)) this.#known = blocks;
    };
  }

  /** A gateway has opened the volume with it. */
  opened(what: string, blocks: QuotaBlocks): void {
    const may = [this.#known, ...[...this.#unsettled].map((each) => each.blocks)];
    if (!may.includes(blocks))
      throw new Violation(`${what} has a quota of ${String(blocks)} blocks; it may be ${may.map(String).join(' or ')}`);
    this.#known = blocks;
    this.#unsettled.clear();
  }
}

/** A count of the mapped blocks as somebody sees it who stands between volume and remote. */
export interface SeenCount {
  readonly mapped: BlockCount;
  /** When the count began, or the oldest write came that was in no version then. */
  readonly beganMs: number;
  /** What may come on top besides the writes since: dirty then, or in batches on their way, a block in each of them. */
  readonly besides: BlockCount;
}

/**
 * What one opened volume may refuse. It may be full when what the newest count has found, what was dirty or on its way then, and every block of every
 * write since goes beyond the quota; never before there was a count.
 */
export class QuotaInForce {
  #blocks: QuotaBlocks;
  #next: { readonly blocks: QuotaBlocks } | undefined;
  readonly #writes = new Set<{ readonly blocks: BlockCount; endedMs: number }>();

  constructor(blocks: QuotaBlocks) {
    this.#blocks = blocks;
  }

  get blocks(): QuotaBlocks {
    return this.#blocks;
  }

  /** From now on it may be either, until the answer is called. */
  begin(blocks: QuotaBlocks): (isDone: boolean) => void {
    this.#next = { blocks };
    return (isDone) => {
      if (isDone) this.#blocks = blocks;
      this.#next = undefined;
    };
  }

  /** Of blocks that are being written; answers with what is to be called when that has ended. */
  writing(blocks: BlockCount): { readonly ended: (nowMs: number) => void; readonly refused: () => void } {
    const write = { blocks, endedMs: Infinity };
    this.#writes.add(write);
    return {
      ended: (nowMs) => {
        write.endedMs = nowMs;
      },
      refused: () => {
        this.#writes.delete(write);
      },
    };
  }

  /** A write of so many blocks, told of by `writing`, was refused because the volume is full. */
  checkRefusal(what: string, count: SeenCount | undefined): void {
    const may = [this.#blocks, this.#next?.blocks].filter((each) => each !== undefined);
    if (may.length === 0) throw new Violation(`${what} was refused as full, and there is no quota`);
    if (count === undefined) throw new Violation(`${what} was refused as full before anything was counted`);
    let most = count.mapped + count.besides;
    for (const { blocks, endedMs } of this.#writes) if (endedMs >= count.beganMs) most += blocks;
    if (most < Math.min(...may))
      throw new Violation(`${what} was refused as full with at most ${most} blocks mapped of ${may.join(' or ')}`);
  }
}

/** Blocks with a sector in the span. */
export function* blocksOf({ lba, sectors }: SectorSpan): Iterable<BlockNumber> {
  const end = Math.ceil((lba + sectors) / SECTORS_PER_BLOCK);
  for (let block = Math.floor(lba / SECTORS_PER_BLOCK); block < end; block++) yield block;
}

/** Blocks that may be mapped when all that was answered is in the newest version. */
function maybeMapped({ quotas }: World, line: History): Set<BlockNumber> {
  const mapped = new Set(quotas.touched);
  for (const { kind, spans, ackedAt } of line.ops)
    for (const span of spans)
      for (const block of blocksOf(span)) {
        const isWhole =
          block * SECTORS_PER_BLOCK >= span.lba && (block + 1) * SECTORS_PER_BLOCK <= span.lba + span.sectors;
        if (kind === 'unmap' && isWhole && ackedAt !== Infinity) mapped.delete(block);
        else mapped.add(block);
      }
  return mapped;
}

/**
 * Nobody is at work, and everything is in a version: blocks that are not mapped are written one by one until the volume is full, if it has a quota. That
 * must be exactly where it is. `values`: what the newest version has.
 */
export async function checkQuota(
  world: World,
  { workload, running, line, life }: SimGateway,
  values: ReadonlyMap<number, number>,
): Promise<void> {
  if (workload === undefined || running === undefined || line === undefined) return;
  const quota = workload.quota.blocks;
  if (quota === undefined) return;
  for (let looks = 0; running.countedBlocks() === undefined; looks++) {
    if (looks === MOST_LOOKS) throw new Violation(`${life.name} never counts its mapped blocks`);
    await sleep(world.clock, LOOK_MS);
  }
  const certain = new Set<BlockNumber>();
  for (const [sector, id] of values) if (id > 0) certain.add(Math.floor(sector / SECTORS_PER_BLOCK));
  const maybe = maybeMapped(world, line);
  const [mapped] = certain;
  let written = 0;
  let isFull = false;
  for (const { firstBlock, blocks } of world.shape.areas)
    for (let block = firstBlock; block < firstBlock + blocks && !isFull; block++) {
      if (maybe.has(block) || !workload.reaches(block)) continue;
      let outcome = await workload.writeBlock(block);
      if (outcome === 'full') {
        // Once more when it has counted what there is.
        await workload.flushRemote();
        await sleep(world.clock, RECOUNT_MS + LOOK_MS);
        outcome = await workload.writeBlock(block);
      }
      if (outcome === 'done') written++;
      else if (outcome === 'full') isFull = true;
      else throw new Violation(`${life.name} refuses block ${block} with nobody else at work`);
    }
  world.counts.filled += isFull ? 1 : 0;
  if (written > 0 && certain.size + written > quota)
    throw new Violation(`${life.name} has at least ${certain.size + written} blocks mapped; its quota is ${quota}`);
  if (isFull && maybe.size + written < quota)
    throw new Violation(
      `${life.name} is full with ${maybe.size + written} blocks mapped at most; its quota is ${quota}`,
    );
  if (mapped !== undefined && (await workload.writeBlock(mapped)) === 'full')
    throw new Violation(`${life.name} refuses to overwrite block ${mapped}, which is mapped`);
  await workload.flushRemote();
}
