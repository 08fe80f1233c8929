import type { Log } from '../base/log.ts';
import type { LogicalUnits } from '../scsi/logical-unit.ts';
import type { BudgetShare } from './budget.ts';
import type { CommandWindow } from './command-window.ts';
import { ASYNC_EVENT, NO_TAG, PORTAL_GROUP_TAG, REJECT, TASK_RESPONSE } from './constants.ts';
import { HeldRequests } from './held-requests.ts';
import type { Identity } from './login-identity.ts';
import { Nexuses } from './nexuses.ts';
import type { Outbox } from './outbox.ts';
import { cmdSnOf, decodeRequest, isSimpleRead, isSimpleWrite } from './requests.ts';
import type { LogoutRequest, NopOutRequest, Request, TaskManagementRequest } from './requests.ts';
import type { IscsiSettings } from './settings.ts';
import type { Initiator, IscsiTarget, MappedLun } from './target-registry.ts';
import type { Task } from './task.ts';
import type { TaskOrder } from './task-order.ts';
import { manageTasks } from './task-management.ts';
import { TaskSet } from './task-set.ts';
import type { SessionParameters } from './text-keys.ts';
import { serialDistance } from './serial.ts';
import { TextExchange } from './text-exchange.ts';
import type { KeyValue } from './text.ts';

/** What a session needs of its connection. */
export interface SessionLink {
  /** Sends what is in the outbox before the next turn's events, from outside a received chunk. */
  sendSoon(): void;
  /** This data (if it lies in the chunk that is being received), or anything of that chunk, is needed after the call. */
  keepChunk(data?: Buffer): void;
  /** Sends what is in the outbox, then closes. */
  closeAfterSending(reason: string): void;
}

export interface SessionDeps {
  readonly identity: Identity;
  readonly initiator: Initiator;
  readonly tsih: number;
  /** Undefined in a discovery session. */
  readonly target: IscsiTarget | undefined;
  readonly parameters: SessionParameters;
  readonly settings: IscsiSettings;
  readonly window: CommandWindow;
  readonly outbox: Outbox;
  readonly link: SessionLink;
  readonly units: LogicalUnits;
  readonly order: TaskOrder;
  readonly writeBudget: BudgetShare;
  readonly readBudget: BudgetShare;
  readonly log: Log;
  /** Sessions of the whole server, this one included: resets reach into all of them. */
  sessions(): Iterable<Session>;
  sendTargets(request: string): KeyValue[];
}

/** The reason a session ends with when its initiator has asked for it. */
export const LOGOUT = 'logout';

const NO_LUNS: ReadonlyMap<number, MappedLun> = new Map();
const NOTHING = Buffer.alloc(0);

/** Immediate commands come outside the window; so many of them are taken at once. */
const MAX_IMMEDIATE_COMMANDS = 16;

/** Task management functions that may wait for a device; more are refused. */
const MAX_WAITING_FUNCTIONS = 64;

/** Full feature phase (RFC 7143 7.2.2): what a session does with each PDU. One connection a session. */
export class Session {
  readonly #deps: SessionDeps;
  readonly tasks: TaskSet;
  readonly #text: TextExchange;
  readonly #held: HeldRequests;
  #target: IscsiTarget | undefined;
  #state: 'open' | 'logging-out' | 'ended' = 'open';
  #waitingFunctions = 0;

