import { crc32 } from '../base/crc32.ts';
import type { Disk, DiskFile } from '../base/disk.ts';
import { BLOCK_SIZE, type BlockCount, type ByteCount, type Epoch, type WriteSeq } from '../base/units.ts';
import type { CacheLog } from '../cache/cache-log.ts';
import type { TailOp } from '../cache/tail-reader.ts';
import type { VolumeRef } from '../cloud/version-log.ts';

/** Where salvage files are, in the part of the state directory that is the thread's. */
export const SALVAGE_DIRECTORY = 'salvage';
const DIRECTORY = SALVAGE_DIRECTORY;

/**
 * A salvage file: magic (8), length of the header (4) and its CRC-32 (4), the header as JSON, then records. A record is 32 bytes, little-endian:
 * CRC-32 of the other 28 and of what follows (4), kind (4: 1 write, 2 unmap, 3 write whose data is lost, 4 unmap whose ranges are lost,
 * 0 end), sequence (8), block (8), count of blocks (8); a write is followed by its data. The end record has the last sequence, how many blocks were
 * written, and how many operations there are.
 */
export const MAGIC = Buffer.from('FSSALV01');
export const RECORD_BYTES = 32;
export const KINDS = { end: 0, write: 1, unmap: 2, lostWrite: 3, lostUnmap: 4 } as const;

/** Gathered before it is written. */
const FLUSH_BYTES: ByteCount = 4 * 1024 * 1024;

export interface Salvage {
  readonly path: string;
  readonly operations: number;
  readonly blocks: BlockCount;
}

/**
 * Writes what only this gateway has of the volume, everything after `after`, to `salvage/<volume>-<epoch>.fsv`, durably; the epoch is that in which it was
 * written. undefined when there is nothing. An older file of the same name has the same, or less: it is from an attempt that did not finish.
 */
export async function salvageTail(
  disk: Disk,
  cache: CacheLog,
  request: {
    readonly ref: VolumeRef;
    readonly epoch: Epoch;
    readonly logId: string;
    readonly localNumber: number;
    readonly after: WriteSeq;
    /** Of the file, where the volume and its epoch are not enough. */
    readonly name?: string;
  },
): Promise<Salvage | undefined> {
  const { epoch, logId, localNumber, after } = request;
  const { lineage, volume } = request.ref;
  const path = `${DIRECTORY}/${request.name ?? `${volume}-${epoch}`}.fsv`;
  let writer: SalvageWriter | undefined;
  try {
    await cache.readTail(localNumber, after, async (op) => {
      writer ??= await SalvageWriter.create(disk, `${path}.new`, { format: 1, lineage, volume, epoch, logId, after });
      await writer.add(op);
    });
    if (writer === undefined) return undefined;
    await writer.finish();
  } catch (error) {
    await writer?.close();
    throw error;
  }
  await writer.close();
  await disk.rename(`${path}.new`, path);
  await disk.syncDirectory(DIRECTORY);
  return { path, operations: writer.operations, blocks: writer.blocks };
}

class SalvageWriter {
  readonly #file: DiskFile;
  #position: ByteCount = 0;
  #pieces: Buffer[] = [];
  #pending: ByteCount = 0;
  operations = 0;
  blocks: BlockCount = 0;
  #lastSeq: WriteSeq = 0;

  private constructor(file: DiskFile) {
    this.#file = file;
  }

  static async create(disk: Disk, path: string, header: object): Promise<SalvageWriter> {
    await disk.makeDirectory(DIRECTORY);
    await disk.syncDirectory('');
    await disk.remove(path);
    const writer = new SalvageWriter(await disk.open(path, 'create'));
    const body = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.alloc(16);
    MAGIC.copy(prefix);
    prefix.writeUInt32LE(body.length, 8);
    prefix.writeUInt32LE(crc32(body), 12);
    await writer.#write(prefix, body);
    return writer;
  }

  async add(op: TailOp): Promise<void> {
    this.operations++;
    this.#lastSeq = op.seq;
    if (op.kind === 'unmap') {
      if (op.ranges === undefined) await this.#record(KINDS.lostUnmap, op.seq, 0, 0);
      for (const { block, count } of op.ranges ?? []) await this.#record(KINDS.unmap, op.seq, block, count);
      return;
    }
    for (const [at, data] of op.data.entries()) {
      this.blocks++;
      if (data === undefined) await this.#record(KINDS.lostWrite, op.seq, op.block + at, 1);
      else await this.#record(KINDS.write, op.seq, op.block + at, 1, data);
    }
  }

  async finish(): Promise<void> {
    await this.#record(KINDS.end, this.#lastSeq, this.blocks, this.operations);
    await this.#flush();
    await this.#file.sync();
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #record(kind: number, seq: WriteSeq, block: number, count: number, data?: Buffer): Promise<void> {
    const record = Buffer.alloc(RECORD_BYTES);
    record.writeUInt32LE(kind, 4);
    record.writeBigUInt64LE(BigInt(seq), 8);
    record.writeBigUInt64LE(BigInt(block), 16);
    record.writeBigUInt64LE(BigInt(count), 24);
    const crc = crc32(record.subarray(4));
    record.writeUInt32LE(data === undefined ? crc : crc32(data.subarray(0, BLOCK_SIZE), crc), 0);
    return data === undefined ? this.#write(record) : this.#write(record, data);
  }

  async #write(...pieces: Buffer[]): Promise<void> {
    for (const piece of pieces) {
      this.#pieces.push(piece);
      this.#pending += piece.length;
    }
    if (this.#pending >= FLUSH_BYTES) await this.#flush();
  }

  async #flush(): Promise<void> {
    await this.#file.write(this.#pieces, this.#position);
    this.#position += this.#pending;
    this.#pieces = [];
    this.#pending = 0;
  }
}
