import { SCSI_STATUS, SENSE_KEY, ScsiError, decodeSense } from '../gateway/initiator/scsi-error.ts';
import type { LoadCase } from './cases.ts';
import { LatencyHistogram } from './histogram.ts';
import { LeanSession } from './lean-session.ts';
import type { LeanHandler } from './lean-session.ts';
import type { Portal } from './load.ts';
import { BLOCK_BYTES, Scatter, SlotData, wrongStamp } from './load-data.ts';

export interface LoadRequest {
  readonly load: LoadCase;
  readonly lunBytes: number;
  readonly sectorSize: number;
  readonly rampMs: number;
  readonly durationMs: number;
  /** The measured time ends early once so much was written in it: what a target has to replicate has a bound. */
  readonly maxWriteBytes?: number;
  /** False for a target that forgets what is written. */
  readonly stores?: boolean;
  readonly seed: number;
}

export interface LoadResult {
  /** Operations answered inside the measured time. */
  readonly operations: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
  /** BUSY and TASK SET FULL answers, tried again. */
  readonly busy: number;
  readonly blocksChecked: number;
  /** Share of one core that the load generator used; near 1 it is the generator that was measured. */
  readonly generatorLoad: number;
}

/** Reads of one block are all checked; of large ones every 16th transfer, so that checking is not what is measured. */
const CHECK_EVERY_LARGE = 16;
/** The ramp ends early at this share of `maxWriteBytes`. */
const RAMP_SHARE = 0.25;
const BUSY_PAUSE_MS = 10;
const PERCENT = 0x10000;
/** A target that reports one unit attention after the other is not settling down. */
const MAX_UNIT_ATTENTIONS = 16;

/** What a slot is at; numbers, since they are looked at for every answer. */
const SETTLING = 0;
const READING = 1;
const WRITING = 2;
const FLUSHING = 3;

/** Keeps `depth` operations under way, on a connection of its own. One object per run. */
export class LoadGenerator implements LeanHandler {
  private readonly request: LoadRequest;
  private readonly scatter: Scatter;
  private readonly histogram = new LatencyHistogram();
  private readonly ios: number;
  private readonly readShare: number;
  private readonly maxWritten: number;
  private readonly sectors: number;
  private readonly blocks: number;
  /** By slot. */
  private readonly content: readonly SlotData[];
  private readonly doing: Uint8Array;
  private readonly block: Float64Array;
  private readonly startedAt: Float64Array;
  private readonly isChecked: Uint8Array;

  private session: LeanSession | undefined;
  private cursor = 0;
  private left = Infinity;
  private reads = 0;
  private operations = 0;
  private written = 0;
  private busy = 0;
  private attentions = 0;
  private blocksChecked = 0;
  private measuring = false;
  private stopping = false;
  private active = 0;
  private over: (error?: Error) => void = () => undefined;
  private stopMeasuring: () => void = () => undefined;
  private endRamp: () => void = () => undefined;

  constructor(request: LoadRequest) {
    const { load, lunBytes, sectorSize } = request;
    this.request = request;
    this.scatter = new Scatter(request.seed);
    this.ios = Math.floor(lunBytes / load.ioBytes);
    this.maxWritten = request.maxWriteBytes ?? Infinity;
    this.readShare = load.reads * PERCENT;
    this.sectors = load.ioBytes / sectorSize;
    this.blocks = load.ioBytes / BLOCK_BYTES;
    this.content = load.reads === 1 ? [] : Array.from({ length: load.depth }, () => new SlotData(load.ioBytes));
    this.doing = new Uint8Array(load.depth);
    this.block = new Float64Array(load.depth);
    this.startedAt = new Float64Array(load.depth);
    this.isChecked = new Uint8Array(load.depth);
  }

  /** Loads for the time asked for. Rejects with what the target answered or did wrong, or with a foreign block. */
  async run(portal: Portal): Promise<LoadResult> {
    const { load, rampMs, durationMs } = this.request;
    let seconds = 0;
    let generatorLoad = 0;
    let timer: NodeJS.Timeout | undefined;
    const measure = (): void => {
      clearTimeout(timer);
      this.endRamp = () => undefined;
      const from = performance.now();
      const usedBefore = process.cpuUsage();
      this.written = 0;
      this.measuring = true;
      this.stopMeasuring = () => {
        if (!this.measuring) return;
        clearTimeout(timer);
        this.measuring = false;
        this.stopping = true;
        seconds = (performance.now() - from) / 1000;
        const used = process.cpuUsage(usedBefore);
        generatorLoad = (used.user + used.system) / 1e6 / seconds;
      };
      timer = setTimeout(this.stopMeasuring, durationMs);
    };
    await this.load(portal, () => {
      timer = setTimeout(measure, rampMs);
      this.endRamp = measure;
    });
    clearTimeout(timer);
    return {
      operations: this.operations,
      bytes: this.operations * load.ioBytes,
      seconds,
      p50Ms: this.histogram.quantileMs(0.5),
      p99Ms: this.histogram.quantileMs(0.99),
      p999Ms: this.histogram.quantileMs(0.999),
      maxMs: this.histogram.maxMs(),
      busy: this.busy,
      blocksChecked: this.blocksChecked,
      generatorLoad,
    };
  }

