import { crc32c } from '@node-rs/crc32';
import { FarshoreError } from '../base/errors.ts';
import { BHS_BYTES, DIGEST_BYTES, additionalHeaderBytes, dataSegmentLength, paddingOf } from './wire.ts';

export interface PduHandler {
  /**
   * Where a data segment that arrives in several chunks goes: exactly `length` bytes, undefined to have it collected, or
   * 'drop' when nobody wants it.
   * Only called for such segments; `header` lasts for the call.
   */
  destination(header: Buffer, at: number, length: number): Buffer | 'drop' | undefined;
  /**
   * A whole PDU, digests checked. Its data is `data[dataAt, dataAt + dataLength)`, valid during the call; `placed` says
   * that it lies where `destination` wanted it already.
   */
  pdu(header: Buffer, at: number, data: Buffer, dataAt: number, dataLength: number, placed: boolean): void;
}

const EMPTY = Buffer.alloc(0);

/** Cuts the byte stream of a connection into PDUs, wherever the chunks happen to end (RFC 7143 section 11.1). */
export class InboundFramer {
  headerDigest = false;
  dataDigest = false;

  private readonly handler: PduHandler;
  private readonly maxDataSegment: number;
  /** Header and trailer of a PDU that does not lie in one chunk. */
  private readonly header = Buffer.alloc(BHS_BYTES);
  private headerFilled = 0;
  /** Set once the header of such a PDU is whole. */
  private inBody = false;
  private data: Buffer = EMPTY;
  private placed = false;
  /** The data segment is only counted. */
  private dropping = false;
  private dataFilled = 0;
  private dataLength = 0;
  /** Additional header segments and header digest still to come, then padding and data digest. */
  private readonly extra = Buffer.alloc(255 * 4 + DIGEST_BYTES);
  private extraFilled = 0;
  private extraLength = 0;
  private readonly trailer = Buffer.alloc(3 + DIGEST_BYTES);
  private trailerFilled = 0;
  private trailerLength = 0;

  /** `maxDataSegment` is what we declared as MaxRecvDataSegmentLength; more is a protocol error. */
  constructor(handler: PduHandler, maxDataSegment: number) {
    this.handler = handler;
    this.maxDataSegment = maxDataSegment;
  }

  /** Takes the next bytes of the stream; the handler is called for every PDU they complete. Throws `damaged`. */
  push(chunk: Buffer, from: number, to: number): void {
    let at = from;
    while (at < to) {
      if (!this.inBody && this.headerFilled === 0 && to - at >= BHS_BYTES) {
        const next = this.wholePdu(chunk, at, to);
        if (next > 0) {
          at = next;
          continue;
        }
      }
      at = this.partialPdu(chunk, at, to);
    }
  }

  /** Handles the PDU at `at` if it ends before `to`, and returns its end; 0 otherwise. */
  private wholePdu(chunk: Buffer, at: number, to: number): number {
    const length = this.checkedLength(chunk, at);
    const headerEnd = at + BHS_BYTES + additionalHeaderBytes(chunk, at);
    const dataAt = headerEnd + (this.headerDigest ? DIGEST_BYTES : 0);
    const dataEnd = dataAt + length + paddingOf(length);
    const end = dataEnd + (this.dataDigest && length > 0 ? DIGEST_BYTES : 0);
    if (end > to) return 0;
    if (this.headerDigest) verify('header', crc32c(chunk.subarray(at, headerEnd)), chunk.readUInt32LE(headerEnd));
    if (end > dataEnd) verify('data', crc32c(chunk.subarray(dataAt, dataEnd)), chunk.readUInt32LE(dataEnd));
    this.handler.pdu(chunk, at, chunk, dataAt, length, false);
    return end;
  }

