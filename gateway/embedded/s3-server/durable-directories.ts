import { rmdirSync } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Directories known to be on stable storage; more than this and they are simply synced again. */
const MAX_KNOWN = 50_000;

export function isCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.some((code) => code === error.code);
}

interface SyncInProgress {
  readonly running: Promise<void>;
  next: Promise<void> | undefined;
}

/** Makes directories and the names in them durable, syncing no more often than needed. */
export class DurableDirectories {
  readonly #known = new Set<string>();
  readonly #syncs = new Map<string, SyncInProgress>();
  #failure: unknown;

  /** Creates `root/parts[0]/parts[1]/…` and makes every one of these names durable; `root` exists. Answers with the path. */
  async create(root: string, parts: readonly string[]): Promise<string> {
    let path = root;
    const unknown: string[] = [];
    for (const part of parts) {
      path = join(path, part);
      if (!this.#known.has(path)) unknown.push(path);
    }
    if (unknown.length > 0) await mkdir(path, { recursive: true, mode: 0o700 });
    for (const created of unknown) {
      await this.sync(dirname(created));
      if (this.#known.size >= MAX_KNOWN) this.#known.clear();
      this.#known.add(created);
    }
    return path;
  }

  /** fsync of the directory. Callers that come while one is under way share the one after it. */
  sync(path: string): Promise<void> {
    const present = this.#syncs.get(path);
    if (present !== undefined) {
      present.next ??= present.running.then(
        () => this.#start(path),
        () => this.#start(path),
      );
      return present.next;
    }
    return this.#start(path);
  }

  /** Removes empty directories from `path` upwards, not `root` itself; in one turn, so that nobody is in the midst of using them. */
  prune(root: string, path: string): void {
    for (let at = path; at.length > root.length && at.startsWith(root); at = dirname(at)) {
      try {
        rmdirSync(at);
      } catch (error) {
        if (isCode(error, 'ENOTEMPTY', 'EEXIST')) return;
        if (!isCode(error, 'ENOENT')) throw error;
      }
      this.#known.delete(at);
    }
  }

  /** Forgets everything below `path`, which is gone. */
  forget(path: string): void {
    for (const known of this.#known) if (known === path || known.startsWith(`${path}/`)) this.#known.delete(known);
  }

  #start(path: string): Promise<void> {
    const running = this.#syncNow(path);
    const entry: SyncInProgress = { running, next: undefined };
    this.#syncs.set(path, entry);
    const done = (): void => {
      if (this.#syncs.get(path) === entry && entry.next === undefined) this.#syncs.delete(path);
    };
    running.then(done, done);
    return running;
  }

  /** After a failed fsync the kernel may report success for names that are lost: nothing is synced any more until a restart. */
  async #syncNow(path: string): Promise<void> {
    if (this.#failure !== undefined)
      throw new Error('an earlier fsync failed; restart the embedded cloud', { cause: this.#failure });
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } catch (error) {
      this.#failure = error;
      throw error;
    } finally {
      await handle.close();
    }
  }
}
