import type { ByteCount } from '../base/units.ts';
import { admit, tellsLuns } from '../scsi/admission.ts';
import { STATUS } from '../scsi/constants.ts';
import { execute } from '../scsi/dispatch.ts';
import type { LogicalUnit, UnitNexus } from '../scsi/logical-unit.ts';
import { GOOD, plainStatus } from '../scsi/result.ts';
import type { ScsiResult } from '../scsi/result.ts';
import { SENSE, checkCondition, resultOfError } from '../scsi/sense.ts';
import { dataOutBytes, leavesTraces, readBytes } from '../scsi/traits.ts';
import type { BudgetShare } from './budget.ts';
import type { CommandWindow } from './command-window.ts';
import { NO_TAG, REJECT } from './constants.ts';
import type { Nexuses } from './nexuses.ts';
import type { Outbox } from './outbox.ts';
import type { DataOutRequest, ScsiCommandRequest } from './requests.ts';
import { expectedInBytes, residual } from './residual.ts';
import { ReadRoom } from './read-room.ts';
import { ReceivedChunks } from './received-chunks.ts';
import { ShortWay } from './short-way.ts';
import type { GatheredWrite } from './short-way.ts';
import type { Task } from './task.ts';
import { ATTRIBUTE } from './task-order.ts';
import type { OrderedSet, TaskOrder } from './task-order.ts';
import type { SessionParameters } from './text-keys.ts';
import { WriteGrants } from './write-grants.ts';
import { WriteTransfer } from './write-transfer.ts';

export interface TaskSetDeps {
  readonly nexuses: Nexuses;
  readonly order: TaskOrder;
  readonly parameters: SessionParameters;
  readonly window: CommandWindow;
  readonly outbox: Outbox;
  readonly writeBudget: BudgetShare;
  readonly readBudget: BudgetShare;
  /** The session's share in either. */
  readonly sessionWriteBytes: ByteCount;
  readonly sessionReadBytes: ByteCount;
  /** Most commands at once, whatever the window says (immediate commands are outside it), and most aborted ones in a device. */
  readonly maxTasks: number;
  /** Something was put into the outbox outside the turn of a received chunk. */
  sendSoon(): void;
  /** Something of the chunk that is being received is needed after the call. */
  keepChunk(): void;
}

const TASK_SET_FULL = plainStatus(STATUS.taskSetFull);
const NO_DATA: readonly Buffer[] = [];

/** The SCSI commands of one session, from arrival to answer. */
export class TaskSet implements OrderedSet {
  readonly #deps: TaskSetDeps;
  readonly #tasks = new Map<number, Task>();
  readonly #grants: WriteGrants;
  readonly #room: ReadRoom;
  readonly #chunks: ReceivedChunks;
  readonly short: ShortWay;
  #ended = false;
  /** Aborted while in the device, or to end there without any other answer than success (see `#terminate`). */
  readonly #lingering = new Set<Task>();
  /** Called when the next task leaves the device. */
  #settleWaiters: (() => void)[] = [];

