import { sleep, systemClock, systemRandom } from '../base/clock.ts';
import type { Clock, Random } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { Lba, SectorCount } from '../base/units.ts';
import * as cdb from './cdb.ts';
import { ScsiCommand } from './command.ts';
import { closeSession, openSession } from './connect.ts';
import type { ConnectOptions } from './connect.ts';
import { SCSI_STATUS, SENSE_KEY, ScsiError, decodeSense } from './scsi-error.ts';
import type { Session } from './session.ts';

/** Longer transfers are cut into commands of this size. */
const MAX_TRANSFER_BYTES = 512 * 1024;
/** Commands of one long transfer under way together. */
const TRANSFER_DEPTH = 4;
/** A target that reports one unit attention after the other is not settling down. */
const MAX_UNIT_ATTENTIONS = 16;
/** BUSY and TASK SET FULL are tried again at this pace, for at most `busyTimeoutMs`. */
const BUSY_PAUSE_MS = 100;
const DEFAULT_BUSY_TIMEOUT_MS = 60_000;
const MAX_UNMAP_RANGES = 256;
/** Room for as many LUNs as a target of ours can have. */
const REPORT_LUNS_BYTES = 8 + 8 * 1024;

export interface InitiatorOptions extends Omit<ConnectOptions, 'clock' | 'random'> {
  readonly target: string;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly busyTimeoutMs?: number;
}

export interface Capacity {
  readonly sectorSize: number;
  readonly sectors: SectorCount;
  readonly bytes: number;
}

export interface InquiryData {
  readonly vendor: string;
  readonly product: string;
  readonly revision: string;
  readonly raw: Buffer;
}

/**
 * A disk behind iSCSI, with promises. Unit attentions and BUSY are retried here; every other failure is a ScsiError (the
 * target's answer, sense decoded) or a FarshoreError of kind `retry` or `damaged` (the connection: the outcome of what was
 * under way is unknown). Calls may overlap freely; nothing orders them but waiting for the earlier one.
 */
export class Initiator {
  readonly session: Session;
  private readonly options: InitiatorOptions;
  private readonly clock: Clock;
  private readonly busyTimeoutMs: number;
  private readonly lun: number;
  private sectorSize = 512;

  private constructor(session: Session, options: InitiatorOptions) {
    this.session = session;
    this.options = options;
    this.lun = options.lun ?? 0;
    this.clock = options.clock ?? systemClock;
    this.busyTimeoutMs = options.busyTimeoutMs ?? DEFAULT_BUSY_TIMEOUT_MS;
  }

  /** Logs in and learns the sector size. */
  static async connect(options: InitiatorOptions): Promise<Initiator> {
    const { clock = systemClock, random = systemRandom } = options;
    const session = await openSession({ ...options, clock, random }, options.target);
    try {
      return await Initiator.on(session, options);
    } catch (error) {
      await closeSession(session);
      throw error;
    }
  }

  private static async on(session: Session, options: InitiatorOptions): Promise<Initiator> {
    const initiator = new Initiator(session, options);
    await initiator.testUnitReady();
    await initiator.readCapacity();
    return initiator;
  }

  /** Another LUN of the target, through the same session: closing either closes both. */
  async otherLun(lun: number): Promise<Initiator> {
    return Initiator.on(this.session, { ...this.options, lun });
  }

  /** The LUNs this initiator sees, in ascending order (SPC-4 6.33). */
  async reportLuns(): Promise<number[]> {
    const answer = await this.ask('REPORT LUNS', REPORT_LUNS_BYTES, (command) => {
      cdb.reportLuns(command.cdb, REPORT_LUNS_BYTES);
    });
    const luns: number[] = [];
    for (let at = 8; at + 8 <= answer.length; at += 8) luns.push(answer.readUInt16BE(at) & 0x3fff);
    return luns;
  }

  async testUnitReady(): Promise<void> {
    await this.run('TEST UNIT READY', (command) => {
      cdb.testUnitReady(command.cdb);
    });
  }

  async readCapacity(): Promise<Capacity> {
    const answer = await this.ask('READ CAPACITY(16)', 32, (command) => {
      cdb.readCapacity16(command.cdb, 32);
    });
    if (answer.length < 12) throw new FarshoreError('damaged', 'the target answered READ CAPACITY(16) too briefly');
    const sectors = answer.readUInt32BE(0) * 2 ** 32 + answer.readUInt32BE(4) + 1;
    this.sectorSize = answer.readUInt32BE(8);
    return { sectorSize: this.sectorSize, sectors, bytes: sectors * this.sectorSize };
  }

  async inquiry(): Promise<InquiryData> {
    const raw = await this.ask('INQUIRY', 255, (command) => {
      cdb.inquiry(command.cdb, 255);
    });
    const text = (from: number, to: number): string => raw.toString('latin1', from, to).trim();
    return { vendor: text(8, 16), product: text(16, 32), revision: text(32, 36), raw };
  }

  /** A vital product data page as it came, header included. */
  async vitalProductData(page: number): Promise<Buffer> {
    return this.ask(`INQUIRY page ${page.toString(16)}h`, 1024, (command) => {
      cdb.inquiry(command.cdb, 1024, page);
    });
  }

