import { SENSE } from '../scsi/sense.ts';
import type { LogicalUnit } from '../scsi/logical-unit.ts';
import { TASK_FUNCTION, TASK_RESPONSE } from './constants.ts';
import type { TaskManagementRequest } from './requests.ts';
import type { Session } from './session.ts';

/** ESXi takes "task does not exist" for a fault when the task has just finished. */
const WANTS_COMPLETE_FOR_FINISHED_TASKS = 'iqn.1998-01.com.vmware';

/** What a function has done: its response may be sent when no aborted command of these sessions is in a device any more. */
export interface Managed {
  readonly response: number;
  readonly affected: readonly Session[];
}

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
      return onUnit(request, own, (unit) => clearTaskSet(unit, own, [...sessions]));
    case TASK_FUNCTION.logicalUnitReset:
      return onUnit(request, own, (unit) => resetUnits([unit], [...sessions]));
    case TASK_FUNCTION.targetWarmReset:
    case TASK_FUNCTION.targetColdReset:
      own.cancelHeld(undefined, request.cmdSn);
      return { response: TASK_RESPONSE.complete, affected: resetUnits(own.tasks.allUnits(), [...sessions]) };
    case TASK_FUNCTION.taskReassign:
      return { response: TASK_RESPONSE.reassignNotSupported, affected: [] };
    default:
      return { response: TASK_RESPONSE.notSupported, affected: [] };
  }
}

function abortTask(request: TaskManagementRequest, own: Session): Managed {
  const tag = request.referencedTaskTag;
  const found = own.tasks.abort((task) => task.initiatorTaskTag === tag) > 0;
  if (found || own.cancelUnseen(request.refCmdSn, request.cmdSn))
    return { response: TASK_RESPONSE.complete, affected: [own] };
  const complete = own.identity.initiatorName.startsWith(WANTS_COMPLETE_FOR_FINISHED_TASKS);
  return { response: complete ? TASK_RESPONSE.complete : TASK_RESPONSE.noSuchTask, affected: [] };
}

function onUnit(request: TaskManagementRequest, own: Session, act: (unit: LogicalUnit) => Session[]): Managed {
  const nexus = own.tasks.nexusOf(request.lun);
  if (nexus === undefined) return { response: TASK_RESPONSE.noSuchLun, affected: [] };
  own.cancelHeld(request.lun, request.cmdSn);
  return { response: TASK_RESPONSE.complete, affected: act(nexus.unit) };
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

/** LOGICAL UNIT RESET (SAM-5 6.3.3) of each unit. */
function resetUnits(units: readonly LogicalUnit[], sessions: Session[]): Session[] {
  for (const session of sessions) session.tasks.abort((task) => units.includes(task.nexus.unit));
  for (const unit of units) unit.reset();
  return sessions;
}
