import { Ghosts, nextVictim, queueSizes, type Queue, type QueueSizes } from '../../gateway/cache/s3-fifo.ts';

/** A cache as the traces see it: blocks by number, counted by what `access` answers. */
export interface TracedCache {
  /** Whether the block was there; it is afterwards. */
  access(block: number): boolean;
  /** A write of the block: never a hit, and never a miss. */
  write(block: number): void;
}

/** The yardstick. */
export class LruCache implements TracedCache {
  readonly #blocks = new Map<number, true>();
  readonly #capacity: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  access(block: number): boolean {
    const hit = this.#blocks.delete(block);
    this.#blocks.set(block, true);
    if (this.#blocks.size > this.#capacity) {
      const [oldest] = this.#blocks.keys();
      if (oldest !== undefined) this.#blocks.delete(oldest);
    }
    return hit;
  }

  write(block: number): void {
    this.access(block);
  }
}

type Lane = 'small' | 'main' | 'writes';

interface ModelChunk {
  readonly queue: Queue;
  readonly blocks: number[];
}

interface Entry {
  chunk: ModelChunk;
  used: boolean;
}

/** Chunks that are open or kept ready, and so hold nothing that could be found: one for each lane, and those in reserve. */
const NOT_SEALED = 3;

/** The cache log's policy over chunks that hold nothing but numbers: the same `nextVictim`, `Ghosts` and sizes, no disk and no time. */
export class ChunkedCache implements TracedCache {
  readonly #sizes: QueueSizes;
  readonly #ghosts: Ghosts;
  readonly #chunks: number;
  readonly #chunkBlocks: number;
  readonly #sealed: ModelChunk[] = [];
  readonly #index = new Map<number, Entry>();
  readonly #open: Record<Lane, ModelChunk>;
  moved = 0;
  evicted = 0;
  reclaimed = 0;

  constructor(chunks: number, chunkBlocks: number) {
    this.#chunks = chunks;
    this.#chunkBlocks = chunkBlocks;
    this.#sizes = queueSizes(chunks, chunkBlocks);
    this.#ghosts = new Ghosts(this.#sizes.ghosts);
    this.#open = { small: newChunk('small'), main: newChunk('main'), writes: newChunk('main') };
  }

  access(block: number): boolean {
    const entry = this.#index.get(block);
    if (entry !== undefined) {
      entry.used = true;
      return true;
    }
    this.#place(block, this.#ghosts.take(0, block) ? 'main' : 'small');
    return false;
  }

  write(block: number): void {
    this.#place(block, 'writes');
  }

  #place(block: number, lane: Lane): void {
    const chunk = this.#open[lane];
    chunk.blocks.push(block);
    // As the index of the log: what is written stays what it was.
    const used = lane === 'writes' && this.#index.get(block)?.used === true;
    this.#index.set(block, { chunk, used });
    if (chunk.blocks.length < this.#chunkBlocks) return;
    this.#sealed.push(chunk);
    this.#open[lane] = newChunk(chunk.queue);
    while (this.#sealed.length > this.#chunks - NOT_SEALED) this.#reclaim();
  }

  #reclaim(): void {
    const victim = nextVictim(this.#sealed, () => true, this.#sizes);
    if (victim === undefined) return;
    this.#sealed.splice(this.#sealed.indexOf(victim), 1);
    this.reclaimed++;
    let left = this.#sizes.mostMoved;
    for (const block of victim.blocks) {
      const entry = this.#index.get(block);
      if (entry?.chunk !== victim) continue;
      if (entry.used && left-- > 0) {
        this.moved++;
        this.#place(block, 'main');
        continue;
      }
      this.#index.delete(block);
      this.evicted++;
      if (victim.queue === 'small') this.#ghosts.add(0, block);
    }
  }
}

function newChunk(queue: Queue): ModelChunk {
  return { queue, blocks: [] };
}
