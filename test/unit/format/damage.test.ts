import { beforeAll, describe, expect, it } from 'vitest';
import { decodeCheckpoint } from '../../../gateway/format/checkpoint.ts';
import type { Compression } from '../../../gateway/format/compression.ts';
import { loadCompression } from '../../../gateway/format/compression.ts';
import { decodeFrame, frameBlocks } from '../../../gateway/format/frame.ts';
import { decodeRun, decodeRunIndex } from '../../../gateway/format/run.ts';
import { decodeSegment, decodeSegmentHeader } from '../../../gateway/format/segment.ts';
import { decodeShard, decodeShardSummary } from '../../../gateway/format/shard.ts';
import { chainAfter, decodeRecord, EMPTY_CHAIN } from '../../../gateway/format/version-record.ts';
import { goldenFiles } from '../../golden/samples.ts';
import { expectDamaged, put, resealFrame, resealObject, resealRecord, withBitFlipped } from './damage.ts';

type Decode = (bytes: Buffer) => unknown;

const files = goldenFiles();
let compression: Compression;
beforeAll(async () => {
  compression = await loadCompression();
});

function golden(name: string): Buffer {
  const bytes = files.get(name);
  if (bytes === undefined) throw new Error(`no golden file ${name}`);
  return Buffer.from(bytes);
}

/** Every structure with the decoder of the whole of it. */
const WHOLE: readonly (readonly [string, Decode])[] = [
  ['frame-raw.bin', (bytes) => decodeFrame(bytes, compression)],
  ['frame-zstd.bin', (bytes) => decodeFrame(bytes, compression)],
  ['segment-unmap.bin', (bytes) => decodeSegment(bytes)],
  ['segment.bin', (bytes) => decodeSegment(bytes)],
  ['inline.bin', (bytes) => decodeSegment(bytes)],
  ['run.bin', (bytes) => decodeRun(bytes, compression)],
  ['manifest.bin', (bytes) => decodeRun(bytes, compression)],
  ['shard.bin', (bytes) => decodeShard(bytes, compression)],
  ['checkpoint.bin', (bytes) => decodeCheckpoint(bytes, compression)],
  ['checkpoint-empty.bin', (bytes) => decodeCheckpoint(bytes, compression)],
  ['record-takeover.bin', decodeRecord],
  ['record-segment.bin', decodeRecord],
  ['record-manifest.bin', decodeRecord],
];

/** Structures whose header can be read by itself. */
const HEADERS: readonly (readonly [string, Decode])[] = [
  ['segment.bin', decodeSegmentHeader],
  ['manifest.bin', decodeRunIndex],
  ['shard.bin', decodeShardSummary],
];

describe('a damaged structure', () => {
  it.each(WHOLE)('is refused when %s is cut off anywhere or goes on', (name, decode) => {
    const bytes = golden(name);
    for (let length = 0; length < bytes.length; length += length < 512 ? 1 : 7) {
      expectDamaged(() => decode(bytes.subarray(0, length)));
    }
    expectDamaged(() => decode(Buffer.concat([bytes, Buffer.alloc(1)])));
    expectDamaged(() => decode(Buffer.concat([bytes, Buffer.alloc(256)])));
  });

  it.each(WHOLE)('is refused when any bit of %s is turned', (name, decode) => {
    const bytes = golden(name);
    for (const bit of bitsOf(bytes)) expectDamaged(() => decode(withBitFlipped(bytes, bit)));
  });

  it.each(HEADERS)('is refused when any bit of the header of %s is turned, read by itself', (name, decode) => {
    const bytes = golden(name);
    const headerBytes = bytes.readUInt32LE(8);
    for (let bit = 0; bit < headerBytes * 8; bit++) {
      const turned = withBitFlipped(bytes, bit).subarray(0, headerBytes);
      // A header that claims to be longer asks for more, which the object cannot give.
      let answer: unknown;
      expectDamaged(() => {
        answer = decode(turned);
        if (needsMore(answer, turned.length)) decode(Buffer.concat([turned, Buffer.alloc(needed(answer))]));
      });
    }
  });

  it.each(HEADERS)('asks for the bytes of the header of %s that are missing, and for no others', (name, decode) => {
    const bytes = golden(name);
    const headerBytes = bytes.readUInt32LE(8);
    for (let length = 0; length < headerBytes; length++) {
      expect(decode(bytes.subarray(0, length))).toEqual({ needBytes: length < 24 ? 24 : headerBytes });
    }
    const whole = decode(bytes);
    for (let length = headerBytes; length < bytes.length; length += 61) {
      expect(decode(bytes.subarray(0, length))).toEqual(whole);
    }
  });
});

/** Every bit of the first 512 bytes, and each 13th of the rest, which is block data. */
function* bitsOf(bytes: Buffer): Generator<number> {
  for (let bit = 0; bit < bytes.length * 8; bit += bit < 4096 ? 1 : 13) yield bit;
}

function needed(answer: unknown): number {
  return (answer as { readonly needBytes: number }).needBytes;
}

function needsMore(answer: unknown, given: number): boolean {
  return typeof answer === 'object' && answer !== null && 'needBytes' in answer && needed(answer) > given;
}

describe('an unknown format', () => {
  it('is refused with its number, whatever it is the format of', () => {
    for (const [name, decode] of WHOLE) {
      const bytes = golden(name);
      if (name.startsWith('record')) resealRecord(put(bytes, 'version-record', 'format', 2));
      else if (name.startsWith('frame')) resealFrame(put(bytes, 'frame', 'format', 2));
      else resealObject(put(bytes, 'envelope', 'format', 2));
      expectDamaged(() => decode(bytes), /format 2 is unknown; this release reads format 1/);
    }
  });

  it('is refused for a flag that has no meaning yet', () => {
    for (const [name, decode] of WHOLE) {
      const bytes = golden(name);
      if (name.startsWith('record')) resealRecord(put(bytes, 'version-record', 'flags', 1));
      else if (name.startsWith('frame')) resealFrame(put(bytes, 'frame', 'flags', 1));
      else resealObject(put(bytes, 'envelope', 'flags', 1));
      expectDamaged(() => decode(bytes), /unknown flags/);
    }
  });

  it('is refused for a codec nobody knows', () => {
    expectDamaged(
      () => decodeFrame(resealFrame(put(golden('frame-raw.bin'), 'frame', 'codec', 2)), compression),
      /codec/,
    );
    expectDamaged(() => decodeShard(resealObject(put(golden('shard.bin'), 'shard', 'codec', 7)), compression), /codec/);
    const checkpoint = resealObject(put(golden('checkpoint.bin'), 'checkpoint', 'codec', 7));
    expectDamaged(() => decodeCheckpoint(checkpoint, compression), /codec/);
  });

  it('is refused for kinds of versions and payloads nobody knows', () => {
    for (const field of ['kind', 'payloadKind']) {
      const bytes = resealRecord(put(golden('record-segment.bin'), 'version-record', field, 9));
      expectDamaged(() => decodeRecord(bytes), /unknown (payload )?kind 9/);
      expectDamaged(() => frameBlocks(bytes));
    }
  });
});

describe('one structure taken for another', () => {
  it('is refused by its magic', () => {
    for (const [own, decode] of WHOLE) {
      for (const [other] of WHOLE) {
        if (golden(own).subarray(0, 4).equals(golden(other).subarray(0, 4))) continue;
        expectDamaged(() => decode(golden(other)));
      }
    }
  });

  it('is refused as a link of the chain when it is no record', () => {
    expectDamaged(() => chainAfter(EMPTY_CHAIN, golden('segment-unmap.bin')));
  });
});
