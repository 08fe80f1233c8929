import { MAX_SEGMENT_BLOCKS } from '../format/segment.ts';
import type { BlockCount } from '../base/units.ts';

/** Batches given to the remote and not committed yet; more wait, sealed or still growing. */
export const MAX_BATCHES_IN_FLIGHT = 4;

/** Distinct dirty blocks that are worth a segment: 7.5 MiB, a little below the most it can hold. */
export const SEAL_BLOCKS: BlockCount = MAX_SEGMENT_BLOCKS - 64;

/** What is known of the batch that is growing. */
export interface SealInput {
  readonly blocks: BlockCount;
  readonly isEmpty: boolean;
  /** Since its oldest write arrived. */
  readonly ageMs: number;
  /** Somebody waits: an explicit flush, or writes that need space. */
  readonly urgent: boolean;
  readonly rpoMs: number;
  /** Batches sealed or under way before it. */
  readonly ahead: number;
}

/** `seal` it now, look again after `waitMs`, or `nothing` to do until the next write or commit. */
export type SealDecision =
  { readonly kind: 'seal' } | { readonly kind: 'wait'; readonly waitMs: number } | { readonly kind: 'nothing' };

/**
 * Seals by size, by age (half the RPO target, the other half is for the upload), or because somebody waits. While as many batches are under
 * way as may be, only size seals: a batch that has to wait anyway goes on growing and coalescing.
 */
export function decideSeal(input: SealInput): SealDecision {
  if (input.isEmpty) return { kind: 'nothing' };
  if (input.blocks >= SEAL_BLOCKS) return { kind: 'seal' };
  if (input.ahead >= MAX_BATCHES_IN_FLIGHT) return { kind: 'nothing' };
  const waitMs = input.rpoMs / 2 - input.ageMs;
  if (input.urgent || waitMs <= 0) return { kind: 'seal' };
  return { kind: 'wait', waitMs };
}
