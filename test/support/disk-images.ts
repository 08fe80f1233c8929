import { FarshoreError } from '../../gateway/base/errors.ts';
import type { ImageFile, ImageStore } from '../../gateway/base/image.ts';
import type { ImageDisk } from '../sim/sim-disk.ts';

/** What the disk of the images refuses now. */
export interface ImageFaults {
  read: boolean;
  write: boolean;
  sync: boolean;
  /** Writes so far. */
  writes: number;
  /** They are on a block device of this size. */
  deviceBytes?: number;
}

/** Images on a simulated disk, which says of a file as little as the system does of a block device. */
export class DiskImages implements ImageStore {
  readonly #disk: ImageDisk;
  readonly #faults: ImageFaults;
  readonly #open = new Set<string>();

  constructor(disk: ImageDisk, faults: ImageFaults = { read: false, write: false, sync: false, writes: 0 }) {
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
    return {
      isDevice: this.#faults.deviceBytes !== undefined,
      size: () => (this.#faults.deviceBytes === undefined ? file.size() : Promise.resolve(this.#faults.deviceBytes)),
      read: (into, position) => this.#try('read', () => file.read(into, position)),
      write: (pieces, position) => this.#try('write', () => file.write(pieces, position)),
      sync: async () => this.#try('sync', () => file.sync()),
      syncWhole: async () => this.#try('sync', () => file.sync()),
      truncate: async (bytes) => this.#try('write', () => this.#disk.truncate(path, bytes)),
      lastChange: () => Promise.resolve(''),
      close: async () => {
        this.#open.delete(path);
        await file.close();
      },
    };
  }

  async create(path: string, bytes: number): Promise<void> {
    const file = await this.#disk.open(path, 'create');
    await this.#disk.truncate(path, bytes);
    await file.sync();
    await file.close();
    await this.#disk.syncDirectory(path.slice(0, Math.max(0, path.lastIndexOf('/'))));
  }

  async remove(path: string): Promise<void> {
    await this.#disk.remove(path);
  }
}
