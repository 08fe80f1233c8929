import type { BlockCount, BlockNumber, WriteSeq } from '../base/units.ts';
import { KIND_WRITE } from '../cache/descriptor.ts';
import type { LogOp } from '../cache/log-op.ts';

/**
 * Synchronous writes and unmaps on their way into a version (architecture, section 4): in the log or about to be, seen by nobody, and in the way of
 * whatever overlaps them. In the order of their sequences; the range lock sees to it that no two of them share a block.
 */
export class PendingWrites {
  readonly #ops = new Set<LogOp>();
  readonly #blocks = new Set<BlockNumber>();
  readonly #unmaps = new Set<LogOp>();
  #loggedThrough: WriteSeq = 0;

  get size(): number {
    return this.#ops.size;
  }

  /** Blocks that are being written. */
  get blocks(): BlockCount {
    return this.#blocks.size;
  }

  get oldest(): LogOp | undefined {
    for (const op of this.#ops) return op;
    return undefined;
  }

  covers(block: BlockNumber): boolean {
    if (this.#ops.size === 0) return false;
    if (this.#blocks.has(block)) return true;
    for (const { ranges } of this.#unmaps)
      if (ranges.some((range) => block >= range.block && block < range.block + range.count)) return true;
    return false;
  }

  /** In the order of sequences. */
  add(op: LogOp): void {
    this.#ops.add(op);
    if (op.kind !== KIND_WRITE) this.#unmaps.add(op);
    else for (let block = op.block; block < op.block + op.slots; block++) this.#blocks.add(block);
  }

  /** It is in the log, as all before it are. */
  noteLogged(op: LogOp): void {
    this.#loggedThrough = op.seq;
  }

  /** Takes away the oldest, if it is in the log and not behind `through`. */
  takeLogged(through: WriteSeq): LogOp | undefined {
    const { oldest } = this;
    return oldest === undefined || oldest.seq > Math.min(through, this.#loggedThrough) ? undefined : this.#take(oldest);
  }

  /** The oldest first. */
  ops(): Iterable<LogOp> {
    return this.#ops;
  }

  /** Takes away the oldest, whatever is known of it. */
  take(): LogOp | undefined {
    const { oldest } = this;
    return oldest && this.#take(oldest);
  }

  #take(op: LogOp): LogOp {
    this.#ops.delete(op);
    if (op.kind !== KIND_WRITE) this.#unmaps.delete(op);
    else for (let block = op.block; block < op.block + op.slots; block++) this.#blocks.delete(block);
    return op;
  }
}
