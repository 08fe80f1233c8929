import { decodeCdb } from './cdb.ts';
import type { BadCdb, Command } from './cdb.ts';
import { OPCODE, STATUS } from './constants.ts';
import { withDescriptors } from './dispatch.ts';
import { inquiryOfUnmapped } from './inquiry.ts';
import type { UnitNexus } from './logical-unit.ts';
import { refuse } from './refusals.ts';
import { reportLuns } from './report-luns.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, descriptorSense, fixedSense, invalidCdbField } from './sense.ts';
import type { UnitCommand } from './traits.ts';

/** A command is either answered at once, or may run when its data is there. */
export type Admission =
  | { readonly kind: 'answer'; readonly result: ScsiResult }
  | { readonly kind: 'run'; readonly nexus: UnitNexus; readonly command: UnitCommand };

/**
 * Decides on a command the moment it arrives. `nexus` is undefined when nothing is mapped to its LUN; `lun` is -1
 * when the field named no possible one. `luns` are the target's mapped LUNs.
 */
export function admit(nexus: UnitNexus | undefined, lun: number, luns: () => Iterable<number>, cdb: Buffer): Admission {
  const command = decodeCdb(cdb);
  if (nexus === undefined) return answer(withoutUnit(lun, luns, command));
  // INQUIRY, REPORT LUNS and REQUEST SENSE run while a unit attention is pending (SAM-5 5.14.7).
  switch (command.kind) {
    case 'inquiry':
    case 'request-sense':
      return { kind: 'run', nexus, command };
    case 'report-luns': {
      const result = reportLuns(luns(), command);
      if (result.status === STATUS.good) nexus.lunsTold();
      return answer(result);
    }
    default:
      break;
  }
  nexus.unit.geometry(); // notices a changed capacity before the command relies on it
  if (nexus.hasAttention) {
    const attention = nexus.takeAttention();
    if (attention !== undefined) return answerFrom(nexus, checkCondition(attention));
  }
  if (isBad(command)) return answerFrom(nexus, badCdb(command));
  const refused = refuse(nexus, command);
  return refused === undefined ? { kind: 'run', nexus, command } : answerFrom(nexus, refused);
}

/** Whether the answer tells what LUNs there are: no nexus of the same session need say then that they have changed. */
export function tellsLuns(cdb: Buffer, { status }: ScsiResult): boolean {
  return cdb[0] === OPCODE.reportLuns && status === STATUS.good;
}

/** What a LUN without a logical unit answers (SPC-4 6.6.1, 6.33, 6.39). */
function withoutUnit(lun: number, luns: () => Iterable<number>, command: Command | BadCdb): ScsiResult {
  switch (command.kind) {
    case 'inquiry':
      return inquiryOfUnmapped(command);
    case 'report-luns':
      return lun === 0 ? reportLuns(luns(), command) : checkCondition(SENSE.lunNotSupported);
    case 'request-sense':
      return parameterData(
        command.descriptor ? descriptorSense(SENSE.lunNotSupported) : fixedSense(SENSE.lunNotSupported),
        command.allocationLength,
      );
    default:
      return checkCondition(SENSE.lunNotSupported);
  }
}

function answer(result: ScsiResult): Admission {
  return { kind: 'answer', result };
}

/** Sense data has the format that the unit's mode parameters ask for. */
function answerFrom(nexus: UnitNexus, result: ScsiResult): Admission {
  return answer(nexus.unit.media.mode.descriptorSense ? withDescriptors(result) : result);
}

function isBad(command: Command | BadCdb): command is BadCdb {
  return command.kind === 'unknown-opcode' || command.kind === 'invalid-field';
}

function badCdb(bad: BadCdb): ScsiResult {
  return bad.kind === 'unknown-opcode' ? checkCondition(SENSE.invalidOpcode) : invalidCdbField(bad.byte, bad.bit);
}
