import zlib from 'node:zlib';
import { FarshoreError, invariant } from '../base/errors.ts';
import { damaged } from './bytes.ts';

export type Codec = 'raw' | 'zstd';

/** The codec byte of every compressed part. */
export const CODEC_CODES: Readonly<Record<Codec, number>> = { raw: 0, zstd: 1 };

/** How parts of objects are compressed; passed in, so that tests may use raw. */
export interface Compression {
  /** `raw` when zstd saves less than a sixteenth. */
  compress(raw: Buffer): Compressed;
  /** Exactly `rawBytes` bytes, or `damaged`. Never allocates more than that for a payload that lies about its size. */
  decompress(codec: Codec, payload: Buffer, rawBytes: number): Buffer;
}

export interface Compressed {
  readonly codec: Codec;
  readonly payload: Buffer;
}

/** What an implementation of zstd has to offer; both throw whatever they like. */
interface Zstd {
  compress(raw: Buffer): Uint8Array;
  decompress(payload: Buffer, rawBytes: number): Uint8Array;
}

const ZSTD_LEVEL = 3;
/** zstd is kept only when it saves at least this share. */
const WORTHWHILE_SHARE = 1 / 16;

export function codecFromCode(code: number): Codec | undefined {
  return code === 0 ? 'raw' : code === 1 ? 'zstd' : undefined;
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

const ZSTD_MAGIC = 0xfd2fb528;

/**
 * Content size that the header of a zstd frame declares (RFC 8878, 3.1.1.1), or undefined when there is no such header or it
 * does not say. Checked before anything is decompressed: the WASM build allocates what the header asks for.
 */
export function zstdContentSize(payload: Buffer): number | undefined {
  if (payload.length < 6 || payload.readUInt32LE(0) !== ZSTD_MAGIC) return undefined;
  const descriptor = payload.readUInt8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const sizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const at = 5 + (singleSegment ? 0 : 1) + dictionaryBytes;
  if (sizeBytes === 0 || payload.length < at + sizeBytes) return undefined;
  if (sizeBytes === 1) return payload.readUInt8(at);
  if (sizeBytes === 2) return payload.readUInt16LE(at) + 256;
  if (sizeBytes === 4) return payload.readUInt32LE(at);
  return payload.readUInt32LE(at + 4) * 2 ** 32 + payload.readUInt32LE(at);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function compressionOver(zstd: Zstd): Compression {
  return {
    compress: (raw) => {
      if (raw.length === 0) return { codec: 'raw', payload: raw };
      const packed = zstd.compress(raw);
      if (packed.length > raw.length * (1 - WORTHWHILE_SHARE)) return { codec: 'raw', payload: raw };
      return { codec: 'zstd', payload: asBuffer(packed) };
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

type ZlibZstd = (bytes: Buffer, options: object) => Buffer;

/** zstd of node:zlib (22.15 and later), which the types of Node 20 do not know. */
function nativeZstd(): Zstd | undefined {
  const module = zlib as unknown as Readonly<Record<string, unknown>>;
  const compress = module['zstdCompressSync'];
  const decompress = module['zstdDecompressSync'];
  const constants = module['constants'] as Readonly<Record<string, number>>;
  const levelKey = constants['ZSTD_c_compressionLevel'];
  if (typeof compress !== 'function' || typeof decompress !== 'function' || levelKey === undefined) return undefined;
  return {
    compress: (raw) => (compress as ZlibZstd)(raw, { params: { [levelKey]: ZSTD_LEVEL }, pledgedSrcSize: raw.length }),
    decompress: (payload, rawBytes) => (decompress as ZlibZstd)(payload, { maxOutputLength: rawBytes }),
  };
}

async function wasmZstd(): Promise<Zstd> {
  const wasm = await import('@bokuweb/zstd-wasm');
  await wasm.init();
  return {
    compress: (raw) => wasm.compress(raw, ZSTD_LEVEL),
    decompress: (payload) => wasm.decompress(payload),
  };
}

/** The codec of this process: zstd from node:zlib where present, else from WASM. Rejects with `bug` when neither loads. */
export async function loadCompression(): Promise<Compression> {
  const native = nativeZstd();
  if (native !== undefined) return compressionOver(native);
  let wasm: Zstd;
  try {
    wasm = await wasmZstd();
  } catch (error) {
    throw new FarshoreError('bug', 'no zstd: neither node:zlib nor @bokuweb/zstd-wasm could be loaded', {
      cause: error,
    });
  }
  const probe = Buffer.alloc(256, 'farshore');
  const compression = compressionOver(wasm);
  const { codec, payload } = compression.compress(probe);
  invariant(codec === 'zstd' && compression.decompress(codec, payload, 256).equals(probe), 'zstd works');
  return compression;
}
