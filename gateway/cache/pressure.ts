/** Up to this share of the cache being dirty nobody is slowed. */
export const FREE_SHARE = 0.5;
/** Longest that one write is held back on account of the share; a full cache makes it wait longer, for room. */
export const MAX_DELAY_MS = 2_000;
/** How steeply the delay grows: by the fourth power it is felt late by a quick volume, and stretches the end by far the most. */
const POWER = 4;
/** From this share on initiators are told that space runs low (SBC-3, thin provisioning soft threshold), once until it was below FREE_SHARE again. */
export const LOW_SHARE = 0.75;
/** Of the whole cache: kept for volumes that have no more than their share of what is dirty. */
export const KEPT_SHARE = 1 / 16;

/**
 * How long a write is held back, in milliseconds, while `share` (0 to 1) of the cache is dirty: 0 up to FREE_SHARE, then
 * MAX_DELAY_MS · ((share − ½) / ½)⁴. It rises without jumps, so that a writer settles where its writes come in as fast as the cloud takes them, or,
 * without a cloud, needs ever longer for the rest. `weight` (0 to 1): how much of it is the writer's doing.
 */
export function writeDelayMs(share: number, weight = 1): number {
  if (share <= FREE_SHARE) return 0;
  const over = (Math.min(share, 1) - FREE_SHARE) / (1 - FREE_SHARE);
  return MAX_DELAY_MS * over ** POWER * Math.min(Math.max(weight, 0), 1);
}

/**
 * How much of the pressure is the doing of a volume that has `dirty` of `total` dirty blocks, with so many volumes: 1 from an even share on, in proportion
 * below it, so that one that writes little is hardly slowed by one that floods the cache.
 */
export function weightOf(dirty: number, total: number, volumes: number): number {
  return volumes <= 1 ? 1 : Math.min(1, (dirty * volumes) / Math.max(1, total));
}
