import { mkdir, open, readdir, rename, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Disk, DiskFile, OpenMode } from './disk.ts';
import { FarshoreError } from './errors.ts';
import type { ByteCount } from './units.ts';

/** Pieces of one writev; IOV_MAX is 1,024 on Linux. */
const MAX_PIECES = 1024;
const FLAGS: Readonly<Record<OpenMode, string>> = { read: 'r', write: 'r+', create: 'wx+' };
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

/** The Disk port over a real directory. Files are readable by this user alone. */
export class NodeDisk implements Disk {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  async makeDirectory(path: string): Promise<void> {
    await attempt(`make directory ${path}`, () =>
      mkdir(join(this.#root, path), { recursive: true, mode: DIRECTORY_MODE }),
    );
  }

  async list(path: string): Promise<string[]> {
    try {
      return await readdir(join(this.#root, path));
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return [];
      throw asFarshoreError(error, `list ${path}`);
    }
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const handle = await attempt(`open ${path}`, () => open(join(this.#root, path), FLAGS[mode], FILE_MODE));
    return new NodeFile(handle, path);
  }

  async rename(from: string, to: string): Promise<void> {
    await attempt(`rename ${from} to ${to}`, () => rename(join(this.#root, from), join(this.#root, to)));
  }

  async remove(path: string): Promise<void> {
    await attempt(`remove ${path}`, () => rm(join(this.#root, path), { force: true }));
  }

  async syncDirectory(path: string): Promise<void> {
    await attempt(`sync directory ${path}`, async () => {
      const handle = await open(join(this.#root, path), 'r');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    });
  }
}

class NodeFile implements DiskFile {
  readonly #handle: FileHandle;
  readonly #path: string;

  constructor(handle: FileHandle, path: string) {
    this.#handle = handle;
    this.#path = path;
  }

  async size(): Promise<ByteCount> {
    return (await attempt(`measure ${this.#path}`, () => this.#handle.stat())).size;
  }

  async read(into: Buffer, position: ByteCount): Promise<void> {
    let done = 0;
    while (done < into.length) {
      const { bytesRead } = await attempt(`read ${this.#path}`, () =>
        this.#handle.read(into, done, into.length - done, position + done),
      );
      if (bytesRead === 0) {
        throw new FarshoreError('damaged', `${this.#path} ends before byte ${position + into.length}`);
      }
      done += bytesRead;
    }
  }

  async write(pieces: readonly Buffer[], position: ByteCount): Promise<void> {
    let at = position;
    for (let first = 0; first < pieces.length; first += MAX_PIECES) {
      const group = pieces.length <= MAX_PIECES ? pieces : pieces.slice(first, first + MAX_PIECES);
      at += await this.#writeGroup(group, at);
    }
  }

  /** writev may write less than it was given (a full disk, a signal): the rest follows piece by piece. */
  async #writeGroup(group: readonly Buffer[], position: ByteCount): Promise<ByteCount> {
    const what = `write ${this.#path}`;
    const { bytesWritten } = await attempt(what, () => this.#handle.writev(group as Buffer[], position)); // writev only reads the array
    let total = 0;
    for (const piece of group) {
      const end = total + piece.length;
      let done = Math.min(Math.max(bytesWritten - total, 0), piece.length);
      while (done < piece.length) {
        const rest = await attempt(what, () =>
          this.#handle.write(piece, done, piece.length - done, position + total + done),
        );
        if (rest.bytesWritten === 0) throw new FarshoreError('stopped', `cannot ${what}: nothing was written`);
        done += rest.bytesWritten;
      }
      total = end;
    }
    return total;
  }

  async sync(): Promise<void> {
    await attempt(`sync ${this.#path}`, () => this.#handle.datasync());
  }

  async close(): Promise<void> {
    await attempt(`close ${this.#path}`, () => this.#handle.close());
  }
}

async function attempt<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asFarshoreError(error, what);
  }
}

function asFarshoreError(error: unknown, what: string): FarshoreError {
  const message = `cannot ${what}: ${error instanceof Error ? error.message : String(error)}`;
  switch (codeOf(error)) {
    case 'ENOENT':
      return new FarshoreError('not-found', message, { cause: error });
    case 'EEXIST':
      return new FarshoreError('in-use', message, { cause: error });
    case 'ENOSPC':
    case 'EDQUOT':
      return new FarshoreError('busy', message, { cause: error });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
    case 'ENOTDIR':
    case 'ENAMETOOLONG':
      return new FarshoreError('input', message, { cause: error });
    default:
      return new FarshoreError('stopped', message, { cause: error });
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}
