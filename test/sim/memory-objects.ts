import { crc32 } from 'node:zlib';
import { FarshoreError, invariant } from '../../gateway/base/errors.ts';
import type { ObjectHead, ObjectPage } from '../../gateway/cloud/object-store.ts';

/** Small on purpose, so that every caller's paging is exercised. */
export const SIM_LIST_PAGE = 3;

/** The bucket, as it is at one instant: every method is one atomic step of the real service. */
export class MemoryObjects {
  readonly #objects: Map<string, { readonly body: Buffer; readonly crc32: number }>;

  constructor(copied?: MemoryObjects) {
    this.#objects = new Map(copied === undefined ? [] : copied.#objects);
  }

  put(key: string, body: Buffer, checksum: number): 'created' | 'exists' {
    if (crc32(body) !== checksum) throw new FarshoreError('damaged', `${key} did not arrive as its checksum says`);
    if (this.#objects.has(key)) return 'exists';
    this.#objects.set(key, { body, crc32: checksum });
    return 'created';
  }

  get(key: string, range?: { readonly offset: number; readonly length: number }): Buffer | undefined {
    const object = this.#objects.get(key);
    if (object === undefined) return undefined;
    if (range === undefined) return Buffer.from(object.body);
    return Buffer.from(object.body.subarray(range.offset, range.offset + range.length));
  }

  head(key: string): ObjectHead | undefined {
    const object = this.#objects.get(key);
    return object && { bytes: object.body.length, crc32: object.crc32 };
  }

  list(prefix: string, limit: number, startAfter = ''): ObjectPage {
    invariant(limit >= 1 && limit <= 1000, 'a page has 1 to 1,000 objects');
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix) && key > startAfter).sort();
    const page = keys.slice(0, Math.min(limit, SIM_LIST_PAGE));
    return {
      objects: page.map((key) => ({ key, bytes: this.#objects.get(key)?.body.length ?? 0 })),
      next: page.length < keys.length ? page.at(-1) : undefined,
    };
  }

  delete(keys: readonly string[]): void {
    invariant(keys.length <= 1000, 'at most 1,000 keys a call');
    for (const key of keys) this.#objects.delete(key);
  }

  /** For checkers and for tests that do damage. */
  keys(): string[] {
    return [...this.#objects.keys()].sort();
  }

  /** Overwrites an object behind everybody's back. */
  damage(key: string, change: (body: Buffer) => void): void {
    const object = this.#objects.get(key);
    invariant(object !== undefined, 'damage something that is there');
    const body = Buffer.from(object.body);
    change(body);
    this.#objects.set(key, { body, crc32: object.crc32 });
  }
}
