import { FOREIGN } from './stamp.ts';

/** Sectors of a block: the unit that is never torn. */
const BLOCK_SECTORS = 8;
const MAX_COMPLAINTS = 20;

/** One write or unmap as its initiator saw it; it is in the log whole or not at all. */
export interface StampedOp {
  /** What its sectors are stamped with; an unmap leaves zeros. */
  readonly number: number;
  readonly kind: 'write' | 'unmap';
  readonly first: number;
  readonly count: number;
  /** Moments in the order in which the initiator saw things; `acked` is Infinity until then. */
  readonly submitted: number;
  acked: number;
  /** With FUA: its answer says that it is on stable storage. */
  readonly durable: boolean;
}

/** What a crash may not take: everything acked, or (a power cut) everything flushed. */
export type Guarantee = 'acked' | 'flushed';

/**
 * What a disk may hold after a crash. Operations that overlap in time may have come in either order; one that was acked before another was
 * submitted came before it. From one check to the next the disk holds, per sector, what the last check found, changed by the operations since:
 * - what is guaranteed, and whatever came before anything that can be seen, has happened, as a whole (the log is a prefix);
 * - no sector holds what something that has happened has overwritten;
 * - a block never shows two operations each of which has overwritten the other.
 */
export class OpHistory {
  readonly sectors: number;
  /** What each sector held at the last check. */
  readonly #base: Uint32Array;
  #ops: StampedOp[] = [];
  /** Operations since the last check by sector. */
  #bySector = new Map<number, StampedOp[]>();
  #moment = 0;
  #lastNumber = 0;
  /** Everything acked before it was on stable storage. */
  #flushedThrough = 0;

  constructor(sectors: number) {
    this.sectors = sectors;
    this.#base = new Uint32Array(sectors);
  }

  /** A moment of its own, after all earlier ones. */
  now(): number {
    this.#moment += 1;
    return this.#moment;
  }

  submit(kind: StampedOp['kind'], first: number, count: number, durable: boolean): StampedOp {
    this.#lastNumber += 1;
    const op = {
      number: this.#lastNumber,
      kind,
      first,
      count,
      submitted: this.now(),
      acked: Infinity,
      durable,
    };
    this.#ops.push(op);
    for (let sector = first; sector < first + count; sector += 1) {
      const there = this.#bySector.get(sector);
      if (there === undefined) this.#bySector.set(sector, [op]);
      else there.push(op);
    }
    return op;
  }

  /** A flush that was submitted at `moment` has been answered. */
  flushed(moment: number): void {
    this.#flushedThrough = Math.max(this.#flushedThrough, moment);
  }

  /** What a read that was submitted at `moment` must not have answered. */
  wrongRead(first: number, found: readonly number[], moment: number): string[] {
    const wrong: string[] = [];
    found.forEach((number, index) => {
      const sector = first + index;
      const explanations = this.#explain(sector, number);
      const newestAcked = Math.max(
        0,
        ...this.#over(sector)
          .filter(({ acked }) => acked < moment)
          .map(({ submitted }) => submitted),
      );
      if (explanations.some(({ acked }) => acked >= newestAcked)) return;
      wrong.push(`a read of sector ${sector} answered ${describe(number)}, which was overwritten before`);
    });
    return wrong.slice(0, MAX_COMPLAINTS);
  }

  /**
   * Compares what the whole disk holds after a crash, by sector as `stampsIn` tells it: a sentence for each of the first sectors that hold
   * what they must not. What was found is what has to stay from now on.
   */
  settle(found: ArrayLike<number>, guarantee: Guarantee): string[] {
    const { wrong } = this.#compare(found, (op) => this.#isKept(op, guarantee), 'acked');
    for (let sector = 0; sector < this.sectors; sector += 1) this.#base[sector] = Math.max(0, found[sector] ?? 0);
    this.#ops = [];
    this.#bySector = new Map();
    return wrong;
  }

  /**
   * Whether the disk may have held this at one moment since the last check: some of the operations, of which `known` must be part, and whatever
   * was acked before any of them began. Changes nothing. `inside`: those that must have happened by then, for the next moment.
   */
  heldOnce(
    found: ArrayLike<number>,
    known: ReadonlySet<StampedOp>,
  ): { readonly wrong: string[]; readonly inside: ReadonlySet<StampedOp> } {
    return this.#compare(found, (op) => known.has(op), 'in an earlier version');
  }

