import { randomBytes } from 'node:crypto';

export const BLOCK_BYTES = 4096;
/** Each slot turns through this much incompressible data, so that neighbouring blocks never repeat. */
const POOL_BYTES_PER_SLOT = 1024 * 1024;
const MAGIC = 0x46534254;

/**
 * Data of one queue slot. The first 16 bytes of every block say which block it is and which write it came from, so that a
 * read can tell a foreign block from the right one; the rest is random.
 */
export class SlotData {
  private readonly pool: Buffer;
  private readonly ioBytes: number;
  private at = 0;
  private writes = 0;

  constructor(ioBytes: number) {
    this.ioBytes = ioBytes;
    this.pool = randomBytes(Math.max(POOL_BYTES_PER_SLOT, 4 * ioBytes));
  }

  /** The next write's data for the blocks from `block` on. Valid until the pool has turned once: after the write's answer. */
  next(block: number): Buffer {
    const data = this.pool.subarray(this.at, this.at + this.ioBytes);
    this.at += this.ioBytes;
    if (this.at + this.ioBytes > this.pool.length) this.at = 0;
    this.writes += 1;
    for (let offset = 0, b = block; offset < data.length; offset += BLOCK_BYTES, b += 1) {
      data.writeUInt32BE(MAGIC, offset);
      data.writeUInt32BE(b, offset + 4);
      data.writeUInt32BE(this.writes, offset + 8);
    }
    return data;
  }
}

/** Says what is wrong when `data` does not hold the blocks from `block` on; undefined when it does. */
export function wrongStamp(data: Buffer, block: number): string | undefined {
  for (let offset = 0, b = block; offset < data.length; offset += BLOCK_BYTES, b += 1) {
    if (data.readUInt32BE(offset) !== MAGIC || data.readUInt32BE(offset + 4) !== b) {
      return `block ${b} holds foreign bytes: ${data.toString('hex', offset, offset + 16)}`;
    }
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
