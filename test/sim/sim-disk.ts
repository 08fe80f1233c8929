import { parentOf, type Disk, type DiskFile, type OpenMode } from '../../gateway/base/disk.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import type { Life, SimClock } from './sim-clock.ts';
import { SimFile, planWrite, type FileWrite, type PowerCutFate } from './sim-file.ts';
import type { SimRandom } from './sim-random.ts';

type Node = SimFile | 'directory';

/** Entries of one directory that change together. */
interface DirectoryChange {
  readonly id: number;
  readonly directory: string;
  readonly changes: readonly { readonly path: string; readonly node: Node | undefined }[];
}

/** Chances per operation; all zero to begin with. */
export interface DiskFaults {
  /** A read fails with EIO. */
  readError: number;
  /** A sync fails, and what it should have covered is arbitrary from then on. */
  syncError: number;
  /** A write fails with ENOSPC after some of it was written. */
  noSpace: number;
  /** Multiplies every delay. */
  slowness: number;
}

export const HEALTHY_DISK: DiskFaults = { readError: 0, syncError: 0, noSpace: 0, slowness: 1 };

const FATES: Readonly<Record<PowerCutFate, number>> = { lost: 2, kept: 1, writes: 2, sectors: 3, prefix: 2 };

/** Base delays in milliseconds; each call takes between half of it and, rarely, twenty times it. */
const DELAY_MS = { read: 0.1, write: 0.05, sync: 1, directory: 0.2 } as const;

/** What an unanswered call may still have done when its process dies. */
type LateEffect = () => void;

/**
 * A disk that outlives the processes using it. What it promises is what POSIX does: a write is volatile until fdatasync, a
 * directory entry until the directory is synced, and a power cut keeps any subset of the rest, by 512-byte sectors.
 */
export class SimDisk {
  readonly faults: DiskFaults = { ...HEALTHY_DISK };
  /** Syncs that have failed; from then on, until a restart was checked, only what was synced before is promised. */
  failedSyncs = 0;
  failedReads = 0;
  readonly #clock: SimClock;
  readonly #random: SimRandom;
  readonly #name: string;
  #entries = new Map<string, Node>([['', 'directory']]);
  #durable = new Map<string, Node>([['', 'directory']]);
  #unsynced: DirectoryChange[] = [];
  #nextChange = 1;
  readonly #inFlight = new Set<LateEffect>();

  constructor(name: string, clock: SimClock, random: SimRandom) {
    this.#name = name;
    this.#clock = clock;
    this.#random = random;
  }

