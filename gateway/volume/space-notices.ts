import type { Quota } from './quota.ts';

/** What initiators of a volume are told of the space behind it: that the cache or the quota runs low, or that the quota is another one. */
export class SpaceNotices {
  readonly #cache: { readonly notices: number };
  readonly #quota: Quota;

  constructor(cache: { readonly notices: number }, quota: Quota) {
    this.#cache = cache;
    this.#quota = quota;
  }

  /** Rises with everything there is to be told; read for every command. */
  get notices(): number {
    return this.#cache.notices + this.#quota.events;
  }

  get changes(): number {
    return this.#quota.changes;
  }
}
