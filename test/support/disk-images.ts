import type { Disk } from '../../gateway/base/disk.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import type { ImageFile, ImageStore } from '../../gateway/base/image.ts';
import { MIB } from '../../gateway/base/units.ts';

/** What the disk of the images refuses now. */
export interface ImageFaults {
  read: boolean;
  write: boolean;
  sync: boolean;
  /** Writes so far. */
  writes: number;
}

/** Images on a simulated disk, which says of a file as little as the system does of a block device. */
export class DiskImages implements ImageStore {
  readonly #disk: Disk;
  readonly #faults: ImageFaults;
  readonly #open = new Set<string>();

  constructor(disk: Disk, faults: ImageFaults = { read: false, write: false, sync: false, writes: 0 }) {
    this.#disk = disk;
    this.#faults = faults;
  }

  #try<T>(what: 'read' | 'write' | 'sync', work: () => T | Promise<T>): T | Promise<T> {
    if (what === 'write') this.#faults.writes++;
    return this.#faults[what] ? Promise.reject(new FarshoreError('stopped', `cannot ${what}: EIO`)) : work();
  }

  async open(path: string): Promise<ImageFile> {
    if (this.#open.has(path)) throw new FarshoreError('in-use', `the image ${path} is in use`);
    const file = await this.#disk.open(path, 'write');
    this.#open.add(path);
    const size = await file.size();
    return {
      isDevice: false,
      size: () => Promise.resolve(size),
      read: (into, position) => this.#try('read', () => file.read(into, position)),
      write: (pieces, position) => this.#try('write', () => file.write(pieces, position)),
      sync: async () => this.#try('sync', () => file.sync()),
      syncWhole: async () => this.#try('sync', () => file.sync()),
      lastChange: () => Promise.resolve(''),
      close: async () => {
        this.#open.delete(path);
        await file.close();
      },
    };
  }

  async create(path: string, bytes: number): Promise<void> {
    const file = await this.#disk.open(path, 'create');
    for (let at = 0; at < bytes; at += MIB) await file.write([Buffer.alloc(Math.min(MIB, bytes - at))], at);
    await file.sync();
    await file.close();
    await this.#disk.syncDirectory(path.slice(0, Math.max(0, path.lastIndexOf('/'))));
  }

  async remove(path: string): Promise<void> {
    await this.#disk.remove(path);
  }
}
