import type { BlockCount, BlockNumber } from '../base/units.ts';

interface Claim {
  readonly first: BlockNumber;
  readonly end: BlockNumber;
  granted: boolean;
  grant: () => void;
}

/**
 * Exclusive ranges of blocks, granted in the order of asking. Read-modify-writes hold theirs while they read; whole-block writes and
 * unmaps only have to pass: they are ordered by their sequence, not by a lock.
 */
export class RangeLock {
  readonly #claims: Claim[] = [];

  /** Whether nobody holds or waits for any of these blocks. */
  isFree(first: BlockNumber, count: BlockCount): boolean {
    return this.#claims.length === 0 || !this.#claims.some((claim) => overlaps(claim, first, first + count));
  }

  /** Resolves with the release, once every earlier claim on these blocks is gone. */
  acquire(first: BlockNumber, count: BlockCount): Promise<() => void> {
    return new Promise((resolve) => {
      const claim: Claim = { first, end: first + count, granted: false, grant: () => undefined };
      claim.grant = () => {
        claim.granted = true;
        resolve(() => {
          this.#release(claim);
        });
      };
      const free = this.isFree(first, count);
      this.#claims.push(claim);
      if (free) claim.grant();
    });
  }

  #release(claim: Claim): void {
    this.#claims.splice(this.#claims.indexOf(claim), 1);
    for (const [at, waiting] of this.#claims.entries()) {
      if (waiting.granted) continue;
      const blocked = this.#claims.slice(0, at).some((earlier) => overlaps(earlier, waiting.first, waiting.end));
      if (!blocked) waiting.grant();
    }
  }
}

function overlaps(claim: Claim, first: BlockNumber, end: BlockNumber): boolean {
  return claim.first < end && first < claim.end;
}
