import type { CancelTimer, Clock } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import { CDB_BYTES } from './cdb.ts';
import type { ScsiCommand } from './command.ts';
import type { Connection, Receiver } from './connection.ts';
import type { LoginResult } from './login.ts';
import type { Negotiated } from './negotiation.ts';
import { ControlRequests } from './control-requests.ts';
import {
  ATTRIBUTE_SIMPLE,
  FINAL_BIT,
  INITIATOR_OPCODE,
  READ_BIT,
  RESERVED_TAG,
  STATUS_BIT,
  TARGET_OPCODE,
  WRITE_BIT,
  flagsOf,
  nextSerial,
  opcodeOf,
  residualOf,
  serialDistance,
  taskTagOf,
  transferTagOf,
  writeLun,
} from './wire.ts';

/** Commands on the wire at once; the target's window is usually smaller. */
const MAX_TASKS = 1024;
/** Commands waiting for the window; a caller that queues more has lost control. */
const MAX_WAITING = 65536;
const SLOT_BITS = 12;
const SLOT_MASK = (1 << SLOT_BITS) - 1;
/** Commands are timed in ticks of this length, so that none needs a timer of its own. */
const TICK_MS = 250;

export interface SessionOptions {
  readonly clock: Clock;
  /** For commands that name none. */
  readonly lun: number;
  /** Unanswered for longer than this, a command fails and takes the connection with it. */
  readonly commandTimeoutMs: number;
}

/** The full-feature phase of a session with one connection at error recovery level 0 (RFC 7143 sections 4 and 7). */
export class Session implements Receiver {
  readonly negotiated: Negotiated;
  readonly login: LoginResult;
  readonly control: ControlRequests;

  private readonly connection: Connection;
  private readonly options: SessionOptions;
  private readonly tasks: (ScsiCommand | undefined)[] = [];
  private readonly freeSlots: number[] = [];
  private activeTasks = 0;
  private waiting: ScsiCommand[] = [];
  private waitingHead = 0;
  private tagCounter = 0;
  private cmdSn: number;
  private maxCmdSn: number;
  private expStatSn: number;
  private tick = 0;
  /** When the target last let a command out of the queue or answered one. */
  private progressTick = 0;
  private cancelTick: CancelTimer = () => undefined;
  private failure: FarshoreError | undefined;
  private readonly closeListeners: ((error: FarshoreError) => void)[] = [];

  constructor(connection: Connection, login: LoginResult, options: SessionOptions) {
    this.connection = connection;
    this.login = login;
    this.negotiated = login.negotiated;
    this.options = options;
    this.cmdSn = login.cmdSn;
    this.maxCmdSn = login.maxCmdSn;
    this.expStatSn = login.expStatSn;
    for (let slot = MAX_TASKS - 1; slot >= 0; slot -= 1) this.freeSlots.push(slot);
    this.control = new ControlRequests({
      clock: options.clock,
      timeoutMs: options.commandTimeoutMs,
      expired: (error) => {
        this.destroy(error);
      },
      outbox: connection.outbox,
      lun: options.lun,
      numbers: () => ({ cmdSn: this.cmdSn, expStatSn: this.expStatSn }),
    });
    this.startTick();
  }

  /** Sends the command as soon as the target's window allows, in order. `done` is never called before this returns. */
  submit(command: ScsiCommand): void {
    command.status = 0;
    command.sense = undefined;
    command.residual = 0;
    command.error = undefined;
    command.received = 0;
    command.nextDataSn = 0;
    if (this.failure !== undefined) {
      this.failLater(command, this.failure);
    } else if (this.waitingHead === this.waiting.length && this.windowOpen()) {
      this.send(command);
    } else if (this.waiting.length - this.waitingHead < MAX_WAITING) {
      if (this.waitingHead === this.waiting.length) this.progressTick = this.tick;
      this.waiting.push(command);
    } else {
      this.failLater(command, new FarshoreError('busy', `more than ${MAX_WAITING} commands wait for the target`));
    }
  }

  /** Commands sent and not yet answered. */
  inFlight(): number {
    return this.activeTasks;
  }

  failed(): FarshoreError | undefined {
    return this.failure;
  }

  onClose(listener: (error: FarshoreError) => void): void {
    this.closeListeners.push(listener);
  }

