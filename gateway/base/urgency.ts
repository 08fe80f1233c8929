/** Who waits: an initiator (or what it cannot do without), or nobody in particular. */
export type UrgencyLane = 'foreground' | 'background';

/** How urgent something is that waits for its turn. Somebody may come to wait for what was begun in the background. */
export class Urgency {
  #lane: UrgencyLane;
  readonly #onHurry = new Set<() => void>();

  constructor(lane: UrgencyLane) {
    this.#lane = lane;
  }

  get lane(): UrgencyLane {
    return this.#lane;
  }

  /** Somebody waits for it from now on. Idempotent. */
  hurry(): void {
    if (this.#lane === 'foreground') return;
    this.#lane = 'foreground';
    for (const tell of this.#onHurry) tell();
    this.#onHurry.clear();
  }

  /** Calls `tell` once when it is hurried, unless the answer is called before. */
  whenHurried(tell: () => void): () => void {
    this.#onHurry.add(tell);
    return () => {
      this.#onHurry.delete(tell);
    };
  }
}
