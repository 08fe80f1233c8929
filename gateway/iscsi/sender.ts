import { KIB } from '../base/units.ts';
import { DIGEST_BYTES, HEADER_BYTES } from './constants.ts';
import { crc32c } from './digest.ts';

/** The part of a socket that sends. */
export interface OutgoingSocket {
  readonly writable: boolean;
  /** Bytes the kernel has not taken yet. */
  readonly writableLength: number;
  cork(): void;
  uncork(): void;
  /** `taken` is called, not before the next turn, when the kernel has taken these bytes and all before them. */
  write(bytes: Buffer, taken: () => void): boolean;
}

/**
 * Pieces of at least this size are sent without copying: BlockDevice promises that they never change. Smaller ones
 * are copied, which is cheaper than a system call's worth of bookkeeping for each, and may be reused by the device.
 */
export const REFERENCED_PIECE_BYTES = 64 * KIB;

const ARENA_BYTES = 256 * KIB;
/** Arenas kept for reuse by one connection. */
const MAX_SPARE_ARENAS = 2;
const NO_ARENA = Buffer.alloc(0);
const PADDING = Buffer.alloc(3);

/**
 * Gathers what one turn of the event loop sends and gives it to the socket in one go. Headers and small data lie one
 * after the other in arenas, which are reused as soon as the kernel has taken everything.
 */
export class Sender {
  readonly #socket: OutgoingSocket;
  #headerDigest = false;
  #dataDigest = false;
  /** Made when it is first needed: a connection that never logs in costs little. */
  #arena: Buffer = NO_ARENA;
  #used = 0;
  /** Start of what is not yet among the pieces. */
  #unsent = 0;
  #pieces: Buffer[] = [];
  #gathered = 0;
  #full: Buffer[] = [];
  /** The kernel has not taken everything at once. */
  #behind = false;
  readonly #taken: () => void;
  readonly #spare: Buffer[] = [];

  /** `onTaken` is called some time after the kernel has taken what a `flush` could not hand it at once. */
  constructor(socket: OutgoingSocket, onTaken: () => void) {
    this.#socket = socket;
    this.#taken = () => {
      if (!this.#behind || socket.writableLength > 0) return;
      this.#behind = false;
      onTaken();
    };
  }

  /** Digests hold from the next PDU on. */
  setDigests(header: boolean, data: boolean): void {
    this.#headerDigest = header;
    this.#dataDigest = data;
  }

  /** Bytes gathered or waiting for the kernel. */
  get backlogBytes(): number {
    return this.#gathered + this.#socket.writableLength;
  }

  get hasGathered(): boolean {
    return this.#gathered > 0;
  }

  /** The buffer that `header` gives places in; changes with the next call. */
  get arena(): Buffer {
    return this.#arena;
  }

  /** Room for a basic header segment at the returned offset of `arena`; fill it, then call `closeHeader`. */
  openHeader(): number {
    this.#reserve(HEADER_BYTES + DIGEST_BYTES);
    const at = this.#used;
    this.#used += HEADER_BYTES;
    this.#gathered += HEADER_BYTES;
    return at;
  }

  closeHeader(at: number): void {
    if (!this.#headerDigest) return;
    const crc = crc32c(this.#arena.subarray(at, at + HEADER_BYTES), 0);
    this.#used = this.#arena.writeUInt32LE(crc, this.#used);
    this.#gathered += DIGEST_BYTES;
  }

  /** The data segment of the PDU whose header was just closed: pieces, padding, digest. */
  data(pieces: readonly Buffer[], bytes: number): void {
    if (bytes === 0) return;
    let crc = 0;
    for (const piece of pieces) {
      if (this.#dataDigest) crc = crc32c(piece, crc);
      this.#append(piece);
    }
    const padding = -bytes & 3;
    if (padding > 0) {
      const zeros = PADDING.subarray(0, padding);
      if (this.#dataDigest) crc = crc32c(zeros, crc);
      this.#append(zeros);
    }
    if (!this.#dataDigest) return;
    this.#reserve(DIGEST_BYTES);
    this.#used = this.#arena.writeUInt32LE(crc, this.#used);
    this.#gathered += DIGEST_BYTES;
  }

  /** Hands everything to the socket, in one system call if the kernel has room. False when it has not: `onTaken` follows. */
  flush(): boolean {
    if (this.#gathered === 0) return this.#socket.writableLength === 0;
    this.#closeRegion();
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#gathered = 0;
    if (!this.#socket.writable) return true;
    const [only] = pieces;
    if (pieces.length === 1 && only !== undefined) {
      this.#socket.write(only, this.#taken);
    } else {
      this.#socket.cork();
      for (const piece of pieces) this.#socket.write(piece, this.#taken);
      this.#socket.uncork();
    }
    return this.#reuseArenas();
  }

  /** When the kernel has taken everything, the arenas are free again. */
  #reuseArenas(): boolean {
    const taken = this.#socket.writableLength === 0;
    if (taken) {
      this.#used = 0;
      this.#unsent = 0;
      for (const arena of this.#full) if (this.#spare.length < MAX_SPARE_ARENAS) this.#spare.push(arena);
    }
    this.#full = [];
    this.#behind = !taken;
    return taken;
  }

  #append(piece: Buffer): void {
    this.#gathered += piece.length;
    if (piece.length >= REFERENCED_PIECE_BYTES) {
      this.#closeRegion();
      this.#pieces.push(piece);
      return;
    }
    let done = 0;
    while (done < piece.length) {
      if (this.#used === this.#arena.length) this.#nextArena();
      const copied = piece.copy(this.#arena, this.#used, done);
      this.#used += copied;
      done += copied;
    }
  }

  #reserve(bytes: number): void {
    if (this.#used + bytes > this.#arena.length) this.#nextArena();
  }

  #nextArena(): void {
    this.#closeRegion();
    if (this.#arena !== NO_ARENA) this.#full.push(this.#arena);
    this.#arena = this.#spare.pop() ?? Buffer.allocUnsafeSlow(ARENA_BYTES);
    this.#used = 0;
    this.#unsent = 0;
  }

  #closeRegion(): void {
    if (this.#used === this.#unsent) return;
    this.#pieces.push(this.#arena.subarray(this.#unsent, this.#used));
    this.#unsent = this.#used;
  }
}
