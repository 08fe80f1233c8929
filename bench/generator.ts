import type { Clock } from '../gateway/base/clock.ts';
import { synchronizeCache16, read16, write16 } from '../gateway/initiator/cdb.ts';
import { ScsiCommand } from '../gateway/initiator/command.ts';
import { SCSI_STATUS, ScsiError, decodeSense } from '../gateway/initiator/scsi-error.ts';
import type { Session } from '../gateway/initiator/session.ts';
import type { LoadCase } from './cases.ts';
import { LatencyHistogram } from './histogram.ts';
import { BLOCK_BYTES, Scatter, SlotData, wrongStamp } from './load-data.ts';

export interface LoadRequest {
  readonly load: LoadCase;
  readonly lunBytes: number;
  readonly sectorSize: number;
  readonly rampMs: number;
  readonly durationMs: number;
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

/** Blocks of 4 KiB reads are all checked; of large ones every 16th transfer, so that checking is not what is measured. */
const CHECK_EVERY_LARGE = 16;
const BUSY_PAUSE_MS = 10;
const PERCENT = 0x10000;

/** Keeps `depth` operations under way for the given time. One object per run, one slot per queue position. */
export class LoadGenerator {
  private readonly session: Session;
  private readonly request: LoadRequest;
  private readonly clock: Clock;
  private readonly scatter: Scatter;
  private readonly histogram = new LatencyHistogram();
  private readonly ios: number;
  private cursor = 0;
  private reads = 0;
  private operations = 0;
  private busy = 0;
  private blocksChecked = 0;
  private measuring = false;
  private stopping = false;
  private active = 0;
  private finish: (error?: Error) => void = () => undefined;

  constructor(session: Session, request: LoadRequest, clock: Clock) {
    this.session = session;
    this.request = request;
    this.clock = clock;
    this.scatter = new Scatter(request.seed);
    this.ios = Math.floor(request.lunBytes / request.load.ioBytes);
  }

  async run(): Promise<LoadResult> {
    const { load, rampMs, durationMs } = this.request;
    let seconds = 0;
    let generatorLoad = 0;
    await new Promise<void>((resolve, reject) => {
      this.finish = (error) => {
        this.stopping = true;
        if (error === undefined) resolve();
        else reject(error);
      };
      for (let slot = 0; slot < load.depth; slot += 1) this.next(this.newSlot());
      this.clock.startTimer(rampMs, () => {
        this.measuring = true;
        const from = this.clock.monotonicMs();
        const usedBefore = process.cpuUsage();
        this.clock.startTimer(durationMs, () => {
          seconds = (this.clock.monotonicMs() - from) / 1000;
          const used = process.cpuUsage(usedBefore);
          generatorLoad = (used.user + used.system) / 1e6 / seconds;
          this.measuring = false;
          this.stopping = true;
        });
      });
    });
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

  private newSlot(): Slot {
    const { ioBytes } = this.request.load;
    const slot: Slot = {
      command: new ScsiCommand(),
      data: new SlotData(ioBytes),
      into: Buffer.alloc(ioBytes),
      block: 0,
      flushing: false,
      startedAt: 0,
    };
    slot.command.done = () => {
      this.answered(slot);
    };
    this.active += 1;
    return slot;
  }

  private next(slot: Slot): void {
    if (this.stopping) {
      this.active -= 1;
      if (this.active === 0) this.finish();
      return;
    }
    const { load, sectorSize } = this.request;
    let io: number;
    if (load.pattern === 'random') {
      io = this.scatter.below(this.ios);
    } else {
      io = this.cursor;
      this.cursor = (this.cursor + 1) % this.ios;
    }
    const { command } = slot;
    const lba = io * (load.ioBytes / sectorSize);
    slot.block = io * (load.ioBytes / BLOCK_BYTES);
    slot.startedAt = this.clock.monotonicMs();
    if (load.reads === 1 || (load.reads > 0 && this.scatter.below(PERCENT) < load.reads * PERCENT)) {
      this.reads += 1;
      const check = load.ioBytes === BLOCK_BYTES || this.reads % CHECK_EVERY_LARGE === 0;
      read16(command.cdb, lba, load.ioBytes / sectorSize);
      command.dataOut = undefined;
      command.dataIn = check ? slot.into : undefined;
      command.expectedIn = load.ioBytes;
    } else {
      write16(command.cdb, lba, load.ioBytes / sectorSize, false);
      command.dataOut = slot.data.next(slot.block);
      command.dataIn = undefined;
      command.expectedIn = 0;
    }
    this.session.submit(command);
  }

  private answered(slot: Slot): void {
    const { command } = slot;
    if (command.error !== undefined) {
      this.finish(command.error);
      return;
    }
    if (command.status !== SCSI_STATUS.good) {
      this.refused(slot);
      return;
    }
    if (command.dataIn !== undefined) {
      const wrong = wrongStamp(command.dataIn, slot.block);
      if (wrong !== undefined) {
        this.finish(new Error(wrong));
        return;
      }
      this.blocksChecked += command.dataIn.length / BLOCK_BYTES;
    }
    if (this.request.load.flushEach && !slot.flushing) {
      slot.flushing = true;
      synchronizeCache16(command.cdb);
      command.dataOut = undefined;
      this.session.submit(command);
      return;
    }
    slot.flushing = false;
    if (this.measuring) {
      this.operations += 1;
      this.histogram.record(this.clock.monotonicMs() - slot.startedAt);
    }
    this.next(slot);
  }

  private refused(slot: Slot): void {
    const { command } = slot;
    const sense = command.sense === undefined ? undefined : decodeSense(command.sense);
    const error = new ScsiError(`an operation of ${this.request.load.name}`, command.status, sense);
    if (error.kind !== 'busy') {
      this.finish(error);
      return;
    }
    // The latency goes on counting: a busy target is a slow one.
    this.busy += 1;
    this.clock.startTimer(BUSY_PAUSE_MS, () => {
      this.session.submit(command);
    });
  }
}

interface Slot {
  readonly command: ScsiCommand;
  readonly data: SlotData;
  readonly into: Buffer;
  block: number;
  flushing: boolean;
  startedAt: number;
}

/** Writes the whole LUN once, in order, with stamped incompressible blocks. */
export async function fill(session: Session, lunBytes: number, sectorSize: number, clock: Clock): Promise<void> {
  const ioBytes = 256 * 1024;
  const depth = 8;
  const ios = lunBytes / ioBytes;
  let nextIo = 0;
  let active = depth;
  await new Promise<void>((resolve, reject) => {
    for (let slot = 0; slot < depth; slot += 1) {
      const command = new ScsiCommand();
      const data = new SlotData(ioBytes);
      const step = (): void => {
        if (nextIo >= ios) {
          active -= 1;
          if (active === 0) resolve();
          return;
        }
        const io = nextIo;
        nextIo += 1;
        write16(command.cdb, io * (ioBytes / sectorSize), ioBytes / sectorSize, false);
        command.dataOut = data.next(io * (ioBytes / BLOCK_BYTES));
        command.done = () => {
          if (command.error !== undefined) {
            reject(command.error);
          } else if (command.status === SCSI_STATUS.busy || command.status === SCSI_STATUS.taskSetFull) {
            clock.startTimer(BUSY_PAUSE_MS, () => {
              session.submit(command);
            });
          } else if (command.status !== SCSI_STATUS.good) {
            const sense = command.sense === undefined ? undefined : decodeSense(command.sense);
            reject(new ScsiError('filling the LUN', command.status, sense));
          } else {
            step();
          }
        };
        session.submit(command);
      };
      step();
    }
  });
}