  constructor(deps: TaskSetDeps) {
    this.#deps = deps;
    deps.order.join(this);
    const { writeBudget, readBudget, sessionWriteBytes, sessionReadBytes, outbox, parameters } = deps;
    const sendSoon = (): void => {
      deps.sendSoon();
    };
    this.#chunks = new ReceivedChunks(writeBudget);
    this.#grants = new WriteGrants({
      budget: writeBudget,
      sessionBytes: sessionWriteBytes,
      maxBurstBytes: parameters.maxBurstBytes,
      outbox,
      sendSoon,
    });
    this.#room = new ReadRoom({
      budget: readBudget,
      sessionBytes: sessionReadBytes,
      run: (task) => {
        this.#execute(task);
      },
      sendSoon,
    });
    this.short = new ShortWay({
      ...{ order: deps.order, parameters, window: deps.window, outbox, room: this.#room },
      nexusOf: (lun) => this.nexusOf(lun),
      takes: (tag, besides) => !this.#tasks.has(tag) && !this.#isFull(besides),
      adopt: (writes, done) => {
        this.#adopt(writes, done);
      },
    });
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
    if (this.#isFull(0)) {
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
    const admission = admit(nexus, request.lun, () => this.#deps.nexuses.luns(), request.cdb);
    if (admission.kind === 'answer') {
      if (nexus === undefined && tellsLuns(request.cdb, admission.result)) this.#deps.nexuses.lunsTold();
      this.#answerAtOnce(request, admission.result);
      return;
    }
    if (request.attribute === ATTRIBUTE.aca) {
      // NORMACA is 0: there is never an auto contingent allegiance that such a command could belong to.
      this.#answerAtOnce(request, checkCondition(SENSE.invalidMessage));
      return;
    }
    const takes = dataOutBytes(admission.nexus, admission.command);
    if (takes > 0 && !request.write) {
      // Without the W bit there is no data, and a command without its data must not be taken for done.
      this.#answerAtOnce(request, checkCondition(SENSE.wrongDataLength));
      return;
    }
    const task: Task = {
      state: 'collecting',
      initiatorTaskTag: request.initiatorTaskTag,
      lun: request.lun,
      nexus: admission.nexus,
      attribute: request.attribute,
      order: undefined,
      command: admission.command,
      touches: admission.command.kind === 'extended-copy' ? new Map() : undefined,
      expectedInBytes: expectedInBytes(request),
      expectedOutBytes: request.write ? request.expectedBytes : 0,
      dataOutBytes: takes,
      transfer: undefined,
      writeReserved: 0,
      readReserved: 0,
    };
    if (this.#deps.order.concerns(request.attribute)) this.#deps.order.enter(task, this);
    this.#start(request, immediate, task);
  }

  #isFull(besides: number): boolean {
    const { maxTasks } = this.#deps;
    return this.#tasks.size + besides >= maxTasks || this.#lingering.size >= maxTasks;
  }

  /** Writes that were taken on the short way, and that the device needs longer for. */
  #adopt(writes: readonly GatheredWrite[], done: Promise<void>): void {
    const tasks = writes.map(({ initiatorTaskTag, lun, nexus, lba, sectors, bytes }): Task => ({
      ...{ state: 'executing', initiatorTaskTag, lun, nexus, attribute: ATTRIBUTE.simple, order: undefined },
      command: { kind: 'write', lba, sectors, fua: false },
      touches: undefined,
      ...{ expectedInBytes: 0, expectedOutBytes: bytes, dataOutBytes: bytes },
      ...{ transfer: undefined, writeReserved: 0, readReserved: 0 },
    }));
    for (const task of tasks) this.#register(task);
    this.#deps.keepChunk();
    const settle = (result: ScsiResult): void => {
      for (const task of tasks) this.#settled(task, result);
    };
    void done.then(
      () => {
        settle(GOOD);
      },
      (error: unknown) => {
        settle(resultOfError(error));
      },
    );
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
    if (!this.#grants.reserve(task, unsolicited ? unsolicitedEnd : immediate.length)) {
      this.#answerAtOnce(request, TASK_SET_FULL);
      task.order?.leave(task);
      return;
    }
    task.transfer = new WriteTransfer(wanted, immediate, this.#chunks);
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
    // Some initiators end unsolicited data that is complete with an empty PDU.
    if (fault === 'unknown-tag' && data.length === 0 && request.targetTransferTag === NO_TAG) return;
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
      this.#grants.ask(task);
    }
  }

  /** Runs a command whose data is complete, or lets it wait for older commands, and a read for room. */
  #run(task: Task): void {
    if (task.order?.mayRun(task) === false) {
      task.state = 'held';
      this.#register(task);
      task.transfer?.detach();
      this.#grants.suspend(task);
      return;
    }
    const bytes = readBytes(task.nexus, task.command, task.expectedInBytes);
    if (bytes > 0 && !this.#room.enter(task, bytes)) {
      task.state = 'waiting';
      this.#register(task);
      return;
    }
    this.#execute(task);
  }

  /** The commands that this one was held for have ended. */
  resume(task: Task): void {
    this.#grants.withdraw(task);
    this.#run(task);
    this.#deps.sendSoon();
  }

  *tasksIn(unit: LogicalUnit): Iterable<Task> {
    if (this.#tasks.size === 0 && this.#lingering.size === 0) return;
    for (const task of this.#lingering) if (task.nexus.unit === unit) yield task;
    for (const task of this.#tasks.values()) if (task.nexus.unit === unit && !this.#lingering.has(task)) yield task;
  }

  /** The kernel has taken everything that was to be sent: there is room for more. */
  sent(): void {
    this.#room.sent();
  }

  /** Whether the initiator has owed the data of any write for too long (WriteTransfer); called once a second. */
  owesData(timeoutSeconds: number): boolean {
    let owes = false;
    for (const { transfer } of this.#tasks.values()) if (transfer?.isOverdue(timeoutSeconds) === true) owes = true;
    return owes;
  }

  #execute(task: Task): void {
    task.state = 'executing';
    const { transfer } = task;
    const announced = { in: task.expectedInBytes, out: task.expectedOutBytes };
    const outcome = execute(task.nexus, task.command, transfer?.pieces ?? NO_DATA, announced, task);
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
  }

  #register(task: Task): void {
    if (this.#tasks.has(task.initiatorTaskTag)) return;
    this.#tasks.set(task.initiatorTaskTag, task);
    this.#deps.window.occupy();
  }

  /** Takes the task out, gives back what it held, and answers unless it was aborted. */
  #finish(task: Task, result: ScsiResult): void {
    const isLeaving = this.#lingering.has(task);
    const answers = task.state !== 'aborted' && !this.#ended && (!isLeaving || result.status === STATUS.good);
    task.state = 'done';
    this.#unregister(task); // before the answer, which tells how wide the window is
    if (answers) {
      this.#room.answered(task);
      this.#answer(task, result);
    }
    this.#forget(task);
  }

  #unregister(task: Task): void {
    if (this.#tasks.get(task.initiatorTaskTag) !== task) return;
    this.#tasks.delete(task.initiatorTaskTag);
    this.#deps.window.release();
  }

  #forget(task: Task): void {
    this.#lingering.delete(task);
    this.#room.release(task);
    task.transfer?.release();
    this.#grants.release(task);
    task.order?.leave(task);
    if (this.#ended) this.#leaveOrder();
  }

  /** Of a session that is over only what lingers in a device matters to others. */
  #leaveOrder(): void {
    if (this.#lingering.size === 0) this.#deps.order.leave(this);
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
    const inBytes = expectedInBytes(request);
    this.#deps.outbox.result(
      {
        initiatorTaskTag,
        expectedBytes: inBytes,
        residual: residual(result.dataInBytes, result.dataInBytes > 0 ? inBytes : expectedBytes),
        readyToTransfers: 0,
      },
      result,
    );
  }

  /** The nexus to the unit that is mapped to the LUN now. */
  nexusOf(lun: number): UnitNexus | undefined {
    return this.#deps.nexuses.of(lun);
  }

  /** Every nexus of the session, for unit attentions about the target. */
  nexuses(): Iterable<UnitNexus> {
    return this.#deps.nexuses.all();
  }

  /** The unit of every mapped LUN, and whether the initiator may only read it. */
  allUnits(): ReturnType<Nexuses['allUnits']> {
    return this.#deps.nexuses.allUnits();
  }

  /**
   * Aborts the tasks that match; how many. Their tags are free at once. Those in the device linger until it has
   * answered, which `settled` waits for.
   */
  abort(matches: (task: Task) => boolean): number {
    const chosen = [...this.#tasks.values()].filter(matches);
    for (const task of chosen) {
      if (task.state === 'executing') this.#lingering.add(task);
      task.state = 'aborted';
      this.#unregister(task);
      this.#room.withdraw(task);
      this.#grants.withdraw(task);
    }
    // Only now: what they held may let others run.
    for (const task of chosen) if (!this.#lingering.has(task)) this.#forget(task);
    if (chosen.length > 0) this.#deps.sendSoon(); // what they made room for
    return chosen.length;
  }

  /**
   * Ends the tasks that match with this answer; those in the device linger as after `abort`. A write there is answered when it has ended,
   * or not at all: nobody may be told that a write has failed, and find it done later.
   */
  #terminate(matches: (task: Task) => boolean, result: ScsiResult): void {
    const chosen = new Set([...this.#tasks.values()].filter(matches));
    for (const task of chosen) {
      if (task.state !== 'executing' || task.command.kind !== 'write') continue;
      this.#lingering.add(task);
      chosen.delete(task);
    }
    this.abort((task) => chosen.has(task));
    for (const task of chosen) this.#answer(task, result);
    if (chosen.size > 0) this.#deps.sendSoon();
  }

  /**
   * The initiator may see other LUNs now, or may only read some. Commands in lost LUNs end as if those were not there,
   * and writes to ones it may only read any more are refused. Resolves when no such command can change a medium any more.
   */
  async accessChanged(): Promise<void> {
    const { nexuses } = this.#deps;
    const { isLost, isDenied } = nexuses.change();
    this.#terminate(isLost, checkCondition(SENSE.lunNotSupported));
    this.#terminate(isDenied, checkCondition(SENSE.writeProtected));
    nexuses.follow();
    await this.settled((task) => isLost(task) || isDenied(task));
  }

  /** Whether an aborted command (of those that match) is in a device that can still change the medium. */
  isSettling(matches: (task: Task) => boolean = () => true): boolean {
    for (const task of this.#lingering) if (leavesTraces(task.command) && matches(task)) return true;
    return false;
  }

  /** Those commands. */
  unsettled(): readonly Task[] {
    return [...this.#lingering].filter(({ command }) => leavesTraces(command));
  }

  /** Resolves when that is over. */
  async settled(matches?: (task: Task) => boolean): Promise<void> {
    while (this.isSettling(matches)) {
      await new Promise<void>((resolve) => {
        this.#settleWaiters.push(resolve);
      });
    }
  }

  /** The session is over: nothing is answered any more, every nexus is lost. `settled` still has to be awaited. */
  end(): void {
    this.short.finish();
    this.#ended = true;
    this.abort(() => true);
    this.#grants.end();
    this.#room.end();
    this.#deps.nexuses.end();
    this.#leaveOrder();
  }
}
