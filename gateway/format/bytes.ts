import { FarshoreError, invariant } from '../base/errors.ts';

/** Everything in docs/FORMAT.md is little-endian; integers wider than 32 bits are unsigned and at most 2^53 - 1. */
const TWO_32 = 2 ** 32;

/** The error of every decoder here: `what` is the thing being decoded, `detail` says what is wrong and where. */
export function damaged(what: string, detail: string, cause?: unknown): FarshoreError {
  return new FarshoreError('damaged', `${what} is damaged: ${detail}`, cause === undefined ? undefined : { cause });
}

/** Reads fields one after the other, never past `end`; a field that does not fit is `damaged`. */
export class ByteReader {
  readonly bytes: Buffer;
  readonly what: string;
  readonly end: number;
  position: number;

  constructor(bytes: Buffer, what: string, start = 0, end: number = bytes.length) {
    invariant(start >= 0 && start <= end && end <= bytes.length, 'a reader lies within its buffer');
    this.bytes = bytes;
    this.what = what;
    this.position = start;
    this.end = end;
  }

  /** Claims `count` bytes and answers where they start. */
  take(count: number, field: string): number {
    const at = this.position;
    if (count > this.end - at) {
      throw damaged(this.what, `${field} at byte ${at} needs ${count} bytes and ${this.end - at} are left`);
    }
    this.position = at + count;
    return at;
  }

  u8(field: string): number {
    return this.bytes.readUInt8(this.take(1, field));
  }

  u16(field: string): number {
    return this.bytes.readUInt16LE(this.take(2, field));
  }

  u32(field: string): number {
    return this.bytes.readUInt32LE(this.take(4, field));
  }

  u48(field: string): number {
    return this.bytes.readUIntLE(this.take(6, field), 6);
  }

  u64(field: string): number {
    const at = this.take(8, field);
    const value = this.bytes.readUInt32LE(at + 4) * TWO_32 + this.bytes.readUInt32LE(at);
    if (!Number.isSafeInteger(value)) throw damaged(this.what, `${field} at byte ${at} is above 2^53 - 1`);
    return value;
  }

  /** A copy, so that a small field does not keep a large object alive. */
  copy(count: number, field: string): Buffer {
    const at = this.take(count, field);
    return Buffer.from(this.bytes.subarray(at, at + count));
  }

  /** A view of the reader's buffer. */
  view(count: number, field: string): Buffer {
    const at = this.take(count, field);
    return this.bytes.subarray(at, at + count);
  }

  /** One byte of length, then that many bytes of ASCII matching `pattern`. */
  text(field: string, pattern: RegExp): string {
    const length = this.u8(field);
    const at = this.take(length, field);
    const value = this.bytes.toString('latin1', at, at + length);
    if (!pattern.test(value)) throw damaged(this.what, `${field} at byte ${at} is not a valid one`);
    return value;
  }

  /** Refuses a value the format does not allow. */
  check(condition: boolean, detail: string): void {
    if (!condition) throw damaged(this.what, detail);
  }

  finish(): void {
    if (this.position !== this.end) {
      throw damaged(this.what, `${this.end - this.position} bytes too many after byte ${this.position}`);
    }
  }
}

/** Writes fields one after the other into a buffer that was sized exactly beforehand. */
export class ByteWriter {
  readonly bytes: Buffer;
  position = 0;

  constructor(size: number) {
    this.bytes = Buffer.alloc(size);
  }

  u8(value: number): this {
    this.position = this.bytes.writeUInt8(value, this.position);
    return this;
  }

  u16(value: number): this {
    this.position = this.bytes.writeUInt16LE(value, this.position);
    return this;
  }

  u32(value: number): this {
    this.position = this.bytes.writeUInt32LE(value, this.position);
    return this;
  }

  u48(value: number): this {
    this.position = this.bytes.writeUIntLE(value, this.position, 6);
    return this;
  }

  u64(value: number): this {
    invariant(Number.isSafeInteger(value) && value >= 0, `${value} is a non-negative safe integer`);
    this.u32(value % TWO_32);
    return this.u32(Math.floor(value / TWO_32));
  }

  raw(value: Uint8Array): this {
    invariant(value.length <= this.bytes.length - this.position, 'a field fits the buffer sized for it');
    this.bytes.set(value, this.position);
    this.position += value.length;
    return this;
  }

  /** Counterpart of ByteReader.text; `value` has been checked against its pattern. */
  text(value: string): this {
    this.u8(value.length);
    return this.raw(Buffer.from(value, 'latin1'));
  }

  /** The buffer, which must be full. */
  done(): Buffer {
    invariant(this.position === this.bytes.length, 'an encoder fills exactly the buffer it asked for');
    return this.bytes;
  }
}

/** Bytes of a text field. */
export function textBytes(value: string): number {
  return 1 + value.length;
}
