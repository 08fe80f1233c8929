import type { MaybePromise } from './block-device.ts';
import { FarshoreError, isKind } from './errors.ts';
import type { ByteCount } from './units.ts';

/**
 * The local disk, rooted at a directory; paths are relative with '/' between parts. All failures are rejections with
 * FarshoreError `stopped` (EIO, failing fsync), `busy` (ENOSPC), `not-found`, `in-use` (exclusive create).
 */
export interface Disk {
  /** Creates missing parents. */
  makeDirectory(path: string): Promise<void>;
  /** Names (not paths), unordered; a missing directory is empty. */
  list(path: string): Promise<string[]>;
  open(path: string, mode: OpenMode): Promise<DiskFile>;
  /** What may still be written; a disk that has no such figure leaves it out. */
  freeBytes?(): Promise<ByteCount>;
  /** Replaces `to` atomically; durable only after syncDirectory of both parents. */
  rename(from: string, to: string): Promise<void>;
  /** Removing what is not there is not an error. */
  remove(path: string): Promise<void>;
  /** Makes creations, renames and removals in the directory durable. */
  syncDirectory(path: string): Promise<void>;
}

/** `read`: must exist. `write`: must exist, read and write. `create`: must not exist, read and write. */
export type OpenMode = 'read' | 'write' | 'create';

/**
 * Reads and writes may be answered in the same turn, with undefined: then they are done. A failure is always a rejection, never thrown.
 */
export interface DiskFile {
  size(): Promise<ByteCount>;
  /** Fills `into` wholly from `position`; past the end it rejects with `damaged`. */
  read(into: Buffer, position: ByteCount): MaybePromise<void>;
  /** All pieces, one after the other, from `position`. Not durable before `sync`. A crash may keep any subset of the sectors. */
  write(pieces: readonly Buffer[], position: ByteCount): MaybePromise<void>;
  /** fdatasync. After a rejection nothing written since the last success may be trusted (and never synced again). */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** Parent of a relative path; '' is the root. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}

/** Writes a small file so that after a crash either the old or the new content is there: temp file, fsync, rename, directory fsync. */
export async function replaceFile(disk: Disk, path: string, content: Buffer): Promise<void> {
  const temporary = `${path}.new`;
  await disk.remove(temporary);
  const file = await disk.open(temporary, 'create');
  try {
    await file.write([content], 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(temporary, path);
  await disk.syncDirectory(parentOf(path));
}

/** The whole of a small file, or undefined when it does not exist. */
export async function readWhole(disk: Disk, path: string, maxBytes: ByteCount): Promise<Buffer | undefined> {
  let file: DiskFile;
  try {
    file = await disk.open(path, 'read');
  } catch (error) {
    if (isKind(error, 'not-found')) return undefined;
    throw error;
  }
  try {
    const size = await file.size();
    if (size > maxBytes)
      throw new FarshoreError('damaged', `${path} has ${size} bytes, more than the ${maxBytes} expected of it`);
    const content = Buffer.alloc(size);
    if (size > 0) await file.read(content, 0);
    return content;
  } finally {
    await file.close();
  }
}
