import { crc32 } from '../../base/crc32.ts';
import { parentOf, type Disk, type DiskFile } from '../../base/disk.ts';
import { FarshoreError, isKind } from '../../base/errors.ts';
import { MIB, type ByteCount, type Epoch } from '../../base/units.ts';

const MAGIC = 0x4a435346; // FSCJ
const HEAD_BYTES = 32;
/** Above the longest header of a segment. */
const MAX_PAYLOAD_BYTES: ByteCount = MIB;
/** Read and handed on at a time, at least one record. */
const WINDOW_BYTES: ByteCount = 2 * MIB;

/**
 * The headers of segments that were uploaded and are in no version yet, in the order in which they count. Records carry a checksum, the generation
 * and the epoch they were written in; the first one that is not whole, of another generation or of a lower epoch than one before it, ends the
 * journal: what lies behind it is left over from before a crash. Whether more than that is gone, who has relied on it has to know (`end`).
 */
export class CopyJournal {
  readonly #file: DiskFile;
  readonly #path: string;
  readonly #generation: number;
  readonly #epoch: Epoch;
  /** Where the next record comes. */
  end: ByteCount = 0;
  records = 0;

  private constructor(file: DiskFile, path: string, generation: number, epoch: Epoch) {
    this.#file = file;
    this.#path = path;
    this.#generation = generation;
    this.#epoch = epoch;
  }

  /** An empty one; durable when it resolves. */
  static async begin(disk: Disk, path: string, generation: number, epoch: Epoch): Promise<CopyJournal> {
    await disk.remove(path);
    const file = await disk.open(path, 'create');
    await disk.syncDirectory(parentOf(path));
    return new CopyJournal(file, path, generation, epoch);
  }

  /**
   * Takes over what a generation has left behind, and tells of each header. It is written anew as a whole: what a failed sync has left in
   * the page cache would otherwise look as if it were on the disk, and hold what is appended behind it.
   */
  static async load(
    disk: Disk,
    path: string,
    generation: number,
    epoch: Epoch,
    visit: (header: Buffer) => void,
  ): Promise<CopyJournal> {
    let old: DiskFile;
    try {
      old = await disk.open(path, 'read');
    } catch (error) {
      if (!isKind(error, 'not-found')) throw error;
      return CopyJournal.begin(disk, path, generation, epoch);
    }
    const temporary = `${path}.new`;
    const journal = await CopyJournal.begin(disk, temporary, generation, epoch);
    try {
      const before = new CopyJournal(old, path, generation, epoch);
      before.end = await old.size();
      await before.#each(async (headers) => {
        for (const header of headers) {
          visit(header);
          await journal.append(header);
        }
      });
      await journal.sync();
      await disk.rename(temporary, path);
      await disk.syncDirectory(parentOf(path));
    } catch (error) {
      await journal.close();
      throw error;
    } finally {
      await old.close();
    }
    return journal;
  }

  /** Not durable before `sync`. Calls must not overlap. */
  async append(header: Buffer): Promise<void> {
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32LE(MAGIC, 0);
    head.writeUInt32LE(header.length, 8);
    head.writeUIntLE(this.#generation, 16, 6);
    head.writeUIntLE(this.#epoch, 24, 6);
    head.writeUInt32LE(crc32(header, crc32(head.subarray(8))), 4);
    await this.#file.write([head, header], this.end);
    this.end += head.length + header.length;
    this.records++;
  }

  async sync(): Promise<void> {
    await this.#file.sync();
  }

  /** Every header so far, one behind the other, in portions. `stopped` when they can't all be read any more: then the visitor has not had all. */
  async portions(visit: (headers: Buffer) => Promise<void>): Promise<void> {
    const read = await this.#each((headers) => visit(Buffer.concat(headers)));
    if (read < this.end) throw journalDamaged(this.#path, read, this.end);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Answers where the first record lies that is none, or cannot be read. */
  async #each(visit: (headers: Buffer[]) => Promise<void>): Promise<ByteCount> {
    const end = this.end;
    const window = Buffer.allocUnsafe(Math.min(WINDOW_BYTES, end));
    let newest = 0;
    let at = 0;
    while (at < end) {
      const bytes = window.subarray(0, Math.min(WINDOW_BYTES, end - at));
      try {
        await this.#file.read(bytes, at);
      } catch (error) {
        if (!isKind(error, 'stopped', 'damaged')) throw error;
        break;
      }
      const headers: Buffer[] = [];
      let used = 0;
      for (let record = this.#decode(bytes); record !== undefined && record.epoch >= newest;) {
        newest = record.epoch;
        headers.push(record.header);
        used += HEAD_BYTES + record.header.length;
        record = this.#decode(bytes.subarray(used));
      }
      if (headers.length === 0) break;
      await visit(headers);
      at += used;
    }
    return at;
  }

  #decode(bytes: Buffer): { readonly header: Buffer; readonly epoch: Epoch } | undefined {
    if (bytes.length < HEAD_BYTES || bytes.readUInt32LE(0) !== MAGIC) return undefined;
    const length = bytes.readUInt32LE(8);
    if (length > MAX_PAYLOAD_BYTES || HEAD_BYTES + length > bytes.length) return undefined;
    if (crc32(bytes.subarray(8, HEAD_BYTES + length)) !== bytes.readUInt32LE(4)) return undefined;
    if (bytes.readUIntLE(16, 6) !== this.#generation) return undefined;
    // A copy: the window is used again.
    return { header: Buffer.from(bytes.subarray(HEAD_BYTES, HEAD_BYTES + length)), epoch: bytes.readUIntLE(24, 6) };
  }
}

/** Of records that blocks were taken for copied by. */
export function journalDamaged(path: string, whole: ByteCount, needed: ByteCount): FarshoreError {
  return new FarshoreError(
    'stopped',
    `${path} is damaged: ${whole} of ${needed} bytes are whole. The blocks it told of are copied to the cloud once more; nothing else is needed, but look at that disk`,
  );
}
