import { STATUS } from './constants.ts';
import { plainStatus } from './result.ts';

/** The life of a command as far as one needs to know that waits or takes long. */
export interface CommandLife {
  /** `aborted`: nobody wants the outcome any more; it must change nothing from now on, and end. */
  readonly state: string;
}

/** What an aborted command ends with. Nobody hears of it. */
export const ABORTED = plainStatus(STATUS.taskAborted);

/** Looked at between the pieces of a command that goes through the device in several. */
export function isAborted(life: CommandLife): boolean {
  return life.state === 'aborted';
}
