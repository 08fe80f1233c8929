/** What a checker found; its message says which promise was broken. */
export class Violation extends Error {}

export interface SectorSpan {
  readonly lba: number;
  readonly sectors: number;
}

/** One write, zeroing write or unmap. Times are ticks of the world's own counter: one for every call and every answer. */
export interface Op {
  readonly id: number;
  readonly kind: 'write' | 'zero' | 'unmap';
  readonly spans: readonly SectorSpan[];
  readonly invokedAt: number;
  /** Infinity while it isn't answered. */
  ackedAt: number;
  /** Answered with `fua`, or covered by an answered flush. */
  durable: boolean;
  /** When it became so, in milliseconds of the world; Infinity while it isn't. */
  durableAtMs: number;
  /** The log knows, over any crash, that it was on stable storage: damage to it must be told, not taken for a torn end. */
  marked: boolean;
}

/** A promise that `farshore flush` made: everything answered before `before` is in version n. */
export interface RemoteFlush {
  readonly n: number;
  readonly before: number;
}

/** Id 0 means zeros. */
export type SectorValues = (sector: number) => number;

/** The highest position in a sector's list that some read has shown, and when. */
interface Seen {
  readonly index: number;
  readonly tick: number;
}

/** In place of a sector's id: its content was lost with a damaged disk, and it is said to be lost. Fits everything. */
export const LOST = -1;

const SECTORS_PER_BLOCK = 8;

/**
 * What may have happened to one volume on one line of owners. The workload never has two writes to the same sector under way, so
 * each sector's writes are ordered; writes to different sectors are ordered only where one was answered before the other began.
 */
export class History {
  readonly name: string;
  /** Answered remote flushes. */
  readonly promises: RemoteFlush[] = [];
  #ops: Op[] = [];
  /** All ops before this index are durable. */
  #flushed = 0;
  readonly #baseline: ReadonlyMap<number, number>;
  #bySector = new Map<number, Op[]>();
  #seen = new Map<number, Seen>();

  /** `baseline`: id per sector at the start; sectors that are absent are zeros. */
  constructor(name: string, baseline: ReadonlyMap<number, number> = new Map()) {
    this.name = name;
    this.#baseline = baseline;
  }

