import { FarshoreError } from '../base/errors.ts';
import { MIB, type ByteCount } from '../base/units.ts';
import { chunkGeometry, DEFAULT_CHUNK_SLOTS, MAX_CHUNKS } from './layout.ts';

export interface CacheSettings {
  /** Size the pool grows to. */
  readonly sizeBytes: ByteCount;
  /** RAM tier. */
  readonly ramBytes: ByteCount;
  /** Index of cached blocks; dirty ones may exceed it. */
  readonly indexBytes: ByteCount;
  /** Slots of 4 KiB per chunk: 8192 in the product. */
  readonly chunkSlots: number;
  /** How long a write waits for space before it is told `busy`; below initiators' timeouts. */
  readonly maxWaitMs: number;
}

/** One open for writes, one for fills, two to go on with. */
export const MIN_CHUNKS = 4;

/**
 * A ready-made budget for the index: 1.1 GiB per TiB of cache, and room for scattered blocks in a small one: a leaf of 2 KiB holds 512
 * neighbours, or a single block that has none, so the floor bounds scattered dirty blocks to some 118,000 (460 MiB). It is taken as needed.
 */
export function cacheSettings(sizes: { readonly sizeBytes: ByteCount; readonly ramBytes: ByteCount }): CacheSettings {
  return {
    ...sizes,
    indexBytes: Math.max(256 * MIB, Math.floor((sizes.sizeBytes / 1024) * 1.1)),
    chunkSlots: DEFAULT_CHUNK_SLOTS,
    maxWaitMs: 20_000,
  };
}

/** How many chunks the size allows; `input` when it is too small or too large. */
export function chunksOf(settings: CacheSettings): number {
  const { bytes } = chunkGeometry(settings.chunkSlots);
  const chunks = Math.floor(settings.sizeBytes / bytes);
  if (chunks < MIN_CHUNKS) {
    throw new FarshoreError('input', `cache.size must be at least ${(MIN_CHUNKS * bytes) / MIB}M`);
  }
  return Math.min(chunks, MAX_CHUNKS);
}
