import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { isCode } from './durable-directories.ts';
import { readMeta } from './object-file.ts';
import type { ObjectMeta } from './object-file.ts';

/** An object held open: it can be read to its end even when it is replaced or deleted meanwhile. */
export interface OpenObject {
  readonly meta: ObjectMeta;
  /** Fills `into` from `offset` of the object, which holds that much. */
  read(into: Buffer, offset: number): Promise<void>;
  release(): void;
}

interface Entry {
  readonly file: FileHandle;
  readonly meta: ObjectMeta;
  users: number;
  dropped: boolean;
}

/** Files kept open for the next reader: a small ranged read then costs one system call. */
const MAX_KEPT_OPEN = 256;

export class OpenObjects {
  readonly #kept = new Map<string, Entry>();
  #changes = 0;

  /** undefined when there is no such file. */
  async acquire(path: string): Promise<OpenObject | undefined> {
    const kept = this.#kept.get(path);
    if (kept !== undefined) {
      this.#kept.delete(path);
      this.#kept.set(path, kept);
      return lend(kept);
    }
    const changes = this.#changes;
    const opened = await openEntry(path);
    if (opened === undefined) return undefined;
    const lent = lend(opened);
    // Somebody may have replaced it since it was opened, or opened it as well.
    if (changes !== this.#changes || this.#kept.has(path)) drop(opened);
    else this.#keep(path, opened);
    return lent;
  }

  /** Reads the metadata without keeping the file open (listings). */
  async peek(path: string): Promise<ObjectMeta | undefined> {
    const kept = this.#kept.get(path);
    if (kept !== undefined) return kept.meta;
    const opened = await openEntry(path);
    await opened?.file.close();
    return opened?.meta;
  }

  /** The file at `path` has been replaced or removed. */
  invalidate(path: string): void {
    this.#changes += 1;
    const kept = this.#kept.get(path);
    if (kept === undefined) return;
    this.#kept.delete(path);
    drop(kept);
  }

  close(): void {
    this.#changes += 1;
    for (const entry of this.#kept.values()) drop(entry);
    this.#kept.clear();
  }

  #keep(path: string, entry: Entry): void {
    this.#kept.set(path, entry);
    if (this.#kept.size <= MAX_KEPT_OPEN) return;
    for (const [oldest, old] of this.#kept) {
      this.#kept.delete(oldest);
      drop(old);
      return;
    }
  }
}

async function openEntry(path: string): Promise<Entry | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
  try {
    return { file, meta: await readMeta(file), users: 0, dropped: false };
  } catch (error) {
    await file.close();
    throw new Error(`the object file ${path} is damaged: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

function lend(entry: Entry): OpenObject {
  entry.users += 1;
  let released = false;
  return {
    meta: entry.meta,
    read: async (into, offset) => {
      let done = 0;
      while (done < into.length) {
        const { bytesRead } = await entry.file.read(into, done, into.length - done, offset + done);
        if (bytesRead === 0) throw new Error(`the object file of ${entry.meta.key} is shorter than it was`);
        done += bytesRead;
      }
    },
    release: () => {
      if (released) return;
      released = true;
      entry.users -= 1;
      closeIfUnused(entry);
    },
  };
}

function drop(entry: Entry): void {
  entry.dropped = true;
  closeIfUnused(entry);
}

function closeIfUnused(entry: Entry): void {
  // A failing close of a file that was only read loses nothing.
  if (entry.dropped && entry.users === 0) entry.file.close().catch(() => undefined);
}
