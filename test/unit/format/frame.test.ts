import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import { rawCompression } from '../../../gateway/format/compression.ts';
import {
  decodeFrame,
  encodeFrame,
  encodeLostFrame,
  frameBlocks,
  isLostFrame,
  MAX_FRAME_BYTES,
} from '../../../gateway/format/frame.ts';
import { buildFrame } from '../../golden/builder.ts';
import { expectDamaged, put, resealFrame } from './damage.ts';

const sixteen = Array.from({ length: 16 }, (_, at) => at * 3);

describe('a frame', () => {
  it('of sixteen incompressible blocks is the longest there is and fits the length of a map entry', () => {
    const frame = encodeFrame(Buffer.alloc(16 * BLOCK_SIZE, 1), sixteen, rawCompression);
    expect(frame.length).toBe(MAX_FRAME_BYTES);
    expect(frame.length / 256).toBe(257);
    expect(decodeFrame(frame, rawCompression)).toHaveLength(16 * BLOCK_SIZE);
  });

  it('is refused where the map expects another block than it holds', () => {
    const frame = encodeFrame(Buffer.alloc(2 * BLOCK_SIZE), [4, 6], rawCompression);
    expect(decodeFrame(frame, rawCompression, [{ index: 1, block: 6 }])).toHaveLength(2 * BLOCK_SIZE);
    expectDamaged(
      () => decodeFrame(frame, rawCompression, [{ index: 1, block: 5 }]),
      /block 6 at index 1, not block 5/,
    );
    expectDamaged(() => decodeFrame(frame, rawCompression, [{ index: 2, block: 7 }]), /nothing at index 2/);
  });

  it('is refused when its raw bytes are not those that were compressed', () => {
    const frame = buildFrame({ blocks: [1], raw: Buffer.alloc(BLOCK_SIZE, 1) });
    put(frame, 'frame', 'rawCrc', 0);
    expectDamaged(() => decodeFrame(resealFrame(frame), rawCompression), /raw blocks does not match/);
  });

  it('is refused when its parts do not add up, even with right checksums', () => {
    const build = (): Buffer => buildFrame({ blocks: [1, 2], raw: Buffer.alloc(2 * BLOCK_SIZE, 1) });
    for (const [field, value] of [
      ['blocks', 0],
      ['blocks', 1],
      ['blocks', 3],
      ['blocks', 17],
      ['payloadBytes', 0],
      ['payloadBytes', 8191],
      ['payloadBytes', 0xffffffff],
    ] as const) {
      expectDamaged(() => decodeFrame(resealFrame(put(build(), 'frame', field, value)), rawCompression));
    }
    expectDamaged(() => frameBlocks(buildFrame({ blocks: [2, 1], raw: Buffer.alloc(2 * BLOCK_SIZE) })), /out of order/);
    expectDamaged(() => frameBlocks(buildFrame({ blocks: [2, 2], raw: Buffer.alloc(2 * BLOCK_SIZE) })), /out of order/);
    expectDamaged(() => frameBlocks(buildFrame({ blocks: [2 ** 34], raw: Buffer.alloc(BLOCK_SIZE) })), /out of order/);
    const padded = build();
    padded[padded.length - 1] = 1;
    expectDamaged(() => decodeFrame(resealFrame(padded), rawCompression), /padding/);
  });

  it('is not made of blocks that do not fit its numbers', () => {
    const encode =
      (blocks: readonly number[], bytes: number): (() => unknown) =>
      () =>
        encodeFrame(Buffer.alloc(bytes), blocks, rawCompression);
    expect(encode([], 0)).toThrow(/invariant/);
    expect(encode([1], 2 * BLOCK_SIZE)).toThrow(/invariant/);
    expect(encode([2, 1], 2 * BLOCK_SIZE)).toThrow(/invariant/);
    expect(encode([2 ** 34], BLOCK_SIZE)).toThrow(/invariant/);
    expect(
      encode(
        Array.from({ length: 17 }, (_, at) => at),
        17 * BLOCK_SIZE,
      ),
    ).toThrow(/invariant/);
  });

  it('says of a lost block that it is lost, and gives nothing for its content', () => {
    const frame = encodeLostFrame(2 ** 33);
    expect([...frameBlocks(frame)]).toEqual([2 ** 33]);
    expect(isLostFrame(frame)).toBe(true);
    expectDamaged(() => decodeFrame(frame, rawCompression), /block 8589934592 was lost/);
    expect(isLostFrame(buildFrame({ blocks: [1], raw: Buffer.alloc(BLOCK_SIZE, 1) }))).toBe(false);
    for (const field of ['payloadBytes', 'rawCrc'] as const)
      expectDamaged(() => isLostFrame(resealFrame(put(encodeLostFrame(7), 'frame', field, 1))), /no content/);
    expectDamaged(() => isLostFrame(resealFrame(put(encodeLostFrame(7), 'frame', 'blocks', 2))));
  });
});
