import type { DiskFile } from './disk.ts';
import type { ByteCount } from './units.ts';

/** A raw disk image: a file or a block device of the machine that is open for this process alone. */
export interface ImageFile extends DiskFile {
  /** A block device: it has the size it has. */
  readonly isDevice: boolean;
  /** Changes whenever somebody writes to it; empty where the system does not say, as of a block device. Rejects with `stopped`. */
  lastChange(): Promise<string>;
  /** As `sync`, and makes durable what `lastChange` answers, and the size. */
  syncWhole(): Promise<void>;
  /**
   * Gives a file another size: what is cut off is gone, what is added reads zeros and takes no room yet. Not durable before `syncWhole`. Rejects with
   * `busy` (its file system can't have such a file), `stopped`; with `bug` for a device.
   */
  truncate(bytes: ByteCount): Promise<void>;
}

/** Where raw disk images are: any path of the machine, which need not lie in the state directory. */
export interface ImageStore {
  /**
   * Opens an existing image and keeps everybody else who asks the same way from it until it is closed. Rejects with `not-found`, `in-use`
   * (another gateway has it, or it is mounted), `input` (neither a file nor a block device, or not accessible), `stopped`.
   */
  open(path: string): Promise<ImageFile>;
  /** Makes a file that reads zeros and takes no room yet; durable when it resolves. Rejects with `in-use` (exists), `input`, `busy`, `stopped`. */
  create(path: string, bytes: ByteCount): Promise<void>;
  /** Takes back a creation. Removing what is not there is not an error. Rejects with `input`. */
  remove(path: string): Promise<void>;
}
