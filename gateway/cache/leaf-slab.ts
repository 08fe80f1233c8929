import type { ByteCount } from '../base/units.ts';

/** Blocks per leaf: 2 MiB of volume, 2 KiB of memory. */
export const LEAF_BLOCKS = 512;
export const LEAF_BYTES = LEAF_BLOCKS * 4;

const PAGE_LEAVES = 64;
/** Of the budget: when so much of it is dirty, new writes wait. */
const CROWDED_SHARE = 0.9;

/** Who holds a leaf, and hears when it is taken away. */
export interface LeafOwner {
  /** The leaf held no dirty entry; all its entries are gone. */
  leafEvicted(leafNo: number, entries: number): void;
}

interface LeafPage {
  readonly words: Uint32Array;
  readonly leafNo: Float64Array;
  /** Entries that are not 0. */
  readonly used: Uint16Array;
  readonly dirty: Uint16Array;
  readonly visited: Uint8Array;
  readonly owners: (LeafOwner | undefined)[];
}

/**
 * All index leaves of a gateway thread, in a few typed arrays and under one byte budget. When it is used up, a leaf without
 * dirty entries that was not visited lately goes (CLOCK); only dirty leaves may exceed the budget, and admission holds new
 * writes back before that matters.
 */
export class LeafSlab {
  readonly #budgetLeaves: number;
  readonly #pages: LeafPage[] = [];
  readonly #free: number[] = [];
  #inUse = 0;
  #dirtyLeaves = 0;
  #hand = 0;

  constructor(budget: ByteCount) {
    this.#budgetLeaves = Math.max(PAGE_LEAVES, Math.floor(budget / LEAF_BYTES));
  }

  get leavesInUse(): number {
    return this.#inUse;
  }

  /** So many leaves are dirty that new writes should wait for commits. */
  get crowded(): boolean {
    return this.#dirtyLeaves > this.#budgetLeaves * CROWDED_SHARE;
  }

  /** How near it is to being crowded: 1 when it is. */
  get dirtyShare(): number {
    return Math.min(1, this.#dirtyLeaves / (this.#budgetLeaves * CROWDED_SHARE));
  }

  get bytes(): ByteCount {
    return this.#pages.length * PAGE_LEAVES * LEAF_BYTES;
  }

  /** A zeroed leaf. May evict another one, also of the same owner. */
  allocate(owner: LeafOwner, leafNo: number): number {
    if (this.#inUse >= this.#budgetLeaves) this.#evictOne();
    const leaf = this.#free.pop() ?? this.#newPage();
    const page = this.#page(leaf);
    const at = leaf % PAGE_LEAVES;
    page.owners[at] = owner;
    page.leafNo[at] = leafNo;
    page.visited[at] = 1;
    this.#inUse++;
    return leaf;
  }

  release(leaf: number): void {
    const page = this.#page(leaf);
    const at = leaf % PAGE_LEAVES;
    if ((page.dirty[at] ?? 0) > 0) this.#dirtyLeaves--;
    page.words.fill(0, at * LEAF_BLOCKS, (at + 1) * LEAF_BLOCKS);
    page.used[at] = 0;
    page.dirty[at] = 0;
    page.owners[at] = undefined;
    this.#free.push(leaf);
    this.#inUse--;
  }

  get(leaf: number, entry: number): number {
    const page = this.#page(leaf);
    const at = leaf % PAGE_LEAVES;
    page.visited[at] = 1;
    return page.words[at * LEAF_BLOCKS + entry] ?? 0;
  }

  /** Replaces an entry, keeping the counts; answers what was there. */
  set(leaf: number, entry: number, value: number): number {
    const page = this.#page(leaf);
    const at = leaf % PAGE_LEAVES;
    const word = at * LEAF_BLOCKS + entry;
    const old = page.words[word] ?? 0;
    page.words[word] = value;
    page.used[at] = (page.used[at] ?? 0) + (value === 0 ? 0 : 1) - (old === 0 ? 0 : 1);
    const change = (value & 1) - (old & 1);
    if (change !== 0) {
      const dirty = (page.dirty[at] ?? 0) + change;
      if (dirty === 0) this.#dirtyLeaves--;
      else if (dirty === 1 && change === 1) this.#dirtyLeaves++;
      page.dirty[at] = dirty;
    }
    return old;
  }

  used(leaf: number): number {
    return this.#page(leaf).used[leaf % PAGE_LEAVES] ?? 0;
  }

  dirty(leaf: number): number {
    return this.#page(leaf).dirty[leaf % PAGE_LEAVES] ?? 0;
  }

  #evictOne(): void {
    const leaves = this.#pages.length * PAGE_LEAVES;
    // Twice around: the first round may only clear visits.
    for (let step = 0; step < 2 * leaves; step++) {
      const leaf = this.#hand;
      this.#hand = (this.#hand + 1) % leaves;
      const page = this.#page(leaf);
      const at = leaf % PAGE_LEAVES;
      const owner = page.owners[at];
      if (owner === undefined || (page.dirty[at] ?? 0) > 0) continue;
      if (page.visited[at] === 1) {
        page.visited[at] = 0;
        continue;
      }
      const entries = page.used[at] ?? 0;
      this.release(leaf);
      owner.leafEvicted(page.leafNo[at] ?? 0, entries);
      return;
    }
  }

  #page(leaf: number): LeafPage {
    // A leaf id is only ever handed out for a page that exists.
    return this.#pages[(leaf / PAGE_LEAVES) | 0] as LeafPage;
  }

  #newPage(): number {
    const first = this.#pages.length * PAGE_LEAVES;
    this.#pages.push({
      words: new Uint32Array(PAGE_LEAVES * LEAF_BLOCKS),
      leafNo: new Float64Array(PAGE_LEAVES),
      used: new Uint16Array(PAGE_LEAVES),
      dirty: new Uint16Array(PAGE_LEAVES),
      visited: new Uint8Array(PAGE_LEAVES),
      owners: new Array<LeafOwner | undefined>(PAGE_LEAVES).fill(undefined),
    });
    for (let leaf = first + PAGE_LEAVES - 1; leaf > first; leaf--) this.#free.push(leaf);
    return first;
  }
}
