import type { MaybePromise } from '../../gateway/base/block-device.ts';
import { parentOf, type Disk, type DiskFile, type OpenMode } from '../../gateway/base/disk.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import {
  DiskCalls,
  failureOf,
  HEALTHY_DISK,
  type Act,
  type CallFault,
  type CallKind,
  type DiskFaults,
  type DiskProbe,
} from './disk-calls.ts';
import type { Life, SimClock } from './sim-clock.ts';
import { SimFile, planWrite, withFlippedBit, type FileWrite, type PowerCutFate } from './sim-file.ts';
import type { SimRandom } from './sim-random.ts';

type Node = SimFile | 'directory';

/** Entries of one directory that change together. */
interface DirectoryChange {
  readonly id: number;
  readonly directory: string;
  readonly changes: readonly { readonly path: string; readonly node: Node | undefined }[];
}

const FATES: Readonly<Record<PowerCutFate, number>> = { lost: 2, kept: 1, writes: 2, sectors: 3, prefix: 2 };

/** How a process or a machine ends; what is left out is drawn. */
export interface CrashOptions {
  /** Chance that a call under way has happened. */
  readonly late?: number | undefined;
  /** What a power cut does to everything that was not synced. */
  readonly fate?: PowerCutFate | undefined;
}

/** Where images are. */
export const IMAGES = 'images/';

/** A disk as a process sees it, with what only images need. */
export interface ImageDisk extends Disk {
  /** Gives a file another size, whole pages; not durable before its next sync. */
  truncate(path: string, bytes: number): Promise<void>;
}

/**
 * A disk that outlives the processes using it. What it promises is what POSIX does: a write is volatile until fdatasync, a
 * directory entry until the directory is synced, and a power cut keeps any subset of the rest, by 512-byte sectors.
 */
export class SimDisk {
  /** Syncs that have failed; from then on, until a restart was checked, only what was synced before is promised. */
  failedSyncs = 0;
  /** Bits that are not what was written. */
  damages = 0;
  /** Of these, those in the state of the pool. */
  stateDamages = 0;
  /** Processes and machines that have ended over it. */
  crashes = 0;
  /** Told when a read fails, or a bit becomes another one than was written. */
  onDoubt: (() => void) | undefined;
  readonly #clock: SimClock;
  readonly #random: SimRandom;
  readonly #calls: DiskCalls;
  #entries = new Map<string, Node>([['', 'directory']]);
  #durable = new Map<string, Node>([['', 'directory']]);
  #unsynced: DirectoryChange[] = [];
  #nextChange = 1;
  /** The chunk synced last. */
  #syncedLast: string | undefined;

  constructor(name: string, clock: SimClock, random: SimRandom) {
    this.#clock = clock;
    this.#random = random;
    this.#calls = new DiskCalls(name, clock, random);
  }

  get faults(): DiskFaults {
    return this.#calls.faults;
  }

  /** When it last failed, or was slow. */
  get troubledAtMs(): number {
    return this.#calls.troubledAtMs;
  }

  /** Calls so far. */
  get calls(): number {
    return this.#calls.count;
  }

  setProbe(probe: DiskProbe | undefined): void {
    this.#calls.probe = probe;
  }

  /** No faults any more; what they did stays done. */
  heal(): void {
    Object.assign(this.faults, HEALTHY_DISK, { sameTurn: this.faults.sameTurn });
    this.healSectors();
  }

