import { expect } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { bitwiseCrc32, fixedField, integer } from '../../golden/format-doc.ts';

/** What a decoder did with bytes: anything but an answer or `damaged` fails the test. */
export function outcomeOf(decode: () => unknown): 'answered' | 'damaged' {
  try {
    decode();
    return 'answered';
  } catch (error) {
    if (error instanceof FarshoreError && error.kind === 'damaged') return 'damaged';
    throw error;
  }
}

export function expectDamaged(decode: () => unknown, message?: RegExp): void {
  let thrown: unknown;
  try {
    decode();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(FarshoreError);
  expect(thrown).toMatchObject({ kind: 'damaged' });
  if (message !== undefined) expect((thrown as FarshoreError).message).toMatch(message);
}

/** A copy with one bit turned. */
export function withBitFlipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return copy;
}

/** Makes the checksums of an object right again after its bytes were changed, as far as its header still makes sense. */
export function resealObject(bytes: Buffer): Buffer {
  const headerBytes = Math.min(Math.max(bytes.readUInt32LE(8), 24), bytes.length);
  put(bytes, 'envelope', 'bodyCrc', bitwiseCrc32(bytes.subarray(headerBytes)));
  put(bytes, 'envelope', 'headerCrc', bitwiseCrc32(bytes.subarray(0, 20), bytes.subarray(24, headerBytes)));
  return bytes;
}

export function resealFrame(bytes: Buffer): Buffer {
  put(bytes, 'frame', 'crc', bitwiseCrc32(bytes.subarray(0, 16), bytes.subarray(20)));
  return bytes;
}

export function resealRecord(bytes: Buffer): Buffer {
  integer(bitwiseCrc32(bytes.subarray(0, -4)), 4).copy(bytes, bytes.length - 4);
  return bytes;
}

/** Overwrites a field that the document states at a fixed offset. */
export function put(bytes: Buffer, layout: string, field: string, value: number): Buffer {
  const { offset, size } = fixedField(layout, field);
  integer(value, size).copy(bytes, offset);
  return bytes;
}
