import * as fs from 'node:fs';
import { dirname, join, resolve, sep } from 'node:path';
import type { Disk, DiskFile, OpenMode } from './disk.ts';
import { describeError, FarshoreError, invariant } from './errors.ts';
import type { ByteCount } from './units.ts';

/** Most buffers the kernel takes in one writev. */
const MAX_IOV = 1024;

/** Volumes are private data: nobody but the user that runs the gateway reads them. */
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

const FLAGS: Readonly<Record<OpenMode, number>> = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
};

/**
 * Makes the directory, and missing ones above it, for this user alone. `input` when that cannot be. Step by step, because the recursive
 * form of Node never comes back from a filesystem such as /proc, where nothing can be made.
 */
export function makePrivateDirectory(path: string): void {
  if (fs.existsSync(path)) return;
  const parent = dirname(path);
  if (parent !== path) makePrivateDirectory(parent);
  try {
    fs.mkdirSync(path, { mode: DIRECTORY_MODE });
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return;
    const why = describeError(error);
    throw new FarshoreError('input', `the directory ${path} cannot be made (${why}); choose another`, { cause: error });
  }
}

/** The Disk port over a directory of the machine. */
export class NodeDisk implements Disk {
  readonly #root: string;

  /** `root` must exist. */
  constructor(root: string) {
    this.#root = resolve(root);
  }

  async makeDirectory(path: string): Promise<void> {
    await attempt(`make the directory ${path}`, () =>
      fs.promises.mkdir(this.#resolve(path), { recursive: true, mode: DIRECTORY_MODE }),
    );
  }

  async list(path: string): Promise<string[]> {
    try {
      return await fs.promises.readdir(this.#resolve(path));
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return [];
      throw translate(`list ${path}`, error);
    }
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const full = this.#resolve(path);
    const fd = await new Promise<number>((done, fail) => {
      fs.open(full, FLAGS[mode], FILE_MODE, (error, opened) => {
        if (error) fail(translate(`open ${path}`, error));
        else done(opened);
      });
    });
    return new NodeFile(fd, path);
  }

  async rename(from: string, to: string): Promise<void> {
    await attempt(`rename ${from} to ${to}`, () => fs.promises.rename(this.#resolve(from), this.#resolve(to)));
  }

  async remove(path: string): Promise<void> {
    await attempt(`remove ${path}`, () => fs.promises.rm(this.#resolve(path), { force: true }));
  }

  async syncDirectory(path: string): Promise<void> {
    await attempt(`sync the directory ${path}`, async () => {
      const handle = await fs.promises.open(this.#resolve(path), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    });
  }

  #resolve(path: string): string {
    const full = join(this.#root, path);
    invariant(
      full === this.#root || full.startsWith(this.#root + sep),
      `${path} lies within the directory of the disk`,
    );
    return full;
  }
}

class NodeFile implements DiskFile {
  readonly #fd: number;
  readonly #path: string;
  #closed = false;

  constructor(fd: number, path: string) {
    this.#fd = fd;
    this.#path = path;
  }

  size(): Promise<ByteCount> {
    return new Promise((done, fail) => {
      fs.fstat(this.#fd, (error, stats) => {
        if (error) fail(translate(`look at ${this.#path}`, error));
        else done(stats.size);
      });
    });
  }

  read(into: Buffer, position: ByteCount): Promise<void> {
    return new Promise((done, fail) => {
      const next = (at: number): void => {
        fs.read(this.#fd, into, at, into.length - at, position + at, (error, bytes) => {
          if (error) fail(translate(`read ${this.#path}`, error));
          else if (at + bytes === into.length) done();
          else if (bytes === 0)
            fail(new FarshoreError('damaged', `${this.#path} ends before ${position + into.length}`));
          else next(at + bytes);
        });
      };
      next(0);
    });
  }

  write(pieces: readonly Buffer[], position: ByteCount): Promise<void> {
    return new Promise((done, fail) => {
      const next = (left: readonly Buffer[], at: ByteCount): void => {
        if (left.length === 0) {
          done();
          return;
        }
        const some = left.slice(0, MAX_IOV);
        fs.writev(this.#fd, some, at, (error, bytes) => {
          if (error) fail(translate(`write ${this.#path}`, error));
          else next(rest(left, bytes), at + bytes);
        });
      };
      next(
        pieces.filter((piece) => piece.length > 0),
        position,
      );
    });
  }

  sync(): Promise<void> {
    return new Promise((done, fail) => {
      fs.fdatasync(this.#fd, (error) => {
        if (error) fail(translate(`sync ${this.#path}`, error));
        else done();
      });
    });
  }

  close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#closed = true;
    return new Promise((done, fail) => {
      fs.close(this.#fd, (error) => {
        if (error) fail(translate(`close ${this.#path}`, error));
        else done();
      });
    });
  }
}

/** What is left of the pieces after `bytes` of them. */
function rest(pieces: readonly Buffer[], bytes: ByteCount): readonly Buffer[] {
  let at = 0;
  let skip = bytes;
  for (let piece = pieces[at]; piece !== undefined && skip >= piece.length; piece = pieces[at]) {
    skip -= piece.length;
    at++;
  }
  const first = pieces[at];
  if (first === undefined) return [];
  return skip === 0 ? pieces.slice(at) : [first.subarray(skip), ...pieces.slice(at + 1)];
}

async function attempt<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw translate(what, error);
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

function translate(what: string, error: unknown): FarshoreError {
  const code = codeOf(error);
  const options = { cause: error };
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new FarshoreError('busy', `cannot ${what}: the disk of the state directory is full`, options);
    case 'EMFILE':
    case 'ENFILE':
      return new FarshoreError('busy', `cannot ${what}: too many open files; raise the limit (ulimit -n)`, options);
    case 'ENOENT':
      return new FarshoreError('not-found', `cannot ${what}: it does not exist`, options);
    case 'EEXIST':
      return new FarshoreError('in-use', `cannot ${what}: it exists already`, options);
    default:
      return new FarshoreError(
        'stopped',
        `cannot ${what}: the disk answers ${code === '' ? String(error) : code}`,
        options,
      );
  }
}