  /** Goes through the LUN once, in order, and answers how many blocks were compared. Rejects as `run` does. */
  async once(portal: Portal): Promise<number> {
    this.left = this.ios;
    await this.load(portal, () => undefined);
    return this.blocksChecked;
  }

  data(slot: number, bytes: Buffer, from: number, to: number, offset: number): void {
    if (this.isChecked[slot] === 0) return;
    const wrong = wrongStamp(bytes, from, to, offset, this.block[slot] ?? 0);
    if (wrong !== undefined) throw new Error(wrong);
  }

  answered(slot: number, status: number, sense: Buffer | undefined): void {
    const session = this.connected();
    if (status !== SCSI_STATUS.good) {
      this.refused(session, slot, status, sense);
      return;
    }
    const done = this.doing[slot];
    if (done === SETTLING) {
      this.over();
      return;
    }
    if (done === READING) {
      if (this.isChecked[slot] === 1) this.blocksChecked += this.blocks;
    } else if (done === WRITING) {
      this.written += this.request.load.ioBytes;
      if (this.request.load.flushEach) {
        this.doing[slot] = FLUSHING;
        session.synchronize(slot);
        return;
      }
    }
    const now = session.turnAt;
    if (this.measuring) {
      this.operations += 1;
      this.histogram.record(now - (this.startedAt[slot] ?? now));
      if (this.written >= this.maxWritten) this.stopMeasuring();
    } else if (this.written >= this.maxWritten * RAMP_SHARE && !this.stopping) {
      this.endRamp();
    }
    this.next(session, slot, now);
  }

  failed(error: Error): void {
    this.stopping = true;
    this.over(error);
  }

  /** Connects, waits out unit attentions, and keeps every slot busy until the end. */
  private async load(portal: Portal, begun: () => void): Promise<void> {
    const { depth } = this.request.load;
    const session = await LeanSession.open(portal, depth, this);
    this.session = session;
    try {
      await this.until(() => {
        this.doing[0] = SETTLING;
        session.testUnitReady(0);
      });
      this.active = depth;
      await this.until(() => {
        const now = performance.now();
        for (let slot = 0; slot < depth; slot += 1) this.next(session, slot, now);
        begun();
      });
    } finally {
      session.close();
    }
  }

  private async until(begin: () => void): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.over = (error) => {
        if (error === undefined) resolve();
        else reject(error);
      };
      begin();
      this.connected().flush();
    });
  }

  private connected(): LeanSession {
    if (this.session === undefined) throw new Error('the load has no session yet');
    return this.session;
  }

  private next(session: LeanSession, slot: number, now: number): void {
    if (this.stopping || this.left === 0) {
      this.active -= 1;
      if (this.active === 0) this.over();
      return;
    }
    this.left -= 1;
    const { load } = this.request;
    let io: number;
    if (load.pattern === 'random') {
      io = this.scatter.below(this.ios);
    } else {
      io = this.cursor;
      this.cursor = (this.cursor + 1) % this.ios;
    }
    const block = io * this.blocks;
    this.block[slot] = block;
    this.startedAt[slot] = now;
    if (load.reads === 1 || (load.reads > 0 && this.scatter.below(PERCENT) < this.readShare)) {
      this.reads += 1;
      this.doing[slot] = READING;
      const isDue = this.blocks === 1 || this.reads % CHECK_EVERY_LARGE === 0;
      this.isChecked[slot] = isDue && this.request.stores !== false ? 1 : 0;
      session.read(slot, io * this.sectors, this.sectors, load.ioBytes);
      return;
    }
    const content = this.content[slot];
    if (content === undefined) throw new Error('a load that only reads has nothing to write');
    this.doing[slot] = WRITING;
    session.write(slot, io * this.sectors, this.sectors, content.pool, content.next(block), load.ioBytes);
  }

  private refused(session: LeanSession, slot: number, status: number, sense: Buffer | undefined): void {
    const decoded = sense === undefined ? undefined : decodeSense(sense);
    if (decoded?.key === SENSE_KEY.unitAttention && this.attentions < MAX_UNIT_ATTENTIONS) {
      this.attentions += 1;
      session.repeat(slot);
      return;
    }
    const error = new ScsiError(`an operation of ${this.request.load.name}`, status, decoded);
    if (error.kind !== 'busy') throw error;
    // The latency goes on counting: a busy target is a slow one.
    this.busy += 1;
    setTimeout(() => {
      session.repeat(slot);
      session.flush();
    }, BUSY_PAUSE_MS);
  }
}

/** Writes the whole LUN once, in order, with stamped incompressible blocks. */
export async function fill(
  portal: Portal,
  lunBytes: number,
  sectorSize: number,
  ioBytes = FILLING.ioBytes,
): Promise<void> {
  const load = { ...FILLING, ioBytes, depth: ioBytes < FILLING.ioBytes ? SMALL_FILL_DEPTH : FILLING.depth };
  const request = { load, lunBytes, sectorSize, rampMs: 0, durationMs: 0, seed: 1 };
  await new LoadGenerator(request).once(portal);
}

const SMALL_FILL_DEPTH = 32;
const FILLING: LoadCase = {
  name: 'fill',
  title: 'fill',
  ioBytes: 256 * 1024,
  depth: 8,
  pattern: 'sequential',
  reads: 0,
  flushEach: false,
};
