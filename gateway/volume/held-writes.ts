import { sleep, type Clock } from '../base/clock.ts';
import { describeError, isKind, type FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { WriteSeq } from '../base/units.ts';
import type { RemoteVolume } from '../replication/remote-volume.ts';
import type { BlockState } from './block-state.ts';
import type { StoredHalf } from './stored/stored-half.ts';

/** Between two questions what became of writes that were held when the volume was taken over. */
const PROOF_PAUSE_MS = 1_000;

export interface HeldWritesDeps {
  readonly blocks: BlockState;
  readonly stored: StoredHalf | undefined;
  readonly remote: Pick<RemoteVolume, 'provenThrough'>;
  readonly clock: Clock;
  readonly diary: Log;
  /** Durable when it resolves: what the log has behind it is never part of the volume. Rejects as the disk does. */
  endLog(through: WriteSeq): Promise<void>;
}

/** How synchronous writes end: published and acked, answered after a takeover, or never answered. */
export class HeldWrites {
  readonly #deps: HeldWritesDeps;
  #closed = false;
  #ending: Promise<void> = Promise.resolve();

  constructor(deps: HeldWritesDeps) {
    this.#deps = deps;
  }

  /** Those up to there that are in the log take effect, and are acked. */
  publish(through: WriteSeq): void {
    const { blocks, stored } = this.#deps;
    for (let op = blocks.pending.takeLogged(through); op !== undefined; op = blocks.pending.takeLogged(through)) {
      blocks.publish(op);
      stored?.opLogged(op);
      op.end.writeEnded(undefined);
    }
  }

  /**
   * Another gateway has the volume. What is held may be in its history, and is answered only when that is known for certain: as done if it is, as failed,
   * with `error`, if it can't be any more. Resolves when it was, or can't be known, or after the end.
   */
  async settle(error: FarshoreError): Promise<void> {
    const { blocks, remote, clock, diary } = this.#deps;
    while (blocks.pending.size > 0 && !this.#closed) {
      try {
        const through = await remote.provenThrough();
        await this.#endLog(through);
        for (let op = blocks.pending.take(); op !== undefined; op = blocks.pending.take())
          op.end.writeEnded(op.seq <= through ? undefined : error);
      } catch (failure) {
        if (!isKind(failure, 'retry', 'busy', 'input')) {
          diary.warn({ reason: describeError(failure) }, 'what became of the last writes is not known');
          return;
        }
      }
      await sleep(clock, PROOF_PAUSE_MS);
    }
  }

  /** Before anybody hears that a write has failed: the taker may never write anything, and this gateway get the volume back. */
  async #endLog(through: WriteSeq): Promise<void> {
    const { blocks } = this.#deps;
    if (this.#closed || [...blocks.pending.ops()].every(({ seq }) => seq <= through)) return;
    this.#ending = this.#deps.endLog(through);
    await this.#ending;
  }

  /**
   * The volume is being closed, and nothing is committed any more. Whoever waits in here goes on; nobody else is told what became of his writes: the sessions
   * have gone, and the next start finds it out. What is held still counts as such: no image may be said to have it. Resolves when nothing is being settled.
   */
  async close(error: FarshoreError): Promise<void> {
    this.#closed = true;
    for (const op of this.#deps.blocks.pending.ops()) op.end.writeEnded(error);
    await this.#ending.catch(() => undefined);
  }
}
