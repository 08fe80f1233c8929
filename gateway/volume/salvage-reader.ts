import { z } from 'zod';
import { crc32 } from '../base/crc32.ts';
import type { Disk, DiskFile } from '../base/disk.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber, type ByteCount, type WriteSeq } from '../base/units.ts';
import { KINDS, MAGIC, RECORD_BYTES } from './salvage.ts';

const PREFIX_BYTES = 16;
const MAX_HEADER_BYTES = 64 * 1024;
/** Read at a time. */
const WINDOW_BYTES: ByteCount = 1024 * 1024;

const header = z.strictObject({
  format: z.literal(1),
  lineage: z.string(),
  volume: z.string(),
  epoch: z.number().int().nonnegative(),
  logId: z.string(),
  after: z.number().int().nonnegative(),
});

/** Whose the writes are: see salvageTail. `logId` is `unknown` where the state file of the volume was gone; then the epoch says nothing. */
export type SalvageHeader = Readonly<z.infer<typeof header>>;

/** What is in a file, from its end alone. */
export interface SalvageSummary {
  readonly operations: number;
  /** Blocks written, each as often as it was. undefined in a file of an earlier release. */
  readonly blocks: BlockCount | undefined;
  readonly bytes: ByteCount;
}

/** One record, in the order of the writes. */
export type SalvagedRecord =
  | {
      readonly kind: 'write';
      readonly seq: WriteSeq;
      readonly block: BlockNumber;
      /** undefined: that it was written is known, its content is lost. */
      readonly data: Buffer | undefined;
    }
  | { readonly kind: 'unmap'; readonly seq: WriteSeq; readonly block: BlockNumber; readonly count: BlockCount }
  /** Of which blocks is lost. */
  | { readonly kind: 'lost-unmap'; readonly seq: WriteSeq };

/** Reads a salvage file. Everything rejects with `damaged` when the file is not whole, `stopped` when the disk fails. */
export class SalvageFile {
  readonly path: string;
  readonly header: SalvageHeader;
  readonly bytes: ByteCount;
  readonly #file: DiskFile;
  readonly #firstRecord: ByteCount;

  private constructor(path: string, file: DiskFile, read: SalvageHeader, bytes: ByteCount, firstRecord: ByteCount) {
    this.path = path;
    this.#file = file;
    this.header = read;
    this.bytes = bytes;
    this.#firstRecord = firstRecord;
  }

