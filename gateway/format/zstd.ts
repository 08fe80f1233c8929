import zlib from 'node:zlib';
import { FarshoreError } from '../base/errors.ts';

/** An implementation of zstd (RFC 8878). Both methods throw whatever they like. */
export interface Zstd {
  /** One frame that declares its content size. */
  compress(raw: Buffer): Uint8Array;
  /** `payload` declares `rawBytes` of content. */
  decompress(payload: Buffer, rawBytes: number): Uint8Array;
}

const ZSTD_LEVEL = 3;
const ZSTD_MAGIC = 0xfd2fb528;
/** Windows above 128 MiB are refused, as every decoder does by default. */
const MAX_WINDOW_LOG = 27;
const NO_DICTIONARY = new Uint8Array(0);

/**
 * Content size that the header of a zstd frame declares (RFC 8878, 3.1.1.1), or undefined when there is no header that we would
 * have written. Checked before anything is decompressed: the WASM build allocates what the header asks for.
 */
export function zstdContentSize(payload: Buffer): number | undefined {
  if (payload.length < 6 || payload.readUInt32LE(0) !== ZSTD_MAGIC) return undefined;
  const descriptor = payload.readUInt8(4);
  const reservedBit = descriptor & 0x08;
  const dictionaryFlag = descriptor & 0x03;
  if (reservedBit !== 0 || dictionaryFlag !== 0) return undefined;
  const singleSegment = (descriptor & 0x20) !== 0;
  if (!singleSegment && 10 + (payload.readUInt8(5) >> 3) > MAX_WINDOW_LOG) return undefined;
  const at = singleSegment ? 5 : 6;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag === 0 ? (singleSegment ? 1 : 0) : 2 ** sizeFlag;
  if (payload.length < at + sizeBytes) return undefined;
  switch (sizeBytes) {
    case 1:
      return payload.readUInt8(at);
    case 2:
      return payload.readUInt16LE(at) + 256;
    case 4:
      return payload.readUInt32LE(at);
    case 8:
      return payload.readUInt32LE(at + 4) * 2 ** 32 + payload.readUInt32LE(at);
    default:
      return undefined;
  }
}

type ZlibZstd = (bytes: Buffer, options: object) => Buffer;

/** zstd of node:zlib (22.15 and later), which the types of Node 20 do not know; undefined where it is missing. */
function nativeZstd(): Zstd | undefined {
  const module = zlib as unknown as Readonly<Record<string, unknown>>;
  const compress = module['zstdCompressSync'];
  const decompress = module['zstdDecompressSync'];
  const constants = module['constants'] as Readonly<Record<string, number>>;
  const levelKey = constants['ZSTD_c_compressionLevel'];
  if (typeof compress !== 'function' || typeof decompress !== 'function' || levelKey === undefined) return undefined;
  return {
    compress: (raw) => (compress as ZlibZstd)(raw, { params: { [levelKey]: ZSTD_LEVEL } }),
    decompress: (payload, rawBytes) => (decompress as ZlibZstd)(payload, { maxOutputLength: rawBytes }),
  };
}

/** Contexts are kept: making one for each frame costs a third of the speed. Calls are synchronous, so nothing shares them. */
async function wasmZstd(): Promise<Zstd> {
  const wasm = await import('@bokuweb/zstd-wasm');
  await wasm.init();
  const compressing = wasm.createCCtx();
  const decompressing = wasm.createDCtx();
  return {
    compress: (raw) => wasm.compressUsingDict(compressing, raw, NO_DICTIONARY, ZSTD_LEVEL),
    decompress: (payload) => wasm.decompressUsingDict(decompressing, payload, NO_DICTIONARY),
  };
}

/** Once per thread: the WASM module is a singleton that does not survive a second initialisation. */
let loading: Promise<Zstd> | undefined;

/** zstd from node:zlib where present, else from WASM. Rejects with `bug` when neither loads. */
export function loadZstd(): Promise<Zstd> {
  loading ??= Promise.resolve(nativeZstd() ?? wasmZstd()).catch((error: unknown) => {
    throw new FarshoreError('bug', 'no zstd: neither node:zlib nor @bokuweb/zstd-wasm could be loaded', {
      cause: error,
    });
  });
  return loading;
}
