import type { Disk, DiskFile } from '../../gateway/base/disk.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';

/** A disk of a few small files: what was written is there at once, and it can be made to fail or be copied at any moment. */
export class MemoryDisk implements Disk {
  readonly files: Map<string, Buffer>;
  /** Called before each write and fsync with the path; throw to make it fail. */
  before: ((operation: 'write' | 'sync' | 'rename', path: string) => void) | undefined;

  /** Of each open file, where it is now: it stays open when it is renamed. */
  readonly #open: { path: string }[] = [];

  constructor(files: ReadonlyMap<string, Buffer> = new Map()) {
    this.files = new Map([...files].map(([path, content]) => [path, Buffer.from(content)]));
  }

  /** The state directory as it is now: what a crash, a backup or a rolled-back machine comes back with. */
  copy(): MemoryDisk {
    return new MemoryDisk(this.files);
  }

  text(path: string): string {
    return this.files.get(path)?.toString('utf8') ?? '';
  }

  async makeDirectory(): Promise<void> {
    // There are no directories.
  }

  async list(path: string): Promise<string[]> {
    const below = [...this.files.keys()].filter((name) => name.startsWith(`${path}/`));
    return [...new Set(below.map((name) => name.slice(path.length + 1).split('/')[0] ?? ''))];
  }

  async open(path: string, mode: 'read' | 'write' | 'create'): Promise<DiskFile> {
    if (mode === 'create') {
      if (this.files.has(path)) throw new FarshoreError('in-use', `${path} exists already`);
      this.files.set(path, Buffer.alloc(0));
    } else if (!this.files.has(path)) {
      throw new FarshoreError('not-found', `${path} does not exist`);
    }
    const file = { path };
    this.#open.push(file);
    const present = (): Buffer => this.files.get(file.path) ?? Buffer.alloc(0);
    return {
      size: async () => present().length,
      read: async (into, position) => {
        present().copy(into, 0, position, position + into.length);
      },
      write: async (pieces, position) => {
        this.before?.('write', file.path);
        const data = Buffer.concat(pieces);
        const grown = Buffer.alloc(Math.max(present().length, position + data.length));
        present().copy(grown);
        data.copy(grown, position);
        this.files.set(file.path, grown);
      },
      sync: async () => {
        this.before?.('sync', file.path);
      },
      close: async () => undefined,
    };
  }

  async rename(from: string, to: string): Promise<void> {
    this.before?.('rename', to);
    this.files.set(to, this.files.get(from) ?? Buffer.alloc(0));
    this.files.delete(from);
    for (const file of this.#open) if (file.path === from) file.path = to;
  }

  async remove(path: string): Promise<void> {
    this.files.delete(path);
  }

  async syncDirectory(): Promise<void> {
    // Everything is durable at once.
  }
}

/** What a full disk answers. */
export function diskFull(): FarshoreError {
  return new FarshoreError('busy', 'the disk of the state directory is full');
}
