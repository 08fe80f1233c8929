import { FarshoreError, isKind } from '../../gateway/base/errors.ts';
import { VolumeBench } from '../support/volume-bench.ts';
import type { CallFault, CallKind, DiskCall } from './disk-calls.ts';
import { Violation } from './history.ts';
import type { PowerCutFate } from './sim-file.ts';
import { readStamp, stampRange } from './stamp.ts';

const SECTORS_PER_BLOCK = 8;
const SECTOR = 512;
const BLOCKS = 600;
const TAG = 7;
/** Longest read of a check. */
const CHECK_BLOCKS = 100;

/** What the script does, step by step; a step is answered before the next begins, so that the order of writes is known. */
type Step =
  | { readonly kind: 'write' | 'unmap' | 'read'; readonly lba: number; readonly sectors: number }
  | { readonly kind: 'flush' | 'flushRemote' | 'start' | 'stop' | 'powerCut' | 'processCrash' };

const block = (kind: 'write' | 'unmap' | 'read', first: number, count: number): Step => ({
  kind,
  lba: first * SECTORS_PER_BLOCK,
  sectors: count * SECTORS_PER_BLOCK,
});

/** Fills the pool so far that chunks are reclaimed and reused, with all that the log knows, and two recoveries. */
const SCRIPT: readonly Step[] = [
  { kind: 'start' },
  block('write', 0, 3),
  { kind: 'write', lba: 5, sectors: 9 },
  { kind: 'flush' },
  ...[100, 150, 344].map((first) => block('write', first, 256)),
  block('unmap', 1, 120),
  // Parts of a block; an UNMAP of parts and whole blocks would be several writes.
  { kind: 'unmap', lba: 2405, sectors: 2 },
  { kind: 'flushRemote' },
  block('write', 300, 256),
  block('write', 110, 256),
  { kind: 'flush' },
  block('write', 50, 20),
  block('read', 40, 70),
  { kind: 'flushRemote' },
  ...[130, 340, 200].map((first) => block('write', first, 256)),
  { kind: 'powerCut' },
  { kind: 'start' },
  block('read', 95, 60),
  block('write', 60, 20),
  block('unmap', 140, 2),
  { kind: 'flush' },
  block('write', 61, 2),
  { kind: 'write', lba: 500, sectors: 3 },
  { kind: 'processCrash' },
  { kind: 'start' },
  block('write', 320, 256),
  block('write', 62, 1),
  { kind: 'flushRemote' },
  block('write', 63, 4),
  { kind: 'stop' },
  { kind: 'start' },
  block('write', 64, 1),
  { kind: 'flush' },
];

export interface Death {
  readonly call: number;
  /** Before anything of the call has happened, or after all of it and before its answer. */
  readonly moment: 'begun' | 'done';
  readonly kind: 'process' | 'power';
  /** Chance that the call under way, and those beside it, have happened (in part). */
  readonly late: number;
  readonly fate: PowerCutFate | undefined;
}

export interface Failure {
  readonly call: number;
  /** Only this call, or every call of its kind until the process has ended. */
  readonly forEver: boolean;
}

export interface Ordeal {
  readonly seed: number;
  readonly sameTurn: 0 | 1;
  readonly death?: Death;
  readonly failure?: Failure;
}

/** How a call of each kind fails; every second one where there are two. */
const FAULTS: Partial<Readonly<Record<CallKind, readonly CallFault[]>>> = {
  read: ['EIO'],
  write: ['EIO', 'ENOSPC'],
  sync: ['EIO'],
  open: ['EMFILE'],
  create: ['ENOSPC', 'EMFILE'],
  mkdir: ['ENOSPC'],
  mv: ['ENOSPC'],
  syncdir: ['EIO', 'ENOSPC'],
};

/** The script with one thing going wrong at one call of the disk; then everything is checked, twice over a power cut. */
class OrdealRun {
  readonly #ordeal: Ordeal;
  readonly #bench: VolumeBench;
  /** Id per sector: what survives anything. */
  readonly #durable = new Uint32Array(BLOCKS * SECTORS_PER_BLOCK);
  /** Since then, in order. */
  readonly #tail: { readonly lba: number; readonly sectors: number; readonly id: number }[] = [];
  #answered = 0;
  #nextId = 1;
  #isUp = false;
  #died = false;
  #mayLose = false;
  readonly #calls: CallKind[] = [];

