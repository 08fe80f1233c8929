import { READER_RULES } from '../../gateway/maintenance/walk-machine.ts';
import type { ReaderRules } from '../../gateway/maintenance/walk-machine.ts';
import { FENCE_RULES } from '../../gateway/replication/fence-machine.ts';
import type { FenceRules } from '../../gateway/replication/fence-machine.ts';

/** How far the enumeration goes. Inside the bounds it is exhaustive. */
export interface Bounds {
  /**
   * Starts of a writer, one after the other or at once, by whomever: rule 5 makes each a new writer, and one that falls silent at any
   * point may be a gateway that died there.
   */
  readonly writers: number;
  /** Versions each start may send. */
  readonly versions: number;
  /** Versions all of them may send together. */
  readonly sends: number;
  /** Versions of one writer under way at once. */
  readonly depth: number;
  /** Places in the log. */
  readonly slots: number;
  /** Checkpoints published. */
  readonly folds: number;
  /** Puts sent once more after no answer, over all writers; the first copy may still land at any time. */
  readonly resends: number;
  /** Raises of the epoch whose answer is lost, or which land later, over all writers. */
  readonly lostRaises: number;
  /** Walks per epoch. */
  readonly walks: number;
  /** Epochs per start. */
  readonly raises: number;
  /** Walks of the one reader; 0 for no reader. */
  readonly readerWalks: number;
}

/** What is left out or broken on purpose. */
export interface Mutations {
  readonly fence: FenceRules;
  readonly reader: ReaderRules;
  /** Rule 4 broken: maintenance deletes takeover records too. */
  readonly deleteTakeovers: boolean;
  /** Rule 4 broken: maintenance deletes what is folded without raising the floor first. */
  readonly deleteAboveFloor: boolean;
  /** Rule 5 broken: a writer may start again, without memory, in the epoch it had. */
  readonly keepEpoch: boolean;
}

export const NO_MUTATIONS: Mutations = Object.freeze({
  fence: FENCE_RULES,
  reader: READER_RULES,
  deleteTakeovers: false,
  deleteAboveFloor: false,
  keepEpoch: false,
});