  /** Drops the connection; every command under way fails with `error`. */
  destroy(error: FarshoreError): void {
    this.connection.destroy(error);
  }

  destination(header: Buffer, at: number, length: number): Buffer | 'drop' | undefined {
    if (opcodeOf(header, at) !== TARGET_OPCODE.dataIn) return undefined;
    const command = this.taskOf(header, at);
    const offset = this.checkedOffset(command, header, at, length);
    return command.dataIn === undefined ? 'drop' : command.dataIn.subarray(offset, offset + length);
  }

  pdu(header: Buffer, at: number, data: Buffer, dataAt: number, dataLength: number, placed: boolean): void {
    switch (opcodeOf(header, at)) {
      case TARGET_OPCODE.dataIn:
        this.dataIn(header, at, data, dataAt, dataLength, placed);
        break;
      case TARGET_OPCODE.scsiResponse:
        this.scsiResponse(header, at, data.subarray(dataAt, dataAt + dataLength));
        break;
      case TARGET_OPCODE.r2t:
        this.readyToTransfer(header, at);
        break;
      case TARGET_OPCODE.nopIn:
        this.nopIn(header, at);
        break;
      case TARGET_OPCODE.taskManagementResponse:
      case TARGET_OPCODE.textResponse:
      case TARGET_OPCODE.logoutResponse:
        this.takeStatSn(header, at);
        this.control.response(header, at, data.subarray(dataAt, dataAt + dataLength));
        break;
      case TARGET_OPCODE.reject:
        this.rejected(header, at, data.subarray(dataAt, dataAt + dataLength));
        break;
      case TARGET_OPCODE.asyncMessage:
        this.asyncMessage(header, at);
        break;
      default:
        throw violation(`sent a PDU with opcode ${opcodeOf(header, at)} in full-feature phase`);
    }
    this.takeWindow(header, at);
    this.sendWaiting();
  }

