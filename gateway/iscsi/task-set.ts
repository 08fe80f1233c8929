import type { BlockDevice } from '../base/block-device.ts';
import type { ByteCount } from '../base/units.ts';
import { admit } from '../scsi/admission.ts';
import { STATUS } from '../scsi/constants.ts';
import { changesMedium, dataInBytes, dataOutBytes, execute } from '../scsi/dispatch.ts';
import type { LogicalUnit, LogicalUnits, TargetPort, UnitNexus } from '../scsi/logical-unit.ts';
import { plainStatus } from '../scsi/result.ts';
import type { ScsiResult } from '../scsi/result.ts';
import { SENSE, checkCondition } from '../scsi/sense.ts';
import type { BudgetWaiter, ByteBudget } from './budget.ts';
import type { CommandWindow } from './command-window.ts';
import { NO_TAG, REJECT } from './constants.ts';
import type { Outbox } from './outbox.ts';
import type { DataOutRequest, ScsiCommandRequest } from './requests.ts';
import type { Residual } from './responses.ts';
import { NO_RESIDUAL } from './responses.ts';
import type { Task } from './task.ts';
import type { SessionParameters } from './text-keys.ts';
import { WriteTransfer } from './write-transfer.ts';

export interface TaskSetDeps {
  readonly luns: ReadonlyMap<number, BlockDevice>;
  readonly units: LogicalUnits;
  readonly port: TargetPort;
  readonly parameters: SessionParameters;
  readonly window: CommandWindow;
  readonly outbox: Outbox;
  readonly writeBudget: ByteBudget;
  readonly readBudget: ByteBudget;
  /** Most read data one session may have executing and unsent. */
  readonly sessionReadBytes: ByteCount;
  /** Most commands at once, whatever the window says (immediate commands are outside it). */
  readonly maxTasks: number;
  /** What this session has still to send. */
  backlogBytes(): ByteCount;
  /** Something was put into the outbox outside the turn of a received chunk. */
  sendSoon(): void;
}

const TASK_SET_FULL = plainStatus(STATUS.taskSetFull);
const NO_DATA: readonly Buffer[] = [];

/** Running out of tags is impossible while tasks are bounded; they wrap long before NO_TAG. */
const LAST_TAG = 0xffff_fff0;

/** The SCSI commands of one session, from arrival to answer. */
export class TaskSet implements BudgetWaiter {
  readonly #deps: TaskSetDeps;
  readonly #tasks = new Map<number, Task>();
  readonly #nexuses = new Map<number, UnitNexus>();
  /** Writes in want of an R2T, and reads in want of room for their data, in the order of their arrival. */
  readonly #awaitingGrant = new Set<Task>();
  readonly #awaitingRoom = new Set<Task>();
  #readBytes: ByteCount = 0;
  #nextTag = 1;
  #ended = false;
  /** Aborted while in the device. */
  readonly #lingering = new Set<Task>();
  /** Called when the next task leaves the device. */
  #settleWaiters: (() => void)[] = [];

  constructor(deps: TaskSetDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#tasks.size;
  }

