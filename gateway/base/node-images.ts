import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { describeError, FarshoreError, invariant } from './errors.ts';
import type { ImageFile, ImageStore } from './image.ts';
import { NodeFile } from './node-disk.ts';
import { lockDescriptor } from './process-lock.ts';
import type { ByteCount } from './units.ts';

const FILE_MODE = 0o600;
/** In /sys sizes of block devices are told in these units, whatever their sectors are. */
const SYS_SECTOR_BYTES = 512;

/** The images of this machine. */
export class NodeImages implements ImageStore {
  open(path: string): Promise<ImageFile> {
    return new Promise((resolve) => {
      resolve(openImage(path));
    });
  }

  async create(path: string, bytes: ByteCount): Promise<void> {
    try {
      const file = await fs.promises.open(path, 'wx', FILE_MODE);
      try {
        await file.truncate(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      const directory = await fs.promises.open(dirname(path), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    } catch (error) {
      throw refusal(path, error);
    }
  }

  async remove(path: string): Promise<void> {
    try {
      await fs.promises.rm(path, { force: true });
    } catch (error) {
      throw refusal(path, error);
    }
  }
}

/** O_EXCL on a block device fails while it, or a part of it, is mounted or otherwise held by the system. */
function openImage(path: string): ImageFile {
  let descriptor: number;
  try {
    // Looked at first: to open a FIFO, or a tape, is already too much.
    const kind = fs.statSync(path);
    if (!kind.isFile() && !kind.isBlockDevice())
      throw new FarshoreError('input', `${path} is neither a file nor a block device; name one that is`);
    descriptor = fs.openSync(path, fs.constants.O_RDWR | (kind.isBlockDevice() ? fs.constants.O_EXCL : 0));
  } catch (error) {
    if (error instanceof FarshoreError) throw error;
    throw refusal(path, error);
  }
  try {
    lockDescriptor(descriptor, `the image ${path}`, () => 'of another gateway');
    const loop = fs.fstatSync(descriptor).isFile() ? loopOver(path) : undefined;
    if (loop !== undefined)
      throw new FarshoreError(
        'in-use',
        `the image ${path} is attached to /dev/${loop}; detach it first: losetup -d /dev/${loop}`,
      );
    return new NodeImage(descriptor, path);
  } catch (error) {
    fs.closeSync(descriptor);
    throw error;
  }
}

class NodeImage extends NodeFile implements ImageFile {
  readonly isDevice: boolean;
  readonly #descriptor: number;

  constructor(descriptor: number, path: string) {
    super(descriptor, path);
    this.#descriptor = descriptor;
    this.isDevice = fs.fstatSync(descriptor).isBlockDevice();
  }

  override size(): Promise<ByteCount> {
    if (!this.isDevice) return super.size();
    const stats = fs.fstatSync(this.#descriptor);
    // dev_t of Linux: 12 bits of major, 20 of minor, the latter split.
    const major = Math.floor(stats.rdev / 256) % 4096;
    const minor = (stats.rdev % 256) + Math.floor(stats.rdev / 2 ** 20) * 256;
    const sectors = fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'latin1');
    return Promise.resolve(Number(sectors.trim()) * SYS_SECTOR_BYTES);
  }

  lastChange(): Promise<string> {
    const stats = fs.fstatSync(this.#descriptor, { bigint: true });
    return Promise.resolve(this.isDevice ? '' : String(stats.mtimeNs));
  }

  truncate(bytes: ByteCount): Promise<void> {
    invariant(!this.isDevice, 'a device has the size it has');
    return new Promise((resolve, reject) => {
      fs.ftruncate(this.#descriptor, bytes, (error) => {
        if (error === null) {
          resolve();
          return;
        }
        const isFull = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(error.code ?? '');
        const what = `its size cannot be made ${bytes} bytes: ${error.code ?? error.message}`;
        reject(new FarshoreError(isFull ? 'busy' : 'stopped', what, { cause: error }));
      });
    });
  }

  syncWhole(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fsync(this.#descriptor, (error) => {
        if (error === null) resolve();
        else
          reject(
            new FarshoreError('stopped', `cannot sync: the disk answers ${error.code ?? error.message}`, {
              cause: error,
            }),
          );
      });
    });
  }
}

/** The loop device that stands on the file, if one does: then somebody may have it mounted. */
function loopOver(path: string): string | undefined {
  const real = fs.realpathSync(path);
  let names: string[];
  try {
    names = fs.readdirSync('/sys/block').filter((name) => name.startsWith('loop'));
  } catch {
    return undefined; // a system without /sys has no loop devices to ask for
  }
  return names.find((name) => {
    try {
      return fs.readFileSync(join('/sys/block', name, 'loop/backing_file'), 'utf8').trim() === real;
    } catch {
      return false; // it stands on nothing
    }
  });
}

function refusal(path: string, error: unknown): FarshoreError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const options = { cause: error };
  switch (code) {
    case 'ENOENT':
      return new FarshoreError('not-found', `there is no image ${path}`, options);
    case 'EEXIST':
      return new FarshoreError('in-use', `${path} exists already`, options);
    case 'EBUSY':
      return new FarshoreError('in-use', `the device ${path} is in use; unmount what is on it first`, options);
    case 'ENOSPC':
    case 'EDQUOT':
      return new FarshoreError('busy', `the image ${path} cannot be made: the disk is full`, options);
    case 'EIO':
      return new FarshoreError('stopped', `the image ${path} cannot be opened: its disk fails`, options);
    default:
      return new FarshoreError('input', `the image ${path} cannot be used: ${describeError(error)}`, options);
  }
}
