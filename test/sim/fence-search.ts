/** What is enumerated: worlds of `width` 32-bit numbers. */
export interface Space {
  readonly width: number;
  start(): Int32Array;
  /** Calls `emit` for every world one step away, always in the same order. The array is reused after each call. */
  expand(world: Int32Array, emit: Emit): void;
}

/** `violation` says which invariant the step broke; `label` what the step was, to be asked for at once or never. */
export type Emit = (next: Int32Array, label: () => string, violation: string | undefined) => void;

export interface SearchLimits {
  readonly maxStates: number;
  /** Called now and then. */
  readonly progress?: (states: number, depth: number) => void;
}

export type SearchResult =
  | {
      readonly outcome: 'holds' | 'bound-reached';
      readonly states: number;
      readonly transitions: number;
      readonly depth: number;
    }
  | {
      readonly outcome: 'violation';
      readonly states: number;
      readonly transitions: number;
      readonly depth: number;
      readonly violation: string;
      /** What happened, in order: a shortest way to the violation. */
      readonly trace: readonly string[];
    };

const PROGRESS_EVERY = 250_000;

/**
 * Breadth first, so that a counterexample is a shortest one. Visited worlds are remembered by a 64-bit fingerprint: two of ten
 * million worlds share one with a probability of about 3 in a million.
 */
export function search(space: Space, limits: SearchLimits): SearchResult {
  const seen = new Fingerprints();
  const ways = new Ways();
  let level = new Worlds(space.width);
  const first = space.start();
  seen.add(first);
  level.push(first, ways.add(0, 0));
  let transitions = 0;
  let depth = 0;
  let states = 1;
  while (level.count > 0) {
    const following = new Worlds(space.width);
    for (let at = 0; at < level.count; at += 1) {
      const from = level.wayTo(at);
      let step = 0;
      let broken: string | undefined;
      space.expand(level.world(at), (next, _label, violation) => {
        step += 1;
        if (broken !== undefined) return;
        transitions += 1;
        if (violation !== undefined) {
          broken = violation;
          ways.add(from, step);
          return;
        }
        if (!seen.add(next)) return;
        states += 1;
        if (states % PROGRESS_EVERY === 0) limits.progress?.(states, depth);
        following.push(next, ways.add(from, step));
      });
      if (broken !== undefined) {
        const trace = replay(space, ways.last());
        return { outcome: 'violation', states, transitions, depth: depth + 1, violation: broken, trace };
      }
      if (states >= limits.maxStates) return { outcome: 'bound-reached', states, transitions, depth };
    }
    level = following;
    depth += 1;
  }
  return { outcome: 'holds', states, transitions, depth };
}

/** Goes the way again, taking down what each step is. */
function replay(space: Space, steps: readonly number[]): string[] {
  const trace: string[] = [];
  let world = space.start();
  for (const wanted of steps) {
    let step = 0;
    let taken: Int32Array | undefined;
    space.expand(world, (next, label) => {
      step += 1;
      if (step !== wanted) return;
      taken = next.slice();
      trace.push(label());
    });
    if (!taken) throw new Error('the way to the violation cannot be repeated');
    world = taken;
  }
  return trace;
}

/** Worlds of one level, flat. */
class Worlds {
  readonly #width: number;
  #flat: Int32Array;
  #ways: Uint32Array;
  count = 0;

  constructor(width: number) {
    this.#width = width;
    this.#flat = new Int32Array(width * 1024);
    this.#ways = new Uint32Array(1024);
  }

  push(world: Int32Array, way: number): void {
    if (this.count === this.#ways.length) {
      this.#flat = grown(this.#flat, this.#flat.length * 2, Int32Array);
      this.#ways = grown(this.#ways, this.#ways.length * 2, Uint32Array);
    }
    this.#flat.set(world, this.count * this.#width);
    this.#ways[this.count] = way;
    this.count += 1;
  }

  world(at: number): Int32Array {
    return this.#flat.subarray(at * this.#width, (at + 1) * this.#width);
  }

  wayTo(at: number): number {
    return this.#ways[at] ?? 0;
  }
}

/** How each world was reached first: from which one, by which of its steps. */
class Ways {
  #from = new Uint32Array(1 << 16);
  #step = new Uint16Array(1 << 16);
  #count = 0;

  add(from: number, step: number): number {
    if (this.#count === this.#from.length) {
      this.#from = grown(this.#from, this.#count * 2, Uint32Array);
      this.#step = grown(this.#step, this.#count * 2, Uint16Array);
    }
    this.#from[this.#count] = from;
    this.#step[this.#count] = step;
    this.#count += 1;
    return this.#count - 1;
  }

  /** The steps from the start to the world added last. */
  last(): number[] {
    const steps: number[] = [];
    for (let at = this.#count - 1; at > 0; at = this.#from[at] ?? 0) steps.push(this.#step[at] ?? 0);
    return steps.reverse();
  }
}

/** A set of 64-bit fingerprints with open addressing. */
class Fingerprints {
  #low = new Uint32Array(1 << 17);
  #high = new Uint32Array(1 << 17);
  #count = 0;

  /** Whether it was not there before. */
  add(world: Int32Array): boolean {
    let low = 0x9747b28c;
    let high = 0x3c6ef372;
    for (const word of world) {
      let mixed = Math.imul(word, 0xcc9e2d51 | 0);
      mixed = Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593);
      low ^= mixed;
      low = (Math.imul((low << 13) | (low >>> 19), 5) + 0xe6546b64) | 0;
      mixed = Math.imul(word ^ 0x5bd1e995, 0x85ebca6b | 0);
      mixed = Math.imul((mixed << 16) | (mixed >>> 16), 0xc2b2ae35 | 0);
      high ^= mixed;
      high = (Math.imul((high << 11) | (high >>> 21), 9) + 0x52dce729) | 0;
    }
    low = finish(low ^ world.length);
    high = finish(high ^ low);
    // (0, 0) marks a free place.
    return this.#insert(low >>> 0 || 1, high >>> 0);
  }

  #insert(low: number, high: number): boolean {
    const mask = this.#low.length - 1;
    let at = (low ^ (high << 7)) & mask;
    for (;;) {
      const there = this.#low[at];
      if (there === 0) break;
      if (there === low && this.#high[at] === high) return false;
      at = (at + 1) & mask;
    }
    this.#low[at] = low;
    this.#high[at] = high;
    this.#count += 1;
    if (this.#count * 3 > this.#low.length * 2) this.#grow();
    return true;
  }

  #grow(): void {
    const [low, high] = [this.#low, this.#high];
    this.#low = new Uint32Array(low.length * 2);
    this.#high = new Uint32Array(low.length * 2);
    this.#count = 0;
    for (let at = 0; at < low.length; at += 1) {
      const word = low[at] ?? 0;
      if (word !== 0) this.#insert(word, high[at] ?? 0);
    }
  }
}

function finish(hash: number): number {
  let mixed = hash;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b | 0);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35 | 0);
  return mixed ^ (mixed >>> 16);
}

function grown<T extends Int32Array | Uint32Array | Uint16Array>(
  array: T,
  length: number,
  make: new (length: number) => T,
): T {
  const larger = new make(length);
  larger.set(array);
  return larger;
}
