import * as fs from 'node:fs';
import { dirname, join, resolve, sep } from 'node:path';
import type { MaybePromise } from './block-device.ts';
import { systemClock, type Clock } from './clock.ts';
import type { Disk, DiskFile, OpenMode } from './disk.ts';
import { describeError, FarshoreError, invariant } from './errors.ts';
import { Pace, TurnBudget } from './pace.ts';
import type { ByteCount } from './units.ts';

/** Most buffers the kernel takes in one writev. */
const MAX_IOV = 1024;

/**
 * Longest read or write that is made in the turn. Waking a thread of the pool costs 10 to 20 µs of CPU time, and two thread switches of waiting; a
 * system call into the page cache takes 2 to 4 µs and what the copy takes.
 */
const MAX_BYTES_IN_TURN: ByteCount = 384 * 1024;

/** What page-cache calls take, with room to spare; a flash disk takes longer. */
const USUAL_READ = { ms: 0.05, msPerMib: 1 } as const;
const USUAL_WRITE = { ms: 0.1, msPerMib: 2 } as const;

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

/** Removes the directory if there is nothing in it; otherwise, and when it cannot be removed, it stays. */
export function removeEmptyDirectory(path: string): void {
  try {
    fs.rmdirSync(path);
  } catch {
    // As told above.
  }
}

/** What the files of one disk share: whether it is quick enough for calls in the turn. */
class InTurn {
  readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly reads: Pace;
  readonly writes: Pace;
  readonly budget = new TurnBudget((then) => {
    setImmediate(then);
  });

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.clock = clock;
    this.reads = new Pace(clock, USUAL_READ);
    this.writes = new Pace(clock, USUAL_WRITE);
  }

  allows(pace: Pace, bytes: ByteCount): boolean {
    return bytes <= MAX_BYTES_IN_TURN && !this.budget.isSpent && pace.allows;
  }

  note(pace: Pace, sinceMs: number, bytes: ByteCount): void {
    const ms = this.clock.monotonicMs() - sinceMs;
    pace.took(ms, bytes);
    this.budget.spend(ms);
  }
}

/**
 * The Disk port over a directory of the machine. Short reads and writes are made in the turn, into and from the page cache, as long as the
 * disk keeps up (see Pace), and in the thread pool otherwise; syncs always in the pool.
 */
export class NodeDisk implements Disk {
  readonly #root: string;
  readonly #inTurn: InTurn;

  /** `root` must exist. */
  constructor(root: string, clock: Pick<Clock, 'monotonicMs'> = systemClock) {
    this.#root = resolve(root);
    this.#inTurn = new InTurn(clock);
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
    return new NodeFile(fd, path, this.#inTurn);
  }

  async freeBytes(): Promise<ByteCount> {
    try {
      const { bavail, bsize } = await fs.promises.statfs(this.#root);
      return bavail * bsize;
    } catch (error) {
      throw translate('look how much room there is', error);
    }
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

/** A file of the machine over its descriptor. */
export class NodeFile implements DiskFile {
  readonly #fd: number;
  readonly #path: string;
  readonly #inTurn: InTurn;
  /** Writes of this file in the pool: one in the turn would wait for them, because a file is written by one at a time. */
  #pooledWrites = 0;
  #closed = false;

  /** Without `inTurn` the file has a pace of its own. */
  constructor(fd: number, path: string, inTurn: InTurn = new InTurn(systemClock)) {
    this.#fd = fd;
    this.#path = path;
    this.#inTurn = inTurn;
  }

  size(): Promise<ByteCount> {
    return new Promise((done, fail) => {
      fs.fstat(this.#fd, (error, stats) => {
        if (error) fail(translate(`look at ${this.#path}`, error));
        else done(stats.size);
      });
    });
  }

  read(into: Buffer, position: ByteCount): MaybePromise<void> {
    const { reads } = this.#inTurn;
    return this.#inTurn.allows(reads, into.length) ? this.#readNow(into, position) : this.#readPooled(into, position);
  }

  #readNow(into: Buffer, position: ByteCount): MaybePromise<void> {
    const sinceMs = this.#inTurn.clock.monotonicMs();
    try {
      for (let at = 0; at < into.length;) {
        const bytes = fs.readSync(this.#fd, into, at, into.length - at, position + at);
        if (bytes === 0) return Promise.reject(this.#endsBefore(position + into.length));
        at += bytes;
      }
    } catch (error) {
      return Promise.reject(translate(`read ${this.#path}`, error));
    }
    this.#inTurn.note(this.#inTurn.reads, sinceMs, into.length);
    return undefined;
  }

  #endsBefore(end: ByteCount): FarshoreError {
    return new FarshoreError('damaged', `${this.#path} ends before ${end}`);
  }

  #readPooled(into: Buffer, position: ByteCount): Promise<void> {
    return new Promise((done, fail) => {
      const next = (at: number): void => {
        fs.read(this.#fd, into, at, into.length - at, position + at, (error, bytes) => {
          if (error) fail(translate(`read ${this.#path}`, error));
          else if (at + bytes === into.length) done();
          else if (bytes === 0) fail(this.#endsBefore(position + into.length));
          else next(at + bytes);
        });
      };
      next(0);
    });
  }

  write(pieces: readonly Buffer[], position: ByteCount): MaybePromise<void> {
    let bytes = 0;
    for (const piece of pieces) bytes += piece.length;
    if (this.#pooledWrites === 0 && this.#inTurn.allows(this.#inTurn.writes, bytes)) {
      return this.#writeNow(pieces, position, bytes);
    }
    return this.#writePooled(pieces, position);
  }

  #writeNow(pieces: readonly Buffer[], position: ByteCount, bytes: ByteCount): MaybePromise<void> {
    const sinceMs = this.#inTurn.clock.monotonicMs();
    try {
      let left = pieces;
      for (let at = 0; at < bytes;) {
        const written = fs.writevSync(this.#fd, left.length > MAX_IOV ? left.slice(0, MAX_IOV) : left, position + at);
        if (written === 0) return Promise.reject(translate(`write ${this.#path}`, new Error('it takes nothing')));
        at += written;
        if (at < bytes) left = rest(left, written);
      }
    } catch (error) {
      return Promise.reject(translate(`write ${this.#path}`, error));
    }
    this.#inTurn.note(this.#inTurn.writes, sinceMs, bytes);
    return undefined;
  }

  #writePooled(pieces: readonly Buffer[], position: ByteCount): Promise<void> {
    this.#pooledWrites++;
    return new Promise((done, fail) => {
      const next = (left: readonly Buffer[], at: ByteCount): void => {
        if (left.length === 0) {
          this.#pooledWrites--;
          done();
          return;
        }
        const some = left.slice(0, MAX_IOV);
        fs.writev(this.#fd, some, at, (error, bytes) => {
          if (error) {
            this.#pooledWrites--;
            fail(translate(`write ${this.#path}`, error));
          } else next(rest(left, bytes), at + bytes);
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
      return new FarshoreError(
        'busy',
        `cannot ${what}: the disk of the state directory is full; make room on it`,
        options,
      );
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
