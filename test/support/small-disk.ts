import { spawnSync } from 'node:child_process';
import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { runTool } from './processes.ts';

const BALLAST = 'ballast';
const PIECES = [1024 * 1024, 64 * 1024, 4096, 512] as const;

/** A file system of a few MiB for the state directory of a gateway, so that its disk is really full one day. Needs root. */
export class SmallDisk {
  readonly #at: string;

  private constructor(at: string) {
    this.#at = at;
  }

  /** An ext4 of so many bytes, in the file `image`, mounted at `at`; where there are no loop devices, a tmpfs. */
  static mount(at: string, image: string, bytes: number): SmallDisk {
    mkdirSync(at, { recursive: true });
    const file = openSync(image, 'w');
    ftruncateSync(file, bytes);
    closeSync(file);
    // No blocks set aside for root, who runs this.
    runTool('mkfs.ext4', ['-q', '-m', '0', image]);
    const looped = spawnSync('mount', ['-o', 'loop', image, at], { encoding: 'utf8' });
    if (looped.status === 0) return new SmallDisk(at);
    const inMemory = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', at], { encoding: 'utf8' });
    if (inMemory.status === 0) return new SmallDisk(at);
    throw new Error(
      `a small file system could not be mounted, which a really full disk needs (run as root, with CAP_SYS_ADMIN): ${looped.stderr}${inMemory.stderr}`,
    );
  }

  /** Takes every byte that is left. */
  fill(): void {
    const file = openSync(join(this.#at, BALLAST), 'a');
    try {
      for (const bytes of PIECES) while (takes(file, bytes));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  makeRoom(): void {
    rmSync(join(this.#at, BALLAST), { force: true });
  }

  unmount(): void {
    runTool('umount', ['-l', this.#at]);
  }
}

/** False when the disk is full. */
function takes(file: number, bytes: number): boolean {
  try {
    writeSync(file, Buffer.alloc(bytes, 0x55));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return false;
    throw error;
  }
}
