import type { BlockCount, ByteCount } from '../base/units.ts';
import type { PressureReport } from './pressure-gauge.ts';

/** `serving`, or `stopped` for good: nothing is acked any more, what was acked is on the disk and a restart finds it. */
export type CacheLogState = { readonly kind: 'serving' } | { readonly kind: 'stopped'; readonly reason: string };

export interface CacheStatus extends PressureReport {
  readonly state: CacheLogState;
  /** Size of all chunks there are. */
  readonly allocatedBytes: ByteCount;
  readonly maxBytes: ByteCount;
  readonly freeBytes: ByteCount;
  readonly dirtyBytes: ByteCount;
  readonly cachedBytes: ByteCount;
  readonly indexBytes: ByteCount;
  readonly ramBytes: ByteCount;
  /** Room of writes that were let in and are not in the log yet. */
  readonly reservedBytes: ByteCount;
  /** Writes that are held back, or wait for space. */
  readonly waitingWrites: number;
  /** Writes that were told BUSY because the cache stayed full, since the start. */
  readonly busyWrites: number;
  readonly fills: number;
  /** Blocks that were used and so outlived their chunk, and those that left the log with it. */
  readonly movedBlocks: BlockCount;
  readonly evictedBlocks: BlockCount;
  /** Blocks read ahead; those that met a reader in RAM, and those that left it without one. */
  readonly readAhead: { readonly fetched: BlockCount; readonly used: BlockCount; readonly wasted: BlockCount };
  readonly reclaimedChunks: number;
  /** Why the pool is smaller than it was meant to be. */
  readonly problem: string | undefined;
}
