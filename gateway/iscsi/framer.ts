import { KIB } from '../base/units.ts';
import { DIGEST_BYTES, HEADER_BYTES, REQUEST } from './constants.ts';
import { crc32c } from './digest.ts';
import { additionalHeaderBytes, dataLengthOf } from './requests.ts';

/** Why a byte stream cannot be followed any further: the connection has to be dropped. */
export type FramingError = 'header-digest' | 'data-too-long' | 'unexpected-ahs';

export interface FramerEvents {
  /**
   * Where the data segment of a PDU that has only partly arrived should go: a buffer of exactly `bytes`, or undefined
   * for a fresh one. Called when its header is whole and checked; `pdu` follows when the rest is there.
   */
  destination(header: Buffer, bytes: number): Buffer | undefined;
  /**
   * A whole PDU. `header` has its first 48 bytes, `additional` the additional header segments. `data` is inside a
   * received chunk, or the buffer `destination` gave, or fresh. The headers are valid during the call only; the data for as long as
   * whoever gave the memory leaves it alone.
   * `intact` is false when the data digest is wrong.
   */
  pdu(header: Buffer, additional: Buffer, data: Buffer, intact: boolean): void;
  /** Nothing is delivered after it. */
  error(error: FramingError): void;
}

export interface FramerLimits {
  /** Longest data segment, without padding. */
  readonly maxDataBytes: number;
  readonly headerDigest: boolean;
  readonly dataDigest: boolean;
}

const NOTHING = Buffer.alloc(0);

/** Additional header segments are at most 255 words (RFC 7143 11.2.1.5). */
const MAX_HEADER_BYTES = HEADER_BYTES + 255 * 4 + DIGEST_BYTES;

/** Shorter rests cost less to copy than to receive on their own. */
const MIN_WANTED_BYTES = 32 * KIB;

/** What is being waited for: the rest of a header, or the rest of the data segment with its padding and digest. */
type State = 'header' | 'data';

/**
 * Cuts a byte stream into PDUs (RFC 7143 11.1, 11.2). PDUs that lie within one chunk are delivered in place; longer
 * ones are gathered, their data straight into its destination. Limits are checked before anything else is looked at.
 */
export class Framer {
  readonly #events: FramerEvents;
  #limits: FramerLimits;
  #state: State = 'header';
  #stopped = false;
  readonly #header = Buffer.alloc(MAX_HEADER_BYTES);
  #headerBytes = 0;
  #data: Buffer = NOTHING;
  #dataBytes = 0;
  /** Padding and data digest. */
  readonly #trailer = Buffer.alloc(3 + DIGEST_BYTES);
  #trailerBytes = 0;
  #unfinished = 0;

  constructor(events: FramerEvents, limits: FramerLimits) {
    this.#events = events;
    this.#limits = limits;
  }

  /** New limits hold from the next PDU on (a login has been completed). */
  setLimits(limits: FramerLimits): void {
    this.#limits = limits;
  }

  /**
   * How many PDUs have begun without being whole at once, if one of those is not whole yet: the same number again means
   * the same PDU. 0: none is under way.
   */
  get unfinished(): number {
    return this.#headerBytes === 0 ? 0 : this.#unfinished;
  }

  /** Delivers nothing any more. */
  stop(): void {
    this.#stopped = true;
    this.#data = NOTHING;
  }

  /**
   * Where the next bytes of the stream belong if they are the rest of a long data segment, and may be received into without a copy; `filled` follows
   * when there are some. Undefined: they are to be pushed.
   */
  get wanted(): Buffer | undefined {
    const missing = this.#state === 'data' ? this.#data.length - this.#dataBytes : 0;
    return missing >= MIN_WANTED_BYTES ? this.#data.subarray(this.#dataBytes) : undefined;
  }

