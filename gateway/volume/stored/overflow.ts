import { describeError, isKind } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { BlockNumber, BlockCount, WriteSeq } from '../../base/units.ts';
import { KEPT_SHARE } from '../../cache/pressure.ts';
import type { BlockState } from '../block-state.ts';

/** From this share of the cache being dirty on, what the image has is dropped from the log: before writes are held back for long. */
export const OVERFLOW_SHARE = 5 / 8;
/** From here on by every volume that can: where what is left of the cache is kept for those with little in it. */
const LAST_SHARE = 1 - KEPT_SHARE;

/**
 * From which share of the cache on a volume gives way that has so much of the doing (0 to 1, see weightOf): one that writes little would not relieve a cache
 * that another one floods, and its own replication would stand still for it.
 */
export function overflowShare(weight: number): number {
  return OVERFLOW_SHARE + (LAST_SHARE - OVERFLOW_SHARE) * (1 - weight);
}

export interface OverflowHooks {
  /** Everything up to it is in a version, or marked. */
  settledThrough(): WriteSeq;
  destagedThrough(): WriteSeq;
  /** Versions are made of marked blocks from now on. */
  suspend(): void;
  /** They are not, after all. */
  resume(): void;
  isOpen(): boolean;
  /** The blocks that `markAll` tells of are durably marked when it resolves, and the log may drop everything up to what it answers. */
  raise(markAll: (mark: (block: BlockNumber, count: BlockCount) => void) => Promise<WriteSeq>): Promise<void>;
  /** The image has not everything that is logged. */
  hurryImage(): void;
}

/**
 * When the log is full of what no version has, what of it the image has is marked (see Changes), and dropped from the log: writes go on at the
 * image's speed. How it is replicated then, CatchUp sees to.
 */
export class Overflow {
  readonly #state: BlockState;
  readonly #diary: Log;
  readonly #hooks: OverflowHooks;
  #running: Promise<void> | undefined;
  #isStopped = false;
  problem: string | undefined;

  constructor(state: BlockState, diary: Log, hooks: OverflowHooks) {
    this.#state = state;
    this.#diary = diary;
    this.#hooks = hooks;
  }

  /** The image has more, something was logged, or writes wait for room. */
  look(): void {
    if (this.#isStopped || this.#running !== undefined) return;
    const { cache, log } = this.#state;
    const share = cache.dirtyShare;
    if (share < OVERFLOW_SHARE) return;
    // Once it has begun, more of it costs nothing.
    if (!this.#hooks.isOpen() && share < overflowShare(cache.pressure.weight(log))) return;
    if (this.#hooks.destagedThrough() < log.appendedThrough) this.#hooks.hurryImage();
    if (this.#hooks.destagedThrough() <= this.#hooks.settledThrough()) return;
    this.#running = this.raise().finally(() => {
      this.#running = undefined;
    });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }

  /** Marks everything that the image has. Failures of the disk leave all as it was, and are tried again when there is more. */
  async raise(): Promise<void> {
    const wasOpen = this.#hooks.isOpen();
    if (!wasOpen) this.#hooks.suspend();
    try {
      const through = this.#hooks.destagedThrough();
      await this.#hooks.raise((mark) => this.#markThrough(through, mark));
      this.problem = undefined;
      if (!wasOpen)
        this.#diary.warn(
          { through },
          'the cache is full of what the cloud does not have; from now on the image keeps it',
        );
    } catch (error) {
      if (!isKind(error, 'busy', 'stopped', 'damaged')) throw error;
      this.problem = `what the image has is kept in the cache too, because it cannot be noted which blocks that is: ${describeError(error)}`;
      this.#diary.warn({ reason: describeError(error) }, 'the log cannot be relieved');
    }
    if (!this.#hooks.isOpen()) this.#hooks.resume();
  }

  /** Answers how far it came: to the target, or to where the log has lost an operation. */
  async #markThrough(target: WriteSeq, mark: (block: BlockNumber, count: BlockCount) => void): Promise<WriteSeq> {
    const { cache, log } = this.#state;
    let through = this.#hooks.settledThrough();
    await cache.replay(log, through, (op) => {
      if (op.seq !== through + 1 || op.seq > target) return false;
      if (op.kind === 'unmap') {
        if (op.ranges === undefined) return false;
        for (const { block, count } of op.ranges) mark(block, count);
      } else {
        mark(op.block, op.places.length);
        // The image has it, so it can be read without the log.
        for (const [at, place] of op.places.entries()) log.index.markClean(op.block + at, place);
      }
      through = op.seq;
      return true;
    });
    return through;
  }
}
