import { FarshoreError } from '../base/errors.ts';
import type { BlockNumber, WriteSeq } from '../base/units.ts';
import type { BlockIndex } from './block-index.ts';
import type { Chunk } from './chunk.ts';
import { KIND_UNMAP } from './descriptor.ts';
import { rowsOfFills } from './fill-streams.ts';
import type { ChunkGeometry } from './layout.ts';
import { placesOf, readRanges } from './logged-op.ts';
import { type KeyLimit, RecordStream, takeOp, type LoggedOp } from './record-stream.ts';
import { judgeGap, judgeMissingBlock, judgeRecord, type RecoveryMarks } from './recovery-rules.ts';
import type { BlockRange } from './unmap-payload.ts';

/** Hears of everything that is not committed, in the order of its sequences. */
export interface DirtySink {
  dirtyWrite(seq: WriteSeq, wallSeconds: number, block: BlockNumber, places: readonly number[]): void;
  dirtyUnmap(seq: WriteSeq, wallSeconds: number, ranges: readonly BlockRange[]): void;
  /** A block of the write just told of, whose record is gone. */
  damagedBlock(block: BlockNumber): void;
}

export interface BuiltIndex {
  readonly dirtyOps: number;
  /** Committed operations were missing, and clean copies from before them were dropped. */
  readonly distrusted: number;
}

/**
 * Fills the index of a recovered volume: merges writes and fills in the order of their keys, so that the newest content of each block
 * wins whatever its position. Rejects with `damaged` when acked writes are missing that no version has, `stopped` when the disk fails.
 */
export async function buildIndex(
  chunks: readonly Chunk[],
  volume: number,
  geometry: ChunkGeometry,
  firstSeq: WriteSeq,
  marks: RecoveryMarks,
  index: BlockIndex,
  sink: DirtySink,
  limit: KeyLimit,
): Promise<BuiltIndex> {
  // What was reclaimed was in a version once. If the remote does not reach that far any more, what is left here is not a whole.
  if (marks.reclaimedThrough > marks.committedThrough)
    throw lostWrites(marks.committedThrough + 1, marks.reclaimedThrough);
  const writes = new RecordStream(chunks, volume, geometry, 'writes', 0, limit);
  // Fills of a volume nobody has written to yet are as of sequence 0.
  const rows = rowsOfFills(chunks, volume).map((row) => new RecordStream(row, volume, geometry, 'fills', -1, limit));
  let previous = firstSeq - 1;
  let dirtyOps = 0;
  let distrusted = 0;
  const passGap = (next: WriteSeq): void => {
    const verdict = judgeGap(previous, next, marks);
    if (verdict === 'lost') throw lostWrites(Math.max(previous, marks.committedThrough) + 1, next - 1);
    if (verdict === 'none') return;
    // Nothing dirty has been met yet: what is missing is committed.
    index.clearAll();
    distrusted++;
  };
  for (;;) {
    if (writes.mustLoad) await writes.load();
    for (const row of rows) if (row.mustLoad) await row.load();
    const fills = lowestOf(rows);
    if (writes.ended && fills === undefined) break;
    if (fills !== undefined && (writes.ended || fills.key < writes.key)) {
      if (judgeRecord('fill', fills.key, marks) === 'clean') index.set(fills.block, fills.place, false);
      fills.next();
      continue;
    }
    const taken = takeOp(writes);
    const op = taken instanceof Promise ? await taken : taken;
    if (op.seq < previous) throw new FarshoreError('damaged', `the cache log holds write ${op.seq} after ${previous}`);
    passGap(op.seq);
    previous = op.seq;
    const verdict = judgeRecord(op.kind === KIND_UNMAP ? 'unmap' : 'write', op.seq, marks);
    if (verdict === 'ignore' || verdict === 'impossible') continue;
    if (verdict === 'dirty') dirtyOps++;
    if (op.kind === KIND_UNMAP) {
      if (!(await applyUnmap(op, index, verdict === 'dirty' ? sink : undefined))) distrusted++;
    } else applyWrite(op, index, marks, verdict === 'dirty' ? sink : undefined);
  }
  passGap(marks.lastSeq + 1);
  return { dirtyOps, distrusted };
}

/** The row whose next record has the lowest key; undefined when all have ended. */
function lowestOf(rows: readonly RecordStream[]): RecordStream | undefined {
  let lowest: RecordStream | undefined;
  for (const row of rows) {
    if (!row.ended && (lowest === undefined || row.key < lowest.key)) lowest = row;
  }
  return lowest;
}

function applyWrite(op: LoggedOp, index: BlockIndex, marks: RecoveryMarks, sink: DirtySink | undefined): void {
  const places = placesOf(op);
  sink?.dirtyWrite(op.seq, op.wallSeconds, op.block, places);
  op.records.forEach((record, at) => {
    const block = op.block + at;
    if (record !== undefined) index.set(block, places[at] ?? 0, sink !== undefined);
    else {
      index.clear(block);
      if (judgeMissingBlock(op.seq, marks) === 'damaged') sink?.damagedBlock(block);
    }
  });
}

/** false when the ranges of a committed unmap can't be read, and so no clean copy from before it is to be trusted. */
async function applyUnmap(op: LoggedOp, index: BlockIndex, sink: DirtySink | undefined): Promise<boolean> {
  const ranges = await readRanges(op);
  if (ranges === undefined) {
    if (sink !== undefined) throw lostWrites(op.seq, op.seq);
    index.clearAll();
    return false;
  }
  for (const { block, count } of ranges) index.clearRange(block, count);
  sink?.dirtyUnmap(op.seq, op.wallSeconds, ranges);
  return true;
}

function lostWrites(from: WriteSeq, to: WriteSeq): FarshoreError {
  return new FarshoreError(
    'damaged',
    `the cache log has lost acked writes ${from} to ${to}, which are in no version yet; restore the volume with --takeover to go on from the last version`,
  );
}