  /** The first bytes of `wanted` are there. */
  filled(bytes: number): void {
    if (this.#stopped) return;
    this.#dataBytes += bytes;
    if (this.#dataBytes === this.#data.length && this.#segmentBytes(this.#data.length) === this.#data.length) {
      this.#finish(this.#data, true);
    }
  }

  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && !this.#stopped) {
      if (this.#state === 'data') {
        at = this.#gatherData(chunk, at);
        continue;
      }
      const whole = this.#headerBytes === 0 ? this.#deliverInPlace(chunk, at) : 0;
      at = whole > 0 ? at + whole : this.#gatherHeader(chunk, at);
    }
  }

  /** Delivers the PDU that starts at `at` if all of it is in the chunk; its length, or 0. */
  #deliverInPlace(chunk: Buffer, at: number): number {
    const present = chunk.length - at;
    if (present < HEADER_BYTES) return 0;
    const additionalBytes = additionalHeaderBytes(chunk, at);
    const dataBytes = dataLengthOf(chunk, at);
    const headerEnd = HEADER_BYTES + additionalBytes + (this.#limits.headerDigest ? DIGEST_BYTES : 0);
    const total = headerEnd + this.#segmentBytes(dataBytes);
    if (present < total) return 0;
    const header = chunk.subarray(at, at + HEADER_BYTES);
    if (!this.#checkLimits(header)) return total;
    if (this.#limits.headerDigest && !this.#checkHeaderDigest(chunk, at, HEADER_BYTES + additionalBytes)) return total;
    const additional =
      additionalBytes === 0 ? NOTHING : chunk.subarray(at + HEADER_BYTES, at + HEADER_BYTES + additionalBytes);
    if (dataBytes === 0) {
      this.#events.pdu(header, additional, NOTHING, true);
      return total;
    }
    const dataAt = at + headerEnd;
    const data = chunk.subarray(dataAt, dataAt + dataBytes);
    const intact =
      !this.#limits.dataDigest ||
      crc32c(chunk.subarray(dataAt, at + total - DIGEST_BYTES), 0) === chunk.readUInt32LE(at + total - DIGEST_BYTES);
    this.#events.pdu(header, additional, data, intact);
    return total;
  }

  /** Takes header bytes from the chunk; the position after them. */
  #gatherHeader(chunk: Buffer, at: number): number {
    let from = at;
    if (this.#headerBytes === 0) this.#unfinished += 1;
    // First the fixed part, which tells how long the rest is.
    for (;;) {
      const wanted = this.#headerBytes < HEADER_BYTES ? HEADER_BYTES : this.#wholeHeaderBytes();
      const count = Math.min(wanted - this.#headerBytes, chunk.length - from);
      chunk.copy(this.#header, this.#headerBytes, from, from + count);
      this.#headerBytes += count;
      from += count;
      if (this.#headerBytes < wanted) return from;
      if (this.#headerBytes === HEADER_BYTES && !this.#checkLimits(this.#header)) return from;
      if (this.#headerBytes === this.#wholeHeaderBytes()) break;
    }
    const digested = HEADER_BYTES + additionalHeaderBytes(this.#header, 0);
    if (this.#limits.headerDigest && !this.#checkHeaderDigest(this.#header, 0, digested)) return from;
    const dataBytes = dataLengthOf(this.#header, 0);
    if (dataBytes === 0) {
      this.#finish(NOTHING, true);
      return from;
    }
    this.#state = 'data';
    this.#data =
      this.#events.destination(this.#header.subarray(0, HEADER_BYTES), dataBytes) ?? Buffer.allocUnsafeSlow(dataBytes);
    this.#dataBytes = 0;
    this.#trailerBytes = 0;
    return from;
  }

  /** Takes data, padding and digest bytes from the chunk; the position after them. */
  #gatherData(chunk: Buffer, at: number): number {
    let from = at;
    const missing = this.#data.length - this.#dataBytes;
    if (missing > 0) {
      const count = Math.min(missing, chunk.length - from);
      chunk.copy(this.#data, this.#dataBytes, from, from + count);
      this.#dataBytes += count;
      from += count;
      if (count < missing) return from;
    }
    const trailerBytes = this.#segmentBytes(this.#data.length) - this.#data.length;
    const count = Math.min(trailerBytes - this.#trailerBytes, chunk.length - from);
    chunk.copy(this.#trailer, this.#trailerBytes, from, from + count);
    this.#trailerBytes += count;
    from += count;
    if (this.#trailerBytes < trailerBytes) return from;
    this.#finish(this.#data, !this.#limits.dataDigest || this.#dataIsIntact(trailerBytes - DIGEST_BYTES));
    return from;
  }

  #finish(data: Buffer, intact: boolean): void {
    const header = this.#header.subarray(0, HEADER_BYTES);
    const additionalBytes = additionalHeaderBytes(header, 0);
    const additional =
      additionalBytes === 0 ? NOTHING : this.#header.subarray(HEADER_BYTES, HEADER_BYTES + additionalBytes);
    this.#state = 'header';
    this.#headerBytes = 0;
    this.#data = NOTHING;
    this.#events.pdu(header, additional, data, intact);
  }

  #wholeHeaderBytes(): number {
    return HEADER_BYTES + additionalHeaderBytes(this.#header, 0) + (this.#limits.headerDigest ? DIGEST_BYTES : 0);
  }

  /** Data, padding to a multiple of four, digest; nothing at all without data. */
  #segmentBytes(dataBytes: number): number {
    if (dataBytes === 0) return 0;
    return ((dataBytes + 3) & ~3) + (this.#limits.dataDigest ? DIGEST_BYTES : 0);
  }

  #checkLimits(header: Buffer): boolean {
    if (dataLengthOf(header, 0) > this.#limits.maxDataBytes) return this.#fail('data-too-long');
    // Only SCSI commands have additional header segments (RFC 7143 11.2.2).
    const isCommand = (header.readUInt8(0) & 0x3f) === REQUEST.scsiCommand;
    if (additionalHeaderBytes(header, 0) > 0 && !isCommand) return this.#fail('unexpected-ahs');
    return true;
  }

  #checkHeaderDigest(bytes: Buffer, at: number, length: number): boolean {
    if (crc32c(bytes.subarray(at, at + length), 0) === bytes.readUInt32LE(at + length)) return true;
    return this.#fail('header-digest');
  }

  #dataIsIntact(paddingBytes: number): boolean {
    const crc = crc32c(this.#trailer.subarray(0, paddingBytes), crc32c(this.#data, 0));
    return crc === this.#trailer.readUInt32LE(paddingBytes);
  }

  #fail(error: FramingError): false {
    this.stop();
    this.#events.error(error);
    return false;
  }
}