  constructor(deps: SessionDeps) {
    this.#deps = deps;
    const { parameters, window, outbox, settings } = deps;
    this.#held = new HeldRequests(deps.writeBudget);
    this.#target = deps.target;
    this.tasks = new TaskSet({
      nexuses: new Nexuses({
        luns: () => this.#target?.luns(deps.initiator) ?? NO_LUNS,
        units: deps.units,
        port: { targetName: deps.target?.name ?? '', portalGroupTag: PORTAL_GROUP_TAG },
        initiator: { name: deps.identity.initiatorName, isid: deps.identity.isid },
      }),
      order: deps.order,
      parameters,
      window,
      outbox,
      writeBudget: deps.writeBudget,
      readBudget: deps.readBudget,
      sessionReadBytes: settings.sessionReadBytes,
      sessionWriteBytes: settings.sessionWriteBytes,
      maxTasks: settings.queueDepth + MAX_IMMEDIATE_COMMANDS,
      sendSoon: () => {
        deps.link.sendSoon();
      },
      keepChunk: () => {
        deps.link.keepChunk();
      },
    });
    this.#text = new TextExchange(outbox, {
      discovery: deps.identity.sessionType === 'discovery',
      ownTarget: deps.target?.name,
      sendTargets: (request) => deps.sendTargets(request),
      setMaxRecvBytes: (bytes) => {
        outbox.setLimits(bytes, parameters.maxBurstBytes);
      },
    });
  }

  get identity(): Identity {
    return this.#deps.identity;
  }

  get tsih(): number {
    return this.#deps.tsih;
  }

  get connectionId(): number {
    return this.#deps.identity.connectionId;
  }

  get parameters(): SessionParameters {
    return this.#deps.parameters;
  }

  /** The number of the next command, which a connection that takes the place of this one goes on with. */
  get expCmdSn(): number {
    return this.#deps.window.expCmdSn;
  }

  get target(): IscsiTarget | undefined {
    return this.#target;
  }

  /** A whole PDU from the framer: dispatched, dropped or held by its CmdSN (RFC 7143 4.2.2.1). */
  receive(header: Buffer, data: Buffer, intact: boolean): void {
    if (this.#state !== 'open') return;
    if (this.#isOnShortWay(header, data, intact)) return;
    this.tasks.short.finish();
    if (data.length > 0) this.#deps.link.keepChunk(data);
    const request = decodeRequest(header);
    if (request.kind === 'data-out') {
      this.tasks.dataOut(request, header, data, intact);
      return;
    }
    const { window } = this.#deps;
    // A SNACK has no CmdSN either (RFC 7143 11.16).
    if (!request.immediate && request.kind !== 'snack') {
      const place = window.place(request.cmdSn);
      if (place === 'outside') return;
      if (place === 'ahead') {
        this.#held.hold(request.cmdSn, header, data, intact);
        return;
      }
      window.receive();
    }
    this.#dispatch(request, header, data, intact);
    if (this.#held.size > 0) this.#takeHeld();
  }

  /** Whether it is a plain read or write whose turn it is, and was taken without further ado; otherwise nothing has been done. */
  #isOnShortWay(header: Buffer, data: Buffer, intact: boolean): boolean {
    const { window, target } = this.#deps;
    if (target === undefined || this.#held.size > 0) return false;
    const { short } = this.tasks;
    if (data.length === 0) return isSimpleRead(header) && isNext(window, header) && short.read(header);
    return intact && isSimpleWrite(header) && isNext(window, header) && short.write(header, data);
  }

  /** The memory in which the last PDUs were is about to be used again, or the turn may end: what was gathered of them is logged, and answered. */
  finishGathered(): void {
    this.tasks.short.finish();
  }

  #takeHeld(): void {
    const { window } = this.#deps;
    for (;;) {
      const held = this.#held.take(window.expCmdSn);
      if (held === undefined) return;
      window.receive();
      if (held === 'aborted') continue;
      this.#dispatch(decodeRequest(held.header), held.header, held.data, held.intact);
    }
  }

  #dispatch(request: Request, header: Buffer, data: Buffer, intact: boolean): void {
    const { outbox } = this.#deps;
    if (request.kind === 'scsi-command' && this.#deps.target !== undefined) {
      this.tasks.command(request, header, data, intact);
      return;
    }
    if (!intact) {
      outbox.reject(REJECT.dataDigestError, header);
      return;
    }
    switch (request.kind) {
      case 'nop-out':
        this.#nopOut(request, data);
        return;
      case 'text':
        this.#text.receive(request, header, data);
        return;
      case 'logout':
        this.#logout(request);
        return;
      case 'task-management':
        if (this.#deps.target === undefined) outbox.reject(REJECT.protocolError, header);
        else this.#manageTasks(request);
        return;
      case 'snack':
        outbox.reject(REJECT.snackReject, header);
        return;
      case 'unknown':
        outbox.reject(REJECT.commandNotSupported, header);
        return;
      case 'scsi-command':
      case 'login':
      case 'data-out':
        // No commands in a discovery session, no second login; Data-Out never gets here.
        outbox.reject(REJECT.protocolError, header);
        return;
    }
  }

  /** RFC 7143 11.18: a ping, or the answer to ours. */
  #nopOut(request: NopOutRequest, data: Buffer): void {
    if (request.initiatorTaskTag === NO_TAG) return;
    const echo = data.subarray(0, this.#deps.outbox.maxDataBytes);
    const { initiatorTaskTag, lun } = request;
    this.#deps.outbox.nopReply(
      { initiatorTaskTag, targetTransferTag: NO_TAG, lun, dataBytes: echo.length },
      echo.length === 0 ? NOTHING : echo,
    );
  }

  /** RFC 7143 11.14: the session ends when no command of it can change a medium any more. */
  #logout(request: LogoutRequest): void {
    const { outbox, identity, link } = this.#deps;
    const CONNECTION_NOT_FOUND = 1;
    const RECOVERY_NOT_SUPPORTED = 2;
    if (request.reason === 2) {
      outbox.logout(request.initiatorTaskTag, RECOVERY_NOT_SUPPORTED);
      return;
    }
    if (request.reason === 1 && request.connectionId !== identity.connectionId) {
      outbox.logout(request.initiatorTaskTag, CONNECTION_NOT_FOUND);
      return;
    }
    this.#state = 'logging-out';
    this.tasks.abort(() => true);
    whenSettled([this], undefined, () => {
      if (this.#state !== 'logging-out') return;
      outbox.logout(request.initiatorTaskTag, 0);
      link.closeAfterSending(LOGOUT);
    });
  }

  /** RFC 7143 11.5; answered when what was aborted has left the devices. */
  #manageTasks(request: TaskManagementRequest): void {
    if (this.#waitingFunctions >= MAX_WAITING_FUNCTIONS) {
      this.#deps.outbox.taskManagement(request.initiatorTaskTag, TASK_RESPONSE.rejected);
      return;
    }
    const { response, affected, concerns, ends } = manageTasks(request, this, this.#deps.sessions());
    this.#waitingFunctions += 1;
    whenSettled(affected, concerns, () => {
      this.#waitingFunctions -= 1;
      if (this.#state !== 'open') return;
      this.#deps.outbox.taskManagement(request.initiatorTaskTag, response);
      this.#deps.link.sendSoon();
      for (const session of ends) session.drop('the target was reset', session !== this);
    });
  }

  /** Ends the session, telling its initiator first (RFC 7143 11.9.1, event 3) if it is `told`. */
  drop(reason: string, told: boolean): void {
    if (this.#state !== 'open') return;
    if (told) this.#deps.outbox.asyncMessage(ASYNC_EVENT.sessionDropped, 0, 0, 0);
    this.#deps.link.closeAfterSending(reason);
  }

  /**
   * For ABORT TASK of a command that has not arrived: if its number lies in the window and before that of the function,
   * it is taken as received and will not be executed when it comes (RFC 7143 11.6.1).
   */
  cancelUnseen(cmdSn: number, beforeCmdSn: number): boolean {
    const { window } = this.#deps;
    const place = window.place(cmdSn);
    if (place === 'outside' || serialDistance(beforeCmdSn, cmdSn) <= 0) return false;
    this.#held.abort(cmdSn);
    this.#takeHeld();
    return true;
  }

  /** Ends the commands to the LUN (undefined: to any) that wait for their turn and were sent before `beforeCmdSn`. */
  cancelHeld(lun: number | undefined, beforeCmdSn: number): void {
    this.#held.abortWhere(
      (request) =>
        request.kind === 'scsi-command' &&
        (lun === undefined || request.lun === lun) &&
        serialDistance(beforeCmdSn, request.cmdSn) > 0,
    );
  }

  /**
   * The target as its initiator may use it from now on. Resolves when no command can change a medium any more that it
   * could not be sent now; of a session that is over those commands are waited for which still linger in a device.
   */
  async accessChanged(target: IscsiTarget | undefined): Promise<void> {
    this.#target = target;
    await this.tasks.accessChanged();
  }

  /** Where the framer should put data that is arriving in pieces. */
  destination(header: Buffer, bytes: number): Buffer | undefined {
    if (this.#state !== 'open') return undefined;
    const request = decodeRequest(header);
    return request.kind === 'data-out' ? this.tasks.destination(request, bytes) : undefined;
  }

  /** The kernel has taken everything that was to be sent. */
  sent(): void {
    this.tasks.sent();
  }

  /** Whether others wait for read memory who hold less of it. */
  deprivesOthers(): boolean {
    return this.#deps.readBudget.deprivesOthers();
  }

  /** Whether the initiator has owed the data of a write, or a command it left out, for too long; asked once a second. */
  owesData(): boolean {
    const { dataTimeoutSeconds } = this.#deps.settings;
    const owesCommand = this.#held.isOverdue(dataTimeoutSeconds);
    return this.tasks.owesData(dataTimeoutSeconds) || owesCommand;
  }

  /** Asks the initiator to log out within `seconds` (RFC 7143 11.9.1, event 1). */
  requestLogout(seconds: number): void {
    if (this.#state !== 'open') return;
    this.#deps.outbox.asyncMessage(ASYNC_EVENT.logoutRequested, 0, 0, seconds);
    this.#deps.link.sendSoon();
  }

  /**
   * Ends the session at once; nothing is answered any more. Resolves when none of its commands can change a medium any
   * more, so that whoever comes next may start. Harmless when repeated.
   */
  async end(): Promise<void> {
    if (this.#state !== 'ended') {
      this.#state = 'ended';
      this.#held.clear();
      this.tasks.end();
      this.#deps.writeBudget.close();
      this.#deps.readBudget.close();
    }
    await this.tasks.settled();
  }
}

/**
 * Calls `then` when no aborted command of these sessions (of those that match) can change a medium any more; at once if
 * that is so already.
 */
function whenSettled(
  sessions: readonly Session[],
  matches: ((task: Task) => boolean) | undefined,
  then: () => void,
): void {
  const settling = sessions.filter((session) => session.tasks.isSettling(matches));
  if (settling.length === 0) then();
  else void Promise.all(settling.map((session) => session.tasks.settled(matches))).then(then);
}

function isNext(window: CommandWindow, header: Buffer): boolean {
  return window.place(cmdSnOf(header)) === 'next';
}
