import type { WriteSeq } from '../base/units.ts';

/** What recovery knows of one volume when it judges a record. */
export interface RecoveryMarks {
  /** Clean records with a lower key are not to be believed: newer ones may have been reclaimed. */
  readonly forgetThrough: WriteSeq;
  /** Writes up to it may be missing because they were reclaimed (and all are committed). */
  readonly reclaimedThrough: WriteSeq;
  /** Everything up to it is in a committed version. */
  readonly committedThrough: WriteSeq;
  /** End of the valid prefix; nothing above it exists any more. */
  readonly lastSeq: WriteSeq;
}

/**
 * - `dirty`: acked and not committed: it must be served and replicated
 * - `clean`: a copy of committed content
 * - `ignore`: may be older than something that was reclaimed
 * - `impossible`: beyond the prefix, where everything was destroyed
 */
export type RecordVerdict = 'dirty' | 'clean' | 'ignore' | 'impossible';

/** Judges a write, unmap or fill by its key (sequence, or what the fill is as of). */
export function judgeRecord(kind: 'write' | 'unmap' | 'fill', key: WriteSeq, marks: RecoveryMarks): RecordVerdict {
  if (key > marks.lastSeq) return 'impossible';
  if (kind !== 'fill' && key > marks.committedThrough) return 'dirty';
  // Equal keys are as good as the one that was reclaimed: the same write, or the block as of the same moment.
  return key < marks.forgetThrough ? 'ignore' : 'clean';
}

/**
 * What sequences that are missing before the end of the prefix mean. Those up to reclaimedThrough may have gone with their chunk.
 *
 * - `none`: nothing is missing
 * - `distrust`: committed writes are lost here, so clean records from before them may be stale: drop those
 * - `lost`: acked writes are lost that no version has, and nobody knows which blocks they wrote: don't serve
 */
export type GapVerdict = 'none' | 'distrust' | 'lost';

/** Judges the gap between `previous` (the last sequence seen, at least what may be missing) and `next`. */
export function judgeGap(previous: WriteSeq, next: WriteSeq, marks: RecoveryMarks): GapVerdict {
  const last = next - 1;
  if (last <= Math.max(previous, marks.reclaimedThrough)) return 'none';
  return last > marks.committedThrough ? 'lost' : 'distrust';
}

/** What a block means whose own record is missing from an operation that is otherwise there. */
export function judgeMissingBlock(seq: WriteSeq, marks: RecoveryMarks): 'damaged' | 'clear' {
  return seq > marks.committedThrough ? 'damaged' : 'clear';
}

/** Whether the valid prefix beyond the synced mark goes on with this operation. */
export function prefixGoesOn(
  expected: WriteSeq,
  op: { readonly seq: WriteSeq; readonly complete: boolean; readonly dataGood: boolean },
): boolean {
  return op.seq === expected && op.complete && op.dataGood;
}
