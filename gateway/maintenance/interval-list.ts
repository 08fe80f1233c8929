interface Interval {
  readonly start: number;
  readonly end: number;
  readonly n: number;
}

/** Disjoint half-open intervals, ascending, each with a number; what is added last wins. */
export class IntervalList {
  readonly #intervals: Interval[] = [];

  get length(): number {
    return this.#intervals.length;
  }

  toArray(): readonly { readonly start: number; readonly end: number; readonly n: number }[] {
    return [...this.#intervals];
  }

  /** Covers [start, end) with n; older intervals lose the part that is covered. */
  add(start: number, end: number, n: number): void {
    if (start >= end) return;
    const from = this.#firstEndingAfter(start);
    let to = from;
    const replacement: Interval[] = [];
    const first = this.#intervals[from];
    if (first !== undefined && first.start < start) replacement.push({ ...first, end: start });
    replacement.push({ start, end, n });
    for (let old = this.#intervals[to]; old !== undefined && old.start < end; old = this.#intervals[to]) {
      if (old.end > end) replacement.push({ ...old, start: end });
      to += 1;
    }
    this.#intervals.splice(from, to - from, ...replacement);
  }

  valueAt(position: number): number | undefined {
    const interval = this.#intervals[this.#firstEndingAfter(position)];
    return interval !== undefined && interval.start <= position ? interval.n : undefined;
  }

  touches(start: number, end: number): boolean {
    const interval = this.#intervals[this.#firstEndingAfter(start)];
    return interval !== undefined && interval.start < end;
  }

  /** The parts of the intervals that lie within [start, end), ascending. */
  forEachIn(start: number, end: number, visit: (start: number, end: number, n: number) => void): void {
    for (let at = this.#firstEndingAfter(start); at < this.#intervals.length; at += 1) {
      const interval = this.#intervals[at];
      if (interval === undefined || interval.start >= end) return;
      visit(Math.max(start, interval.start), Math.min(end, interval.end), interval.n);
    }
  }

  /** Index of the first interval whose end lies beyond `position`. */
  #firstEndingAfter(position: number): number {
    let low = 0;
    let high = this.#intervals.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#intervals[middle]?.end ?? Infinity) > position) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
