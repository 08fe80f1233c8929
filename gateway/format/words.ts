import { endianness } from 'node:os';
import { invariant } from '../base/errors.ts';

// The formats are little-endian and typed arrays are copied to and from them as they are.
invariant(endianness() === 'LE', 'the machine is little-endian');

/** The bytes of a typed array, as a view. */
export function bytesOf(words: Uint16Array | Uint32Array): Buffer {
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength);
}

/** `count` 16-bit words at byte `at`, as a copy. The caller has checked that they are there. */
export function words16(bytes: Buffer, at: number, count: number): Uint16Array {
  const words = new Uint16Array(count);
  bytesOf(words).set(bytes.subarray(at, at + count * 2));
  return words;
}

/** `count` 32-bit words at byte `at`, as a copy. The caller has checked that they are there. */
export function words32(bytes: Buffer, at: number, count: number): Uint32Array {
  const words = new Uint32Array(count);
  bytesOf(words).set(bytes.subarray(at, at + count * 4));
  return words;
}
