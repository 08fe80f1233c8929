import { open, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { encodeTail } from './object-file.ts';
import type { ObjectMeta } from './object-file.ts';

/** Pieces are collected up to this size before they are written: fewer, larger system calls. */
const WRITE_BYTES = 512 * 1024;

/** A file being received, outside every bucket until it is whole and on stable storage. */
export class StagedFile {
  readonly path: string;
  readonly #file: FileHandle;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #open = true;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  static async create(path: string): Promise<StagedFile> {
    return new StagedFile(path, await open(path, 'wx', 0o600));
  }

  /** `piece` must not change any more. Answers with a promise only when the caller has to wait. */
  write(piece: Buffer): void | Promise<void> {
    this.#waiting.push(piece);
    this.#waitingBytes += piece.length;
    if (this.#waitingBytes >= WRITE_BYTES) return this.#writeOut();
  }

  /** Adds the metadata and brings the file to stable storage. */
  async finish(meta: ObjectMeta): Promise<void> {
    this.#waiting.push(encodeTail(meta));
    await this.#writeOut();
    await this.#file.datasync();
    await this.#close();
  }

  /** Removes what is left of it; harmless after the file has been moved away. */
  async discard(): Promise<void> {
    await this.#close();
    await rm(this.path, { force: true });
  }

  async #writeOut(): Promise<void> {
    let pieces = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    while (pieces.length > 0) {
      const { bytesWritten } = await this.#file.writev(pieces);
      pieces = rest(pieces, bytesWritten);
    }
  }

  async #close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#file.close();
  }
}

/** What a short write left over. */
function rest(pieces: readonly Buffer[], written: number): Buffer[] {
  let skip = written;
  const left: Buffer[] = [];
  for (const piece of pieces) {
    if (skip >= piece.length) {
      skip -= piece.length;
      continue;
    }
    left.push(skip > 0 ? piece.subarray(skip) : piece);
    skip = 0;
  }
  return left;
}
