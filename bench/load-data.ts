import { randomBytes } from 'node:crypto';

export const BLOCK_BYTES = 4096;
/**
 * Each slot turns through this much incompressible data: little enough for all slots together to stay in the processor's cache, and more
 * than a compressed frame holds, so that neighbouring blocks do not repeat.
 */
const POOL_BYTES_PER_SLOT = 128 * 1024;
const MAGIC = 0x46534254;
/** What is compared: magic and block number. */
const STAMP_BYTES = 8;

/**
 * Data of one queue slot. The first 16 bytes of every block say which block it is and which write it came from, so that a
 * read can tell a foreign block from the right one; the rest is random.
 */
export class SlotData {
  readonly pool: Buffer;
  private readonly ioBytes: number;
  private at = 0;
  private writes = 0;

  constructor(ioBytes: number) {
    this.ioBytes = ioBytes;
    this.pool = randomBytes(Math.max(POOL_BYTES_PER_SLOT, 2 * ioBytes));
  }

  /**
   * Where in `pool` the next write's data for the blocks from `block` on begins. It stays until the pool has turned once: after the
   * write's answer.
   */
  next(block: number): number {
    const from = this.at;
    const to = from + this.ioBytes;
    this.at = to + this.ioBytes > this.pool.length ? 0 : to;
    this.writes += 1;
    stamp(this.pool, from, to, block, this.writes);
    return from;
  }
}

/** Writes into `data[from, to)` that it is the blocks from `block` on, by that write. */
export function stamp(data: Buffer, from: number, to: number, block: number, write: number): void {
  for (let offset = from, b = block; offset < to; offset += BLOCK_BYTES, b += 1) {
    data.writeUInt32BE(MAGIC, offset);
    data.writeUInt32BE(b, offset + 4);
    data.writeUInt32BE(write, offset + 8);
  }
}

/**
 * Says what is wrong when `data[from, to)`, which belongs at `offset` of a transfer that starts with block `firstBlock`, holds another
 * block's stamp; undefined when it does not. A stamp cut by either end is not looked at.
 */
export function wrongStamp(
  data: Buffer,
  from: number,
  to: number,
  offset: number,
  firstBlock: number,
): string | undefined {
  const into = offset % BLOCK_BYTES;
  let at = into === 0 ? from : from + BLOCK_BYTES - into;
  let block = firstBlock + Math.ceil(offset / BLOCK_BYTES);
  for (; at + STAMP_BYTES <= to; at += BLOCK_BYTES, block += 1) {
    if (data.readUInt32BE(at) !== MAGIC || data.readUInt32BE(at + 4) !== block)
      return `block ${block} holds foreign bytes: ${data.toString('hex', at, at + 16)}`;
  }
  return undefined;
}

/** xorshift32: fast, seeded and good enough to scatter offsets. */
export class Scatter {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0 || 1;
  }

  /** Uniform in [0, bound), for bounds far below 2^32. */
  below(bound: number): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state % bound;
  }
}
