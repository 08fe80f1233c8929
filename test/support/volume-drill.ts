import { isKind } from '../../gateway/base/errors.ts';
import { HEALTHY_DISK } from '../sim/disk-calls.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { VolumeBench, type BenchOptions } from './volume-bench.ts';

const SECTOR = 512;

/** One step of a volume's history: which sectors it set, and to what (0 for an unmap). */
interface Step {
  readonly from: number;
  readonly to: number;
  readonly stamp: number;
}

export interface DrillOptions extends BenchOptions {
  readonly seed: number;
  readonly lives: number;
  readonly steps: number;
  /** The disk fails now and then while the volume is open: chances per call. */
  readonly faults?: { readonly readError: number; readonly syncError: number; readonly noSpace: number };
  /** Many large writes and scattered reads: chunks are reclaimed all the time. */
  readonly churn?: boolean;
  /** Commits are held back for long: what the log can't keep the image has. */
  readonly overflows?: boolean;
}

/**
 * Drives one volume through several lives of its process with a workload whose order is known, and checks after every crash that the
 * volume is exactly what it was after some step: the last answered one (crash of the process), or one not before the last flush (power cut).
 */
export class VolumeDrill {
  readonly bench: VolumeBench;
  readonly #random: SimRandom;
  readonly #options: DrillOptions;
  readonly #sectors: number;
  readonly #perBlock: number;
  /** Content at the last point that must survive anything. */
  #durable: Uint32Array;
  /** Since then, in order; those from `#answered` on were not answered. */
  #tail: Step[] = [];
  #answered = 0;
  #stamp = 0;
  /** The log has stopped: nothing is answered any more in this life. */
  #stopped = false;
  /** The last crash spared what was answered. */
  #keepAnswered = false;
  readonly notes: string[] = [];
  /** The volume before the first step, and every step that has taken place for good since. */
  readonly #first: Uint32Array;
  readonly #history: Step[] = [];
  /** How many of them the newest version had that was looked at. */
  #versionAt = 0;