  /** Rejects with `not-found` too. */
  static async open(disk: Disk, path: string): Promise<SalvageFile> {
    const file = await disk.open(path, 'read');
    try {
      const bytes = await file.size();
      const prefix = Buffer.alloc(PREFIX_BYTES);
      if (bytes < PREFIX_BYTES) throw damaged(path, 'it is cut off');
      await file.read(prefix, 0);
      const headerBytes = prefix.readUInt32LE(8);
      const isOne = prefix.subarray(0, 8).equals(MAGIC) && headerBytes <= MAX_HEADER_BYTES;
      if (!isOne || PREFIX_BYTES + headerBytes + RECORD_BYTES > bytes)
        throw damaged(path, 'it is no salvage file, or cut off');
      const body = Buffer.alloc(headerBytes);
      await file.read(body, PREFIX_BYTES);
      if (crc32(body) !== prefix.readUInt32LE(12)) throw damaged(path, 'the checksum of its header does not fit');
      const read = header.safeParse(parse(path, body));
      if (!read.success) throw damaged(path, 'its header is not what this Farshore writes');
      return new SalvageFile(path, file, read.data, bytes, PREFIX_BYTES + headerBytes);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async summary(): Promise<SalvageSummary> {
    const record = Buffer.alloc(RECORD_BYTES);
    await this.#file.read(record, this.bytes - RECORD_BYTES);
    const fits = record.readUInt32LE(0) === crc32(record.subarray(4)) && record.readUInt32LE(4) === KINDS.end;
    if (!fits) throw damaged(this.path, 'it does not end as it should');
    const blocks = Number(record.readBigUInt64LE(16));
    const operations = Number(record.readBigUInt64LE(24));
    return {
      operations,
      blocks: blocks === 0 && operations > 0 && this.#hasData() ? undefined : blocks,
      bytes: this.bytes,
    };
  }

  /**
   * Tells of every record in order. A record that does not fit its checksum is `damaged`, after others were told of: read a file once before acting on it.
   * With `passOverDamage` a block that does not is told as lost instead, if what follows it fits; what was damaged may be its number.
   */
  async read(
    visit: (record: SalvagedRecord) => Promise<void> | void,
    { passOverDamage }: { readonly passOverDamage: boolean },
  ): Promise<void> {
    const window = new Window(this.#file, this.bytes, this.path);
    let operations = 0;
    let last: WriteSeq | undefined;
    for (let at = this.#firstRecord; ;) {
      const fields = Buffer.from(await window.bytes(at, RECORD_BYTES));
      const kind = fields.readUInt32LE(4);
      const seq = Number(fields.readBigUInt64LE(8));
      const block = Number(fields.readBigUInt64LE(16));
      const count = Number(fields.readBigUInt64LE(24));
      const crc = crc32(fields.subarray(4));
      if (kind === KINDS.write) {
        if (count !== 1 || seq < (last ?? 0))
          throw damaged(this.path, `nothing can be told of the record at byte ${at}`);
        const data = Buffer.from(await window.bytes(at + RECORD_BYTES, BLOCK_SIZE));
        const isGood = crc32(data, crc) === fields.readUInt32LE(0);
        if (!isGood && !(passOverDamage && (await this.#startsRecord(window, at + RECORD_BYTES + BLOCK_SIZE, seq))))
          throw damaged(this.path, `nothing can be told of the record at byte ${at}`);
        if (seq !== last) operations += 1;
        await visit({ kind: 'write', seq, block, data: isGood ? data : undefined });
        at += RECORD_BYTES + BLOCK_SIZE;
      } else {
        if (crc !== fields.readUInt32LE(0)) throw damaged(this.path, `nothing can be told of the record at byte ${at}`);
        if (kind === KINDS.end) {
          if (at + RECORD_BYTES !== this.bytes || count !== operations)
            throw damaged(this.path, `it ends after ${operations} operations, and should have ${count}`);
          return;
        }
        if (seq !== last) operations += 1;
        if (kind === KINDS.unmap) await visit({ kind: 'unmap', seq, block, count });
        else if (kind === KINDS.lostWrite) await visit({ kind: 'write', seq, block, data: undefined });
        else if (kind === KINDS.lostUnmap) await visit({ kind: 'lost-unmap', seq });
        else throw damaged(this.path, `record kind ${kind} is not known to this Farshore`);
        at += RECORD_BYTES;
      }
      last = seq;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #hasData(): boolean {
    return this.bytes > this.#firstRecord + BLOCK_SIZE;
  }

  /** Whether a record that goes on from `seq` lies there: then the one before it was what it said it was, but for its content. */
  async #startsRecord(window: Window, at: ByteCount, seq: WriteSeq): Promise<boolean> {
    if (at + RECORD_BYTES > this.bytes) return false;
    const fields = Buffer.from(await window.bytes(at, RECORD_BYTES));
    const kind = fields.readUInt32LE(4);
    if (Number(fields.readBigUInt64LE(8)) < seq) return false;
    const crc = crc32(fields.subarray(4));
    if (kind !== KINDS.write) return crc === fields.readUInt32LE(0);
    if (at + RECORD_BYTES + BLOCK_SIZE > this.bytes) return false;
    return crc32(await window.bytes(at + RECORD_BYTES, BLOCK_SIZE), crc) === fields.readUInt32LE(0);
  }
}

/** The part of the file that was read last. */
class Window {
  readonly #file: DiskFile;
  readonly #size: ByteCount;
  readonly #path: string;
  #buffer = Buffer.alloc(0);
  #from: ByteCount = 0;

  constructor(file: DiskFile, size: ByteCount, path: string) {
    this.#file = file;
    this.#size = size;
    this.#path = path;
  }

  /** Good until the next call. */
  async bytes(at: ByteCount, count: ByteCount): Promise<Buffer> {
    if (at + count > this.#size) throw damaged(this.#path, 'it is cut off');
    if (at < this.#from || at + count > this.#from + this.#buffer.length) {
      this.#buffer = Buffer.alloc(Math.min(Math.max(WINDOW_BYTES, count), this.#size - at));
      this.#from = at;
      await this.#file.read(this.#buffer, at);
    }
    return this.#buffer.subarray(at - this.#from, at - this.#from + count);
  }
}

function parse(path: string, body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw damaged(path, `its header is no JSON: ${describeError(error)}`);
  }
}

function damaged(path: string, why: string): FarshoreError {
  return new FarshoreError(
    'damaged',
    `the salvage file ${path} is damaged: ${why}; put a good copy of it in its place, or take what there is with --damaged`,
  );
}