  /** The disk as one process sees it. Once `life` has ended nothing is answered any more. */
  mount(life: Life): Disk {
    return {
      makeDirectory: (path) =>
        this.#changing(life, `mkdir ${path}`, () => {
          this.#makeDirectory(path);
        }),
      list: (path) => this.#later(life, 'directory', `ls ${path}`, () => this.#list(path)),
      open: async (path, mode) => {
        const file = await this.#changing(life, `open ${path}`, () => this.#open(path, mode));
        return this.#handle(life, path, file);
      },
      rename: (from, to) =>
        this.#changing(life, `mv ${from}`, () => {
          this.#rename(from, to);
        }),
      remove: (path) =>
        this.#changing(life, `rm ${path}`, () => {
          this.#remove(path);
        }),
      syncDirectory: (path) => this.#syncDirectory(life, path),
    };
  }

  /**
   * Ends what the process left behind; the caller has ended its life before. `process`: all answered writes stay, those under
   * way may be cut short. `power`: what was not synced is kept or lost in any combination.
   */
  crash(kind: 'process' | 'power'): void {
    const late = [...this.#inFlight];
    this.#inFlight.clear();
    for (const effect of late) if (this.#random.chance(0.6)) effect();
    if (kind === 'process') {
      for (const file of this.#files(this.#entries)) file.processCrash(this.#random);
      return;
    }
    this.#cutDirectories();
    const fate = this.#random.weighted(FATES);
    for (const file of new Set(this.#files(this.#entries)))
      file.powerCut(this.#random.chance(0.3) ? this.#random.weighted(FATES) : fate, this.#random);
  }

  /** An independent copy as of now, as a VM snapshot makes it. */
  copy(name: string): SimDisk {
    const copy = new SimDisk(name, this.#clock, this.#random.split(name));
    const copies = new Map<Node, Node>();
    const copyOf = (node: Node): Node => {
      if (node === 'directory') return node;
      const known = copies.get(node) ?? node.copy();
      copies.set(node, known);
      return known;
    };
    copy.#entries = new Map([...this.#entries].map(([path, node]) => [path, copyOf(node)]));
    copy.#durable = new Map([...this.#durable].map(([path, node]) => [path, copyOf(node)]));
    copy.#unsynced = this.#unsynced.map((op) => ({
      ...op,
      changes: op.changes.map(({ path, node }) => ({ path, node: node && copyOf(node) })),
    }));
    copy.#nextChange = this.#nextChange;
    return copy;
  }

  /** Every file there is, ascending. */
  paths(): string[] {
    return [...this.#entries]
      .filter(([, node]) => node !== 'directory')
      .map(([path]) => path)
      .sort();
  }

  /** For tests: the file itself, to damage it or look at it. */
  file(path: string): SimFile | undefined {
    const node = this.#entries.get(path);
    return node === 'directory' ? undefined : node;
  }

  *#files(entries: ReadonlyMap<string, Node>): Iterable<SimFile> {
    for (const node of entries.values()) if (node !== 'directory') yield node;
  }

  #later<T>(life: Life, kind: keyof typeof DELAY_MS, label: string, act: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (!life.alive) return;
      this.#clock.schedule(this.#delay(kind), `${this.#name} ${label}`, life, () => {
        try {
          resolve(act());
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }

  /** A call that changes the namespace, or a file: it may have happened although a crash kept the answer back. */
  #changing<T>(
    life: Life,
    label: string,
    act: () => T,
    late: LateEffect = act,
    kind: keyof typeof DELAY_MS = 'directory',
  ): Promise<T> {
    const effect = (): void => {
      try {
        late();
      } catch (error) {
        if (!(error instanceof FarshoreError)) throw error;
      }
    };
    if (life.alive) this.#inFlight.add(effect);
    return this.#later(life, kind, label, () => {
      this.#inFlight.delete(effect);
      return act();
    });
  }

  #delay(kind: keyof typeof DELAY_MS): number {
    const base = DELAY_MS[kind] * this.faults.slowness;
    const tail = this.#random.chance(0.02) ? 20 : 1;
    return base * (0.5 + this.#random.fraction()) * tail;
  }

  #makeDirectory(path: string): void {
    const parts = path.split('/');
    for (let depth = 1; depth <= parts.length; depth++) {
      const ancestor = parts.slice(0, depth).join('/');
      if (ancestor === '') continue;
      const node = this.#entries.get(ancestor);
      if (node === 'directory') continue;
      if (node !== undefined) throw new FarshoreError('in-use', `${ancestor} is a file`);
      this.#change([{ path: ancestor, node: 'directory' }]);
    }
  }

  #list(path: string): string[] {
    const prefix = path === '' ? '' : `${path}/`;
    const names: string[] = [];
    for (const entry of this.#entries.keys())
      if (entry !== '' && entry.startsWith(prefix) && !entry.includes('/', prefix.length))
        names.push(entry.slice(prefix.length));
    // unordered, says the contract
    return names
      .map((name) => ({ name, key: this.#random.uint32() }))
      .sort((a, b) => a.key - b.key)
      .map(({ name }) => name);
  }

  #open(path: string, mode: OpenMode): SimFile {
    const node = this.#entries.get(path);
    if (node === 'directory') throw new FarshoreError('stopped', `EISDIR ${path}`);
    if (mode !== 'create') {
      if (node === undefined) throw new FarshoreError('not-found', `there is no ${path}`);
      return node;
    }
    if (node !== undefined) throw new FarshoreError('in-use', `${path} exists`);
    this.#needDirectory(parentOf(path));
    const file = new SimFile();
    this.#change([{ path, node: file }]);
    return file;
  }

  #rename(from: string, to: string): void {
    const node = this.#entries.get(from);
    if (node === undefined) throw new FarshoreError('not-found', `there is no ${from}`);
    if (node === 'directory') throw new FarshoreError('bug', 'the simulated disk renames files only');
    this.#needDirectory(parentOf(to));
    if (parentOf(from) === parentOf(to)) {
      this.#change([
        { path: to, node },
        { path: from, node: undefined },
      ]);
      return;
    }
    this.#change([{ path: to, node }]);
    this.#change([{ path: from, node: undefined }]);
  }

  #remove(path: string): void {
    const node = this.#entries.get(path);
    if (node === undefined) return;
    if (node === 'directory' && this.#list(path).length > 0) throw new FarshoreError('stopped', `ENOTEMPTY ${path}`);
    this.#change([{ path, node: undefined }]);
  }

  #syncDirectory(life: Life, path: string): Promise<void> {
    const mark = this.#nextChange;
    return this.#later(life, 'sync', `syncdir ${path}`, () => {
      this.#needDirectory(path);
      for (const op of this.#unsynced) if (op.directory === path && op.id < mark) applyChange(this.#durable, op);
      this.#unsynced = this.#unsynced.filter((op) => op.directory !== path || op.id >= mark);
    });
  }

  #needDirectory(path: string): void {
    if (this.#entries.get(path) !== 'directory') throw new FarshoreError('not-found', `there is no directory ${path}`);
  }

  #change(changes: DirectoryChange['changes']): void {
    const directory = parentOf(changes[0]?.path ?? '');
    const op = { id: this.#nextChange++, directory, changes };
    applyChange(this.#entries, op);
    this.#unsynced.push(op);
  }

  /** A journal keeps a prefix of the changes; a plain file system any of them. */
  #cutDirectories(): void {
    const prefix = this.#random.chance(0.6) ? this.#random.between(0, this.#unsynced.length) : undefined;
    this.#unsynced.forEach((op, index) => {
      if (prefix === undefined ? this.#random.chance(0.5) : index < prefix) applyChange(this.#durable, op);
    });
    this.#unsynced = [];
    for (const path of [...this.#durable.keys()].sort())
      if (path !== '' && this.#durable.get(parentOf(path)) !== 'directory') this.#durable.delete(path);
    this.#entries = new Map(this.#durable);
  }

  #handle(life: Life, path: string, file: SimFile): DiskFile {
    let closed = false;
    const check = (): void => {
      if (closed) throw new FarshoreError('bug', `${path} is used after it was closed`);
    };
    return {
      size: () =>
        this.#later(life, 'read', `size ${path}`, () => {
          check();
          return file.size;
        }),
      read: (into, position) =>
        this.#later(life, 'read', `read ${path} ${position}+${into.length}`, () => {
          check();
          if (this.#random.chance(this.faults.readError)) {
            this.failedReads++;
            throw new FarshoreError('stopped', `EIO reading ${path}`);
          }
          if (!file.read(into, position))
            throw new FarshoreError('damaged', `${path} ends before ${position + into.length}`);
        }),
      write: (pieces, position) => this.#write(life, path, file, planWrite(pieces, position), check),
      sync: () => {
        const mark = file.syncMark();
        return this.#later(life, 'sync', `sync ${path}`, () => {
          check();
          if (this.#random.chance(this.faults.syncError)) {
            file.failSync(this.#random);
            this.failedSyncs++;
            throw new FarshoreError('stopped', `EIO syncing ${path}`);
          }
          file.completeSync(mark);
        });
      },
      close: () =>
        this.#later(life, 'read', `close ${path}`, () => {
          closed = true;
        }),
    };
  }

  #write(life: Life, path: string, file: SimFile, write: FileWrite, check: () => void): Promise<void> {
    const act = (): void => {
      check();
      if (this.#random.chance(this.faults.noSpace)) {
        file.writeTorn(write, this.#random);
        throw new FarshoreError('busy', `ENOSPC writing ${path}`);
      }
      file.write(write);
    };
    const late = (): void => {
      if (this.#random.chance(0.5)) file.write(write);
      else file.writeTorn(write, this.#random);
    };
    return this.#changing(life, `write ${path} ..${write.end}`, act, late, 'write');
  }
}

function applyChange(entries: Map<string, Node>, op: DirectoryChange): void {
  for (const { path, node } of op.changes) {
    if (node === undefined) entries.delete(path);
    else entries.set(path, node);
  }
}