  closed(error: FarshoreError): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    this.cancelTick();
    const lost = this.tasks.filter((command) => command !== undefined);
    lost.push(...this.waiting.slice(this.waitingHead));
    this.tasks.length = 0;
    this.activeTasks = 0;
    this.waiting = [];
    this.waitingHead = 0;
    this.control.closed(error);
    for (const command of lost) {
      command.error = error;
      command.done(command);
    }
    for (const listener of this.closeListeners) listener(error);
  }

  // --- sending -------------------------------------------------------------------------------------------------

  private windowOpen(): boolean {
    return this.freeSlots.length > 0 && serialDistance(this.maxCmdSn, this.cmdSn) >= 0;
  }

  private sendWaiting(): void {
    while (this.waitingHead < this.waiting.length && this.windowOpen()) {
      const command = this.waiting[this.waitingHead];
      this.waitingHead += 1;
      if (this.waitingHead === this.waiting.length) {
        this.waiting = [];
        this.waitingHead = 0;
      }
      if (command !== undefined) this.send(command);
    }
  }

  private send(command: ScsiCommand): void {
    const slot = this.freeSlots.pop() ?? 0;
    this.tagCounter = (this.tagCounter + 1) & 0xfffff;
    command.taskTag = ((this.tagCounter << SLOT_BITS) | slot) >>> 0;
    command.cmdSn = this.cmdSn;
    command.sentTick = this.tick;
    this.progressTick = this.tick;
    this.tasks[slot] = command;
    this.activeTasks += 1;

    const { outbox } = this.connection;
    const at = outbox.begin();
    const header = outbox.buffer();
    const out = command.dataOut;
    const outBytes = out?.length ?? 0;
    const { firstBurstBytes, maxSendDataSegmentBytes, immediateData, initialR2T } = this.negotiated;
    const immediate = immediateData ? Math.min(outBytes, firstBurstBytes, maxSendDataSegmentBytes) : 0;
    const unsolicited = initialR2T ? immediate : Math.min(outBytes, firstBurstBytes);
    header[at] = INITIATOR_OPCODE.scsiCommand;
    header[at + 1] =
      (unsolicited === immediate ? FINAL_BIT : 0) |
      (command.expectedIn > 0 ? READ_BIT : 0) |
      (outBytes > 0 ? WRITE_BIT : 0) |
      ATTRIBUTE_SIMPLE;
    writeLun(header, at + 8, command.lun ?? this.options.lun);
    header.writeUInt32BE(command.taskTag, at + 16);
    header.writeUInt32BE(outBytes > 0 ? outBytes : command.expectedIn, at + 20);
    header.writeUInt32BE(this.cmdSn, at + 24);
    header.writeUInt32BE(this.expStatSn, at + 28);
    command.cdb.copy(header, at + 32, 0, CDB_BYTES);
    outbox.finish(at, out, 0, immediate);
    this.cmdSn = nextSerial(this.cmdSn);
    if (out !== undefined && unsolicited > immediate) {
      this.sendData(command, out, immediate, unsolicited, RESERVED_TAG);
    }
  }

  /** Data-Out PDUs for `data[from, to)`, the last one final (RFC 7143 11.7). */
  private sendData(command: ScsiCommand, data: Buffer, from: number, to: number, transferTag: number): void {
    const { outbox } = this.connection;
    let dataSn = 0;
    for (let offset = from; offset < to; dataSn += 1) {
      const length = Math.min(to - offset, this.negotiated.maxSendDataSegmentBytes);
      const at = outbox.begin();
      const header = outbox.buffer();
      header[at] = INITIATOR_OPCODE.dataOut;
      header[at + 1] = offset + length === to ? FINAL_BIT : 0;
      writeLun(header, at + 8, command.lun ?? this.options.lun);
      header.writeUInt32BE(command.taskTag, at + 16);
      header.writeUInt32BE(transferTag, at + 20);
      header.writeUInt32BE(this.expStatSn, at + 28);
      header.writeUInt32BE(dataSn, at + 36);
      header.writeUInt32BE(offset, at + 40);
      outbox.finish(at, data, offset, length);
      offset += length;
    }
  }

  // --- receiving -----------------------------------------------------------------------------------------------

  private dataIn(header: Buffer, at: number, data: Buffer, dataAt: number, dataLength: number, placed: boolean): void {
    const command = this.taskOf(header, at);
    const offset = this.checkedOffset(command, header, at, dataLength);
    if (header.readUInt32BE(at + 36) !== command.nextDataSn) {
      throw violation(`sent DataSN ${header.readUInt32BE(at + 36)} where ${command.nextDataSn} was due`);
    }
    command.nextDataSn += 1;
    if (!placed && command.dataIn !== undefined) data.copy(command.dataIn, offset, dataAt, dataAt + dataLength);
    command.received += dataLength;
    if ((flagsOf(header, at) & STATUS_BIT) === 0) return;
    if ((flagsOf(header, at) & FINAL_BIT) === 0) throw violation('sent a status in a Data-In that is not final');
    this.takeStatSn(header, at);
    command.status = header[at + 3] ?? 0;
    this.complete(command, header, at);
  }

  private scsiResponse(header: Buffer, at: number, data: Buffer): void {
    this.takeStatSn(header, at);
    const command = this.taskOf(header, at);
    const response = header[at + 2] ?? 0;
    if (response !== 0) {
      command.error = new FarshoreError('retry', `the target failed a command with iSCSI response ${response}`);
    }
    command.status = header[at + 3] ?? 0;
    if (data.length > 2) command.sense = Buffer.from(data.subarray(2, 2 + data.readUInt16BE(0)));
    this.complete(command, header, at);
  }

  private complete(command: ScsiCommand, header: Buffer, at: number): void {
    command.residual = residualOf(header, at);
    const moved = command.expectedIn - Math.max(command.residual, 0);
    if (command.expectedIn > 0 && command.status === 0 && command.error === undefined && command.received !== moved) {
      throw violation(
        `answered a read of ${command.expectedIn} bytes, residual ${command.residual}, with ${command.received}`,
      );
    }
    this.release(command);
    command.done(command);
  }

  private release(command: ScsiCommand): void {
    const slot = command.taskTag & SLOT_MASK;
    this.tasks[slot] = undefined;
    this.freeSlots.push(slot);
    this.activeTasks -= 1;
    this.progressTick = this.tick;
  }

  private readyToTransfer(header: Buffer, at: number): void {
    const command = this.taskOf(header, at);
    const from = header.readUInt32BE(at + 40);
    const to = from + header.readUInt32BE(at + 44);
    const out = command.dataOut;
    if (out === undefined || to > out.length || from >= to) {
      throw violation(`asked for bytes ${from} to ${to} of a write of ${out?.length ?? 0}`);
    }
    if (to - from > this.negotiated.maxBurstBytes) throw violation(`asked for more than MaxBurstLength at once`);
    this.sendData(command, out, from, to, transferTagOf(header, at));
  }

  private nopIn(header: Buffer, at: number): void {
    const isAnswer = taskTagOf(header, at) !== RESERVED_TAG;
    if (isAnswer) {
      this.takeStatSn(header, at);
      this.control.response(header, at, Buffer.alloc(0));
    } else if (transferTagOf(header, at) !== RESERVED_TAG) {
      this.control.answerPing(header, at);
    }
  }

  /** RFC 7143 11.17: the data is the header of what was rejected. */
  private rejected(header: Buffer, at: number, data: Buffer): void {
    this.takeStatSn(header, at);
    const reason = header[at + 2] ?? 0;
    const error = new FarshoreError('input', `the target rejected a PDU, reason ${reason}`);
    if (data.length < 48) throw error;
    const tag = taskTagOf(data, 0);
    const command = this.tasks[tag & SLOT_MASK];
    if (command?.taskTag === tag) {
      command.error = error;
      this.release(command);
      command.done(command);
    } else {
      this.control.rejected(tag, error);
    }
  }

  private asyncMessage(header: Buffer, at: number): void {
    this.takeStatSn(header, at);
    const event = header[at + 36] ?? 0;
    // 0 is sense data for people; 1 to 3 are the target's wish to end, 4 to renegotiate, which we don't (RFC 7143 11.9.1).
    if (event !== 0) throw new FarshoreError('retry', `the target asks to end the session (event ${event})`);
  }

  private taskOf(header: Buffer, at: number): ScsiCommand {
    const tag = taskTagOf(header, at);
    const command = this.tasks[tag & SLOT_MASK];
    if (command?.taskTag !== tag) throw violation(`answered task ${tag}, which is not under way`);
    return command;
  }

  private checkedOffset(command: ScsiCommand, header: Buffer, at: number, length: number): number {
    const offset = header.readUInt32BE(at + 40);
    if (offset !== command.received || offset + length > command.expectedIn) {
      throw violation(
        `sent ${length} bytes at ${offset} where ${command.received} of ${command.expectedIn} had arrived`,
      );
    }
    return offset;
  }

  /** StatSN of a PDU that carries a status must be the next one. */
  private takeStatSn(header: Buffer, at: number): void {
    const statSn = header.readUInt32BE(at + 24);
    if (statSn !== this.expStatSn) throw violation(`sent StatSN ${statSn} where ${this.expStatSn} was due`);
    this.expStatSn = nextSerial(statSn);
  }

  private takeWindow(header: Buffer, at: number): void {
    const expCmdSn = header.readUInt32BE(at + 28);
    const maxCmdSn = header.readUInt32BE(at + 32);
    // RFC 7143 4.2.2.1: ignore a pair that is out of order, never let the window shrink.
    if (serialDistance(maxCmdSn, expCmdSn) < -1) return;
    if (serialDistance(maxCmdSn, this.maxCmdSn) > 0) this.maxCmdSn = maxCmdSn;
  }

  // --- time ----------------------------------------------------------------------------------------------------

  private startTick(): void {
    this.cancelTick = this.options.clock.startTimer(TICK_MS, () => {
      this.tick += 1;
      const oldest = this.tick - Math.ceil(this.options.commandTimeoutMs / TICK_MS);
      const stuck = this.waitingHead < this.waiting.length && this.progressTick < oldest;
      if (stuck || this.tasks.some((command) => command !== undefined && command.sentTick < oldest)) {
        const limit = this.options.commandTimeoutMs;
        this.destroy(new FarshoreError('retry', `the target did not answer a command within ${limit} ms`));
      } else {
        this.startTick();
      }
    });
  }

  private failLater(command: ScsiCommand, error: FarshoreError): void {
    queueMicrotask(() => {
      command.error = error;
      command.done(command);
    });
  }
}

function violation(what: string): FarshoreError {
  return new FarshoreError('damaged', `the target broke the protocol: it ${what}`);
}
