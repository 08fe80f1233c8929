import type { Socket } from 'node:net';

/** One turn of a deep queue of 4 KiB writes fits in one. */
const ARENA_BYTES = 256 * 1024;
/** Arenas that wait to be sent; a target that lets more than this pile up is not reading. */
const MAX_ARENAS = 512;

/**
 * What one turn sends, gathered by copying into an arena, so that the turn costs one write to the socket however many PDUs it has.
 * Large data goes from where it lies. `bytes` is where the caller puts the next PDU, at what `take` answered.
 */
export class LeanOutbox {
  bytes: Buffer = Buffer.allocUnsafeSlow(ARENA_BYTES);

  private readonly socket: Socket;
  private readonly free: Buffer[] = [];
  private arenas = 1;
  private from = 0;
  private end = 0;
  private pieces: Buffer[] = [];
  private used: Buffer[] = [];

  constructor(socket: Socket) {
    this.socket = socket;
  }

  /** Room for `length` bytes in `bytes`; answers where it starts. What was there before stays to be overwritten. */
  take(length: number): number {
    if (this.end + length > ARENA_BYTES) this.change();
    const at = this.end;
    this.end += length;
    return at;
  }

  /** Sends `data` itself next; it must stay as it is until its write is answered. */
  append(data: Buffer): void {
    this.cut();
    this.pieces.push(data);
  }

  /** Sends what has been gathered. */
  flush(): void {
    this.cut();
    const { pieces, used } = this;
    const [first] = pieces;
    if (first === undefined || this.socket.destroyed) return;
    // The arena that was cut from is not written to again before the kernel has what is in it.
    used.push(this.bytes);
    this.bytes = this.another();
    this.from = this.end = 0;
    this.pieces = [];
    this.used = [];
    const sent = (): void => {
      for (const arena of used) this.free.push(arena);
    };
    if (pieces.length === 1) {
      this.socket.write(first, sent);
      return;
    }
    this.socket.cork();
    for (const [index, piece] of pieces.entries()) {
      if (index === pieces.length - 1) this.socket.write(piece, sent);
      else this.socket.write(piece);
    }
    this.socket.uncork();
  }

  private cut(): void {
    if (this.end === this.from) return;
    this.pieces.push(this.bytes.subarray(this.from, this.end));
    this.from = this.end;
  }

  private change(): void {
    this.cut();
    this.used.push(this.bytes);
    this.bytes = this.another();
    this.from = this.end = 0;
  }

  private another(): Buffer {
    const free = this.free.pop();
    if (free !== undefined) return free;
    this.arenas += 1;
    if (this.arenas > MAX_ARENAS) throw new Error('the target does not take what the load generator sends');
    return Buffer.allocUnsafeSlow(ARENA_BYTES);
  }
}
