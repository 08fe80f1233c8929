import { expect, test } from 'vitest';
import { KIB } from '../../../gateway/base/units.ts';
import { ChunkMemory } from '../../../gateway/iscsi/chunk-memory.ts';

test('chunks are received into the same memory until somebody keeps something of it', () => {
  const memory = new ChunkMemory();
  const first = memory.next();
  expect(memory.next()).toBe(first);
  memory.keep(Buffer.alloc(10));
  expect(memory.next()).toBe(first);
  memory.keep(first.subarray(5, 9));
  const second = memory.next();
  expect(second.buffer).not.toBe(first.buffer);
  memory.keep(undefined);
  expect(memory.next().buffer).not.toBe(second.buffer);
});

test('a segment has memory of just its length, the same until somebody keeps it', () => {
  const memory = new ChunkMemory();
  const first = memory.segment(100_000);
  expect([first.length, first.buffer.byteLength]).toEqual([100_000, 100_000]);
  expect(memory.segment(100_000)).toBe(first);
  memory.keep(first.subarray(7));
  expect(memory.segment(100_000)).not.toBe(first);
});

test('memory grows with what fills it, and is small again after a rest', () => {
  const memory = new ChunkMemory();
  expect(memory.next().length).toBe(16 * KIB);
  memory.grow();
  expect(memory.next().length).toBe(256 * KIB);
  memory.rest();
  expect(memory.next().length).toBe(16 * KIB);
});
