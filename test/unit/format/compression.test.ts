import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import type { Compression } from '../../../gateway/format/compression.ts';
import { compressionOver, loadCompression, rawCompression } from '../../../gateway/format/compression.ts';
import { zstdContentSize } from '../../../gateway/format/zstd.ts';
import { zstdFrame } from '../../golden/zstd-by-hand.ts';
import { expectDamaged, outcomeOf, withBitFlipped } from './damage.ts';

const text = Buffer.alloc(16 * BLOCK_SIZE, 'blocks written in the branch office, ');
let compression: Compression;
beforeAll(async () => {
  compression = await loadCompression();
});

describe('compression', () => {
  it('makes compressible bytes smaller and gives them back', () => {
    const { codec, payload } = compression.compress(text);
    expect(codec).toBe('zstd');
    expect(payload.length).toBeLessThan(1000);
    expect(compression.decompress(codec, payload, text.length).equals(text)).toBe(true);
  });

  it('leaves bytes alone that it cannot make smaller', () => {
    const noise = randomBytes(BLOCK_SIZE);
    expect(compression.compress(noise)).toEqual({ codec: 'raw', payload: noise });
    expect(compression.compress(Buffer.alloc(0))).toEqual({ codec: 'raw', payload: Buffer.alloc(0) });
  });

  describe('without trying', () => {
    let tried = 0;
    const counting = compressionOver({
      compress: (raw) => {
        tried += 1;
        return zstdFrame([{ raw }]);
      },
      decompress: () => Buffer.alloc(0),
    });
    const isTried = (raw: Buffer): boolean => {
      const before = tried;
      counting.compress(raw);
      return tried > before;
    };
    const noise = (): Buffer => randomBytes(16 * BLOCK_SIZE);

    it('leaves what looks like noise, whatever its blocks begin with', () => {
      for (let round = 0; round < 200; round += 1) expect(isTried(noise())).toBe(false);
      const stamped = noise();
      for (let at = 0; at < stamped.length; at += BLOCK_SIZE) stamped.write('the head of a block', at);
      expect(isTried(stamped)).toBe(false);
    });

    it('does not leave what zstd makes smaller: a repeated block, zeros among it, fewer values, text', () => {
      const repeated = noise();
      repeated.copyWithin(9 * BLOCK_SIZE, 2 * BLOCK_SIZE, 3 * BLOCK_SIZE);
      const zeros = noise().fill(0, 5 * BLOCK_SIZE, 6 * BLOCK_SIZE);
      const seven = noise().map((byte) => byte & 0x7f) as Buffer;
      const base64 = Buffer.from(
        noise()
          .toString('base64')
          .slice(0, 16 * BLOCK_SIZE),
      );
      for (const raw of [repeated, zeros, seven, base64, text]) {
        expect(isTried(raw)).toBe(true);
      }
    });
  });

  it.each([
    [8, 4],
    [16, 4],
    [32, 4],
    [32, 8],
    [64, 16],
    [4096, 4],
  ])('makes records of %i bytes smaller that begin with %i random ones', (recordBytes, randomPart) => {
    const noise = randomBytes(16 * BLOCK_SIZE);
    const raw = Buffer.alloc(noise.length);
    for (let at = 0; at < raw.length; at += recordBytes) noise.copy(raw, at, at, at + randomPart);
    expect(compression.compress(raw).codec).toBe('zstd');
  });

  it('keeps the raw bytes when zstd saves less than a sixteenth', () => {
    const saving = (bytes: number): Compression =>
      compressionOver({
        compress: (raw) => zstdFrame([{ raw: raw.subarray(0, raw.length - bytes) }]),
        decompress: () => Buffer.alloc(0),
      });
    expect(saving(100).compress(Buffer.alloc(BLOCK_SIZE)).codec).toBe('raw');
    expect(() => saving(1000).compress(Buffer.alloc(BLOCK_SIZE))).toThrow(/zstd declares the size/);
  });

  it('is loaded once however often it is asked for', async () => {
    const again = await Promise.all([loadCompression(), loadCompression()]);
    for (const other of again) {
      const { codec, payload } = other.compress(text);
      expect(compression.decompress(codec, payload, text.length).equals(text)).toBe(true);
    }
  });

  it('refuses a part of another size than it should have', () => {
    const { payload } = compression.compress(text);
    for (const size of [0, 1, text.length - 1, text.length + 1]) {
      expectDamaged(() => compression.decompress('zstd', payload, size), /declares 65536 bytes/);
      expectDamaged(() => compression.decompress('raw', text, size));
      expectDamaged(() => rawCompression.decompress('raw', text, size));
    }
    expectDamaged(() => rawCompression.decompress('zstd', payload, text.length), /not available/);
  });

  it('refuses a part that goes on after its end, or holds two', () => {
    const { payload } = compression.compress(text);
    const twice = Buffer.concat([payload, payload]);
    expect(outcomeOf(() => compression.decompress('zstd', twice, text.length))).toBe('damaged');
    const tail = Buffer.concat([payload, Buffer.from('tail')]);
    expect(outcomeOf(() => compression.decompress('zstd', tail, text.length))).toBe('damaged');
  });

  it('never answers anything but bytes of the right size or damaged for turned bits and cuts', () => {
    const { payload } = compression.compress(text);
    for (let bit = 0; bit < payload.length * 8; bit++) {
      outcomeOf(() => {
        expect(compression.decompress('zstd', withBitFlipped(payload, bit), text.length)).toHaveLength(text.length);
      });
    }
    for (let length = 0; length < payload.length; length++) {
      expectDamaged(() => compression.decompress('zstd', payload.subarray(0, length), text.length));
    }
    expect(compression.decompress('zstd', payload, text.length).equals(text)).toBe(true);
  });

  it('takes zstd frames of another writer, whatever their blocks', () => {
    const raw = Buffer.concat([Buffer.from('head'), Buffer.alloc(5000, 0x2a)]);
    const payload = zstdFrame([{ raw: Buffer.from('head') }, { repeat: 0x2a, times: 5000 }]);
    expect(compression.decompress('zstd', payload, 5004).equals(raw)).toBe(true);
  });
});

describe('the content size of a zstd frame', () => {
  const header = (descriptor: number, ...rest: number[]): Buffer =>
    Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...rest]);

  it('is read in each of the four sizes it may have', () => {
    expect(zstdContentSize(header(0x20, 77))).toBe(77);
    expect(zstdContentSize(header(0x60, 0x00, 0x10))).toBe(0x1000 + 256);
    expect(zstdContentSize(header(0xa0, 1, 2, 3, 4))).toBe(0x04030201);
    expect(zstdContentSize(header(0xe0, 1, 0, 0, 0, 1, 0, 0, 0))).toBe(2 ** 32 + 1);
    expect(zstdContentSize(header(0x80, 0x58, 1, 2, 3, 4))).toBe(0x04030201);
  });

  it('is unknown where the header does not say, lies outside our limits or is none', () => {
    expect(zstdContentSize(header(0x00, 0x58, 1, 2))).toBeUndefined();
    expect(zstdContentSize(header(0x28, 77, 0))).toBeUndefined();
    expect(zstdContentSize(header(0x21, 77, 0))).toBeUndefined();
    expect(zstdContentSize(header(0x80, 0xff, 1, 2, 3, 4))).toBeUndefined();
    expect(zstdContentSize(header(0xa0, 1, 2, 3))).toBeUndefined();
    expect(zstdContentSize(Buffer.alloc(64))).toBeUndefined();
    expect(zstdContentSize(Buffer.alloc(0))).toBeUndefined();
  });
});
