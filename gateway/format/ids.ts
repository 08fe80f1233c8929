import { invariant } from '../base/errors.ts';
import { BLOCK_SIZE, MAX_VOLUME_BYTES } from '../base/units.ts';

/** Lineages, volumes and local logs are named by 1 to 64 of these; they are part of object keys. */
export const ID_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** A log identity, or nothing (records that no gateway's log stands behind). */
export const LOG_ID_PATTERN = /^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$/;

export const MAX_VOLUME_BLOCKS = MAX_VOLUME_BYTES / BLOCK_SIZE;
export const HASH_BYTES = 32;
export const MAX_SEGMENT_NUMBER = 2 ** 36 - 1;

export function requireId(id: string, name: string): void {
  invariant(ID_PATTERN.test(id), `${name} '${id}' is an identifier of 1 to 64 letters, digits, '.', '_' and '-'`);
}

export function isBlockRange(block: number, count: number): boolean {
  return count >= 1 && block >= 0 && block + count <= MAX_VOLUME_BLOCKS;
}

/** `count` blocks from `block` on. */
export interface BlockRange {
  readonly block: number;
  readonly count: number;
}

/** [first, count, first, count, …], as a commit batch carries ranges. */
export function rangesFromPairs(pairs: Float64Array): BlockRange[] {
  const ranges: BlockRange[] = [];
  for (let at = 0; at + 1 < pairs.length; at += 2) ranges.push({ block: pairs[at] ?? 0, count: pairs[at + 1] ?? 0 });
  return ranges;
}