  /** Takes what `chunk` has of the PDU under way; returns where it stopped. */
  private partialPdu(chunk: Buffer, from: number, to: number): number {
    let at = from;
    if (!this.inBody) {
      const taken = Math.min(BHS_BYTES - this.headerFilled, to - at);
      chunk.copy(this.header, this.headerFilled, at, at + taken);
      this.headerFilled += taken;
      at += taken;
      if (this.headerFilled < BHS_BYTES) return at;
      this.startBody();
    }
    if (this.extraFilled < this.extraLength) {
      const taken = Math.min(this.extraLength - this.extraFilled, to - at);
      chunk.copy(this.extra, this.extraFilled, at, at + taken);
      this.extraFilled += taken;
      at += taken;
      if (this.extraFilled < this.extraLength) return at;
      this.headerIsWhole();
    }
    if (this.dataFilled < this.dataLength) {
      const taken = Math.min(this.dataLength - this.dataFilled, to - at);
      if (!this.dropping) chunk.copy(this.data, this.dataFilled, at, at + taken);
      this.dataFilled += taken;
      at += taken;
      if (this.dataFilled < this.dataLength) return at;
    }
    if (this.trailerFilled < this.trailerLength) {
      const taken = Math.min(this.trailerLength - this.trailerFilled, to - at);
      chunk.copy(this.trailer, this.trailerFilled, at, at + taken);
      this.trailerFilled += taken;
      at += taken;
      if (this.trailerFilled < this.trailerLength) return at;
    }
    this.finishBody();
    return at;
  }

  private startBody(): void {
    this.inBody = true;
    this.dataLength = this.checkedLength(this.header, 0);
    this.dataFilled = 0;
    this.extraFilled = 0;
    this.extraLength = additionalHeaderBytes(this.header, 0) + (this.headerDigest ? DIGEST_BYTES : 0);
    this.trailerFilled = 0;
    this.trailerLength = paddingOf(this.dataLength) + (this.dataDigest && this.dataLength > 0 ? DIGEST_BYTES : 0);
    if (this.extraLength === 0) this.headerIsWhole();
  }

  /** Checks the header digest before the header is trusted with choosing a destination. */
  private headerIsWhole(): void {
    if (this.headerDigest) {
      const additional = this.extraLength - DIGEST_BYTES;
      let digest = crc32c(this.header);
      if (additional > 0) digest = crc32c(this.extra.subarray(0, additional), digest);
      verify('header', digest, this.extra.readUInt32LE(additional));
    }
    this.data = EMPTY;
    this.placed = false;
    this.dropping = false;
    if (this.dataLength === 0) return;
    const chosen = this.handler.destination(this.header, 0, this.dataLength);
    // The digest needs the bytes even when nobody else does.
    this.dropping = chosen === 'drop' && !this.dataDigest;
    this.placed = chosen !== undefined;
    if (!this.dropping) this.data = chosen instanceof Buffer ? chosen : Buffer.allocUnsafe(this.dataLength);
  }

  private finishBody(): void {
    if (this.dataDigest && this.dataLength > 0) {
      const padding = this.trailerLength - DIGEST_BYTES;
      let digest = crc32c(this.data.subarray(0, this.dataLength));
      if (padding > 0) digest = crc32c(this.trailer.subarray(0, padding), digest);
      verify('data', digest, this.trailer.readUInt32LE(padding));
    }
    const { data, dataLength, placed } = this;
    this.inBody = false;
    this.headerFilled = 0;
    this.data = EMPTY;
    this.handler.pdu(this.header, 0, data, 0, dataLength, placed);
  }

  private checkedLength(header: Buffer, at: number): number {
    const length = dataSegmentLength(header, at);
    if (length > this.maxDataSegment) {
      throw new FarshoreError(
        'damaged',
        `the target sent a data segment of ${length} bytes, more than the ${this.maxDataSegment} it was allowed`,
      );
    }
    return length;
  }
}

function verify(what: string, computed: number, received: number): void {
  if (computed >>> 0 !== received >>> 0) {
    throw new FarshoreError('damaged', `the ${what} digest of a PDU from the target does not match`);
  }
}
