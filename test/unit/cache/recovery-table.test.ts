import { describe, expect, test } from 'vitest';
import { judgeGap, judgeMissingBlock, judgeRecord, type RecoveryMarks } from '../../../gateway/cache/recovery-rules.ts';

/** One row: what it asks of each condition (absent: either), and what it says. */
interface Row<Condition extends string, Verdict> {
  readonly when: Partial<Readonly<Record<Condition, boolean>>>;
  readonly then: Verdict;
}

function matching<Condition extends string, Verdict>(
  rows: readonly Row<Condition, Verdict>[],
  facts: Readonly<Record<Condition, boolean>>,
): readonly Row<Condition, Verdict>[] {
  return rows.filter(({ when }) =>
    (Object.entries(when) as [Condition, boolean][]).every(([condition, wanted]) => facts[condition] === wanted),
  );
}

/** The table of docs/decisions/0002, for a record that is whole and of the chunk's generation. */
const RECORD_TABLE: readonly Row<'beyondEnd' | 'isFill' | 'aboveCommitted' | 'belowForget', string>[] = [
  { when: { beyondEnd: true }, then: 'impossible' },
  { when: { beyondEnd: false, isFill: false, aboveCommitted: true }, then: 'dirty' },
  { when: { beyondEnd: false, isFill: false, aboveCommitted: false, belowForget: true }, then: 'ignore' },
  { when: { beyondEnd: false, isFill: false, aboveCommitted: false, belowForget: false }, then: 'clean' },
  { when: { beyondEnd: false, isFill: true, belowForget: true }, then: 'ignore' },
  { when: { beyondEnd: false, isFill: true, belowForget: false }, then: 'clean' },
];

const GAP_TABLE: readonly Row<'isEmpty' | 'isReclaimed' | 'isCommitted', string>[] = [
  { when: { isEmpty: true }, then: 'none' },
  { when: { isEmpty: false, isReclaimed: true }, then: 'none' },
  { when: { isEmpty: false, isReclaimed: false, isCommitted: true }, then: 'distrust' },
  { when: { isEmpty: false, isReclaimed: false, isCommitted: false }, then: 'lost' },
];

/** Large enough for every order of a key and four marks, equal ones included. */
const VALUES = [0, 1, 2, 3, 4] as const;

function* allMarks(): Iterable<RecoveryMarks> {
  for (const forgetThrough of VALUES)
    for (const reclaimedThrough of VALUES)
      for (const committedThrough of VALUES)
        for (const lastSeq of VALUES) yield { forgetThrough, reclaimedThrough, committedThrough, lastSeq };
}

describe('the recovery table', () => {
  test('has exactly one row for every record among all marks, and the rule says what the row says', () => {
    const used = new Set<unknown>();
    for (const marks of allMarks())
      for (const key of VALUES)
        for (const kind of ['write', 'unmap', 'fill'] as const) {
          const rows = matching(RECORD_TABLE, {
            beyondEnd: key > marks.lastSeq,
            isFill: kind === 'fill',
            aboveCommitted: key > marks.committedThrough,
            belowForget: key < marks.forgetThrough,
          });
          expect([kind, key, marks, rows.length]).toEqual([kind, key, marks, 1]);
          expect([kind, key, marks, judgeRecord(kind, key, marks)]).toEqual([kind, key, marks, rows[0]?.then]);
          used.add(rows[0]);
        }
    expect(used.size).toBe(RECORD_TABLE.length);
  });

  test('has exactly one row for every gap between two records, and the rule says what the row says', () => {
    const used = new Set<unknown>();
    for (const marks of allMarks())
      for (const previous of VALUES)
        for (let next = previous; next <= VALUES.length; next++) {
          const rows = matching(GAP_TABLE, {
            isEmpty: next - 1 <= previous,
            isReclaimed: next - 1 <= marks.reclaimedThrough,
            isCommitted: next - 1 <= marks.committedThrough,
          });
          expect([previous, next, marks, rows.length]).toEqual([previous, next, marks, 1]);
          expect([previous, next, marks, judgeGap(previous, next, marks)]).toEqual([
            previous,
            next,
            marks,
            rows[0]?.then,
          ]);
          used.add(rows[0]);
        }
    expect(used.size).toBe(GAP_TABLE.length);
  });

  test('calls a block whose record is missing damaged exactly where nobody else has it', () => {
    for (const marks of allMarks())
      for (const seq of VALUES)
        expect(judgeMissingBlock(seq, marks)).toBe(seq > marks.committedThrough ? 'damaged' : 'clear');
  });
});
