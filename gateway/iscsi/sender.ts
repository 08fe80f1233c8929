import { KIB, MIB } from '../base/units.ts';
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
  /** Nothing comes behind what was written. */
  end(): void;
}

/**
 * Pieces of at least this size are sent without copying: BlockDevice promises that they never change. Smaller ones
 * are copied, which is cheaper than a system call's worth of bookkeeping for each, and may be reused by the device.
 */
export const REFERENCED_PIECE_BYTES = 64 * KIB;

/**
 * Given to the socket at once, at least: it tells that it has taken something only when it has taken all of that, and a
 * peer on a slow line must be told from one that takes nothing.
 */
export const HANDED_BYTES = MIB;

/** Holds the longest data segment that is usual, with its header. */
const ARENA_BYTES = 260 * KIB;
/** Arenas kept for reuse by one connection, as long as it is busy: a queue of eight long reads. */
const MAX_SPARE_ARENAS = 8;
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
  /** Arenas that were filled since the kernel had last taken everything; those before the last MAX_SPARE_ARENAS are left to the collector. */
  readonly #full: Buffer[] = [];
  /** Flushed, and not handed to the socket yet: it has not taken what it was handed before. */
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #handedBytes = 0;
  #handing = false;
  /** The kernel has not taken everything at once. */
  #behind = false;
  #isEnding = false;
  readonly #taken: () => void;
  readonly #spare: Buffer[] = [];

  /** `onTaken` is called some time after the kernel has taken what a `flush` could not hand it at once. */
  constructor(socket: OutgoingSocket, onTaken: () => void) {
    this.#socket = socket;
    this.#taken = () => {
      if (!this.#behind || this.#handing || socket.writableLength > 0) return;
      this.#handWaiting();
      if (this.#waitingBytes > 0 || socket.writableLength > 0) return;
      if (this.#gathered === 0) this.#reuseArenas();
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
    return this.#gathered + this.#waitingBytes + this.#socket.writableLength;
  }

  /** Bytes the kernel has taken since the beginning; grows in steps of up to HANDED_BYTES. */
  get takenBytes(): number {
    return this.#handedBytes - this.#socket.writableLength;
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

  /**
   * Room for a header and `bytes` of data behind it at the returned offset of `arena`, for a PDU that may come to nothing: only `add`
   * makes it one. -1 when it has to be put together piece by piece: it is too long, or there are digests.
   */
  roomFor(bytes: number): number {
    if (this.#headerDigest || this.#dataDigest || HEADER_BYTES + bytes > ARENA_BYTES) return -1;
    this.#reserve(HEADER_BYTES + bytes);
    return this.#used;
  }

  /** The PDU that `roomFor` gave room for is there; its data needs no padding. */
  add(bytes: number): void {
    this.#used += HEADER_BYTES + bytes;
    this.#gathered += HEADER_BYTES + bytes;
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
    if (this.#gathered === 0) return this.backlogBytes === 0;
    this.#closeRegion();
    const pieces = this.#pieces;
    const bytes = this.#gathered;
    this.#pieces = [];
    this.#gathered = 0;
    if (!this.#socket.writable) return true;
    if (this.#waitingBytes === 0 && bytes <= HANDED_BYTES && this.#socket.writableLength === 0) {
      this.#hand(pieces, bytes);
    } else {
      for (const piece of pieces) this.#waiting.push(piece);
      this.#waitingBytes += bytes;
      this.#handWaiting();
    }
    return this.#reuseArenas();
  }

  /** Ends the socket behind everything that was flushed, also what waits for it. */
  end(): void {
    this.#isEnding = true;
    if (this.#waitingBytes === 0) this.#socket.end();
  }

  #hand(pieces: readonly Buffer[], bytes: number): void {
    this.#handedBytes += bytes;
    const [only] = pieces;
    if (pieces.length === 1 && only !== undefined) {
      this.#socket.write(only, this.#taken);
    } else {
      this.#socket.cork();
      for (const piece of pieces) this.#socket.write(piece, this.#taken);
      this.#socket.uncork();
    }
  }

  /** Hands over what waits, part by part, as long as the kernel takes it at once. */
  #handWaiting(): void {
    let next = 0;
    this.#handing = true;
    while (next < this.#waiting.length && this.#socket.writable && this.#socket.writableLength === 0) {
      const first = next;
      let bytes = 0;
      while (next < this.#waiting.length && bytes < HANDED_BYTES) {
        bytes += this.#waiting[next]?.length ?? 0;
        next += 1;
      }
      this.#waitingBytes -= bytes;
      this.#hand(this.#waiting.slice(first, next), bytes);
    }
    this.#handing = false;
    if (this.#isEnding && this.#waitingBytes === 0) this.#socket.end();
    if (next === this.#waiting.length) this.#waiting = [];
    else if (next > 0) this.#waiting = this.#waiting.slice(next);
  }

  /** When the kernel has taken everything, and nothing is gathered, the arenas are free again. */
  #reuseArenas(): boolean {
    const taken = this.#waitingBytes === 0 && this.#socket.writableLength === 0;
    if (taken) {
      this.#used = 0;
      this.#unsent = 0;
      while (this.#full.length > 0 && this.#spare.length < MAX_SPARE_ARENAS)
        this.#spare.push(this.#full.pop() ?? NO_ARENA);
      this.#full.length = 0;
    }
    this.#behind = !taken;
    return taken;
  }

  /** Nothing has been sent for a while: the memory for it is given back. */
  rest(): void {
    this.#spare.length = 0;
    if (this.backlogBytes > 0) return;
    this.#arena = NO_ARENA;
    this.#used = 0;
    this.#unsent = 0;
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
    if (this.#full.length > MAX_SPARE_ARENAS) this.#full.shift();
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
