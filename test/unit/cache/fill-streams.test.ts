import { describe, expect, test } from 'vitest';
import type { DiskFile } from '../../../gateway/base/disk.ts';
import { Chunk } from '../../../gateway/cache/chunk.ts';
import { rowsOfFills } from '../../../gateway/cache/fill-streams.ts';

const file: DiskFile = {
  size: () => Promise.resolve(0),
  read: () => undefined,
  write: () => undefined,
  sync: () => Promise.resolve(),
  close: () => Promise.resolve(),
};

function chunk(number: number, keys: readonly number[], writes: readonly number[] = []): Chunk {
  const made = new Chunk(number, file, number);
  for (const key of keys) made.noteFill(1, key);
  for (const seq of writes) made.noteWrite(1, seq);
  return made;
}

function numbers(rows: readonly (readonly Chunk[])[]): number[][] {
  return rows.map((row) => row.map(({ number }) => number));
}

describe('the rows of chunks with fills', () => {
  test('are one when the chunks followed one another', () => {
    expect(numbers(rowsOfFills([chunk(3, [20, 30]), chunk(1, [0, 10]), chunk(2, [10, 20])], 1))).toEqual([[1, 2, 3]]);
  });

  test('are two where two chunks were open at a time', () => {
    const chunks = [chunk(1, [0, 10]), chunk(2, [5, 25]), chunk(3, [10, 20]), chunk(4, [20, 40]), chunk(5, [25, 26])];
    expect(numbers(rowsOfFills(chunks, 1))).toEqual([
      [1, 3, 4],
      [2, 5],
    ]);
  });

  test('take chunks with a single key in any order into one', () => {
    expect(numbers(rowsOfFills([chunk(1, [7, 9]), chunk(2, [7]), chunk(3, [7])], 1))).toEqual([[2, 3, 1]]);
  });

  test('leave out chunks with writes, and those of others', () => {
    expect(numbers(rowsOfFills([chunk(1, [1]), chunk(2, [], [2])], 1))).toEqual([[1]]);
    expect(rowsOfFills([chunk(1, [1])], 2)).toEqual([]);
  });
});