  /** As it is now, to go its own way: what a copied disk knows. */
  copy(name: string): History {
    const copy = new History(name, this.#baseline);
    for (const op of this.#ops) copy.add({ ...op });
    copy.promises.push(...this.promises);
    return copy;
  }

  get ops(): readonly Op[] {
    return this.#ops;
  }

  add(op: Op): void {
    this.#ops.push(op);
    for (const sector of sectorsOf(op)) this.#listOf(sector).push(op);
  }

  /** A flush that began at `before` was answered. */
  flushed(before: number, nowMs: number): void {
    while (this.#flushed < this.#ops.length && this.#ops[this.#flushed]?.durable === true) this.#flushed++;
    for (let at = this.#flushed; at < this.#ops.length; at++) {
      const op = this.#ops[at];
      if (op !== undefined && op.ackedAt < before) noteDurable(op, nowMs);
    }
  }

  /** The op was refused for certain: it must never be seen. */
  withdraw(op: Op): void {
    this.#rebuild(this.#ops.filter((other) => other !== op));
  }

  /** Checks what a read that began at `startedAt` and ends now shows. `unreadable` stands for bytes no write left. */
  checkRead(span: SectorSpan, startedAt: number, now: number, value: (sector: number) => number | undefined): void {
    const indexes = new Map<number, { lowest: number; highest: number }>();
    for (let sector = span.lba; sector < span.lba + span.sectors; sector++) {
      const shown = value(sector);
      const from = this.#firstAllowed(sector, startedAt);
      const matches = this.#positionsOf(sector, shown).filter((index) => index >= from);
      const lowest = matches[0];
      const highest = matches.at(-1);
      if (lowest === undefined || highest === undefined)
        throw new Violation(
          `${this.name}: a read of sector ${sector} shows ${nameOf(shown)}; allowed are ${this.#allowed(sector, from)}`,
        );
      indexes.set(sector, { lowest, highest });
      if (lowest > (this.#seen.get(sector)?.index ?? -1)) this.#seen.set(sector, { index: lowest, tick: now });
    }
    this.#checkBlocksWhole(span, indexes);
  }

  /**
   * Finds the smallest set of ops that holds all of `required`, is closed under "answered before the other began", and leaves
   * exactly `values` in `sectors`. Throws when there is none: then it is no state the volume ever had.
   */
  matchPrefix(what: string, sectors: Iterable<number>, values: SectorValues, required: (op: Op) => boolean): Set<Op> {
    const fail = (why: string): never => {
      throw new Violation(`${this.name}: ${what}: ${why}`);
    };
    const inside = new Set(this.#ops.filter(required));
    const outside = new Map<Op, string>();
    const all = [...sectors];
    for (const sector of all) {
      if (values(sector) === LOST) continue;
      const list = this.#bySector.get(sector) ?? [];
      const matches = this.#positionsOf(sector, values(sector));
      const lowest = matches[0];
      const highest = matches.at(-1);
      if (lowest === undefined || highest === undefined)
        return fail(`sector ${sector} holds ${nameOf(values(sector))}; its writes are ${this.#allowed(sector, -1)}`);
      for (const op of list.slice(0, lowest + 1)) inside.add(op);
      for (const op of list.slice(highest + 1))
        outside.set(op, `sector ${sector} holds ${nameOf(values(sector))}, not ${nameOf(op.id)} (${op.kind})`);
    }
    for (;;) {
      this.#close(inside);
      for (const op of inside) {
        const proof = outside.get(op);
        if (proof !== undefined)
          return fail(`write ${op.id} must be there (${describeWhy(op, required)}) but is not: ${proof}`);
      }
      const missing = this.#nextMissing(all, values, inside);
      if (missing === undefined) return inside;
      if (missing.op === undefined)
        return fail(
          `sector ${missing.sector} holds ${nameOf(values(missing.sector))}, which fits no prefix of the writes`,
        );
      inside.add(missing.op);
    }
  }

  /** Whether the volume may have been in this state. */
  couldBe(sectors: Iterable<number>, values: SectorValues): boolean {
    try {
      this.matchPrefix('state', sectors, values, () => false);
      return true;
    } catch (error) {
      if (error instanceof Violation) return false;
      throw error;
    }
  }

  /** Whether a flush has promised the op for version `n`. */
  isPromised(op: Op, n: number): boolean {
    return this.promises.some((promise) => promise.n <= n && op.ackedAt < promise.before);
  }

  /**
   * Ops that can't be there: a sector shows what was before them, or they began after such a one was answered. An op is there as a whole or not
   * at all, also where some of its sectors are LOST.
   */
  contradicted(sectors: Iterable<number>, values: SectorValues): Set<Op> {
    const gone = new Set<Op>();
    for (const sector of sectors) {
      if (values(sector) === LOST) continue;
      const highest = this.#positionsOf(sector, values(sector)).at(-1) ?? -1;
      for (const op of (this.#bySector.get(sector) ?? []).slice(highest + 1)) gone.add(op);
    }
    let firstAnswer = Infinity;
    for (const op of gone) firstAnswer = Math.min(firstAnswer, op.ackedAt);
    for (const op of this.#ops) if (op.invokedAt > firstAnswer) gone.add(op);
    return gone;
  }

  /**
   * A restart has shown which ops exist: the others are lost for ever, but for those that reach into sectors nobody can read, which may yet show
   * unless they are `contradicted`.
   */
  settle(
    survivors: ReadonlySet<Op>,
    now: number,
    isUnreadable: (sector: number) => boolean = () => false,
    contradicted: ReadonlySet<Op> = new Set(),
  ): void {
    const doubtful = (op: Op): boolean => !contradicted.has(op) && [...sectorsOf(op)].some(isUnreadable);
    const kept = this.#ops.filter((op) => survivors.has(op) || doubtful(op));
    for (const op of survivors) op.ackedAt = Math.min(op.ackedAt, now);
    for (const op of kept)
      if (!survivors.has(op))
        Object.assign(op, { ackedAt: Infinity, durable: false, durableAtMs: Infinity, marked: false });
    // A start makes durable what it finds, and marks it.
    for (const op of survivors) op.marked = true;
    this.#rebuild(kept);
  }

  /** Id per sector after the ops of a set that `matchPrefix` has found. */
  stateAfter(ops: ReadonlySet<Op>): Map<number, number> {
    const state = new Map(this.#baseline);
    for (const [sector, list] of this.#bySector) {
      const last = list.findLast((op) => ops.has(op));
      if (last !== undefined) state.set(sector, valueOf(last));
    }
    return state;
  }

  #listOf(sector: number): Op[] {
    const known = this.#bySector.get(sector);
    if (known !== undefined) return known;
    const list: Op[] = [];
    this.#bySector.set(sector, list);
    return list;
  }

  #rebuild(ops: Op[]): void {
    this.#ops = ops;
    this.#flushed = 0;
    this.#bySector = new Map();
    this.#seen = new Map();
    for (const op of ops) for (const sector of sectorsOf(op)) this.#listOf(sector).push(op);
  }

  /** Positions in the sector's list (−1: the baseline) after which it holds `value`. */
  #positionsOf(sector: number, value: number | undefined): number[] {
    const list = this.#bySector.get(sector) ?? [];
    const began = this.#baseline.get(sector) ?? 0;
    const positions = began === value || began === LOST ? [-1] : [];
    list.forEach((op, index) => {
      if (valueOf(op) === value) positions.push(index);
    });
    return positions;
  }

  #firstAllowed(sector: number, startedAt: number): number {
    const list = this.#bySector.get(sector) ?? [];
    const acked = list.findLastIndex((op) => op.ackedAt < startedAt);
    const seen = this.#seen.get(sector);
    return seen !== undefined && seen.tick < startedAt ? Math.max(acked, seen.index) : acked;
  }

  #allowed(sector: number, from: number): string {
    const list = this.#bySector.get(sector) ?? [];
    const names = list.slice(Math.max(0, from)).map((op) => `${nameOf(op.id)} (${op.kind})`);
    if (from < 0) names.unshift(`${nameOf(this.#baseline.get(sector) ?? 0)} from the start`);
    return names.join(', ');
  }

  /** No block may show one part of a write and lack another. */
  #checkBlocksWhole(span: SectorSpan, shown: ReadonlyMap<number, { lowest: number; highest: number }>): void {
    const verdicts = new Map<string, boolean>();
    for (let sector = span.lba; sector < span.lba + span.sectors; sector++) {
      const list = this.#bySector.get(sector) ?? [];
      const index = shown.get(sector);
      if (index === undefined) continue;
      list.forEach((op, position) => {
        if (position > index.lowest && position <= index.highest) return;
        const key = `${Math.floor(sector / SECTORS_PER_BLOCK)}/${op.id}`;
        const present = position <= index.lowest;
        const before = verdicts.get(key);
        if (before !== undefined && before !== present)
          throw new Violation(`${this.name}: a read shows half of write ${op.id} in the block of sector ${sector}`);
        verdicts.set(key, present);
      });
    }
  }

  #close(inside: Set<Op>): void {
    let newest = -1;
    for (const op of inside) newest = Math.max(newest, op.invokedAt);
    for (;;) {
      let grew = -1;
      for (const op of this.#ops)
        if (op.ackedAt < newest && !inside.has(op)) {
          inside.add(op);
          grew = Math.max(grew, op.invokedAt);
        }
      if (grew <= newest) return;
      newest = grew;
    }
  }

  #nextMissing(
    sectors: readonly number[],
    values: SectorValues,
    inside: ReadonlySet<Op>,
  ): { readonly sector: number; readonly op: Op | undefined } | undefined {
    for (const sector of sectors) {
      if (values(sector) === LOST) continue;
      const list = this.#bySector.get(sector) ?? [];
      const last = list.findLastIndex((op) => inside.has(op));
      const lastOp = list[last];
      const holds = lastOp === undefined ? (this.#baseline.get(sector) ?? 0) : valueOf(lastOp);
      if (holds === values(sector) || holds === LOST) continue;
      return { sector, op: list.slice(last + 1).find((op) => valueOf(op) === values(sector)) };
    }
    return undefined;
  }
}

export function noteDurable(op: Op, nowMs: number): void {
  op.durable = true;
  op.durableAtMs = Math.min(op.durableAtMs, nowMs);
}

/** Every sector an op covers. */
function* sectorsOf(op: Op): Iterable<number> {
  for (const { lba, sectors } of op.spans) for (let sector = lba; sector < lba + sectors; sector++) yield sector;
}

function valueOf(op: Op): number {
  return op.kind === 'write' ? op.id : 0;
}

function nameOf(value: number | undefined): string {
  if (value === undefined) return 'bytes of no write';
  if (value === LOST) return 'a lost block';
  return value === 0 ? 'zeros' : `write ${value}`;
}

function describeWhy(op: Op, required: (op: Op) => boolean): string {
  if (!required(op)) return 'something after it is there';
  return op.durable ? 'it was flushed' : 'it was answered';
}
