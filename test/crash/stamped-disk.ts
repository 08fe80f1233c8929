import { FarshoreError } from '../../gateway/base/errors.ts';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import { ScsiError } from '../../gateway/initiator/scsi-error.ts';
import type { SimRandom } from '../sim/sim-random.ts';
import { OpHistory, type Guarantee } from './op-history.ts';
import { SECTOR, stamped, stampsIn } from './stamp.ts';

const BLOCK_SECTORS = 8;
/** Small ones most of all; one is longer than what a command may carry along unasked. */
const WRITE_SECTORS = [1, 1, 3, 7, 8, 8, 8, 9, 16, 24, 64, 128, 256, 1024] as const;
/** The longest that the initiator sends as one command. */
const LONG_SECTORS = 1024;
/** Writes and unmaps that overlap in time happen here. */
const HOT_SECTORS = 2048;
const READ_SECTORS = 2048;
/** Of an answer that does not come: here that is a killed gateway. */
const COMMAND_LIMIT_MS = 90_000;

export type Endpoint = { readonly host: string; readonly port: number; readonly target: string };

export async function connectStamped(endpoint: Endpoint): Promise<Initiator> {
  return Initiator.connect({ ...endpoint, commandTimeoutMs: COMMAND_LIMIT_MS });
}

/** A disk that is written with stamps through iSCSI, and the knowledge of what it must hold after a crash. */
export class StampedDisk {
  readonly history: OpHistory;
  acked = 0;
  flushes = 0;
  /** What reads answered that they must not. */
  readonly wrongReads: string[] = [];
  readonly #random: SimRandom;

  constructor(bytes: number, random: SimRandom) {
    this.history = new OpHistory(bytes / SECTOR);
    this.#random = random;
  }

  /**
   * Keeps `writers` commands under way until the connection breaks; `acks` of them later `breakIt` is called once. Resolves when all have
   * failed. Rejects with the first answer that was an error of the target's.
   */
  async writeUntilBroken(
    initiator: Initiator,
    writers: number,
    acks: number,
    breakIt: () => Promise<void>,
  ): Promise<void> {
    const goal = this.acked + acks;
    let breaking: Promise<void> | undefined;
    const writer = async (): Promise<void> => {
      for (;;) {
        try {
          await this.#something(initiator);
        } catch (error) {
          // A broken connection leaves what was under way in doubt; a SCSI error would be the gateway's fault.
          if (error instanceof FarshoreError && error.kind === 'retry' && error.name === 'FarshoreError') return;
          throw error;
        }
        this.acked += 1;
        if (this.acked >= goal) breaking ??= breakIt();
      }
    };
    await Promise.all(Array.from({ length: writers }, writer));
    await breaking;
  }

  /** Writes `count` commands, `writers` at a time, all of them answered. */
  async writeSome(initiator: Initiator, writers: number, count: number): Promise<void> {
    let left = count;
    const writer = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        await this.#something(initiator);
        this.acked += 1;
      }
    };
    await Promise.all(Array.from({ length: writers }, writer));
  }

  /**
   * Keeps `writers` long writes under way, round and round the disk, until each has been refused for want of room (BUSY, TASK SET FULL): answers those
   * refusals. Rejects with anything else that goes wrong. `initiator` must not try again by itself.
   */
  async writeUntilRefused(initiator: Initiator, writers: number): Promise<ScsiError[]> {
    const refusals: ScsiError[] = [];
    let next = 0;
    const writer = async (): Promise<void> => {
      for (;;) {
        const first = (next * LONG_SECTORS) % this.history.sectors;
        next += 1;
        try {
          await this.#writeAt(first, LONG_SECTORS, false, initiator);
          this.acked += 1;
        } catch (error) {
          if (!(error instanceof ScsiError) || error.kind !== 'busy') throw error;
          refusals.push(error);
          return;
        }
      }
    };
    await Promise.all(Array.from({ length: writers }, writer));
    return refusals;
  }

  /** Reads the whole disk; a sentence for every sector that holds what it must not, at most twenty. */
  async lostOrForeign(initiator: Initiator, guarantee: Guarantee): Promise<string[]> {
    const found = await this.readAll(initiator);
    return [...this.wrongReads.splice(0), ...this.history.settle(found, guarantee)];
  }

  /** The same while writes are under way: what reads must not answer. */
  async wrongNow(initiator: Initiator): Promise<string[]> {
    const moment = this.history.now();
    return this.history.wrongRead(0, [...(await this.readAll(initiator))], moment);
  }

  /** The stamp in every sector. */
  async readAll(initiator: Initiator): Promise<Float64Array> {
    const { sectors } = this.history;
    const found = new Float64Array(sectors);
    for (let from = 0; from < sectors; from += READ_SECTORS) {
      const count = Math.min(READ_SECTORS, sectors - from);
      stampsIn(from, await initiator.read(from, count)).forEach((stamp, index) => {
        found[from + index] = stamp;
      });
    }
    return found;
  }

  async #something(initiator: Initiator): Promise<void> {
    const roll = this.#random.between(0, 99);
    if (roll < 76) await this.#write(initiator);
    else if (roll < 86) await this.#unmap(initiator);
    else if (roll < 91) await this.#flush(initiator);
    else await this.#read(initiator);
  }

  async #write(initiator: Initiator): Promise<void> {
    const { first, count } = this.#range();
    await this.#writeAt(first, count, this.#random.chance(0.15), initiator);
  }

  async #writeAt(first: number, count: number, fua: boolean, initiator: Initiator): Promise<void> {
    const op = this.history.submit('write', first, count, fua);
    await initiator.write(first, stamped(first, count, op.number), { fua });
    op.acked = this.history.now();
  }

  /** Parts of blocks at either end are zeroed one by one, so each part is an operation. */
  async #unmap(initiator: Initiator): Promise<void> {
    const { first, count } = this.#range();
    const end = first + count;
    const from = Math.min(end, Math.ceil(first / BLOCK_SECTORS) * BLOCK_SECTORS);
    const to = Math.max(from, Math.floor(end / BLOCK_SECTORS) * BLOCK_SECTORS);
    const parts = [
      [first, from],
      [from, to],
      [to, end],
    ] as const;
    const ops = parts
      .filter(([start, stop]) => start < stop)
      .map(([start, stop]) => this.history.submit('unmap', start, stop - start, false));
    await initiator.unmap([{ lba: first, sectors: count }]);
    const acked = this.history.now();
    for (const op of ops) op.acked = acked;
  }

  async #flush(initiator: Initiator): Promise<void> {
    const moment = this.history.now();
    await initiator.flush();
    this.flushes += 1;
    this.history.flushed(moment);
  }

  async #read(initiator: Initiator): Promise<void> {
    const { first, count } = this.#range();
    const moment = this.history.now();
    const found = stampsIn(first, await initiator.read(first, count));
    this.wrongReads.push(...this.history.wrongRead(first, found, moment));
  }

  #range(): { first: number; count: number } {
    const count = this.#random.pick(WRITE_SECTORS);
    const isHot = count <= 256 && this.#random.chance(0.3);
    const first = this.#random.between(0, (isHot ? HOT_SECTORS : this.history.sectors) - count);
    return this.#random.chance(0.6) ? { first: first - (first % BLOCK_SECTORS), count } : { first, count };
  }
}
