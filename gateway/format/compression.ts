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

/** Every so many bytes a word is looked at; a divisor of the block size, so that a block that comes again shows. */
const SAMPLE_STRIDE = 32;
/** Samples are taken at another place of each stride, the same places in each block: fields of records, whatever their length, are not all of one kind. */
const PHASES = SAMPLE_STRIDE - 3;
const SAMPLES_PER_BLOCK = 4096 / SAMPLE_STRIDE;
/** Shorter parts are compressed in no time. */
const LEAST_SAMPLES = 1024;
/** Sums of squares of counts may exceed what random bytes have by so much: those are within 3 %, what saves a sixteenth is far above. */
const RANDOM_EXCESS = 1.08;
/** Share of sampled words that may come again: each block may begin like the others, but not be like one of them. */
const MOST_REPEATS = 1 / 64;
const SEEN_WORDS = 8192;

/**
 * Whether the bytes look like what is encrypted or compressed already, so that zstd, which takes ten times as long to find that out, need not try. All 256
 * values come about equally often (the chance that two samples agree is hardly above 1/256), and hardly any sampled word comes twice.
 */
function looksRandom(raw: Buffer): boolean {
  const samples = Math.floor(raw.length / SAMPLE_STRIDE);
  if (samples < LEAST_SAMPLES) return false;
  const counts = new Uint16Array(256);
  const seen = new Int32Array(SEEN_WORDS);
  let squares = 0;
  let repeats = 0;
  for (let sample = 0; sample < samples; sample += 1) {
    const word = raw.readInt32LE(sample * SAMPLE_STRIDE + (((sample % SAMPLES_PER_BLOCK) * 5) % PHASES));
    const byte = word & 0xff;
    const count = (counts[byte] ?? 0) + 1;
    counts[byte] = count;
    squares += 2 * count - 1;
    const place = Math.imul(word, 0x9e3779b1) >>> 19; // the upper 13 bits
    if (seen[place] === word) repeats += 1;
    seen[place] = word;
  }
  if (repeats > samples * MOST_REPEATS) return false;
  return squares < RANDOM_EXCESS * (samples + (samples * (samples - 1)) / 256);
}

/** Compression by an implementation of zstd. */
export function compressionOver(zstd: Zstd): Compression {
  return {
    compress: (raw) => {
      if (raw.length === 0 || looksRandom(raw)) return { codec: 'raw', payload: raw };
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
