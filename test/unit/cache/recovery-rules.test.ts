import { describe, expect, test } from 'vitest';
import {
  judgeGap,
  judgeMissingBlock,
  judgeRecord,
  prefixGoesOn,
  type RecoveryMarks,
} from '../../../gateway/cache/recovery-rules.ts';

const marks: RecoveryMarks = { forgetThrough: 20, reclaimedThrough: 15, committedThrough: 30, lastSeq: 40 };

describe('judging a record', () => {
  // Every kind against every place a key can have among the marks, borders included.
  test.each([
    ['write', 10, 'ignore'],
    ['write', 19, 'ignore'],
    ['write', 20, 'clean'],
    ['write', 21, 'clean'],
    ['write', 30, 'clean'],
    ['write', 31, 'dirty'],
    ['write', 40, 'dirty'],
    ['write', 41, 'impossible'],
    ['unmap', 10, 'ignore'],
    ['unmap', 19, 'ignore'],
    ['unmap', 20, 'clean'],
    ['unmap', 21, 'clean'],
    ['unmap', 30, 'clean'],
    ['unmap', 31, 'dirty'],
    ['unmap', 40, 'dirty'],
    ['unmap', 41, 'impossible'],
    ['fill', 10, 'ignore'],
    ['fill', 19, 'ignore'],
    ['fill', 20, 'clean'],
    ['fill', 21, 'clean'],
    ['fill', 30, 'clean'],
    ['fill', 31, 'clean'],
    ['fill', 40, 'clean'],
    ['fill', 41, 'impossible'],
  ] as const)('a %s with key %i is %s', (kind, key, verdict) => {
    expect(judgeRecord(kind, key, marks)).toBe(verdict);
  });

  test('a dirty write is dirty even below forgetThrough, which a fill of later date may have raised', () => {
    expect(judgeRecord('write', 31, { ...marks, forgetThrough: 35 })).toBe('dirty');
    expect(judgeRecord('fill', 31, { ...marks, forgetThrough: 35 })).toBe('ignore');
  });
});

describe('judging a gap', () => {
  test.each([
    [9, 10, 'none'],
    [9, 15, 'none'],
    [9, 16, 'none'],
    [9, 17, 'distrust'],
    [16, 17, 'none'],
    [16, 18, 'distrust'],
    [16, 31, 'distrust'],
    [16, 32, 'lost'],
    [30, 31, 'none'],
    [30, 32, 'lost'],
    [39, 40, 'none'],
    [38, 40, 'lost'],
    [40, 41, 'none'],
    [39, 41, 'lost'],
  ] as const)('between %i and %i it says %s', (previous, next, verdict) => {
    expect(judgeGap(previous, next, marks)).toBe(verdict);
  });
});

describe('a block whose record is missing from its operation', () => {
  test.each([
    [29, 'clear'],
    [30, 'clear'],
    [31, 'damaged'],
  ] as const)('of sequence %i is %s', (seq, verdict) => {
    expect(judgeMissingBlock(seq, marks)).toBe(verdict);
  });
});

describe('the valid prefix', () => {
  test('goes on only with the next sequence, whole and with good data', () => {
    for (const seq of [6, 7, 8])
      for (const complete of [false, true])
        for (const dataGood of [false, true])
          expect(prefixGoesOn(7, { seq, complete, dataGood })).toBe(seq === 7 && complete && dataGood);
  });
});
