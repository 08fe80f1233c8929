import { SimRandom } from '../sim/sim-random.ts';
import type { TracedCache } from './caches.ts';

export interface TraceOptions {
  readonly seed: string;
  /** Blocks of the volume. */
  readonly blocks: number;
  /** Accesses to the skewed part, after a warm-up of as many again. */
  readonly accesses: number;
  /** Exponent of the zipf distribution. */
  readonly skew: number;
  /** Part of the accesses that are writes. */
  readonly writes: number;
  /** After so many skewed accesses a scan reads `scanBlocks` on from where the last one ended. 0: no scans. */
  readonly scanEvery: number;
  readonly scanBlocks: number;
}

/** Reads of the skewed part alone: a scan misses whatever the cache does, and is not what it is there for. */
export interface TraceResult {
  readonly reads: number;
  readonly hits: number;
}

/** Runs the trace through every cache, the same accesses for all. */
export function runTrace(options: TraceOptions, caches: readonly TracedCache[]): TraceResult[] {
  const random = new SimRandom(options.seed);
  const pick = zipf(options.blocks, options.skew, random);
  const results = caches.map(() => ({ reads: 0, hits: 0 }));
  let scanAt = 0;
  for (let at = 0; at < 2 * options.accesses; at++) {
    const counts = at >= options.accesses;
    const block = pick();
    const isWrite = random.chance(options.writes);
    caches.forEach((cache, index) => {
      if (isWrite) {
        cache.write(block);
        return;
      }
      const hit = cache.access(block);
      const result = results[index];
      if (!counts || result === undefined) return;
      result.reads++;
      if (hit) result.hits++;
    });
    if (options.scanEvery === 0 || at % options.scanEvery !== options.scanEvery - 1) continue;
    for (let step = 0; step < options.scanBlocks; step++, scanAt = (scanAt + 1) % options.blocks)
      for (const cache of caches) cache.access(scanAt);
  }
  return results;
}

/** Blocks by rank, the ranks spread over the volume in a fixed shuffle. */
function zipf(blocks: number, skew: number, random: SimRandom): () => number {
  const cumulated = new Float64Array(blocks);
  let sum = 0;
  for (let rank = 0; rank < blocks; rank++) {
    sum += 1 / (rank + 1) ** skew;
    cumulated[rank] = sum;
  }
  const places = Uint32Array.from({ length: blocks }, (_, index) => index);
  for (let at = blocks - 1; at > 0; at--) {
    const other = Math.floor(random.fraction() * (at + 1));
    const moved = places[at] ?? 0;
    places[at] = places[other] ?? 0;
    places[other] = moved;
  }
  return () => {
    const target = random.fraction() * sum;
    let low = 0;
    let high = blocks - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((cumulated[middle] ?? 0) < target) low = middle + 1;
      else high = middle;
    }
    return places[low] ?? 0;
  };
}
