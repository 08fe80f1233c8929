import { SENSE } from '../scsi/sense.ts';
import type { LogicalUnit } from '../scsi/logical-unit.ts';
import { TASK_FUNCTION, TASK_RESPONSE } from './constants.ts';
import type { TaskManagementRequest } from './requests.ts';
import type { Session } from './session.ts';

/** ESXi takes "task does not exist" for a fault when the task has just finished. */
const WANTS_COMPLETE_FOR_FINISHED_TASKS = 'iqn.1998-01.com.vmware';

/**
 * Task management functions (RFC 7143 11.5, 11.6; SAM-5 7). Resolves with the response when no aborted command can
 * change a medium any more. `sessions` are all sessions of the server, the asking one included.
 */
export async function manageTasks(
  request: TaskManagementRequest,
  session: Session,
  sessions: () => Iterable<Session>,
): Promise<number> {
  switch (request.function) {
    case TASK_FUNCTION.abortTask:
      return abortTask(request, session);
    case TASK_FUNCTION.abortTaskSet:
      return onUnit(request, session, async () => {
        session.tasks.abort((task) => task.lun === request.lun);
        await session.tasks.settled();
      });
    case TASK_FUNCTION.clearTaskSet:
      return onUnit(request, session, (unit) => clearTaskSet(unit, session, sessions));
    case TASK_FUNCTION.logicalUnitReset:
      return onUnit(request, session, (unit) => resetUnits([unit], sessions));
    case TASK_FUNCTION.targetWarmReset:
    case TASK_FUNCTION.targetColdReset:
      await resetUnits([...session.tasks.allUnits()], sessions);
      return TASK_RESPONSE.complete;
    case TASK_FUNCTION.taskReassign:
      return TASK_RESPONSE.reassignNotSupported;
    default:
      return TASK_RESPONSE.notSupported;
  }
}

async function abortTask(request: TaskManagementRequest, session: Session): Promise<number> {
  const tag = request.referencedTaskTag;
  const found = session.tasks.abort((task) => task.initiatorTaskTag === tag);
  if (found > 0) {
    await session.tasks.settled();
    return TASK_RESPONSE.complete;
  }
  if (session.cancelUnseen(request.refCmdSn, request.cmdSn)) return TASK_RESPONSE.complete;
  return session.identity.initiatorName.startsWith(WANTS_COMPLETE_FOR_FINISHED_TASKS)
    ? TASK_RESPONSE.complete
    : TASK_RESPONSE.noSuchTask;
}

async function onUnit(
  request: TaskManagementRequest,
  session: Session,
  act: (unit: LogicalUnit) => Promise<void>,
): Promise<number> {
  const nexus = session.tasks.nexusOf(request.lun);
  if (nexus === undefined) return TASK_RESPONSE.noSuchLun;
  await act(nexus.unit);
  return TASK_RESPONSE.complete;
}

/** Ends the commands of every session in the unit; the other initiators are told (SAM-5 7.5). */
async function clearTaskSet(unit: LogicalUnit, own: Session, sessions: () => Iterable<Session>): Promise<void> {
  const affected = [...sessions()];
  for (const session of affected) {
    const count = session.tasks.abort((task) => task.nexus.unit === unit);
    if (count === 0 || session === own) continue;
    for (const nexus of session.tasks.nexuses()) if (nexus.unit === unit) nexus.raise(SENSE.commandsCleared);
  }
  await Promise.all(affected.map((session) => session.tasks.settled()));
}

/** LOGICAL UNIT RESET (SAM-5 6.3.3) of each unit. */
async function resetUnits(units: readonly LogicalUnit[], sessions: () => Iterable<Session>): Promise<void> {
  const affected = [...sessions()];
  for (const session of affected) session.tasks.abort((task) => units.includes(task.nexus.unit));
  await Promise.all(affected.map((session) => session.tasks.settled()));
  for (const unit of units) unit.reset();
}
