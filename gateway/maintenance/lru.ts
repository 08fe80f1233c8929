import type { ByteCount } from '../base/units.ts';

/** Least-recently-used values under a byte budget. A value larger than the budget is not kept. */
export class ByteLru<Key, Value> {
  #budget: ByteCount;
  readonly #values = new Map<Key, { readonly value: Value; readonly bytes: ByteCount }>();
  #bytes: ByteCount = 0;

  constructor(budget: ByteCount) {
    this.#budget = budget;
  }

  get bytes(): ByteCount {
    return this.#bytes;
  }

  get(key: Key): Value | undefined {
    const held = this.#values.get(key);
    if (held === undefined) return undefined;
    this.#values.delete(key);
    this.#values.set(key, held);
    return held.value;
  }

  set(key: Key, value: Value, bytes: ByteCount): void {
    this.delete(key);
    if (bytes > this.#budget) return;
    this.#values.set(key, { value, bytes });
    this.#bytes += bytes;
    this.#trim();
  }

  /** What no longer fits is forgotten at once. */
  setBudget(budget: ByteCount): void {
    this.#budget = budget;
    this.#trim();
  }

  #trim(): void {
    for (const [oldest, held] of this.#values) {
      if (this.#bytes <= this.#budget) break;
      this.#values.delete(oldest);
      this.#bytes -= held.bytes;
    }
  }

  delete(key: Key): void {
    const held = this.#values.get(key);
    if (held === undefined) return;
    this.#values.delete(key);
    this.#bytes -= held.bytes;
  }

  clear(): void {
    this.#values.clear();
    this.#bytes = 0;
  }

  entries(): IterableIterator<[Key, { readonly value: Value; readonly bytes: ByteCount }]> {
    return this.#values.entries();
  }
}
