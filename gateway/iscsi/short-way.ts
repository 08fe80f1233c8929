import type { ByteCount, Lba, SectorCount } from '../base/units.ts';
import type { UnitNexus } from '../scsi/logical-unit.ts';
import {
  gatherWrite,
  isWritable,
  logGathered,
  plainLba,
  plainReadSectors,
  plainWriteSectors,
  readAtOnce,
  unhinderedBytes,
} from '../scsi/plain-io.ts';
import { decodeLun } from '../scsi/report-luns.ts';
import type { CommandWindow } from './command-window.ts';
import { CDB_AT } from './constants.ts';
import type { Outbox } from './outbox.ts';
import type { ReadRoom } from './read-room.ts';
import { ATTRIBUTE } from './task-order.ts';
import type { TaskOrder } from './task-order.ts';
import type { SessionParameters } from './text-keys.ts';

export interface ShortWayDeps {
  readonly order: TaskOrder;
  readonly parameters: SessionParameters;
  readonly window: CommandWindow;
  readonly outbox: Outbox;
  readonly room: ReadRoom;
  nexusOf(lun: number): UnitNexus | undefined;
  /** Whether a command with this tag, besides so many that are not tasks, could become a task now. */
  takes(initiatorTaskTag: number, besides: number): boolean;
  /** The writes become tasks that wait for the device, and are answered when `done` says how they ended. */
  adopt(writes: readonly GatheredWrite[], done: Promise<void>): void;
}

/** A write that the device has taken and not answered. */
export interface GatheredWrite {
  readonly initiatorTaskTag: number;
  readonly lun: number;
  readonly nexus: UnitNexus;
  readonly lba: Lba;
  readonly sectors: SectorCount;
  readonly bytes: ByteCount;
}

/** Writes that one call of `finish` answers. */
const MAX_GATHERED = 128;

/**
 * Plain reads and writes whose turn it is, when nothing hinders them: received and answered without becoming tasks. Reads at once;
 * writes are gathered, and logged and answered together by `finish`, which has to be called before any other command is looked
 * at and before the event loop goes on. Everything else, and whatever the device cannot do in the turn, goes through TaskSet.command.
 */
export class ShortWay {
  readonly #deps: ShortWayDeps;
  /** Of what is gathered, which is all for one unit. */
  #nexus: UnitNexus | undefined;
  #lun = 0;
  #count = 0;
  readonly #tags = new Uint32Array(MAX_GATHERED);
  readonly #lbas = new Float64Array(MAX_GATHERED);
  readonly #sectors = new Uint32Array(MAX_GATHERED);
  readonly #bytes = new Uint32Array(MAX_GATHERED);

  constructor(deps: ShortWayDeps) {
    this.#deps = deps;
  }

  /** A simple READ (`isSimpleRead`). False: nothing has been done. */
  read(header: Buffer): boolean {
    const { order, outbox, room, window } = this.#deps;
    const sectors = plainReadSectors(header, CDB_AT);
    if (sectors === 0 || order.concerns(ATTRIBUTE.simple)) return false;
    const initiatorTaskTag = header.readUInt32BE(16);
    if (!this.#takes(initiatorTaskTag)) return false;
    const nexus = this.#deps.nexusOf(decodeLun(header, 8));
    if (nexus === undefined) return false;
    const lba = plainLba(header, CDB_AT);
    const bytes = unhinderedBytes(nexus, lba, sectors);
    if (bytes === 0 || bytes !== header.readUInt32BE(20)) return false;
    const dataAt = outbox.roomForRead(bytes);
    if (dataAt < 0 || !room.takeUnsent(bytes)) return false;
    if (!readAtOnce(nexus, lba, sectors, outbox.arena, dataAt)) {
      room.giveBackUnsent(bytes);
      return false;
    }
    window.receive(); // before the answer, which tells the next number
    outbox.wholeRead(initiatorTaskTag, bytes, dataAt);
    return true;
  }

  /** A simple WRITE (`isSimpleWrite`) with all its data, which is intact. False: nothing has been done. */
  write(header: Buffer, data: Buffer): boolean {
    const { order, parameters, window } = this.#deps;
    const sectors = plainWriteSectors(header, CDB_AT);
    const bytes = data.length;
    if (sectors === 0 || order.concerns(ATTRIBUTE.simple) || bytes !== header.readUInt32BE(20)) return false;
    if (!parameters.immediateData || bytes > parameters.firstBurstBytes) return false;
    const initiatorTaskTag = header.readUInt32BE(16);
    if (!this.#takes(initiatorTaskTag)) return false;
    const lun = decodeLun(header, 8);
    const nexus = this.#deps.nexusOf(lun);
    if (nexus === undefined) return false;
    if (this.#count === MAX_GATHERED || (this.#count > 0 && nexus !== this.#nexus)) this.finish();
    const lba = plainLba(header, CDB_AT);
    if (unhinderedBytes(nexus, lba, sectors) !== bytes || !isWritable(nexus)) return false;
    if (!gatherWrite(nexus, lba, sectors, data)) return false;
    const at = this.#count++;
    this.#nexus = nexus;
    this.#lun = lun;
    this.#tags[at] = initiatorTaskTag;
    this.#lbas[at] = lba;
    this.#sectors[at] = sectors;
    this.#bytes[at] = bytes;
    window.receive();
    return true;
  }

  /** Logs and answers the gathered writes; those for which the device needs longer become tasks. */
  finish(): void {
    const nexus = this.#nexus;
    if (this.#count === 0 || nexus === undefined) return;
    const done = logGathered(nexus);
    if (done === undefined) for (let at = 0; at < this.#count; at += 1) this.#deps.outbox.good(this.#tags[at] ?? 0);
    else this.#deps.adopt(this.#gathered(nexus), done);
    this.#count = 0;
  }

  #takes(initiatorTaskTag: number): boolean {
    for (let at = 0; at < this.#count; at += 1) if (this.#tags[at] === initiatorTaskTag) return false;
    return this.#deps.takes(initiatorTaskTag, this.#count);
  }

  #gathered(nexus: UnitNexus): GatheredWrite[] {
    return Array.from({ length: this.#count }, (_, at) => ({
      initiatorTaskTag: this.#tags[at] ?? 0,
      lun: this.#lun,
      nexus,
      lba: this.#lbas[at] ?? 0,
      sectors: this.#sectors[at] ?? 0,
      bytes: this.#bytes[at] ?? 0,
    }));
  }
}
