import { SENSE } from './sense.ts';
import type { Sense } from './sense.ts';

/** Pending conditions are at most the distinct ones this device knows; the bound is a last resort. */
const MAX_PENDING = 16;

/** Resets and the loss of a nexus come before all else, and of those only the gravest is told (SAM-5 5.14). */
const RESETS: readonly Sense[] = [SENSE.powerOn, SENSE.busDeviceReset, SENSE.nexusLoss];

/** The unit attention conditions pending for one I_T_L nexus (SAM-5 5.14): each is told once, the gravest first. */
export class UnitAttentions {
  readonly #pending: Sense[] = [];

  get any(): boolean {
    return this.#pending.length > 0;
  }

  isPending(sense: Sense): boolean {
    return this.#pending.some((pending) => isSame(pending, sense));
  }

  raise(sense: Sense): void {
    if (this.isPending(sense)) return;
    const rank = rankOf(sense);
    if (rank >= 0) {
      const [first] = this.#pending;
      const pendingRank = first === undefined ? -1 : rankOf(first);
      if (pendingRank >= 0 && pendingRank < rank) return;
      this.#pending.splice(0, pendingRank >= 0 ? 1 : 0, sense);
      return;
    }
    if (this.#pending.length < MAX_PENDING) this.#pending.push(sense);
  }

  /** The one to tell now: told and so gone. */
  take(): Sense | undefined {
    return this.#pending.shift();
  }

  /** Drops a condition that the initiator has just learned by other means. */
  drop(sense: Sense): void {
    const at = this.#pending.findIndex((pending) => isSame(pending, sense));
    if (at >= 0) this.#pending.splice(at, 1);
  }
}

function isSame(a: Sense, b: Sense): boolean {
  return a.asc === b.asc && a.ascq === b.ascq;
}

/** Place among RESETS, -1 for everything else. */
function rankOf(sense: Sense): number {
  return RESETS.findIndex((reset) => isSame(reset, sense));
}
