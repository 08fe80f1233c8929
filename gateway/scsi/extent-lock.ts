import type { MaybePromise } from '../base/block-device.ts';
import { FarshoreError, invariant } from '../base/errors.ts';
import type { Lba } from '../base/units.ts';
import { GOOD } from './result.ts';
import type { ScsiResult } from './result.ts';
import { resultOfError } from './sense.ts';

/**
 * - `shared`    with all others that are not one action
 * - `exclusive` the command reads and writes, or is read, as one action
 */
export type Access = 'shared' | 'exclusive';

/** Commands that wait for, or hold, an extent of one unit; far above what its sessions can have under way. */
const MAX_CLAIMS = 16_384;

/** Sectors [first, end). */
export interface Extent {
  readonly first: Lba;
  readonly end: Lba;
}

interface Claim {
  readonly extents: readonly Extent[];
  readonly access: Access;
  /** Commands that were in the device when an exclusive claim was made. */
  readonly after: readonly InFlight[];
  /** Neighbours in the order of arrival. */
  earlier: Claim | undefined;
  later: Claim | undefined;
  /** Those whose latest obstacle this one is. */
  readonly waiting: Claim[];
  readonly grant: () => void;
}

/** Reads and writes in the device that hold no claim, since no exclusive one was about. Only counted: that is all they cost. */
export class InFlight {
  #count = 0;
  readonly #onDrained: () => void;

  constructor(onDrained: () => void) {
    this.#onDrained = onDrained;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  enter(): this {
    this.#count += 1;
    return this;
  }

  leave(): void {
    this.#count -= 1;
    if (this.#count === 0) this.#onDrained();
  }

  /** What becomes of a write the device has answered; bound, so that a write needs no closure. */
  readonly good = (): ScsiResult => {
    this.leave();
    return GOOD;
  };

  readonly failed = (error: unknown): ScsiResult => {
    this.leave();
    return resultOfError(error);
  };
}

/**
 * Makes COMPARE AND WRITE, ORWRITE, WRITE ATOMIC and the writes of a copy uninterrupted series of actions (SBC-4): such
 * a command waits for the plain reads and writes that were in the device when it came, wherever they are, for they are short; and for those
 * that overlap it of the commands that may take long, which hold a claim for that. Those that come later and overlap it wait for it, in the
 * order of their arrival.
 *
 * A command holds one claim at a time, on all its extents, and one that was let in without a claim waits for nothing but the device: there can be no
 * circle of waiting. A command that is aborted while it waits gives its claim back when its turn comes.
 */
export class ExtentLock {
  #latest: Claim | undefined;
  #claims = 0;
  /** How many of them are exclusive. */
  #exclusive = 0;
  /** Claims that wait for commands in the device. */
  readonly #behindDevice = new Set<Claim>();
  readonly #drained = (): void => {
    this.#onDrained();
  };
  #current = new InFlight(this.#drained);
  /** Earlier ones that some claim may wait for. */
  #draining: InFlight[] = [];

  /** Whether no atomic command is about: then every read and write may run at once. */
  get letsAllIn(): boolean {
    return this.#exclusive === 0;
  }

  /** The command runs without a claim; it must leave what it is given when the device has answered. */
  enter(): InFlight {
    return this.#current.enter();
  }

