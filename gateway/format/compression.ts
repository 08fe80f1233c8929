import { invariant } from '../base/errors.ts';
import { damaged } from './bytes.ts';
import type { Zstd } from './zstd.ts';
import { loadZstd, zstdContentSize } from './zstd.ts';

export type Codec = 'raw' | 'zstd';

/** The codec byte of every compressed part. */
export const CODEC_CODES: Readonly<Record<Codec, number>> = { raw: 0, zstd: 1 };

export interface Compressed {
  readonly codec: Codec;
  readonly payload: Buffer;
}

/** How parts of objects are compressed; passed in, so that tests may use raw. */
export interface Compression {
  /** `raw` (and the same buffer) when zstd saves less than a sixteenth. */
  compress(raw: Buffer): Compressed;
  /** Exactly `rawBytes` bytes, or `damaged`. Never allocates more than that for a payload that lies about its size. */
  decompress(codec: Codec, payload: Buffer, rawBytes: number): Buffer;
}

/** zstd is kept only when it saves at least this share. */
const WORTHWHILE_SHARE = 1 / 16;

export function codecFromCode(code: number): Codec | undefined {
  return code === CODEC_CODES.raw ? 'raw' : code === CODEC_CODES.zstd ? 'zstd' : undefined;
}

function decodeRaw(payload: Buffer, rawBytes: number): Buffer {
  if (payload.length !== rawBytes) {
    throw damaged('a raw part', `it has ${payload.length} bytes instead of ${rawBytes}`);
  }
  return payload;
}

/** Never compresses and can only decode raw parts. */
export const rawCompression: Compression = {
  compress: (raw) => ({ codec: 'raw', payload: raw }),
  decompress: (codec, payload, rawBytes) => {
    if (codec !== 'raw') throw damaged('a compressed part', `codec ${codec} is not available here`);
    return decodeRaw(payload, rawBytes);
  },
};

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Compression by an implementation of zstd. */
export function compressionOver(zstd: Zstd): Compression {
  return {
    compress: (raw) => {
      if (raw.length === 0) return { codec: 'raw', payload: raw };
      const packed = asBuffer(zstd.compress(raw));
      if (packed.length > raw.length * (1 - WORTHWHILE_SHARE)) return { codec: 'raw', payload: raw };
      invariant(zstdContentSize(packed) === raw.length, 'zstd declares the size of what it compressed');
      return { codec: 'zstd', payload: packed };
    },
    decompress: (codec, payload, rawBytes) => {
      if (codec === 'raw') return decodeRaw(payload, rawBytes);
      const declared = zstdContentSize(payload);
      if (declared !== rawBytes) {
        throw damaged('a zstd part', `it declares ${declared ?? 'no'} bytes of content instead of ${rawBytes}`);
      }
      let raw: Uint8Array;
      try {
        raw = zstd.decompress(payload, rawBytes);
      } catch (error) {
        throw damaged('a zstd part', 'it does not decompress', error);
      }
      if (raw.length !== rawBytes) {
        throw damaged('a zstd part', `it decompresses to ${raw.length} bytes instead of ${rawBytes}`);
      }
      return asBuffer(raw);
    },
  };
}

/** The compression of this process. Rejects with `bug` when there is no zstd. */
export async function loadCompression(): Promise<Compression> {
  return compressionOver(await loadZstd());
}