  /** `sectors` from `lba` on; long reads are cut and overlapped. */
  async read(lba: Lba, sectors: SectorCount): Promise<Buffer> {
    const whole = Buffer.allocUnsafe(sectors * this.sectorSize);
    await this.transfer(lba, sectors, async (pieceLba, pieceSectors, from, to) => {
      const into = whole.subarray(from, to);
      const command = await this.run(`read of ${pieceSectors} sectors at ${pieceLba}`, (request) => {
        cdb.read16(request.cdb, pieceLba, pieceSectors);
        request.dataIn = into;
        request.expectedIn = into.length;
      });
      if (command.received !== into.length) {
        throw new FarshoreError(
          'damaged',
          `the target answered a read of ${into.length} bytes with ${command.received}`,
        );
      }
    });
    return whole;
  }

  /** `data` is whole sectors and stays unchanged until answered. Long writes are cut and are not atomic. */
  async write(lba: Lba, data: Buffer, options: { readonly fua?: boolean } = {}): Promise<void> {
    const sectors = data.length / this.sectorSize;
    if (!Number.isInteger(sectors)) {
      throw new FarshoreError('input', `${data.length} bytes are not whole sectors of ${this.sectorSize}`);
    }
    await this.transfer(lba, sectors, async (pieceLba, pieceSectors, from, to) => {
      await this.run(`write of ${pieceSectors} sectors at ${pieceLba}`, (request) => {
        cdb.write16(request.cdb, pieceLba, pieceSectors, options.fua ?? false);
        request.dataOut = data.subarray(from, to);
      });
    });
  }

  /** SYNCHRONIZE CACHE of the whole device. */
  async flush(): Promise<void> {
    await this.run('SYNCHRONIZE CACHE', (command) => {
      cdb.synchronizeCache16(command.cdb);
    });
  }

  async unmap(ranges: readonly { readonly lba: Lba; readonly sectors: SectorCount }[]): Promise<void> {
    if (ranges.length > MAX_UNMAP_RANGES) {
      throw new FarshoreError('input', `an unmap takes at most ${MAX_UNMAP_RANGES} ranges`);
    }
    const parameters = cdb.unmapParameters(ranges);
    await this.run('UNMAP', (command) => {
      cdb.unmap(command.cdb, parameters.length);
      command.dataOut = parameters;
    });
  }

  async ping(): Promise<void> {
    await this.session.control.ping();
  }

  /** Logs out and disconnects; harmless on a session that has failed. */
  async close(): Promise<void> {
    await closeSession(this.session);
  }

  /** Runs a command that answers with at most `bytes`; returns what came. */
  private async ask(what: string, bytes: number, fill: (command: ScsiCommand) => void): Promise<Buffer> {
    const into = Buffer.alloc(bytes);
    const command = await this.run(what, (request) => {
      fill(request);
      request.dataIn = into;
      request.expectedIn = bytes;
    });
    return into.subarray(0, command.received);
  }

  /** Runs `fill`'s command to GOOD, through unit attentions and BUSY. */
  private async run(what: string, fill: (command: ScsiCommand) => void): Promise<ScsiCommand> {
    const giveUpAt = this.clock.monotonicMs() + this.busyTimeoutMs;
    for (let attentions = 0; ;) {
      const command = new ScsiCommand();
      command.lun = this.lun;
      fill(command);
      await this.submit(command);
      if (command.error !== undefined) throw command.error;
      if (command.status === SCSI_STATUS.good) return command;
      const sense = command.sense === undefined ? undefined : decodeSense(command.sense);
      const failure = new ScsiError(what, command.status, sense);
      if (sense?.key === SENSE_KEY.unitAttention && attentions < MAX_UNIT_ATTENTIONS) {
        attentions += 1;
      } else if (failure.kind === 'busy' && this.clock.monotonicMs() < giveUpAt) {
        await sleep(this.clock, BUSY_PAUSE_MS);
      } else {
        throw failure;
      }
    }
  }

  private submit(command: ScsiCommand): Promise<void> {
    return new Promise((resolve) => {
      command.done = () => {
        resolve();
      };
      this.session.submit(command);
    });
  }

  /** Cuts a transfer and keeps TRANSFER_DEPTH pieces under way; the first failure is thrown once all have ended. */
  private async transfer(
    lba: Lba,
    sectors: SectorCount,
    piece: (lba: Lba, sectors: SectorCount, from: number, to: number) => Promise<void>,
  ): Promise<void> {
    const perPiece = MAX_TRANSFER_BYTES / this.sectorSize;
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < sectors) {
        const from = next;
        const count = Math.min(perPiece, sectors - from);
        next += count;
        await piece(lba + from, count, from * this.sectorSize, (from + count) * this.sectorSize);
      }
    };
    const workers = Math.min(TRANSFER_DEPTH, Math.ceil(sectors / perPiece));
    const outcomes = await Promise.allSettled(Array.from({ length: workers }, worker));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }
}