  #compare(
    found: ArrayLike<number>,
    isKept: (op: StampedOp) => boolean,
    keptAs: string,
  ): { readonly wrong: string[]; readonly inside: ReadonlySet<StampedOp> } {
    const wrong: string[] = [];
    const seen: (readonly Explanation[])[] = [];
    for (let sector = 0; sector < this.sectors; sector += 1) {
      const explanations = this.#explain(sector, found[sector] ?? FOREIGN);
      if (explanations.length === 0) {
        wrong.push(`sector ${sector} holds ${describe(found[sector] ?? FOREIGN)}, which nobody can have left there`);
      }
      seen.push(explanations);
    }
    const happened = this.#happened(seen, isKept);
    for (let sector = 0; sector < this.sectors && wrong.length < MAX_COMPLAINTS; sector += 1) {
      const explanations = seen[sector] ?? [];
      const over = this.#over(sector);
      if (over.length === 0 || explanations.length === 0) continue;
      const must = newest(over.filter((op) => happened.has(op)));
      if (must === undefined) continue;
      if (!explanations.some(({ acked }) => acked >= must.submitted)) {
        wrong.push(
          `sector ${sector} holds ${describe(found[sector] ?? FOREIGN)}, but ${must.kind} ${must.number} came after that and is ${isKept(must) ? keptAs : 'part of what is there'}`,
        );
      }
    }
    wrong.push(...this.#mixes(seen));
    return { wrong: wrong.slice(0, MAX_COMPLAINTS), inside: happened };
  }

  #isKept(op: StampedOp, guarantee: Guarantee): boolean {
    if (guarantee === 'acked' || op.durable) return op.acked < Infinity;
    return op.acked < this.#flushedThrough;
  }

  /** The operations that must have happened, given what is seen. */
  #happened(seen: readonly (readonly Explanation[])[], isKept: (op: StampedOp) => boolean): ReadonlySet<StampedOp> {
    const happened = new Set<StampedOp>(this.#ops.filter(isKept));
    for (const explanations of seen) {
      const [only] = explanations;
      if (explanations.length === 1 && only?.op !== undefined) happened.add(only.op);
    }
    let last = 0;
    for (const { submitted } of happened) last = Math.max(last, submitted);
    for (const op of this.#ops) if (op.acked < last) happened.add(op);
    return happened;
  }

  #mixes(seen: readonly (readonly Explanation[])[]): string[] {
    const wrong: string[] = [];
    for (let first = 0; first < this.sectors; first += BLOCK_SECTORS) {
      const shown = new Set<StampedOp>();
      for (let sector = first; sector < first + BLOCK_SECTORS; sector += 1) {
        const [only, ...others] = seen[sector] ?? [];
        if (others.length === 0 && only?.op !== undefined) shown.add(only.op);
      }
      if (shown.size < 2) continue;
      const within = [...shown];
      const shows = (op: StampedOp, other: StampedOp): boolean => {
        for (let sector = first; sector < first + BLOCK_SECTORS; sector += 1) {
          const explanations = seen[sector] ?? [];
          if (explanations.length === 1 && explanations[0]?.op === op && covers(other, sector)) return true;
        }
        return false;
      };
      within.forEach((one, at) => {
        for (const other of within.slice(at + 1)) {
          if (shows(one, other) && shows(other, one)) {
            wrong.push(`block ${first / BLOCK_SECTORS} is a mix of writes ${one.number} and ${other.number}`);
          }
        }
      });
    }
    return wrong;
  }

  /** Everything that can have left this in the sector; what it held at the last check is older than any operation since. */
  #explain(sector: number, number: number): readonly Explanation[] {
    if (number === FOREIGN) return [];
    if (!this.#bySector.has(sector)) return this.#base[sector] === number ? UNTOUCHED : [];
    const explanations: Explanation[] = this.#over(sector)
      .filter((op) => (number === 0 ? op.kind === 'unmap' : op.kind === 'write' && op.number === number))
      .map((op) => ({ op, acked: op.acked }));
    if (this.#base[sector] === number) explanations.push({ op: undefined, acked: 0 });
    return explanations;
  }

  #over(sector: number): readonly StampedOp[] {
    return this.#bySector.get(sector) ?? NO_OPS;
  }
}

interface Explanation {
  readonly op: StampedOp | undefined;
  readonly acked: number;
}

const NO_OPS: readonly StampedOp[] = [];
const UNTOUCHED: readonly Explanation[] = [{ op: undefined, acked: 0 }];

function covers({ first, count }: StampedOp, sector: number): boolean {
  return sector >= first && sector < first + count;
}

function newest(ops: readonly StampedOp[]): StampedOp | undefined {
  let last: StampedOp | undefined;
  for (const op of ops) if (last === undefined || op.submitted > last.submitted) last = op;
  return last;
}

function describe(number: number): string {
  if (number === FOREIGN) return 'foreign bytes';
  return number === 0 ? 'zeros' : `write ${number}`;
}