  /** RFC 7143 11.3: a SCSI Command whose turn has come. `intact` is false when its immediate data is damaged. */
  command(request: ScsiCommandRequest, header: Buffer, immediate: Buffer, intact: boolean): void {
    const { outbox } = this.#deps;
    if (this.#tasks.has(request.initiatorTaskTag)) {
      outbox.reject(REJECT.taskInProgress, header);
      return;
    }
    if (this.#tasks.size >= this.#deps.maxTasks) {
      this.#answerAtOnce(request, TASK_SET_FULL);
      return;
    }
    if (!intact) {
      // RFC 7143 7.8: rejected and never executed; the status lets the initiator try again at once.
      outbox.reject(REJECT.dataDigestError, header);
      this.#answerAtOnce(request, checkCondition(SENSE.protocolCrcError));
      return;
    }
    if (this.#isUnexpected(request, immediate)) {
      this.#answerAtOnce(request, checkCondition(SENSE.unexpectedUnsolicitedData));
      return;
    }
    const nexus = this.nexusOf(request.lun);
    const admission = admit(nexus, request.lun, () => this.#deps.luns.keys(), request.cdb);
    if (admission.kind === 'answer') {
      this.#answerAtOnce(request, admission.result);
      return;
    }
    this.#start(request, immediate, {
      state: 'collecting',
      initiatorTaskTag: request.initiatorTaskTag,
      lun: request.lun,
      nexus: admission.nexus,
      command: admission.command,
      expectedInBytes: request.read ? request.expectedBytes : 0,
      expectedOutBytes: request.write ? request.expectedBytes : 0,
      dataOutBytes: dataOutBytes(admission.nexus, admission.command),
      transfer: undefined,
      writeReserved: 0,
      readReserved: 0,
    });
  }

  /** Data that was not agreed on (RFC 7143 13.10, 13.11, 13.14). */
  #isUnexpected(request: ScsiCommandRequest, immediate: Buffer): boolean {
    const { parameters } = this.#deps;
    if (request.write && !request.final && parameters.initialR2t) return true;
    if (immediate.length === 0) return false;
    return (
      !request.write ||
      !parameters.immediateData ||
      immediate.length > request.expectedBytes ||
      immediate.length > parameters.firstBurstBytes
    );
  }

  #start(request: ScsiCommandRequest, immediate: Buffer, task: Task): void {
    const wanted = Math.min(task.dataOutBytes, task.expectedOutBytes);
    if (wanted === 0) {
      this.#run(task);
      return;
    }
    const unsolicitedEnd = Math.min(this.#deps.parameters.firstBurstBytes, request.expectedBytes);
    const unsolicited = !request.final && immediate.length < unsolicitedEnd;
    task.writeReserved = unsolicited ? unsolicitedEnd : immediate.length;
    if (!this.#deps.writeBudget.take(task.writeReserved)) {
      this.#answerAtOnce(request, TASK_SET_FULL);
      return;
    }
    task.transfer = new WriteTransfer(wanted, immediate);
    if (unsolicited) task.transfer.openUnsolicited(unsolicitedEnd);
    this.#proceed(task);
  }

  /** RFC 7143 11.7: SCSI Data-Out. */
  dataOut(request: DataOutRequest, header: Buffer, data: Buffer, intact: boolean): void {
    const task = this.#tasks.get(request.initiatorTaskTag);
    const transfer = task?.transfer;
    if (task?.state !== 'collecting' || transfer === undefined) {
      // Late data of a command that has been answered or aborted is dropped; the tag says nothing any more.
      if (!intact) this.#deps.outbox.reject(REJECT.dataDigestError, header);
      return;
    }
    if (!intact) {
      this.#deps.outbox.reject(REJECT.dataDigestError, header);
      transfer.fail(SENSE.protocolCrcError, request.final);
    } else if (transfer.failure !== undefined) {
      transfer.fail(transfer.failure, request.final);
    } else {
      this.#takeData(transfer, request, header, data);
    }
    this.#proceed(task);
  }

  #takeData(transfer: WriteTransfer, request: DataOutRequest, header: Buffer, data: Buffer): void {
    const fault = transfer.check(request, data.length);
    if (fault === undefined) {
      transfer.receive(request, data);
      return;
    }
    // At error recovery level 0 data out of order cannot be mended (RFC 7143 7.9).
    this.#deps.outbox.reject(fault === 'unknown-tag' ? REJECT.invalidPduField : REJECT.protocolError, header);
    transfer.fail(SENSE.dataPhaseError, request.final || !transfer.inBurst);
  }

  /** Where the framer should put the data of a Data-Out PDU that is arriving. */
  destination(request: DataOutRequest, bytes: ByteCount): Buffer | undefined {
    const task = this.#tasks.get(request.initiatorTaskTag);
    return task?.state === 'collecting' ? task.transfer?.destination(request, bytes) : undefined;
  }

  /** The next step of a write: wait for data, ask for data, run, or give up. */
  #proceed(task: Task): void {
    const { transfer } = task;
    if (transfer === undefined || transfer.inBurst) {
      this.#register(task);
    } else if (transfer.failure !== undefined) {
      this.#finish(task, checkCondition(transfer.failure));
    } else if (transfer.isComplete) {
      this.#run(task);
    } else {
      this.#register(task);
      this.#awaitingGrant.add(task);
      this.#grant();
    }
  }

  /** Sends R2Ts as long as there is room for the data they ask for; true when nobody waits any more. */
  #grant(): boolean {
    const { parameters, writeBudget, outbox } = this.#deps;
    for (const task of this.#awaitingGrant) {
      const { transfer } = task;
      if (transfer === undefined) continue;
      const bytes = Math.min(parameters.maxBurstBytes, transfer.wantedBytes - transfer.bytes);
      if (!writeBudget.take(bytes)) {
        writeBudget.wait(this);
        return false;
      }
      task.writeReserved += bytes;
      this.#awaitingGrant.delete(task);
      const targetTransferTag = this.#takeTag();
      const r2t = transfer.openSolicited(targetTransferTag, bytes);
      const { lun, initiatorTaskTag } = task;
      outbox.readyToTransfer({ lun, initiatorTaskTag, targetTransferTag, ...r2t });
    }
    return true;
  }

  retryBudget(): boolean {
    if (this.#ended) return true;
    const granted = this.#grant();
    const admitted = this.#admitReads();
    this.#deps.sendSoon();
    return granted && admitted;
  }

  #takeTag(): number {
    const tag = this.#nextTag;
    this.#nextTag = tag >= LAST_TAG ? 1 : tag + 1;
    return tag;
  }

  /** Runs a command whose data is complete, or lets a read wait for room. */
  #run(task: Task): void {
    const bytes = Math.min(dataInBytes(task.nexus, task.command), task.expectedInBytes);
    if (bytes > 0 && (this.#awaitingRoom.size > 0 || !this.#takeRoom(task, bytes))) {
      task.state = 'waiting';
      this.#register(task);
      this.#awaitingRoom.add(task);
      return;
    }
    this.#execute(task);
  }

  /** Room for a read's data: within the session's share (one read always has room), and within everybody's. */
  #takeRoom(task: Task, bytes: ByteCount): boolean {
    const { sessionReadBytes, readBudget } = this.#deps;
    const held = this.#readBytes + this.#deps.backlogBytes();
    if (held > 0 && held + bytes > sessionReadBytes) return false;
    if (!readBudget.take(bytes)) {
      readBudget.wait(this);
      return false;
    }
    task.readReserved = bytes;
    this.#readBytes += bytes;
    return true;
  }

  /** The socket has taken what was waiting: reads may go on. */
  drained(): void {
    this.#admitReads();
  }

  #admitReads(): boolean {
    for (const task of this.#awaitingRoom) {
      const bytes = Math.min(dataInBytes(task.nexus, task.command), task.expectedInBytes);
      if (!this.#takeRoom(task, bytes)) return false;
      this.#awaitingRoom.delete(task);
      this.#execute(task);
    }
    return true;
  }

  #execute(task: Task): void {
    task.state = 'executing';
    const { transfer } = task;
    const outcome = execute(task.nexus, task.command, transfer?.pieces ?? NO_DATA, task.expectedOutBytes);
    if (!(outcome instanceof Promise)) {
      this.#finish(task, outcome);
      return;
    }
    this.#register(task);
    // Operating errors are results by now. What rejects is a bug, and must end the process: nobody catches it.
    void outcome.then((result) => {
      this.#settled(task, result);
    });
  }

  #settled(task: Task, result: ScsiResult): void {
    this.#finish(task, result);
    this.#deps.sendSoon();
    const waiters = this.#settleWaiters;
    this.#settleWaiters = [];
    for (const waiter of waiters) waiter();
    if (!this.#ended) this.#admitReads();
  }

  #register(task: Task): void {
    if (this.#tasks.has(task.initiatorTaskTag)) return;
    this.#tasks.set(task.initiatorTaskTag, task);
    this.#deps.window.occupy();
  }

  /** Takes the task out, gives back what it held, and answers unless it was aborted. */
  #finish(task: Task, result: ScsiResult): void {
    const aborted = task.state === 'aborted';
    task.state = 'done';
    this.#forget(task);
    if (!aborted && !this.#ended) this.#answer(task, result);
  }

  #forget(task: Task): void {
    if (this.#tasks.get(task.initiatorTaskTag) === task) {
      this.#tasks.delete(task.initiatorTaskTag);
      this.#deps.window.release();
    }
    this.#awaitingGrant.delete(task);
    this.#awaitingRoom.delete(task);
    this.#lingering.delete(task);
    this.#readBytes -= task.readReserved;
    if (task.readReserved > 0) this.#deps.readBudget.release(task.readReserved);
    if (task.writeReserved > 0) this.#deps.writeBudget.release(task.writeReserved);
    task.readReserved = 0;
    task.writeReserved = 0;
  }

  #answer(task: Task, result: ScsiResult): void {
    const { initiatorTaskTag, expectedInBytes, expectedOutBytes, dataOutBytes: outBytes, transfer } = task;
    const moved = outBytes > 0 ? outBytes : result.dataInBytes;
    // The residual counts in the direction the data moved; a command that moved none leaves all of it over.
    const announced = outBytes > 0 ? expectedOutBytes : expectedInBytes;
    const expected = moved > 0 ? announced : expectedInBytes + expectedOutBytes;
    this.#deps.outbox.result(
      {
        initiatorTaskTag,
        expectedBytes: expectedInBytes,
        residual: residual(moved, expected),
        readyToTransfers: transfer?.readyToTransfers ?? 0,
      },
      result,
    );
  }

  /** The answer to a command that never became a task. */
  #answerAtOnce(request: ScsiCommandRequest, result: ScsiResult): void {
    const { initiatorTaskTag, expectedBytes } = request;
    const expectedInBytes = request.read ? expectedBytes : 0;
    this.#deps.outbox.result(
      {
        initiatorTaskTag,
        expectedBytes: expectedInBytes,
        residual: residual(result.dataInBytes, result.dataInBytes > 0 ? expectedInBytes : expectedBytes),
        readyToTransfers: 0,
      },
      result,
    );
  }

  /** The nexus to the unit that is mapped to the LUN now; a unit mapped anew is a new nexus. */
  nexusOf(lun: number): UnitNexus | undefined {
    const device = this.#deps.luns.get(lun);
    const known = this.#nexuses.get(lun);
    if (known !== undefined) {
      if (known.unit.device === device) return known;
      known.unit.leave(known);
      this.#nexuses.delete(lun);
    }
    if (device === undefined) return undefined;
    const nexus = this.#deps.units.of(device).join(this.#deps.port);
    this.#nexuses.set(lun, nexus);
    return nexus;
  }

  /** Every nexus of the session, for unit attentions about the target. */
  nexuses(): Iterable<UnitNexus> {
    return this.#nexuses.values();
  }

  /** The unit of every mapped LUN. */
  allUnits(): LogicalUnit[] {
    return [...this.#deps.luns.values()].map((device) => this.#deps.units.of(device));
  }

  /**
   * Aborts the tasks that match; how many. Their tags are free at once. Those in the device linger until it has
   * answered, which `settled` waits for.
   */
  abort(matches: (task: Task) => boolean): number {
    const chosen = [...this.#tasks.values()].filter(matches);
    for (const task of chosen) {
      if (task.state === 'executing') {
        this.#tasks.delete(task.initiatorTaskTag);
        this.#deps.window.release();
        this.#lingering.add(task);
      } else {
        this.#forget(task);
      }
      task.state = 'aborted';
    }
    return chosen.length;
  }

  /** Resolves when no aborted command can change the medium any more. */
  async settled(): Promise<void> {
    while ([...this.#lingering].some((task) => changesMedium(task.command))) {
      await new Promise<void>((resolve) => {
        this.#settleWaiters.push(resolve);
      });
    }
  }

  /** The session is over: nothing is answered any more, every nexus is lost. `settled` still has to be awaited. */
  end(): void {
    this.#ended = true;
    this.abort(() => true);
    this.#deps.writeBudget.forget(this);
    this.#deps.readBudget.forget(this);
    for (const nexus of this.#nexuses.values()) nexus.unit.leave(nexus);
    this.#nexuses.clear();
  }
}

function residual(moved: ByteCount, expected: ByteCount): Residual {
  if (moved === expected) return NO_RESIDUAL;
  return moved > expected
    ? { kind: 'overflow', bytes: Math.min(moved - expected, NO_TAG) }
    : { kind: 'underflow', bytes: expected - moved };
}