  healSectors(): void {
    for (const file of this.#files(this.#entries)) file.healSectors();
  }

  /** Flips bits of some files at rest; answers where. */
  damage(paths: readonly string[], bits: number): void {
    for (let bit = 0; bit < bits; bit++) {
      const path = this.#random.pick(paths);
      if (this.file(path)?.damage(this.#random) === true) this.#noteDamage(path);
    }
  }

  /** The disk as one process sees it. Once `life` has ended nothing is answered any more. */
  mount(life: Life): ImageDisk {
    return {
      truncate: (path, bytes) =>
        this.#changing(life, 'write', path, () => {
          const file = this.file(path);
          if (file === undefined) throw new FarshoreError('not-found', `there is no ${path}`);
          file.truncate(bytes);
        }),
      makeDirectory: (path) =>
        this.#changing(life, 'mkdir', path, () => {
          this.#makeDirectory(path);
        }),
      list: async (path) => this.#calls.ask(life, 'ls', path, () => this.#list(path)),
      open: async (path, mode) => {
        const open = (): SimFile => this.#open(path, mode);
        const file = await (mode === 'create'
          ? this.#changing(life, 'create', path, open)
          : this.#calls.ask(life, 'open', path, faulty('open', path, open)));
        return this.#handle(life, path, file);
      },
      rename: (from, to) =>
        this.#changing(life, 'mv', from, () => {
          this.#rename(from, to);
        }),
      remove: (path) =>
        this.#changing(life, 'rm', path, () => {
          this.#remove(path);
        }),
      syncDirectory: (path) => this.#syncDirectory(life, path),
    };
  }

  /**
   * Ends what the process left behind; the caller has ended its life before. `process`: all answered writes stay, those under
   * way may be cut short. `power`: what was not synced is kept or lost in any combination.
   */
  crash(kind: 'process' | 'power', { late = 0.6, fate }: CrashOptions = {}): void {
    this.crashes++;
    this.#calls.crash(late);
    if (kind === 'process') {
      for (const file of this.#files(this.#entries)) file.processCrash(this.#random);
      return;
    }
    this.#cutDirectories(fate);
    const drawn = this.#random.weighted(FATES);
    for (const file of new Set(this.#files(this.#entries)))
      file.powerCut(fate ?? (this.#random.chance(0.3) ? this.#random.weighted(FATES) : drawn), this.#random);
  }

  /** An independent copy as of now, as a VM snapshot makes it. */
  copy(name: string): SimDisk {
    const copy = new SimDisk(name, this.#clock, this.#random.split(name));
    copy.damages = this.damages;
    copy.crashes = this.crashes;
    copy.#syncedLast = this.#syncedLast;
    copy.stateDamages = this.stateDamages;
    copy.onDoubt = this.onDoubt;
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

  /** Flips a bit of what was synced last in a chunk. */
  damageNewest(): void {
    const path = this.#syncedLast;
    if (path !== undefined && this.file(path)?.damage(this.#random, true) === true) this.#noteDamage(path);
  }

  #noteDamage(path: string): void {
    this.damages++;
    if (path.endsWith('pool.state')) this.stateDamages++;
    this.onDoubt?.();
  }

  *#files(entries: ReadonlyMap<string, Node>): Iterable<SimFile> {
    for (const node of entries.values()) if (node !== 'directory') yield node;
  }

  /** A call that changes the namespace: when it fails, nothing has changed. */
  async #changing<T>(life: Life, kind: CallKind, path: string, act: () => T): Promise<T> {
    return this.#calls.change(life, kind, path, faulty(kind, path, act), act);
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

  /** A sync that fails has done nothing, and a later one may go well: entries that were not synced stay so. */
  async #syncDirectory(life: Life, path: string): Promise<void> {
    const mark = this.#nextChange;
    return this.#calls.ask(life, 'syncdir', path, (fault) => {
      if (fault !== undefined) {
        if (fault === 'EIO') this.failedSyncs++;
        throw failureOf(fault, 'syncdir', path);
      }
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
  #cutDirectories(fate: PowerCutFate | undefined): void {
    const share = fate === 'lost' ? 0 : fate === 'kept' ? 1 : 0.5;
    const isPrefix = fate === undefined ? this.#random.chance(0.6) : fate === 'prefix';
    const prefix = isPrefix ? this.#random.between(0, this.#unsynced.length) : undefined;
    this.#unsynced.forEach((op, index) => {
      if (prefix === undefined ? this.#random.chance(share) : index < prefix) applyChange(this.#durable, op);
    });
    this.#unsynced = [];
    for (const path of [...this.#durable.keys()].sort())
      if (path !== '' && this.#durable.get(parentOf(path)) !== 'directory') this.#durable.delete(path);
    this.#entries = new Map(this.#durable);
  }

  #handle(life: Life, path: string, file: SimFile): DiskFile {
    const calls = this.#calls;
    let closed = false;
    const check = (): void => {
      if (closed) throw new FarshoreError('bug', `${path} is used after it was closed`);
    };
    return {
      size: async () =>
        calls.ask(life, 'size', path, () => {
          check();
          return file.size;
        }),
      read: (into, position) =>
        calls.ask(
          life,
          'read',
          path,
          (fault) => {
            check();
            this.#read(path, file, into, position, fault);
          },
          `${path} ${position}+${into.length}`,
        ),
      write: (pieces, position) => this.#write(life, path, file, planWrite(pieces, position), check),
      sync: async () => {
        const mark = file.syncMark();
        return calls.ask(life, 'sync', path, (fault) => {
          check();
          if (fault !== undefined) {
            file.failSync(this.#random);
            this.failedSyncs++;
            throw failureOf(fault, 'sync', path);
          }
          file.completeSync(mark);
          if (path.endsWith('.chunk')) this.#syncedLast = path;
        });
      },
      close: async () =>
        calls.ask(life, 'close', path, () => {
          closed = true;
        }),
    };
  }

  #read(path: string, file: SimFile, into: Buffer, position: number, fault: CallFault | undefined): void {
    if (this.#random.chance(this.faults.badSector)) file.spoilSector(position, into.length, this.#random);
    if (fault !== undefined || file.isBad(position, into.length)) {
      this.onDoubt?.();
      throw failureOf(fault ?? 'EIO', 'read', path);
    }
    if (!file.read(into, position)) throw new FarshoreError('damaged', `${path} ends before ${position + into.length}`);
  }

  #write(life: Life, path: string, file: SimFile, write: FileWrite, check: () => void): MaybePromise<void> {
    const act = (fault: CallFault | undefined): void => {
      check();
      if (fault !== undefined) {
        file.writeTorn(write, this.#random);
        throw failureOf(fault, 'write', path);
      }
      // An image has no checksums: what its disk makes of it nobody can tell.
      const lies = this.#random.chance(this.faults.flipOnWrite) && !path.startsWith(IMAGES);
      if (lies) this.#noteDamage(path);
      file.write(lies ? withFlippedBit(write, this.#random) : write);
    };
    const late = (): void => {
      if (this.#random.chance(0.5)) file.write(write);
      else file.writeTorn(write, this.#random);
    };
    return this.#calls.change(life, 'write', path, act, late, `${path} ..${write.end}`);
  }
}

function faulty<T>(kind: CallKind, path: string, act: () => T): Act<T> {
  return (fault) => {
    if (fault !== undefined) throw failureOf(fault, kind, path);
    return act();
  };
}

function applyChange(entries: Map<string, Node>, op: DirectoryChange): void {
  for (const { path, node } of op.changes) {
    if (node === undefined) entries.delete(path);
    else entries.set(path, node);
  }
}
