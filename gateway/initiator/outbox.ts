import type { Socket } from 'node:net';
import { crc32c } from '@node-rs/crc32';
import { BHS_BYTES, DIGEST_BYTES, paddingOf, writeDataSegmentLength } from './wire.ts';

/** Headers, digests and padding are carved from slabs; one slab is a few hundred PDUs. */
const SLAB_BYTES = 64 * 1024;
/** Longest run one PDU takes from a slab: header, header digest, padding, data digest. */
const SLAB_HEADROOM = BHS_BYTES + DIGEST_BYTES + 3 + DIGEST_BYTES;

/**
 * Collects the PDUs of one turn and sends them with a single writev: neighbouring headers become one piece and data
 * segments are sent from where they lie, without a copy. A data segment must stay unchanged until its command is answered.
 */
export class Outbox {
  headerDigest = false;
  dataDigest = false;

  private readonly socket: Socket;
  private slab: Buffer = Buffer.alloc(SLAB_BYTES);
  /** Start of the slab bytes that are not yet in `pieces`. */
  private pendingFrom = 0;
  private slabEnd = 0;
  private pieces: Buffer[] = [];
  private scheduled = false;
  /** While the receive callback runs it flushes at its end, so nothing needs to be scheduled. */
  private held = false;

  constructor(socket: Socket) {
    this.socket = socket;
  }

  /** A zeroed header to fill in: `begin()` gives its offset in `buffer()`; `finish` completes the PDU. */
  begin(): number {
    if (this.slabEnd + SLAB_HEADROOM > SLAB_BYTES) {
      this.closePiece();
      this.slab = Buffer.alloc(SLAB_BYTES);
      this.pendingFrom = 0;
      this.slabEnd = 0;
    }
    const at = this.slabEnd;
    this.slabEnd += BHS_BYTES;
    return at;
  }

  buffer(): Buffer {
    return this.slab;
  }

  /** Ends the PDU begun at `at`, which carries `data[from, from + length)`. */
  finish(at: number, data: Buffer | undefined, from: number, length: number): void {
    if (length > 0) writeDataSegmentLength(this.slab, at, length);
    if (this.headerDigest) {
      this.slab.writeUInt32LE(crc32c(this.slab.subarray(at, at + BHS_BYTES)), this.slabEnd);
      this.slabEnd += DIGEST_BYTES;
    }
    if (data !== undefined && length > 0) {
      this.closePiece();
      const segment = from === 0 && length === data.length ? data : data.subarray(from, from + length);
      this.pieces.push(segment);
      const padding = paddingOf(length);
      const paddingAt = this.slabEnd;
      this.slabEnd += padding;
      if (this.dataDigest) {
        let digest = crc32c(segment);
        if (padding > 0) digest = crc32c(this.slab.subarray(paddingAt, paddingAt + padding), digest);
        this.slab.writeUInt32LE(digest, this.slabEnd);
        this.slabEnd += DIGEST_BYTES;
      }
    }
    if (!this.scheduled && !this.held) {
      this.scheduled = true;
      process.nextTick(() => {
        this.flush();
      });
    }
  }

  hold(): void {
    this.held = true;
  }

  /** Ends `hold` and sends what has gathered. */
  release(): void {
    this.held = false;
    this.flush();
  }

  flush(): void {
    this.scheduled = false;
    this.closePiece();
    const pieces = this.pieces;
    if (pieces.length === 0 || this.socket.destroyed) return;
    this.pieces = [];
    const first = pieces[0];
    if (pieces.length === 1 && first !== undefined) {
      this.socket.write(first);
      return;
    }
    this.socket.cork();
    for (const piece of pieces) this.socket.write(piece);
    this.socket.uncork();
  }

  private closePiece(): void {
    if (this.slabEnd === this.pendingFrom) return;
    this.pieces.push(this.slab.subarray(this.pendingFrom, this.slabEnd));
    this.pendingFrom = this.slabEnd;
  }
}
