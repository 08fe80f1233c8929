import { SENSE } from '../scsi/sense.ts';
import type { LogicalUnit, UnitNexus } from '../scsi/logical-unit.ts';
import type { UnitCommand } from '../scsi/traits.ts';
import { TASK_FUNCTION, TASK_RESPONSE } from './constants.ts';
import type { TaskManagementRequest } from './requests.ts';
import type { Session } from './session.ts';
import type { Task } from './task.ts';

/** ESXi takes "task does not exist" for a fault when the task has just finished. */
const WANTS_COMPLETE_FOR_FINISHED_TASKS = 'iqn.1998-01.com.vmware';

/** What a function has done: its response may be sent when no aborted command it concerns is in a device any more. */
export interface Managed {
  readonly response: number;
  /** Sessions whose commands it may have ended. */
  readonly affected: readonly Session[];
  /** Which of those: commands elsewhere that do not end must not hold up the answer. */
  readonly concerns: (task: Task) => boolean;
  /** Sessions that end when the response has been sent. */
  readonly ends: readonly Session[];
}

const NOBODY: readonly Session[] = [];

/**
 * Task management functions (RFC 7143 11.5, 11.6; SAM-5 7). `sessions` are all sessions of the server, the asking one
 * included.
 */
export function manageTasks(request: TaskManagementRequest, own: Session, sessions: Iterable<Session>): Managed {
  switch (request.function) {
    case TASK_FUNCTION.abortTask:
      return abortTask(request, own);
    case TASK_FUNCTION.abortTaskSet:
      return onUnit(request, own, () => {
        own.tasks.abort((task) => task.lun === request.lun);
        return [own];
      });
    case TASK_FUNCTION.clearTaskSet:
      return onUnit(request, own, (unit, { readOnly }) => clearTaskSet(unit, own, readOnly ? [own] : [...sessions]));
    case TASK_FUNCTION.logicalUnitReset:
      return onUnit(request, own, (unit, nexus) =>
        nexus.readOnly ? resetOwn([nexus], own) : resetUnits([unit], [...sessions]),
      );
    case TASK_FUNCTION.targetWarmReset:
      return resetTarget(request, own, [...sessions], 'warm');
    case TASK_FUNCTION.targetColdReset:
      return resetTarget(request, own, [...sessions], 'cold');
    case TASK_FUNCTION.taskReassign:
      return answer(TASK_RESPONSE.reassignNotSupported);
    default:
      return answer(TASK_RESPONSE.notSupported);
  }
}

function answer(response: number): Managed {
  return { response, affected: NOBODY, concerns: () => false, ends: NOBODY };
}

function abortTask(request: TaskManagementRequest, own: Session): Managed {
  const concerns = (task: Task): boolean => task.initiatorTaskTag === request.referencedTaskTag;
  const found = own.tasks.abort(concerns) > 0;
  // A second ABORT TASK, when the first one has not been answered in time, must wait for the same write.
  if (found || own.tasks.isSettling(concerns) || own.cancelUnseen(request.refCmdSn, request.cmdSn))
    return { response: TASK_RESPONSE.complete, affected: [own], concerns, ends: NOBODY };
  const complete = own.identity.initiatorName.startsWith(WANTS_COMPLETE_FOR_FINISHED_TASKS);
  return answer(complete ? TASK_RESPONSE.complete : TASK_RESPONSE.noSuchTask);
}

function onUnit(
  request: TaskManagementRequest,
  own: Session,
  act: (unit: LogicalUnit, nexus: UnitNexus) => Session[],
): Managed {
  const nexus = own.tasks.nexusOf(request.lun);
  if (nexus === undefined) return answer(TASK_RESPONSE.noSuchLun);
  const { unit } = nexus;
  own.cancelHeld(request.lun, request.cmdSn);
  const concerns = (task: Task): boolean => task.nexus.unit === unit;
  return { response: TASK_RESPONSE.complete, affected: act(unit, nexus), concerns, ends: NOBODY };
}

/**
 * LOGICAL UNIT RESET of every unit the initiator sees in the target. A cold one ends the sessions to the target (RFC 7143 11.5.1), but for
 * those that have none of the units that were reset for everybody.
 */
function resetTarget(
  request: TaskManagementRequest,
  own: Session,
  sessions: Session[],
  kind: 'warm' | 'cold',
): Managed {
  own.cancelHeld(undefined, request.cmdSn);
  const seen = own.tasks.allUnits();
  const units = seen.filter(({ readOnly }) => !readOnly).map(({ unit }) => unit);
  const onlyRead = [...own.tasks.nexuses()].filter(({ unit }) => !units.includes(unit));
  const sharing = ({ target, tasks }: Session): boolean =>
    target !== undefined &&
    target.name === own.target?.name &&
    tasks.allUnits().some(({ unit }) => units.includes(unit));
  const ends = kind === 'cold' ? sessions.filter((each) => each === own || sharing(each)) : NOBODY;
  const concerns = ({ nexus }: Task): boolean => units.includes(nexus.unit) || onlyRead.includes(nexus);
  resetOwn(onlyRead, own);
  return { response: TASK_RESPONSE.complete, affected: resetUnits(units, sessions), concerns, ends };
}

/**
 * What a reset does where its initiator may only read: it ends the commands of its own session. Its error handler goes on with that, and
 * whoever may write is not disturbed.
 */
function resetOwn(nexuses: readonly UnitNexus[], own: Session): Session[] {
  own.tasks.abort(({ nexus }) => nexuses.includes(nexus));
  for (const nexus of nexuses) nexus.unit.resetFor(nexus);
  return [own];
}

/** Ends the commands of every session in the unit; the other initiators are told (SAM-5 7.5). */
function clearTaskSet(unit: LogicalUnit, own: Session, sessions: Session[]): Session[] {
  for (const session of sessions) {
    const count = session.tasks.abort((task) => task.nexus.unit === unit);
    if (count === 0 || session === own) continue;
    for (const nexus of session.tasks.nexuses()) if (nexus.unit === unit) nexus.raise(SENSE.commandsCleared);
  }
  return sessions;
}

/**
 * PREEMPT AND ABORT (SPC-4 5.13.11.2.6): ends the commands of such nexuses but for `except`. What is over when it resolves
 * are those that change the medium: PERSISTENT RESERVE OUT commands take turns, and two of them must not wait for each other.
 */
export function abortTasksOf(
  isConcerned: (nexus: UnitNexus, command: UnitCommand) => boolean,
  except: object,
  sessions: Iterable<Session>,
): Promise<void> | undefined {
  const concerns = (task: Task): boolean => task.command !== except && isConcerned(task.nexus, task.command);
  const writes = (task: Task): boolean => task.command.kind !== 'persistent-reserve-out' && concerns(task);
  const settling: Promise<void>[] = [];
  for (const { tasks } of sessions) {
    tasks.abort(concerns);
    if (tasks.isSettling(writes)) settling.push(tasks.settled(writes));
  }
  return settling.length === 0 ? undefined : Promise.all(settling).then(() => undefined);
}

/** LOGICAL UNIT RESET (SAM-5 6.3.3) of each unit. */
function resetUnits(units: readonly LogicalUnit[], sessions: Session[]): Session[] {
  for (const session of sessions) session.tasks.abort((task) => units.includes(task.nexus.unit));
  for (const unit of units) unit.reset();
  return sessions;
}
