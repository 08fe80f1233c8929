import type { MaybePromise } from '../base/block-device.ts';
import { FarshoreError, invariant } from '../base/errors.ts';
import type { Lba } from '../base/units.ts';
import { GOOD } from './result.ts';
import type { ScsiResult } from './result.ts';
import { resultOfError } from './sense.ts';

/**
 * - `shared`    with other commands, as reads and plain writes are
 * - `exclusive` the command reads and writes, or is read, as one action
 */
export type Access = 'shared' | 'exclusive';

/** Commands that wait for, or hold, an extent of one unit; far above what its sessions can have under way. */
const MAX_CLAIMS = 16_384;

interface Claim {
  readonly first: Lba;
  readonly end: Lba;
  readonly access: Access;
  /** Commands that were in the device when an exclusive claim was made. */
  readonly after: readonly InFlight[];
  state: 'waiting' | 'granted';
  grant: () => void;
}

/** Commands in the device that hold no claim, since none was about when they came. Only counted: that is all they cost. */
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
 * a command waits for every command that was in the device when it came, and those that come later and overlap it wait for it, in
 * the order of their arrival.
 *
 * A command holds one claim at a time, and one that was let in without a claim waits for nothing but the device: there can be no
 * circle of waiting. A command that is aborted while it waits gives its claim back when its turn comes.
 */
export class ExtentLock {
  /** In the order of arrival. */
  readonly #claims: Claim[] = [];
  readonly #drained = (): void => {
    this.#onDrained();
  };
  #current = new InFlight(this.#drained);
  /** Earlier ones that some claim may wait for. */
  #draining: InFlight[] = [];

  /** Whether no atomic command is about: then everything may run at once. */
  get isIdle(): boolean {
    return this.#claims.length === 0;
  }

  /** The command runs without a claim; it must leave what it is given when the device has answered. */
  enter(): InFlight {
    return this.#current.enter();
  }

  /** Whether a command may run at once, beside what is about. */
  isFree(first: Lba, end: Lba): boolean {
    return !this.#claims.some((claim) => overlaps(claim, first, end));
  }

  /** Resolves with the release when the claim is granted. Rejects with `busy` beyond all bounds. */
  acquire(first: Lba, end: Lba, access: Access): Promise<() => void> {
    if (this.#claims.length >= MAX_CLAIMS) {
      return Promise.reject(new FarshoreError('busy', 'too many commands wait for the same extents of a logical unit'));
    }
    return new Promise((resolve) => {
      const claim: Claim = {
        first,
        end,
        access,
        after: access === 'exclusive' ? this.#everythingInFlight() : [],
        state: 'waiting',
        grant: () => {
          claim.state = 'granted';
          resolve(() => {
            this.#release(claim);
          });
        },
      };
      this.#claims.push(claim);
      if (this.#mayRun(claim, this.#claims.length - 1)) claim.grant();
    });
  }

  /** Runs `work` under a claim; `work` says itself what becomes of a failure. */
  async run<T>(first: Lba, end: Lba, access: Access, work: () => MaybePromise<T>): Promise<T> {
    const release = await this.acquire(first, end, access);
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

  #mayRun(claim: Claim, at: number): boolean {
    if (claim.after.some((inFlight) => !inFlight.isEmpty)) return false;
    for (let index = 0; index < at; index += 1) {
      const earlier = this.#claims[index];
      if (earlier !== undefined && conflict(earlier, claim)) return false;
    }
    return true;
  }

  #release(claim: Claim): void {
    const at = this.#claims.indexOf(claim);
    invariant(at >= 0, 'an extent is released once');
    this.#claims.splice(at, 1);
    this.#grantWaiting();
  }

  #onDrained(): void {
    if (this.#draining.length === 0) return;
    this.#draining = this.#draining.filter((inFlight) => !inFlight.isEmpty);
    this.#grantWaiting();
  }

  #grantWaiting(): void {
    for (const [at, claim] of this.#claims.entries()) {
      if (claim.state === 'waiting' && this.#mayRun(claim, at)) claim.grant();
    }
  }
}

function overlaps(claim: Claim, first: Lba, end: Lba): boolean {
  return claim.first < end && first < claim.end;
}

function conflict(earlier: Claim, later: Claim): boolean {
  const bothShared = earlier.access === 'shared' && later.access === 'shared';
  return !bothShared && overlaps(earlier, later.first, later.end);
}
