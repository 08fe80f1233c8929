import { createRequire } from 'node:module';

/** A CRC of `bytes`, going on from a previous result (0 to begin with). */
export type Crc = (bytes: Uint8Array, previous?: number) => number;

/** The native function of `@node-rs/crc32` with this name; undefined where the package, or its binary for this platform, is not there. */
export function nativeCrc(name: 'crc32' | 'crc32c'): Crc | undefined {
  try {
    const native: unknown = createRequire(import.meta.url)('@node-rs/crc32');
    if (typeof native !== 'object' || native === null || !(name in native)) return undefined;
    const compute = (native as Readonly<Record<string, unknown>>)[name];
    return typeof compute === 'function' ? (compute as Crc) : undefined;
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}
