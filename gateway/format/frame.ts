import { crc32 } from '../base/crc32.ts';
import { invariant } from '../base/errors.ts';
import { BLOCK_SIZE } from '../base/units.ts';
import { damaged } from './bytes.ts';
import type { Compression } from './compression.ts';
import { CODEC_CODES, codecFromCode } from './compression.ts';
import { MAX_VOLUME_BLOCKS } from './ids.ts';
import { UNIT_BYTES } from './map-entry.ts';

export const MAX_FRAME_BLOCKS = 16;
export const FRAME_ALIGN = UNIT_BYTES;
/** Fixed part; the block numbers (6 bytes each) and the payload follow. */
const FRAME_HEADER_BYTES = 20;
const BLOCK_NUMBER_BYTES = 6;
const FRAME_MAGIC = Buffer.from('FSFR', 'latin1');
const FRAME_MAGIC_WORD = FRAME_MAGIC.readUInt32LE(0);
const FRAME_FORMAT = 1;
const WHAT = 'frame';
/** In place of a codec: the block has content that nobody has any more. */
const LOST_CODE = 255;
/** What is said of such a block. */
export const LOST = 'was lost on its gateway before it was replicated; writing it again mends it';

/** Longest frame: 16 incompressible blocks. */
export const MAX_FRAME_BYTES = align(
  FRAME_HEADER_BYTES + MAX_FRAME_BLOCKS * BLOCK_NUMBER_BYTES + MAX_FRAME_BLOCKS * BLOCK_SIZE,
);
invariant(MAX_FRAME_BYTES / FRAME_ALIGN < 2 ** 9, 'the length of any frame fits the 9 bits of a map entry');

function align(bytes: number): number {
  return Math.ceil(bytes / FRAME_ALIGN) * FRAME_ALIGN;
}

/** Claim to check: block number `block` of the volume is the frame's block at `index`. */
export interface FramePlace {
  readonly index: number;
  readonly block: number;
}

/**
 * `raw` is 1 to 16 whole blocks, `blocks` their numbers in the volume, ascending. The numbers are part of the frame, so that
 * a reader that was led to the wrong frame notices. The result is padded with zeros to a multiple of 256 bytes; it lies in what `allocate`
 * gives, whatever that holds.
 */
export function encodeFrame(
  raw: Buffer,
  blocks: ArrayLike<number>,
  compression: Compression,
  allocate: (bytes: number) => Buffer = (bytes) => Buffer.allocUnsafe(bytes),
): Buffer {
  const count = blocks.length;
  invariant(count >= 1 && count <= MAX_FRAME_BLOCKS, 'a frame has 1 to 16 blocks');
  invariant(raw.length === count * BLOCK_SIZE, 'the bytes of a frame are those of its blocks');
  const { codec, payload } = compression.compress(raw);
  const payloadAt = FRAME_HEADER_BYTES + count * BLOCK_NUMBER_BYTES;
  const bytes = allocate(align(payloadAt + payload.length));
  bytes.writeUInt32LE(FRAME_MAGIC_WORD, 0);
  bytes.writeUInt8(FRAME_FORMAT, 4);
  bytes.writeUInt8(0, 5);
  bytes.writeUInt8(CODEC_CODES[codec], 6);
  bytes.writeUInt8(count, 7);
  bytes.writeUInt32LE(payload.length, 8);
  bytes.writeUInt32LE(crc32(raw), 12);
  let last = -1;
  for (let index = 0; index < count; index++) {
    const block = blocks[index] ?? -1;
    invariant(block > last && block < MAX_VOLUME_BLOCKS, 'blocks of a frame ascend within the volume');
    bytes.writeUIntLE(block, FRAME_HEADER_BYTES + index * BLOCK_NUMBER_BYTES, BLOCK_NUMBER_BYTES);
    last = block;
  }
  bytes.set(payload, payloadAt);
  bytes.fill(0, payloadAt + payload.length);
  bytes.writeUInt32LE(checkOf(bytes), 16);
  return bytes;
}

/**
 * The frame of a block whose content was lost on its gateway before any version had it. It stands where the content would, so that a
 * version with it is still what the volume was: that block can't be read, and nobody takes older content for its own.
 */
export function encodeLostFrame(block: number): Buffer {
  invariant(block >= 0 && block < MAX_VOLUME_BLOCKS, 'a lost block lies within the volume');
  const bytes = Buffer.alloc(FRAME_ALIGN);
  bytes.writeUInt32LE(FRAME_MAGIC_WORD, 0);
  bytes.writeUInt8(FRAME_FORMAT, 4);
  bytes.writeUInt8(LOST_CODE, 6);
  bytes.writeUInt8(1, 7);
  bytes.writeUIntLE(block, FRAME_HEADER_BYTES, BLOCK_NUMBER_BYTES);
  bytes.writeUInt32LE(checkOf(bytes), 16);
  return bytes;
}

