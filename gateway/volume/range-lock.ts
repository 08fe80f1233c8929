import type { BlockCount, BlockNumber } from '../base/units.ts';

interface Claim {
  readonly first: BlockNumber;
  readonly end: BlockNumber;
  /** Neighbours in the order of asking. */
  earlier: Claim | undefined;
  later: Claim | undefined;
  /** Those whose latest obstacle this one is. */
  readonly waiting: Claim[];
  readonly grant: () => void;
}

/**
 * Exclusive ranges of blocks, granted in the order of asking. Read-modify-writes hold theirs while they read; whole-block writes and
 * unmaps only have to pass: they are ordered by their sequence, not by a lock.
 *
 * A claim waits for the latest earlier one that overlaps it, and looks for the next obstacle only when that is gone: with n claims
 * about, asking and releasing look at n at most, for each claim that waited for the one released.
 */
export class RangeLock {
  #latest: Claim | undefined;

  /** Whether nobody holds or waits for any of these blocks. */
  isFree(first: BlockNumber, count: BlockCount): boolean {
    return latestOverlap(this.#latest, first, first + count) === undefined;
  }

  /** Resolves with the release, once every earlier claim on these blocks is gone. */
  acquire(first: BlockNumber, count: BlockCount): Promise<() => void> {
    return new Promise((resolve) => {
      const claim: Claim = {
        first,
        end: first + count,
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
      grantOrWait(claim);
    });
  }

  #release(claim: Claim): void {
    const { earlier, later, waiting } = claim;
    if (earlier !== undefined) earlier.later = later;
    if (later === undefined) this.#latest = earlier;
    else later.earlier = earlier;
    for (const next of waiting) grantOrWait(next);
  }
}

function grantOrWait(claim: Claim): void {
  const obstacle = latestOverlap(claim.earlier, claim.first, claim.end);
  if (obstacle === undefined) claim.grant();
  else obstacle.waiting.push(claim);
}

/** The latest claim on any of these blocks, from `claim` backwards. */
function latestOverlap(claim: Claim | undefined, first: BlockNumber, end: BlockNumber): Claim | undefined {
  while (claim !== undefined && (claim.first >= end || claim.end <= first)) claim = claim.earlier;
  return claim;
}
