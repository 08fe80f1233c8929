import { crc32 } from '../base/crc32.ts';
import type { WriteEnd } from '../base/block-device.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber, type WallMillis, type WriteSeq } from '../base/units.ts';
import type { KIND_UNMAP, KIND_WRITE } from './descriptor.ts';
import { placeOf } from './layout.ts';
import type { BlockRange } from './unmap-payload.ts';
import type { VolumeLog } from './volume-log.ts';

const NO_RANGES: readonly BlockRange[] = [];

export type LogOpKind = typeof KIND_WRITE | typeof KIND_UNMAP;

/** Who hears what became of an operation, in the order of its volume's sequences. */
export interface LogOpOwner {
  /** It is in the log (a crash of the process keeps it); not yet on stable storage. */
  opLogged(op: LogOp): void;
  /** It may or may not be in the log, and the log has stopped. */
  opFailed(op: LogOp, error: Error): void;
}

/** For those who wait with a promise. */
export class PromisedEnd implements WriteEnd {
  readonly promise: Promise<void>;
  #resolve: () => void = () => undefined;
  #reject: (error: Error) => void = () => undefined;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  writeEnded(error: Error | undefined): void {
    if (error === undefined) this.#resolve();
    else this.#reject(error);
  }
}

/** One write or unmap on its way into the log. */
export class LogOp {
  readonly log: VolumeLog;
  readonly owner: LogOpOwner;
  readonly kind: LogOpKind;
  readonly seq: WriteSeq;
  /** First block; of an unmap, of its first range. */
  readonly block: BlockNumber;
  /** Data slots: blocks of a write, 1 for an unmap. */
  readonly slots: BlockCount;
  /** slots × 4096 bytes; whoever gave them keeps them unchanged until the owner hears. */
  readonly data: readonly Buffer[];
  readonly arrivedAt: WallMillis;
  readonly arrivedMs: number;
  /** Of an unmap. */
  readonly ranges: readonly BlockRange[];
  /** Told by its owner. */
  readonly end: WriteEnd;
  /** Nobody sees it before a version has it. */
  readonly isHeld: boolean;
  /** Its fate is unknown: the log failed under it. */
  failed = false;
  /** Where the first `firstRun` slots lie from `firstPlace` on, and the rest from `restPlace` on. */
  #firstPlace = 0;
  #firstRun = 0;
  #restPlace = 0;

  constructor(fields: {
    log: VolumeLog;
    owner: LogOpOwner;
    kind: LogOpKind;
    seq: WriteSeq;
    block: BlockNumber;
    slots: BlockCount;
    data: readonly Buffer[];
    arrivedAt: WallMillis;
    arrivedMs: number;
    end: WriteEnd;
    isHeld: boolean;
    ranges: readonly BlockRange[] | undefined;
  }) {
    this.log = fields.log;
    this.owner = fields.owner;
    this.kind = fields.kind;
    this.seq = fields.seq;
    this.block = fields.block;
    this.slots = fields.slots;
    this.data = fields.data;
    this.arrivedAt = fields.arrivedAt;
    this.arrivedMs = fields.arrivedMs;
    this.end = fields.end;
    this.isHeld = fields.isHeld;
    this.ranges = fields.ranges ?? NO_RANGES;
  }

  /** Called by the appender: the next `run` slots of the operation lie from this slot on. An operation touches two chunks at most. */
  placeRun(chunk: number, slot: number, run: number): void {
    if (this.#firstRun === 0) {
      this.#firstPlace = placeOf(chunk, slot);
      this.#firstRun = run;
    } else this.#restPlace = placeOf(chunk, slot);
  }

  placeAt(index: number): number {
    return index < this.#firstRun ? this.#firstPlace + index : this.#restPlace + index - this.#firstRun;
  }

  /** The 4096 bytes of slot `index`; a view unless they straddle pieces. */
  dataAt(index: number): Buffer {
    return blockOf(this.data, index);
  }
}

/** Bytes [index × 4096, +4096) of the concatenated pieces; a view unless they straddle pieces. */
export function blockOf(pieces: readonly Buffer[], index: number): Buffer {
  let from = index * BLOCK_SIZE;
  for (const piece of pieces) {
    if (from < piece.length) {
      if (from + BLOCK_SIZE <= piece.length) return piece.subarray(from, from + BLOCK_SIZE);
      return Buffer.concat(slicePieces(pieces, index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE));
    }
    from -= piece.length;
  }
  return Buffer.alloc(0);
}

/** Views of bytes [from, to) of the concatenated pieces. */
export function slicePieces(pieces: readonly Buffer[], from: number, to: number): Buffer[] {
  const result: Buffer[] = [];
  let start = 0;
  for (const piece of pieces) {
    const end = start + piece.length;
    if (end > from && start < to) {
      result.push(start >= from && end <= to ? piece : piece.subarray(Math.max(0, from - start), to - start));
    }
    start = end;
    if (start >= to) break;
  }
  return result;
}

/** CRC-32 of each 4096 bytes of the concatenated pieces, into `crcs` from 0 on. */
export function crcPerBlock(pieces: readonly Buffer[], crcs: Uint32Array): void {
  let index = 0;
  let crc = 0;
  let filled = 0;
  for (const piece of pieces) {
    for (let from = 0; from < piece.length;) {
      const size = Math.min(BLOCK_SIZE - filled, piece.length - from);
      crc = crc32(size === piece.length ? piece : piece.subarray(from, from + size), crc);
      from += size;
      filled += size;
      if (filled < BLOCK_SIZE) continue;
      crcs[index++] = crc;
      crc = 0;
      filled = 0;
    }
  }
}
