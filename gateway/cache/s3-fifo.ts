import type { BlockNumber } from '../base/units.ts';

/**
 * S3-FIFO (Yang et al., SOSP '23) over a log of chunks. `small`: blocks fetched for the first time. `main`: blocks that were used while in
 * small, or missed again soon after they had left it; and writes, which stay for a whole round of main whatever becomes of them (docs/CACHE.md).
 * Within a queue the oldest chunk goes first; what was used since it was placed moves on to the open chunk of main.
 */
export type Queue = 'small' | 'main';

/** Small is a tenth of the cache: long enough to be used twice, short enough that a scan passes through it alone. */
const SMALL_SHARE = 0.1;

/** At most half of what a reclaim frees is written again, so that it always brings room. */
const MOST_MOVED_SHARE = 0.5;

/** Pools of fewer chunks move nothing on: a chunk for it would be missing elsewhere. */
const LEAST_CHUNKS_TO_MOVE = 8;

/** Entries of the ghost queue at most (4 bytes each): what a small cache needs, and 8 MiB. */
const MOST_GHOSTS = 2 ** 21;
const LEAST_GHOSTS = 2 ** 8;
const WAYS = 4;

/** The settings that follow from a cache's size. */
export interface QueueSizes {
  /** With so many full chunks in small, the next one comes from there. */
  readonly smallChunks: number;
  /** Blocks of a chunk that may move on. 0: none ever do, and main is not used. */
  readonly mostMoved: number;
  readonly ghosts: number;
}

export function queueSizes(chunks: number, dataSlots: number): QueueSizes {
  // Twice as many as blocks: full buckets then are rare.
  let ghosts = LEAST_GHOSTS;
  while (ghosts < Math.min(MOST_GHOSTS, 2 * chunks * dataSlots)) ghosts *= 2;
  return {
    smallChunks: Math.max(1, Math.floor(chunks * SMALL_SHARE)),
    mostMoved: chunks < LEAST_CHUNKS_TO_MOVE ? 0 : Math.floor(dataSlots * MOST_MOVED_SHARE),
    ghosts,
  };
}

/** Which of the full chunks, oldest first, goes next. `mayGo`: it holds nothing that must stay. */
export function nextVictim<C extends { readonly queue: Queue }>(
  sealed: readonly C[],
  mayGo: (chunk: C) => boolean,
  { smallChunks }: QueueSizes,
): C | undefined {
  let small = 0;
  for (const { queue } of sealed) if (queue === 'small') small++;
  const first: Queue = small >= smallChunks ? 'small' : 'main';
  return sealed.find((chunk) => chunk.queue === first && mayGo(chunk)) ?? sealed.find(mayGo);
}

/**
 * Blocks that left small without having been used: fingerprints in buckets of four, the oldest of a bucket making way. Forgetting one, or
 * taking one for another, costs a better place at the most.
 */
export class Ghosts {
  readonly #entries: Uint32Array;
  readonly #mask: number;

  /** `size`: a power of two. */
  constructor(size: number) {
    this.#entries = new Uint32Array(size);
    this.#mask = size / WAYS - 1;
  }

  add(volume: number, block: BlockNumber): void {
    const print = fingerprint(volume, block);
    const first = this.#bucket(print);
    this.#entries.copyWithin(first + 1, first, first + WAYS - 1);
    this.#entries[first] = print;
  }

  /** Whether the block was here; it no longer is. */
  take(volume: number, block: BlockNumber): boolean {
    const print = fingerprint(volume, block);
    const first = this.#bucket(print);
    for (let at = first; at < first + WAYS; at++) {
      if (this.#entries[at] !== print) continue;
      this.#entries[at] = 0;
      return true;
    }
    return false;
  }

  #bucket(print: number): number {
    return (((print ^ (print >>> 15)) >>> 0) & this.#mask) * WAYS;
  }
}

/** Never 0. */
function fingerprint(volume: number, block: BlockNumber): number {
  let hash = Math.imul(block >>> 0, 0x9e3779b1) ^ Math.imul(Math.floor(block / 2 ** 32) * 65_537 + volume, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 16), 0xc2b2ae35);
  return (hash ^ (hash >>> 13)) >>> 0 || 1;
}
