import type { ByteCount } from '../base/units.ts';
import type { Urgency } from '../base/urgency.ts';

export interface ObjectInfo {
  readonly key: string;
  readonly bytes: ByteCount;
}

export interface ObjectPage {
  /** Ascending by key. */
  readonly objects: readonly ObjectInfo[];
  /** Pass as `startAfter` to go on; undefined at the end. */
  readonly next: string | undefined;
}

export interface ObjectHead {
  readonly bytes: ByteCount;
  /** CRC-32 (as zlib.crc32) of the whole object, where the store knows it. */
  readonly crc32: number | undefined;
}

/**
 * Immutable objects, each written once. Strongly consistent (as S3 is). Every method rejects with FarshoreError:
 * `retry` when the outcome is unknown or the store is passing through trouble (after the adapter's own bounded retries),
 * `input` when the request cannot ever succeed (no such bucket, access denied: the message says which and how to mend it),
 * `damaged` when what came back is not what its checksum says.
 */
export interface ObjectStore {
  /**
   * Creates the object (`If-None-Match: *`), verified by the store against `crc32` of the whole body.
   * 'exists' says an object is there already, which after a `retry` may be our own: compare (see putOnce).
   */
  put(key: string, body: readonly Buffer[], crc32: number): Promise<'created' | 'exists'>;
  /**
   * The whole object, or `length` bytes from `offset` (fewer only when the object ends there); undefined when absent. `urgency` is for whoever shares
   * out the line; a store itself has no use for it.
   */
  get(
    key: string,
    range?: { readonly offset: ByteCount; readonly length: ByteCount },
    urgency?: Urgency,
  ): Promise<Buffer | undefined>;
  head(key: string): Promise<ObjectHead | undefined>;
  /** At most `limit` (≤ 1,000) objects whose key starts with `prefix` and is greater than `startAfter`. */
  list(prefix: string, limit: number, startAfter?: string): Promise<ObjectPage>;
  /** Deleting what is not there is not an error. At most 1,000 keys. */
  delete(keys: readonly string[]): Promise<void>;
}
