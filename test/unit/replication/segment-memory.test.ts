import { expect, test } from 'vitest';
import { READ_SLICE_BLOCKS, SegmentMemories, SegmentMemory } from '../../../gateway/replication/segment-memory.ts';

const large = READ_SLICE_BLOCKS;
/** Which memory it is: that of its first bytes. */
const placeOf = (memory: SegmentMemory): ArrayBufferLike => {
  memory.startOver();
  return memory.take(64).buffer;
};

test('memory of a segment is used again once nobody reads it, and only then', async () => {
  const memories = new SegmentMemories(4);
  await memories.take(large); // something stays under way
  const first = await memories.take(large);
  const place = placeOf(first);
  first.end(true);
  const second = await memories.take(large);
  expect(placeOf(second)).toBe(place);
  // Its upload was given up: a socket may still send from there.
  second.end(false);
  expect(placeOf(await memories.take(large))).not.toBe(place);
});

test('nothing is kept while no segment is under way, and little while some are', async () => {
  const memories = new SegmentMemories(8);
  const one = await memories.take(large);
  const place = placeOf(one);
  one.end(true);
  const several = await Promise.all(Array.from({ length: 5 }, () => memories.take(large)));
  expect(several.map(placeOf)).not.toContain(place);
  const places = several.map(placeOf);
  for (const memory of several.slice(0, 4)) memory.end(true);
  const again = await Promise.all(Array.from({ length: 4 }, () => memories.take(large)));
  expect(again.map(placeOf).filter((buffer) => places.includes(buffer))).toHaveLength(2);
});

test('no more segments than there are permits; what ends lets the next one in', async () => {
  const memories = new SegmentMemories(1);
  const first = await memories.take(1);
  let came = false;
  const next = memories.take(1).then((memory) => {
    came = true;
    return memory;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(came).toBe(false);
  first.end(false);
  expect(await next).toBeInstanceOf(SegmentMemory);
});

test('what is taken does not overlap, also when there is more of it than was thought', async () => {
  const memory = await new SegmentMemories(1).take(large);
  const pieces = Array.from({ length: 40 }, (_, at) => memory.take(512 * 1024).fill(at));
  pieces.forEach((piece, at) => {
    expect(piece.every((byte) => byte === at)).toBe(true);
  });
});

test('a short one that somebody waits for does not stand behind long ones', async () => {
  const memories = new SegmentMemories(1);
  const upload = await memories.take(large);
  const short = await memories.take(large - 1, true);
  const order: string[] = [];
  const long = memories.take(large, true).then(() => order.push('long'));
  const leisurely = memories.take(1).then((memory) => {
    order.push('leisurely');
    memory.end(false);
  });
  short.end(false);
  await new Promise((resolve) => setImmediate(resolve));
  expect(order).toEqual([]);
  upload.end(false);
  await long;
  expect(order).toEqual(['long']);
  void leisurely;
});