  constructor(ordeal: Ordeal) {
    this.#ordeal = ordeal;
    this.#bench = new VolumeBench({
      seed: ordeal.seed,
      chunks: 5,
      ramBlocks: 0,
      sectorSize: 512,
      volumeBlocks: BLOCKS,
      rpoMs: 200,
      maxWaitMs: 2000,
    });
    this.#bench.disk.faults.sameTurn = ordeal.sameTurn;
  }

  /** Answers what kinds of calls the script made, in order. */
  async run(): Promise<readonly CallKind[]> {
    const { disk } = this.#bench;
    disk.setProbe(this.#probe());
    for (const step of SCRIPT) await this.#attempt(step);
    const calls = [...this.#calls];
    disk.setProbe(undefined);
    // What a recovery left half done shows only when the next one finds it.
    await this.#endFlushed();
    await this.#bench.settle(this.#open());
    await this.#endFlushed();
    await this.#start();
    return calls;
  }

  #probe(): NonNullable<Parameters<VolumeBench['disk']['setProbe']>[0]> {
    const { death, failure } = this.#ordeal;
    if (death !== undefined)
      return {
        [death.moment]: ({ n }: DiskCall) => {
          if (n === death.call) this.#die(death);
        },
      };
    let kind: CallKind | undefined;
    return {
      fault: (call) => {
        this.#calls[call.n - 1] = call.kind;
        if (failure === undefined) return undefined;
        if (call.n === failure.call) kind = call.kind;
        if (call.n !== failure.call && !(failure.forEver && call.kind === kind)) return undefined;
        const faults = FAULTS[call.kind] ?? [];
        if (call.kind === 'read' && faults.length > 0) this.#mayLose = true;
        return faults[failure.call % Math.max(1, faults.length)];
      },
    };
  }

  async #endFlushed(): Promise<void> {
    await this.#write(70 * SECTORS_PER_BLOCK, 100);
    await this.#bench.flush();
    this.#settle(this.#answered);
    this.#end('power', 'lost');
  }

  /** In the middle of whatever the process does. */
  #die({ kind, late, fate }: Death): void {
    this.#bench.disk.setProbe(undefined);
    this.#died = true;
    this.#require(kind);
    this.#bench.life.alive = false;
    this.#bench.disk.crash(kind, { late, fate });
  }

  /**
   * What was answered survives the process, unless a sync failed in it. A power cut may take all that was not flushed, also when it comes before
   * the next process has made it durable.
   */
  #require(kind: 'process' | 'power'): void {
    if (kind === 'power' || this.#bench.disk.failedSyncs > 0) this.#answered = 0;
  }

  #end(kind: 'process' | 'power', fate?: PowerCutFate): void {
    if (!this.#isUp) return;
    this.#require(kind);
    this.#bench.crash(kind, { fate });
    this.#isUp = false;
  }

  async #attempt(step: Step): Promise<void> {
    if (!this.#isUp && step.kind !== 'start') return;
    const refused = await this.#outcomeOf(this.#perform(step));
    if (this.#died) {
      this.#died = false;
      this.#isUp = false;
      await this.#start();
      return;
    }
    if (refused === undefined) return;
    const excused = this.#ordeal.failure !== undefined && isKind(refused, 'busy', 'stopped', 'damaged', 'retry');
    if (!excused) throw refused;
    if (step.kind === 'write' || step.kind === 'unmap') {
      // Refused before it took its place, or nobody knows.
      if (!isKind(refused, 'stopped')) this.#tail.splice(this.#answered);
    }
    if (!isKind(refused, 'stopped') && step.kind !== 'start' && step.kind !== 'stop') return;
    this.#isUp = true;
    this.#end(this.#ordeal.failure.call % 2 === 0 ? 'process' : 'power');
    this.#bench.disk.setProbe(undefined);
    await this.#start();
  }

  /** What it was refused with; undefined when it was done, or the process died over it. */
  async #outcomeOf(work: Promise<void>): Promise<Error | undefined> {
    const outcome: { settled: boolean; error: Error | undefined } = { settled: false, error: undefined };
    work.then(
      () => (outcome.settled = true),
      (error: unknown) => {
        outcome.settled = true;
        outcome.error = error instanceof Error ? error : new Error(String(error));
      },
    );
    const how = await this.#bench.clock.run({ when: () => outcome.settled || this.#died });
    if (how !== 'met') throw new Violation('the script fell idle');
    return this.#died ? undefined : outcome.error;
  }

  async #perform(step: Step): Promise<void> {
    const bench = this.#bench;
    switch (step.kind) {
      case 'start':
        await this.#open();
        return this.#check();
      case 'stop':
        this.#isUp = false;
        await bench.close();
        this.#settle(this.#answered);
        return;
      case 'powerCut':
        this.#end('power', 'sectors');
        return;
      case 'processCrash':
        this.#end('process');
        return;
      case 'flush':
        await bench.volume.flush();
        this.#settle(this.#answered);
        return;
      case 'flushRemote':
        await bench.volume.flushRemote();
        this.#settle(this.#answered);
        return;
      case 'read':
        return this.#checkRead(step.lba, step.sectors);
      case 'write':
        return this.#write(step.lba, step.sectors, false);
      case 'unmap':
        this.#tail.push({ ...step, id: 0 });
        await bench.volume.unmap([step]);
        this.#answered = this.#tail.length;
    }
  }

  /** With `settles`, runs the clock itself. */
  async #write(lba: number, sectors: number, settles = true): Promise<void> {
    const id = this.#nextId++;
    this.#tail.push({ lba, sectors, id });
    const written = Promise.resolve(this.#bench.volume.write(lba, [stampRange(TAG, lba, sectors, id)], { fua: false }));
    await (settles ? this.#bench.settle(written) : written);
    this.#answered = this.#tail.length;
  }

  /** A process on a disk that is whole again, and a look at everything. */
  async #start(): Promise<void> {
    await this.#bench.settle(this.#open());
    await this.#bench.settle(this.#check());
  }

  async #open(): Promise<void> {
    this.#bench.disk.failedSyncs = 0;
    await this.#bench.launch();
    this.#isUp = true;
  }

  /** Everything up to this step must survive from now on. */
  #settle(step: number): void {
    for (const { lba, sectors, id } of this.#tail.splice(0, step)) this.#durable.fill(id, lba, lba + sectors);
    this.#answered = Math.max(0, this.#answered - step);
  }

  #stateAfter(step: number): Uint32Array {
    const state = Uint32Array.from(this.#durable);
    for (const { lba, sectors, id } of this.#tail.slice(0, step)) state.fill(id, lba, lba + sectors);
    return state;
  }

  async #checkRead(lba: number, sectors: number): Promise<void> {
    const expected = this.#stateAfter(this.#answered);
    const shown = await this.#read(lba, sectors);
    shown.forEach((id, at) => {
      if (id !== expected[lba + at])
        throw this.#wrong(`sector ${lba + at} shows ${id} instead of ${expected[lba + at] ?? -1}`);
    });
  }

  /** The volume must be as it was after one of the steps that may have survived; which, is settled from now on. */
  async #check(): Promise<void> {
    const shown: (number | undefined)[] = [];
    for (let first = 0; first < BLOCKS; first += CHECK_BLOCKS) shown.push(...(await this.#readOrLose(first)));
    let why = '';
    for (let step = this.#tail.length; step >= this.#answered; step--) {
      const state = this.#stateAfter(step);
      const at = state.findIndex((id, sector) => shown[sector] !== undefined && shown[sector] !== id);
      if (at < 0) {
        this.#settle(step);
        this.#tail.splice(0);
        this.#answered = 0;
        return;
      }
      why += `; after ${step} of ${this.#tail.length} writes sector ${at} would be ${state[at] ?? -1}, not ${shown[at] ?? -1}`;
    }
    throw this.#wrong(`no state that may have survived${why}`);
  }

  /** undefined for a block that is told to be lost, where a read of the disk has failed. */
  async #readOrLose(first: number): Promise<(number | undefined)[]> {
    try {
      return await this.#read(first * SECTORS_PER_BLOCK, CHECK_BLOCKS * SECTORS_PER_BLOCK);
    } catch (error) {
      if (!this.#mayLose || !isKind(error, 'damaged')) throw error;
    }
    const shown: (number | undefined)[] = [];
    for (let at = first; at < first + CHECK_BLOCKS; at++) {
      try {
        shown.push(...(await this.#read(at * SECTORS_PER_BLOCK, SECTORS_PER_BLOCK)));
      } catch (error) {
        if (!isKind(error, 'damaged')) throw error;
        shown.push(...new Array<undefined>(SECTORS_PER_BLOCK).fill(undefined));
      }
    }
    return shown;
  }

  async #read(lba: number, sectors: number): Promise<number[]> {
    const data = Buffer.concat(await this.#bench.volume.read(lba, sectors));
    return Array.from({ length: sectors }, (_, at) => {
      const id = readStamp(TAG, lba + at, data.subarray(at * SECTOR, (at + 1) * SECTOR));
      if (id === undefined) throw this.#wrong(`sector ${lba + at} shows bytes of no write`);
      return id;
    });
  }

  #wrong(what: string): Violation {
    return new Violation(`${describeOrdeal(this.#ordeal)}: ${what}`);
  }
}

export function describeOrdeal(ordeal: Ordeal): string {
  return JSON.stringify(ordeal);
}

/** Runs the script with the ordeal; answers the calls it made. Rejects with what was broken. */
export async function undergo(ordeal: Ordeal): Promise<readonly CallKind[]> {
  try {
    return await new OrdealRun(ordeal).run();
  } catch (error) {
    if (error instanceof Violation) throw error;
    const what = error instanceof FarshoreError ? `${error.kind}: ${error.message}` : String(error);
    throw new Violation(`${describeOrdeal(ordeal)}: ${what}`, { cause: error });
  }
}