/** Whether the frame says that its block is lost. Rejects with `damaged` what is no frame, or such a one with content. */
export function isLostFrame(bytes: Buffer): boolean {
  const count = checkFrame(bytes);
  if (bytes.readUInt8(6) !== LOST_CODE) return false;
  if (count !== 1 || bytes.readUInt32LE(8) !== 0 || bytes.readUInt32LE(12) !== 0)
    throw damaged(WHAT, 'a lost block has no content');
  return true;
}

/** CRC-32 of the whole frame with its CRC field left out. */
function checkOf(bytes: Buffer): number {
  return crc32(bytes.subarray(FRAME_HEADER_BYTES), crc32(bytes.subarray(0, FRAME_HEADER_BYTES - 4)));
}

/**
 * The raw blocks of a frame; `bytes` is the whole frame with its padding and nothing else. Rejects by `damaged` also when a
 * block of `expected` is not where it is claimed to be.
 */
export function decodeFrame(bytes: Buffer, compression: Compression, expected: readonly FramePlace[] = []): Buffer {
  const count = checkFrame(bytes);
  for (const { index, block } of expected) {
    const found = index < count ? blockAt(bytes, index) : undefined;
    if (found !== block) {
      throw damaged(
        WHAT,
        `it holds ${found === undefined ? 'nothing' : `block ${found}`} at index ${index}, not block ${block}`,
      );
    }
  }
  if (isLostFrame(bytes)) throw damaged(WHAT, `block ${blockAt(bytes, 0)} ${LOST}`);
  const codec = codecFromCode(bytes.readUInt8(6));
  if (codec === undefined) throw damaged(WHAT, `unknown codec ${bytes.readUInt8(6)} at byte 6`);
  const payloadAt = FRAME_HEADER_BYTES + count * BLOCK_NUMBER_BYTES;
  const payload = bytes.subarray(payloadAt, payloadAt + bytes.readUInt32LE(8));
  const raw = compression.decompress(codec, payload, count * BLOCK_SIZE);
  if (crc32(raw) !== bytes.readUInt32LE(12)) throw damaged(WHAT, 'the CRC-32 of its raw blocks does not match');
  return raw;
}

/** The volume's block numbers a frame holds, ascending. Checks the frame without decompressing it. */
export function frameBlocks(bytes: Buffer): Float64Array {
  const count = checkFrame(bytes);
  const blocks = new Float64Array(count);
  for (let index = 0; index < count; index++) blocks[index] = blockAt(bytes, index);
  return blocks;
}

function blockAt(bytes: Buffer, index: number): number {
  return bytes.readUIntLE(FRAME_HEADER_BYTES + index * BLOCK_NUMBER_BYTES, BLOCK_NUMBER_BYTES);
}

/** Everything about a frame that can be checked without decompressing it; answers the number of its blocks. */
function checkFrame(bytes: Buffer): number {
  if (bytes.length < FRAME_ALIGN || bytes.length > MAX_FRAME_BYTES || bytes.length % FRAME_ALIGN !== 0) {
    throw damaged(WHAT, `no frame has ${bytes.length} bytes`);
  }
  if (bytes.readUInt32LE(0) !== FRAME_MAGIC_WORD) throw damaged(WHAT, 'it does not start with FSFR');
  if (bytes.readUInt8(4) !== FRAME_FORMAT) {
    throw damaged(WHAT, `format ${bytes.readUInt8(4)} is unknown; this release reads format ${FRAME_FORMAT}`);
  }
  if (bytes.readUInt32LE(16) !== checkOf(bytes)) throw damaged(WHAT, 'its CRC-32 at byte 16 does not match');
  if (bytes.readUInt8(5) !== 0) throw damaged(WHAT, 'unknown flags at byte 5');
  const count = bytes.readUInt8(7);
  if (count < 1 || count > MAX_FRAME_BLOCKS) throw damaged(WHAT, `${count} blocks at byte 7`);
  const used = FRAME_HEADER_BYTES + count * BLOCK_NUMBER_BYTES + bytes.readUInt32LE(8);
  if (align(used) !== bytes.length) throw damaged(WHAT, `it needs ${used} bytes and has ${bytes.length}`);
  let last = -1;
  for (let index = 0; index < count; index++) {
    const block = blockAt(bytes, index);
    if (block <= last || block >= MAX_VOLUME_BLOCKS)
      throw damaged(WHAT, `block ${block} at index ${index} is out of order`);
    last = block;
  }
  for (let at = used; at < bytes.length; at++)
    if (bytes[at] !== 0) throw damaged(WHAT, `padding at byte ${at} is not zero`);
  return count;
}
