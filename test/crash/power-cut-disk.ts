import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import type { Disk, DiskFile, OpenMode } from '../../gateway/base/disk.ts';
import { parentOf } from '../../gateway/base/disk.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { recordChange, recordSync } from './directory-journal.ts';

const SECTOR = 512;
/** Written to the kernel at once when a file is synced. */
const RUN_SECTORS = 128;

/** What becomes of a write that nobody syncs: how often all of it reaches the platter at once, and none of it before a sync. */
const ALL_AT_ONCE = 0.2;
const NONE_BEFORE_SYNC = 0.5;

/**
 * The Disk port over a directory, such that the end of the process by SIGKILL is a power cut: what is written stays in this process until the
 * file is synced, but for a random part of its sectors, which go to the kernel (the platter, here) at once and in any order. A file that
 * is being synced is written sector run by sector run in random order. Names (creations, renames, removals) are changed at once and entered
 * in a journal, from which whoever killed the process undoes some of those that no directory sync has covered (undoSomeChanges).
 */
export class PowerCutDisk implements Disk {
  readonly #root: string;
  readonly #journal: string;
  readonly #random: SimRandom;
  readonly #isLying: boolean;
  readonly #inodes = new Map<string, Inode>();

  /** `journal`: a directory beside `root`, on the same file system. `isLying`: syncs of chunks are answered, and nothing is synced. */
  constructor(root: string, journal: string, seed: string, isLying = false) {
    this.#isLying = isLying;
    this.#root = root;
    this.#journal = journal;
    this.#random = new SimRandom(seed);
  }

