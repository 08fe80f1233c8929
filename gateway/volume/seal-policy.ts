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
  /** How long batches take from here to their commit, at worst (CommitTimes); undefined: none was committed yet. */
  readonly commitMs: number | undefined;
  /** Batches sealed or under way before it. */
  readonly ahead: number;
}

/** `seal` it now, look again after `waitMs`, or `nothing` to do until the next write or commit. */
export type SealDecision =
  { readonly kind: 'seal' } | { readonly kind: 'wait'; readonly waitMs: number } | { readonly kind: 'nothing' };

/** Kept of the target for the way to the commit: so many times as long as that took lately. */
const COMMIT_MARGIN = 2;
/** But no less than this part of it: the line may become slower from one batch to the next. */
const LEAST_KEPT = 1 / 8;
/**
 * And no more, nor before anything is known of the line: one that keeps up sends a batch in no more time than it took to gather, so with half the target for
 * either that is met; and to one that does not, more versions would be one thing more to send.
 */
const MOST_KEPT = 1 / 2;

/**
 * How old the oldest write of a batch becomes before it goes: as old as the target allows, which makes the fewest versions, less what the way to the commit
 * takes.
 */
export function gatherMs(rpoMs: number, commitMs: number | undefined): number {
  const wanted = commitMs === undefined ? Infinity : commitMs * COMMIT_MARGIN;
  return rpoMs - Math.min(rpoMs * MOST_KEPT, Math.max(rpoMs * LEAST_KEPT, wanted));
}

/** What a commit that is faster than the worst takes off that. */
const FORGOTTEN_SHARE = 0.1;

/** How long commits take, at worst: up at once, down slowly. One of longer than `mostMs` counts as that: after an outage it is soon forgotten. */
export class CommitTimes {
  readonly #mostMs: number;
  #worstMs: number | undefined;

  constructor(mostMs: number) {
    this.#mostMs = mostMs;
  }

  /** undefined before the first. */
  get worstMs(): number | undefined {
    return this.#worstMs;
  }

  note(tookMs: number): void {
    const ms = Math.min(tookMs, this.#mostMs);
    const worst = this.#worstMs ?? ms;
    this.#worstMs = ms >= worst ? ms : worst + (ms - worst) * FORGOTTEN_SHARE;
  }
}

/**
 * Seals by size, by age (gatherMs), or because somebody waits. While as many batches are under
 * way as may be, only size seals: a batch that has to wait anyway goes on growing and coalescing.
 */
export function decideSeal(input: SealInput): SealDecision {
  if (input.isEmpty) return { kind: 'nothing' };
  if (input.blocks >= SEAL_BLOCKS) return { kind: 'seal' };
  if (input.ahead >= MAX_BATCHES_IN_FLIGHT) return { kind: 'nothing' };
  const waitMs = gatherMs(input.rpoMs, input.commitMs) - input.ageMs;
  if (input.urgent || waitMs <= 0) return { kind: 'seal' };
  return { kind: 'wait', waitMs };
}
