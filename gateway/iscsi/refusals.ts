import type { AccessEvent } from './target-registry.ts';

export type Refusal = Extract<AccessEvent, { kind: 'login-refused' }>;

/** Refusals of one kind that follow within this time are told in one sum. */
const SUM_UP_SECONDS = 10;
/** Different kinds kept apart; beyond, only addresses are. */
const MAX_KINDS = 1024;

interface Sum {
  readonly first: Omit<Refusal, 'count'>;
  /** Not told yet. */
  count: number;
  age: number;
}

/** Tells of refused logins: the first of its kind at once, and then how many more there were, so that a flood does not drown the log. */
export class RefusalReport {
  readonly #tell: (event: Refusal) => void;
  readonly #sums = new Map<string, Sum>();

  constructor(tell: (event: Refusal) => void) {
    this.#tell = tell;
  }

  add(refusal: Omit<Refusal, 'count'>): void {
    const { initiator, target, status, reason } = refusal;
    const exact = JSON.stringify([initiator.address, initiator.name, target, status, reason]);
    const isFull = this.#sums.size >= MAX_KINDS && !this.#sums.has(exact);
    const key = isFull ? JSON.stringify([initiator.address]) : exact;
    const sum = this.#sums.get(key);
    if (sum !== undefined) {
      sum.count += 1;
      return;
    }
    const first = isFull
      ? { ...refusal, initiator: { ...initiator, name: undefined }, target: undefined, reason: MANY }
      : refusal;
    this.#sums.set(key, { first, count: 0, age: 0 });
    this.#tell({ ...first, count: 1 });
  }

  /** Once a second. */
  tick(): void {
    for (const [key, sum] of this.#sums) {
      sum.age += 1;
      if (sum.age < SUM_UP_SECONDS) continue;
      this.#sums.delete(key);
      this.#flush(sum);
    }
  }

  /** Tells what has not been told. */
  end(): void {
    for (const sum of this.#sums.values()) this.#flush(sum);
    this.#sums.clear();
  }

  #flush(sum: Sum): void {
    if (sum.count > 0) this.#tell({ ...sum.first, count: sum.count });
  }
}

const MANY = 'many different logins fail';