  async makeDirectory(path: string): Promise<void> {
    await later();
    fs.mkdirSync(join(this.#root, path), { recursive: true, mode: 0o700 });
  }

  async list(path: string): Promise<string[]> {
    await later();
    const full = join(this.#root, path);
    return fs.existsSync(full) ? fs.readdirSync(full) : [];
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    await later();
    const full = join(this.#root, path);
    const exists = fs.existsSync(full);
    if (mode === 'create') {
      if (exists) throw new FarshoreError('in-use', `cannot open ${path}: it exists already`);
      recordChange(this.#journal, { kind: 'create', directory: parentOf(path), path: full });
      this.#inodes.set(full, new Inode(fs.openSync(full, 'wx+', 0o600), this.#random));
    } else if (!exists) throw new FarshoreError('not-found', `cannot open ${path}: it does not exist`);
    let inode = this.#inodes.get(full);
    if (inode === undefined) {
      inode = new Inode(fs.openSync(full, 'r+'), this.#random);
      this.#inodes.set(full, inode);
    }
    return new PowerCutFile(inode, path, this.#isLying && path.endsWith('.chunk'));
  }

  async rename(from: string, to: string): Promise<void> {
    await later();
    const [source, target] = [join(this.#root, from), join(this.#root, to)];
    recordChange(this.#journal, { kind: 'rename', directory: parentOf(to), from: source, path: target });
    fs.renameSync(source, target);
    const inode = this.#inodes.get(source);
    this.#inodes.delete(target);
    this.#inodes.delete(source);
    if (inode !== undefined) this.#inodes.set(target, inode);
  }

  async remove(path: string): Promise<void> {
    await later();
    const full = join(this.#root, path);
    if (!fs.existsSync(full)) return;
    recordChange(this.#journal, { kind: 'remove', directory: parentOf(path), path: full });
    fs.rmSync(full);
    this.#inodes.delete(full);
  }

  async syncDirectory(path: string): Promise<void> {
    await later();
    fs.accessSync(dirname(join(this.#root, path, 'any')));
    recordSync(this.#journal, path);
  }
}

/** A file by whatever names and handles: what no sync has covered yet is here. It stays open for the life of the process. */
class Inode {
  readonly #fd: number;
  readonly #random: SimRandom;
  /** Newest content of sectors that the kernel does not have. */
  readonly #held = new Map<number, Buffer>();
  size: number;
  /** What the kernel knows of the size. */
  #kernelSize: number;

  constructor(fd: number, random: SimRandom) {
    this.#fd = fd;
    this.#random = random;
    this.size = fs.fstatSync(fd).size;
    this.#kernelSize = this.size;
  }

  write(pieces: readonly Buffer[], position: number): void {
    const data = Buffer.concat(pieces);
    if (data.length === 0) return;
    const first = Math.floor(position / SECTOR);
    const end = Math.ceil((position + data.length) / SECTOR);
    for (let sector = first; sector < end; sector += 1) {
      const start = sector * SECTOR;
      const from = Math.max(start, position);
      const to = Math.min(start + SECTOR, position + data.length);
      const isWhole = to - from === SECTOR;
      const content = this.#held.get(sector) ?? (isWhole ? Buffer.allocUnsafe(SECTOR) : this.#fromKernel(sector));
      data.copy(content, from - start, from - position, to - position);
      this.#held.set(sector, content);
    }
    this.size = Math.max(this.size, position + data.length);
    const fate = this.#random.fraction();
    if (fate < NONE_BEFORE_SYNC) return;
    const all = fate < NONE_BEFORE_SYNC + ALL_AT_ONCE;
    for (let sector = first; sector < end; sector += 1) if (all || this.#random.chance(0.5)) this.#writeBack(sector, 1);
  }

  read(into: Buffer, position: number): boolean {
    if (position + into.length > this.size) return false;
    const there = fs.readSync(this.#fd, into, 0, into.length, position);
    into.fill(0, there);
    for (let sector = Math.floor(position / SECTOR); sector * SECTOR < position + into.length; sector += 1) {
      const content = this.#held.get(sector);
      if (content === undefined) continue;
      const from = Math.max(sector * SECTOR, position);
      const to = Math.min((sector + 1) * SECTOR, position + into.length);
      content.copy(into, from - position, from - sector * SECTOR, to - sector * SECTOR);
    }
    return true;
  }

  /** Everything written before the call; the platter is the kernel here, which outlives the process, so nothing is waited for. */
  async sync(): Promise<void> {
    const order = [...this.#held.keys()].sort((a, b) => a - b);
    const runs: { first: number; count: number }[] = [];
    for (const sector of order) {
      const last = runs.at(-1);
      if (last !== undefined && last.first + last.count === sector && last.count < RUN_SECTORS) last.count += 1;
      else runs.push({ first: sector, count: 1 });
    }
    for (let at = runs.length - 1; at > 0; at -= 1) {
      const other = this.#random.between(0, at);
      const [one, two] = [runs[at], runs[other]];
      if (one !== undefined && two !== undefined) [runs[at], runs[other]] = [two, one];
    }
    for (const { first, count } of runs) {
      this.#writeBack(first, count);
      // So that a kill finds it half done, and writes come in between.
      if (this.#random.chance(0.05)) await later();
    }
    if (this.#kernelSize < this.size) {
      fs.ftruncateSync(this.#fd, this.size);
      this.#kernelSize = this.size;
    }
  }

  /** Sectors that are no longer held have been written meanwhile. */
  #writeBack(first: number, count: number): void {
    let run: Buffer[] = [];
    const flush = (end: number): void => {
      if (run.length === 0) return;
      const start = (end - run.length) * SECTOR;
      const bytes = Buffer.concat(run).subarray(0, Math.max(0, this.size - start));
      fs.writeSync(this.#fd, bytes, 0, bytes.length, start);
      this.#kernelSize = Math.max(this.#kernelSize, start + bytes.length);
      run = [];
    };
    for (let sector = first; sector < first + count; sector += 1) {
      const content = this.#held.get(sector);
      if (content === undefined) flush(sector);
      else run.push(content);
      this.#held.delete(sector);
    }
    flush(first + count);
  }

  #fromKernel(sector: number): Buffer {
    const content = Buffer.alloc(SECTOR);
    fs.readSync(this.#fd, content, 0, SECTOR, sector * SECTOR);
    return content;
  }
}

class PowerCutFile implements DiskFile {
  readonly #inode: Inode;
  readonly #path: string;
  readonly #isLying: boolean;

  constructor(inode: Inode, path: string, isLying: boolean) {
    this.#inode = inode;
    this.#isLying = isLying;
    this.#path = path;
  }

  async size(): Promise<number> {
    await later();
    return this.#inode.size;
  }

  async read(into: Buffer, position: number): Promise<void> {
    await later();
    if (!this.#inode.read(into, position)) {
      throw new FarshoreError('damaged', `${this.#path} ends before ${position + into.length}`);
    }
  }

  async write(pieces: readonly Buffer[], position: number): Promise<void> {
    await later();
    this.#inode.write(pieces, position);
  }

  sync(): Promise<void> {
    return this.#isLying ? Promise.resolve() : this.#inode.sync();
  }

  async close(): Promise<void> {
    // What is not synced is still lost by a power cut, and read by whoever opens the file again.
  }
}

/** Other work comes first, as with a disk that takes its time. */
function later(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
