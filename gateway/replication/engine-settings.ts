import type { ByteCount } from '../base/units.ts';
import { MIB } from '../base/units.ts';

/** How much of the log may wait for a fold. */
export interface FoldThresholds {
  readonly segments: number;
  readonly versions: number;
  readonly inlineBytes: ByteCount;
  /** Ranges unmapped, which are kept in a list in memory. */
  readonly ranges: number;
}

export interface EngineSettings {
  /** Maps of shards kept in memory (128 KiB each). */
  readonly shardCacheBytes: ByteCount;
  /** Decoded frames kept in memory, so that neighbours are not fetched again. */
  readonly frameCacheBytes: ByteCount;
  /** The log is folded in the background from here on. */
  readonly foldAt: FoldThresholds;
}

export const DEFAULT_FOLD_THRESHOLDS: FoldThresholds = Object.freeze({
  segments: 256,
  versions: 4096,
  inlineBytes: 16 * MIB,
  ranges: 16_384,
});

export const DEFAULT_ENGINE_SETTINGS: EngineSettings = Object.freeze({
  shardCacheBytes: 16 * MIB,
  frameCacheBytes: 4 * MIB,
  foldAt: DEFAULT_FOLD_THRESHOLDS,
});

/** Commits wait for a fold when this many times the thresholds are waiting: the map in memory has a bound. */
export const BACKLOG_LIMIT = 4;
/** After a fold that failed the next one is not tried before. */
export const FAILED_FOLD_DELAY_MS = 30_000;
