import { invariant } from '../base/errors.ts';
import type { BlockNumber, WriteSeq } from '../base/units.ts';
import type { BlockIndex } from './block-index.ts';
import { MAX_SEQ } from './descriptor.ts';

/** One volume's view of the cache log it shares with others: its number, its index, and how far it has come. */
export class VolumeLog {
  /** Stands for this incarnation of the volume in the log. */
  readonly number: number;
  readonly index: BlockIndex;
  /** Highest sequence handed out. */
  assignedThrough: WriteSeq;
  /** Everything up to it is in the log. */
  appendedThrough: WriteSeq;
  /** Everything up to it is on stable storage. */
  syncedThrough: WriteSeq;
  /** Everything up to it is in a committed version. */
  committedThrough: WriteSeq;
  /** Asks the volume to seal what it has, because writes wait for space. */
  readonly onPressure: () => void;
  /** The log has stopped: nothing is acked from now on. */
  readonly onStopped: (error: Error) => void;

  /** Whether a write of the block is on its way into the log; who serves the volume sets it. */
  isStaged: (block: BlockNumber) => boolean = () => false;

  #underWay = 0;
  readonly #idleWaiters: (() => void)[] = [];

  constructor(fields: {
    number: number;
    index: BlockIndex;
    through: WriteSeq;
    committedThrough: WriteSeq;
    onPressure: () => void;
    onStopped: (error: Error) => void;
  }) {
    this.number = fields.number;
    this.index = fields.index;
    this.assignedThrough = fields.through;
    this.appendedThrough = fields.through;
    this.syncedThrough = fields.through;
    this.committedThrough = fields.committedThrough;
    this.onPressure = fields.onPressure;
    this.onStopped = fields.onStopped;
  }

  /** An operation or fill is under way. */
  begin(): void {
    this.#underWay++;
  }

  end(): void {
    this.#underWay--;
    if (this.#underWay > 0) return;
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  /** Resolves when nothing of the volume is on its way into the log. */
  idle(): Promise<void> {
    if (this.#underWay === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idleWaiters.push(resolve);
    });
  }

  nextSeq(): WriteSeq {
    invariant(this.assignedThrough < MAX_SEQ, 'a sequence has 48 bits');
    return ++this.assignedThrough;
  }
}
