import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isCode } from './durable-directories.ts';
import { decodeEntry } from './key-path.ts';

/** All keys are byte strings (key-path). */
export interface WalkOptions {
  readonly prefix: string;
  /** Only keys greater than it. */
  readonly after: string | undefined;
  /** Do not go below the first slash after the prefix: yield what is there as one `prefix` entry. */
  readonly stopAtSlash: boolean;
}

export interface WalkEntry {
  readonly kind: 'key' | 'prefix';
  readonly key: string;
}

interface Found {
  readonly kind: 'file' | 'directory';
  readonly path: string;
  readonly key: string;
}

/** The keys below `root` in ascending order. Holds the names of one directory per level, not the tree. */
export async function* walkKeys(root: string, options: WalkOptions): AsyncGenerator<WalkEntry> {
  yield* walkDirectory(root, '', options);
}

async function* walkDirectory(path: string, base: string, options: WalkOptions): AsyncGenerator<WalkEntry> {
  const found = await entriesOf(path, base, (key) => mayMatch(key, options));
  // A directory's part ends with its slash, so that plain comparison puts everything below it in its right place.
  found.sort((a, b) => (a.key < b.key ? -1 : 1));
  for (const entry of found) {
    if (entry.kind === 'file') {
      if (entry.key.startsWith(options.prefix)) yield { kind: 'key', key: entry.key };
    } else if (
      options.stopAtSlash &&
      entry.key.length > options.prefix.length &&
      entry.key.startsWith(options.prefix)
    ) {
      if (await holdsKeyAfter(entry, options)) yield { kind: 'prefix', key: entry.key };
    } else yield* walkDirectory(entry.path, entry.key, options);
  }
}

async function holdsKeyAfter(entry: Found, options: WalkOptions): Promise<boolean> {
  for await (const inside of walkDirectory(entry.path, entry.key, { ...options, stopAtSlash: false }))
    return inside.key.length > 0;
  return false;
}

/** Whether a file with this key, or anything below a directory of it, can be wanted. */
function mayMatch({ kind, key }: Found, { prefix, after }: WalkOptions): boolean {
  const inPrefix = key.startsWith(prefix) || (kind === 'directory' && prefix.startsWith(key));
  if (!inPrefix) return false;
  return after === undefined || key > after || (kind === 'directory' && after.startsWith(key));
}

/** Names of a directory, with those continued in `c-…` directories in their place. A directory that is gone is empty. */
async function entriesOf(path: string, base: string, wanted: (entry: Found) => boolean): Promise<Found[]> {
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
  const found: Found[] = [];
  for (const name of names) {
    const decoded = decodeEntry(name);
    if (decoded === undefined) continue;
    const entryPath = join(path, name);
    const key = base + decoded.part;
    if (decoded.kind === 'continued') found.push(...(await entriesOf(entryPath, key, wanted)));
    else {
      const entry: Found = { kind: decoded.kind, path: entryPath, key };
      if (wanted(entry)) found.push(entry);
    }
  }
  return found;
}