  constructor(options: DrillOptions) {
    this.#options = options;
    this.#random = new SimRandom(`drill ${options.seed}`);
    this.bench = new VolumeBench({ ...options, patientReads: options.faults !== undefined });
    this.#perBlock = 4096 / SECTOR;
    this.#sectors = (options.volumeBlocks ?? 4096) * this.#perBlock;
    this.#durable = new Uint32Array(this.#sectors);
    const { seedImage } = options;
    if (seedImage !== undefined)
      for (let sector = 0; sector < this.#sectors; sector++)
        this.#durable[sector] = seedImage.readUInt32LE(sector * SECTOR);
    this.#first = this.#durable.slice();
  }

  async run(): Promise<void> {
    const random = this.#random;
    for (let life = 0; life < this.#options.lives; life++) {
      await this.#start();
      this.#checkVersion();
      await this.#check(`start of life ${life}`);
      this.#fail();
      for (let step = 0; step < this.#options.steps && !this.#stopped; step++) await this.#step();
      this.#heal();
      // The log has stopped, though nobody may have been told yet, and what was written before is not on the disk.
      if (this.bench.disk.failedSyncs > 0) this.#stopped = true;
      if (random.chance(0.15) && !this.#stopped) {
        await this.bench.stop();
        this.#settleAt(this.#answered);
        this.#checkImage();
      } else {
        const kind = random.chance(0.5) ? 'process' : 'power';
        this.#startUnanswered();
        if (random.chance(0.7)) await this.bench.pass(random.fraction() * 2);
        this.bench.crash(kind);
        this.notes.push(`crash ${kind}`);
        // After a failed sync the page cache is as good as a power cut.
        this.#keepAnswered = kind === 'process' && !this.#stopped;
      }
    }
    await this.#start();
    await this.#check('the end');
    this.bench.shore.holdCommits = false;
    if (this.#options.stored !== undefined) {
      await this.bench.flushRemote();
      this.#checkVersion();
    }
    await this.bench.stop();
    this.#checkImage();
  }

  /** After a clean stop the image alone is the volume. */
  #checkImage(): void {
    if (this.#options.stored === undefined || this.#tail.length > 0) return;
    const image = this.bench.image();
    for (let sector = 0; sector < this.#sectors; sector++) {
      const stamp = image.readUInt32LE(sector * SECTOR);
      if (stamp !== this.#durable[sector]) throw this.#wrong('the image', sector, stamp, this.#durable[sector]);
    }
  }

  /** Opens the volume, in a new process after a failure of the disk. */
  async #start(): Promise<void> {
    this.#stopped = false;
    this.#fail();
    try {
      await this.bench.start();
    } catch (error) {
      if (this.#options.faults === undefined || !isKind(error, 'stopped', 'busy')) throw error;
      this.notes.push(`no start: ${error.message}`);
      this.#keepAnswered = false;
      this.bench.crash('process');
      this.#heal();
      await this.bench.start();
    }
    this.#heal();
    this.bench.disk.failedSyncs = 0;
    if (this.#keepAnswered) this.#settleAt(this.#answered);
    this.#keepAnswered = false;
  }

  #fail(): void {
    const { faults } = this.#options;
    if (faults !== undefined) Object.assign(this.bench.disk.faults, faults);
  }

  #heal(): void {
    Object.assign(this.bench.disk.faults, HEALTHY_DISK);
  }

  async #step(): Promise<void> {
    const { bench } = this;
    // Whoever holds commits back for ever is told that the cache is full; that is another test.
    // (One with an image overflows into it, as long as there is room for batches on their way.)
    if (bench.cache.status().freeBytes < (this.#options.overflows === true ? 0.5 : 2) * bench.cache.geometry.bytes)
      bench.shore.holdCommits = false;
    const choice = this.#random.weighted({
      write: 40,
      burst: 10,
      partial: bench.volume.geometry().sectorSize === 512 ? 15 : 0,
      unmap: 6,
      mixed: 10,
      read: this.#options.churn === true ? 40 : 20,
      flush: 4,
      flushRemote: 2,
      hold: this.#options.overflows === true ? 4 : 2,
      pass: 4,
    });
    // Commands that wait for room may overtake one another, and then their order is not known here.
    const isRoomy = bench.cache.status().freeBytes >= 200 * 4096 && bench.cache.status().waitingWrites === 0;
    switch (isRoomy || (choice !== 'burst' && choice !== 'mixed') ? choice : 'write') {
      case 'write':
        await this.#answer([
          this.#write(this.#range(1, this.#random.chance(this.#options.churn === true ? 0.7 : 0.1) ? 60 : 4)),
        ]);
        break;
      case 'burst':
        await this.#answer(Array.from({ length: this.#random.between(2, 12) }, () => this.#write(this.#range(1, 6))));
        break;
      case 'mixed':
        await this.#mix();
        break;
      case 'partial': {
        const from = this.#random.between(0, this.#sectors - 40);
        await this.#answer([this.#write({ from, to: from + this.#random.between(1, 20) })]);
        break;
      }
      case 'unmap':
        await this.#answer([this.#unmap()]);
        break;
      case 'read':
        await this.#checkRange(this.#range(1, 20));
        break;
      case 'flush':
        if (await this.#survives(bench.flush())) this.#settleAt(this.#answered);
        break;
      case 'flushRemote':
        if (!bench.shore.holdCommits && (await this.#survives(bench.flushRemote()))) this.#settleAt(this.#answered);
        break;
      case 'hold':
        bench.shore.holdCommits =
          !bench.shore.holdCommits && this.#random.chance(this.#options.overflows === true ? 0.9 : 0.5);
        break;
      case 'pass':
        await bench.pass(this.#random.fraction() * 1500);
        break;
    }
  }

  /** Whole blocks. */
  #range(least: number, most: number): { from: number; to: number } {
    const blocks = this.#random.between(least, most);
    // Half of the writes go to a hot corner, so that blocks are overwritten often.
    const all = this.#sectors / this.#perBlock;
    const space = this.#random.chance(0.5) ? Math.min(64, all) : all;
    const block = this.#random.between(0, space - Math.min(blocks, space));
    return { from: block * this.#perBlock, to: Math.min(block + blocks, all) * this.#perBlock };
  }

  /** A write, as a step of the history unless it was refused before it took its place. */
  #write({ from, to }: { from: number; to: number }): Promise<void> {
    const stamp = ++this.#stamp;
    const data = Buffer.alloc((to - from) * SECTOR);
    for (let at = 0; at < data.length; at += 4) data.writeUInt32LE(stamp, at);
    const pieces: Buffer[] = [];
    for (let at = 0; at < data.length;) {
      const size = this.#random.chance(0.7)
        ? data.length - at
        : Math.min(data.length - at, SECTOR * this.#random.between(1, 9));
      pieces.push(data.subarray(at, at + size));
      at += size;
    }
    const step = { from, to, stamp };
    this.#tail.push(step);
    const unit = this.bench.volume.geometry().sectorSize / SECTOR;
    return this.#tolerate(step, Promise.resolve(this.bench.volume.write(from / unit, pieces, { fua: false })));
  }

  #unmap(): Promise<void> {
    const { from, to } = this.#random.chance(0.1) ? { from: 0, to: this.#sectors } : this.#range(1, 30);
    const step = { from, to, stamp: 0 };
    this.#tail.push(step);
    const unit = this.bench.volume.geometry().sectorSize / SECTOR;
    return this.#tolerate(
      step,
      Promise.resolve(this.bench.volume.unmap([{ lba: from / unit, sectors: (to - from) / unit }])),
    );
  }

  /** With a failing disk a write may be refused (it never took place) or fail with the log (nobody knows). */
  async #tolerate(step: Step, work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (this.#options.faults === undefined || !isKind(error, 'stopped', 'busy', 'damaged')) throw error;
      if (isKind(error, 'stopped')) this.#stopped = true;
      else this.#tail.splice(this.#tail.indexOf(step), 1);
    }
  }

  async #answer(work: Promise<void>[]): Promise<void> {
    await this.bench.settle(Promise.all(work));
    if (!this.#stopped) this.#answered = this.#tail.length;
  }

  /** Begins writes that nobody waits for. */
  #startUnanswered(): void {
    const count = this.#random.between(0, 10);
    for (let i = 0; i < count; i++) {
      // Their answers may still come, or fail with the process.
      this.#write(this.#range(1, 5)).catch(() => undefined);
    }
  }

  /** Everything up to this step must survive from now on; later ones may. */
  #settleAt(step: number): void {
    const settled = this.#tail.splice(0, step);
    this.#history.push(...settled);
    for (const { from, to, stamp } of settled) this.#durable.fill(stamp, from, to);
    this.#answered -= step;
  }

  /** Reads and writes at the same time: each sector of a read is as before all of them, or as one of them left it. */
  async #mix(): Promise<void> {
    const before = this.#stateAfter(this.#answered);
    const first = this.#tail.length;
    const work: Promise<void>[] = [];
    const reads: Promise<void>[] = [];
    for (let i = this.#random.between(2, 10); i > 0; i--) {
      const range = this.#range(1, 12);
      if (this.#random.chance(0.5)) work.push(this.#write(range));
      else {
        reads.push(
          this.#readTolerantly(range).then((actual) => {
            if (actual === undefined) return;
            for (let at = range.from; at < range.to; at++) {
              const stamp = actual[at - range.from];
              const possible = this.#tail.slice(first).filter(({ from, to }) => at >= from && at < to);
              if (stamp !== before[at] && !possible.some((step) => step.stamp === stamp)) {
                throw this.#wrong('a read among writes', at, stamp, before[at]);
              }
            }
          }),
        );
      }
    }
    await this.bench.settle(Promise.all(reads));
    await this.#answer(work);
  }

  /** Whether a flush succeeded; with a failing disk it need not. */
  async #survives(flush: Promise<void>): Promise<boolean> {
    try {
      await flush;
      return true;
    } catch (error) {
      if (this.#options.faults === undefined || !isKind(error, 'stopped')) throw error;
      this.#stopped = true;
      return false;
    }
  }

  async #checkRange({ from, to }: { from: number; to: number }): Promise<void> {
    const expected = this.#stateAfter(this.#answered);
    const actual = await this.bench.settle(this.#readTolerantly({ from, to }));
    if (actual === undefined) return;
    for (let at = from; at < to; at++) {
      if (actual[at - from] !== expected[at]) throw this.#wrong(`a read`, at, actual[at - from], expected[at]);
    }
  }

  /** Finds the step the volume stands at, and goes on from there. */
  async #check(when: string): Promise<void> {
    const actual = new Uint32Array(this.#sectors);
    const stride = 64 * this.#perBlock;
    for (let from = 0; from < this.#sectors; from += stride) {
      actual.set(await this.#read(from, Math.min(from + stride, this.#sectors)), from);
    }
    let best = { step: 0, at: -1 };
    for (let step = this.#tail.length; step >= 0; step--) {
      const state = this.#stateAfter(step);
      const at = state.findIndex((stamp, sector) => stamp !== actual[sector]);
      if (at < 0) {
        this.#settleAt(step);
        this.#tail = [];
        this.#answered = 0;
        return;
      }
      if (at > best.at) best = { step, at };
    }
    const state = this.#stateAfter(best.step);
    throw this.#wrong(
      `${when}, nearest to step ${best.step} of ${this.#tail.length}`,
      best.at,
      actual[best.at],
      state[best.at],
    );
  }

  /** The newest version is the volume as of some step, and none before that of an older version: it can be restored at any time. */
  #checkVersion(): void {
    const { shore } = this.bench;
    if (shore.lost.size > 0) return;
    const version = new Uint32Array(this.#sectors);
    for (const [block, content] of shore.blocks)
      for (let at = 0; at < this.#perBlock; at++)
        version[block * this.#perBlock + at] = content.readUInt32LE(at * SECTOR);
    // A seed that is not a version yet.
    if (shore.lastData === undefined && shore.blocks.size === 0) return;
    const state = Uint32Array.from(this.#first);
    const steps = [...this.#history, ...this.#tail];
    const isVersion = (): boolean => state.every((stamp, sector) => stamp === version[sector]);
    for (let step = 0; step <= steps.length; step++) {
      if (step >= this.#versionAt && isVersion()) {
        this.#versionAt = step;
        return;
      }
      const next = steps[step];
      if (next !== undefined) state.fill(next.stamp, next.from, next.to);
    }
    throw new Error(
      `seed ${this.#options.seed}: the newest version is the volume as of no step (${this.notes.join(', ')})`,
    );
  }

  #stateAfter(step: number): Uint32Array {
    const state = Uint32Array.from(this.#durable);
    for (const { from, to, stamp } of this.#tail.slice(0, step)) state.fill(stamp, from, to);
    return state;
  }

  async #readTolerantly({ from, to }: { from: number; to: number }): Promise<Uint32Array | undefined> {
    try {
      return await this.#readNow(from, to);
    } catch (error) {
      if (this.#options.faults === undefined || !isKind(error, 'stopped', 'damaged')) throw error;
      return undefined;
    }
  }

  #read(from: number, to: number): Promise<Uint32Array> {
    return this.bench.settle(this.#readNow(from, to));
  }

  async #readNow(from: number, to: number): Promise<Uint32Array> {
    const unit = this.bench.volume.geometry().sectorSize / SECTOR;
    const data = Buffer.concat(await this.bench.volume.read(from / unit, (to - from) / unit));
    const stamps = new Uint32Array(to - from);
    for (let sector = 0; sector < stamps.length; sector++) {
      const stamp = data.readUInt32LE(sector * SECTOR);
      for (let at = 0; at < SECTOR; at += 4) {
        if (data.readUInt32LE(sector * SECTOR + at) !== stamp) throw new Error(`sector ${from + sector} is a mix`);
      }
      stamps[sector] = stamp;
    }
    return stamps;
  }

  #wrong(when: string, sector: number, actual: number | undefined, expected: number | undefined): Error {
    return new Error(
      `seed ${this.#options.seed}, ${when}: sector ${sector} (block ${Math.floor(sector / this.#perBlock)}) is ${actual ?? -1} and should be ${expected ?? -1} (${this.notes.join(', ')})`,
    );
  }
}
