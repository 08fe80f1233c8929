import type { Life } from './sim-clock.ts';

export interface SimEvent {
  readonly atMs: number;
  /** Seeded: decides between events of the same time. */
  readonly tie: number;
  /** Decides where even the tie is equal. */
  readonly order: number;
  readonly label: string;
  readonly life: Life | undefined;
  /** undefined once fired or cancelled. */
  fire: (() => void) | undefined;
}

function before(a: SimEvent, b: SimEvent): boolean {
  if (a.atMs !== b.atMs) return a.atMs < b.atMs;
  if (a.tie !== b.tie) return a.tie < b.tie;
  return a.order < b.order;
}

/** Binary min-heap of events. */
export class EventHeap {
  readonly #items: SimEvent[] = [];

  peek(): SimEvent | undefined {
    return this.#items[0];
  }

  push(event: SimEvent): void {
    const items = this.#items;
    let at = items.length;
    items.push(event);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = items[up];
      if (parent === undefined || !before(event, parent)) break;
      items[at] = parent;
      at = up;
    }
    items[at] = event;
  }

  pop(): SimEvent | undefined {
    const items = this.#items;
    const first = items[0];
    const last = items.pop();
    if (first === undefined || last === undefined || items.length === 0) return first;
    let at = 0;
    for (;;) {
      const left = items[2 * at + 1];
      if (left === undefined) break;
      const right = items[2 * at + 2];
      const useRight = right !== undefined && before(right, left);
      const child = useRight ? right : left;
      if (!before(child, last)) break;
      items[at] = child;
      at = 2 * at + (useRight ? 2 : 1);
    }
    items[at] = last;
    return first;
  }
}