  /** Whether a read or write may run at once, beside the atomic commands that are about. */
  letsIn(extents: readonly Extent[]): boolean {
    for (let claim = this.#latest; claim !== undefined; claim = claim.earlier)
      if (claim.access === 'exclusive' && overlap(claim.extents, extents)) return false;
    return true;
  }

  /** Resolves with the release when the claim is granted. Rejects with `busy` beyond all bounds. */
  acquire(first: Lba, end: Lba, access: Access): Promise<() => void> {
    return this.acquireAll([{ first, end }], access);
  }

  /** One claim on several extents, granted when all of them are to be had. */
  acquireAll(extents: readonly Extent[], access: Access): Promise<() => void> {
    if (this.#claims >= MAX_CLAIMS) {
      return Promise.reject(new FarshoreError('busy', 'too many commands wait for the same extents of a logical unit'));
    }
    return new Promise((resolve) => {
      const claim: Claim = {
        extents,
        access,
        after: access === 'exclusive' ? this.#everythingInFlight() : [],
        earlier: this.#latest,
        later: undefined,
        waiting: [],
        grant: () => {
          resolve(() => {
            this.#release(claim);
          });
        },
      };
      if (this.#latest !== undefined) this.#latest.later = claim;
      this.#latest = claim;
      this.#claims += 1;
      if (access === 'exclusive') this.#exclusive += 1;
      this.#grantOrWait(claim);
    });
  }

  /** Runs `work` under one claim on the extents; `work` says itself what becomes of a failure. */
  async runAll<T>(extents: readonly Extent[], access: Access, work: () => MaybePromise<T>): Promise<T> {
    const release = await this.acquireAll(extents, access);
    try {
      return await work();
    } finally {
      release();
    }
  }

  #everythingInFlight(): readonly InFlight[] {
    if (!this.#current.isEmpty) {
      // A new array: claims keep the one they were made with.
      this.#draining = [...this.#draining, this.#current];
      this.#current = new InFlight(this.#drained);
    }
    return this.#draining;
  }

  /** It waits for the latest earlier claim in its way, and looks for the next when that is gone: so each looks at all others but a few times. */
  #grantOrWait(claim: Claim): void {
    if (claim.after.some((inFlight) => !inFlight.isEmpty)) {
      this.#behindDevice.add(claim);
      return;
    }
    let obstacle = claim.earlier;
    while (obstacle !== undefined && !conflict(obstacle, claim)) obstacle = obstacle.earlier;
    if (obstacle === undefined) claim.grant();
    else obstacle.waiting.push(claim);
  }

  #release(claim: Claim): void {
    const { earlier, later, waiting } = claim;
    invariant(later === undefined ? this.#latest === claim : later.earlier === claim, 'an extent is released once');
    if (earlier !== undefined) earlier.later = later;
    if (later === undefined) this.#latest = earlier;
    else later.earlier = earlier;
    this.#claims -= 1;
    if (claim.access === 'exclusive') this.#exclusive -= 1;
    for (const next of waiting) this.#grantOrWait(next);
  }

  #onDrained(): void {
    if (this.#draining.length === 0) return;
    this.#draining = this.#draining.filter((inFlight) => !inFlight.isEmpty);
    const behind = [...this.#behindDevice];
    this.#behindDevice.clear();
    for (const claim of behind) this.#grantOrWait(claim);
  }
}

/** Extents a claim may have; a command of more claims what lies between some of them too. */
const MAX_EXTENTS = 16;

/** Few extents that hold all of these, with the smallest gaps closed: comparing claims must stay cheap. */
export function coarse(extents: readonly Extent[]): Extent[] {
  if (extents.length <= MAX_EXTENTS) return [...extents];
  const sorted = extents.toSorted((a, b) => a.first - b.first);
  const gaps: { readonly at: number; readonly sectors: number }[] = [];
  let end = sorted[0]?.end ?? 0;
  for (const [at, extent] of sorted.entries()) {
    if (at > 0) gaps.push({ at, sectors: extent.first - end });
    end = Math.max(end, extent.end);
  }
  const widest = gaps.toSorted((a, b) => b.sectors - a.sectors).slice(0, MAX_EXTENTS - 1);
  const borders = [0, ...widest.map(({ at }) => at).toSorted((a, b) => a - b), sorted.length];
  return borders.slice(1).map((border, index) => {
    const group = sorted.slice(borders[index], border);
    return { first: group[0]?.first ?? 0, end: group.reduce((most, extent) => Math.max(most, extent.end), 0) };
  });
}

function overlap(some: readonly Extent[], others: readonly Extent[]): boolean {
  return some.some((one) => others.some((other) => Math.max(one.first, other.first) < Math.min(one.end, other.end)));
}

function conflict(earlier: Claim, later: Claim): boolean {
  const bothShared = earlier.access === 'shared' && later.access === 'shared';
  return !bothShared && overlap(earlier.extents, later.extents);
}
