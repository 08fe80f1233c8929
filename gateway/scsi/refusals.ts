import type { Lba, SectorCount } from '../base/units.ts';
import { MAX_COMPARE_AND_WRITE_SECTORS, maxAtomicSectors } from './atomic-writes.ts';
import { maxWriteSameSectors } from './limits.ts';
import type { UnitNexus } from './logical-unit.ts';
import { STATUS } from './constants.ts';
import { plainStatus } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, invalidCdbField } from './sense.ts';
import { changesMedium, needsMedium } from './traits.ts';
import type { UnitCommand } from './traits.ts';

/**
 * Everything that can be wrong with a command before its data is known: the answer, or undefined when it may run.
 * A command that has passed may still find the device smaller when it comes to its blocks (`volume resize --force`): the device refuses it then.
 */
export function refuse(nexus: UnitNexus, command: UnitCommand): ScsiResult | undefined {
  const { media } = nexus.unit;
  const refused = refuseNow(nexus, command);
  if (refused !== undefined) return refused;
  if (!media.isLoaded && isAboutMedium(command)) return checkCondition(SENSE.mediumNotPresent);
  if (!media.isStarted && needsMedium(command)) return checkCondition(SENSE.initializingCommandRequired);
  switch (command.kind) {
    case 'read':
    case 'write':
    case 'verify':
    case 'write-and-verify':
    case 'or-write':
      return refuseExtent(nexus, command) ?? refuseTooLong(nexus, command);
    case 'prefetch':
    case 'synchronize-cache':
    case 'get-lba-status':
      return refuseExtent(nexus, command);
    case 'write-same':
      return refuseExtent(nexus, command) ?? refuseWriteSame(nexus, command);
    case 'compare-and-write':
      return refuseExtent(nexus, command) ?? refuseMoreThan(command, MAX_COMPARE_AND_WRITE_SECTORS, 13);
    case 'write-atomic':
      return refuseExtent(nexus, command) ?? refuseMoreThan(command, maxAtomicSectors(nexus.unit.device), 12);
    default:
      return undefined;
  }
}

/** What cannot be answered while the medium is ejected: its size and its cache too. */
function isAboutMedium(command: UnitCommand): boolean {
  switch (command.kind) {
    case 'read-capacity-10':
    case 'read-capacity-16':
    case 'synchronize-cache':
      return true;
    default:
      return needsMedium(command);
  }
}

/**
 * What can become wrong with a command while it waits for its data or for other commands: another initiator has reserved
 * the unit (SPC-4 5.13.1: checked when processing begins), or the medium may not be written any more.
 */
export function refuseNow(nexus: UnitNexus, command: UnitCommand): ScsiResult | undefined {
  const { unit } = nexus;
  // Nobody knows who has reserved it.
  if (unit.document.isDamaged && !isAboutIdentity(command)) return checkCondition(SENSE.manualInterventionRequired);
  const sanitizing = unit.sanitizer.refusal(command);
  if (sanitizing !== undefined) return checkCondition(sanitizing);
  if (unit.reservations.refuses(nexus, command)) return RESERVATION_CONFLICT;
  return nexus.readOnly || unit.media.mode.softwareWriteProtect ? refuseChange(nexus, command) : undefined;
}

const RESERVATION_CONFLICT = plainStatus(STATUS.reservationConflict);

function isAboutIdentity(command: UnitCommand): boolean {
  return command.kind === 'inquiry' || command.kind === 'request-sense';
}

/**
 * Write protection, by the initiator's mapping or by SWP (SBC-3). An initiator that may only read may not stop the unit
 * or change mode parameters for the others either. A copy is refused by the unit it writes to, not by the one that manages it.
 */
function refuseChange(nexus: UnitNexus, command: UnitCommand): ScsiResult | undefined {
  const isChange = changesMedium(command) && command.kind !== 'extended-copy';
  if (nexus.readOnly) {
    return isChange || disturbsOthers(command) ? checkCondition(SENSE.writeProtected) : undefined;
  }
  return isChange ? checkCondition(SENSE.softwareWriteProtected) : undefined;
}

/** May not be done by who may only read: it takes something from those who may write. It may register, to be let read. */
function disturbsOthers(command: UnitCommand): boolean {
  switch (command.kind) {
    case 'mode-select':
    case 'reserve':
      return true;
    case 'start-stop':
      return !command.start;
    case 'persistent-reserve-out':
      return command.action !== 'register' && command.action !== 'register-and-ignore' && command.action !== 'release';
    default:
      return false;
  }
}

interface Extent {
  readonly lba: Lba;
  readonly sectors: SectorCount;
}

/** LOGICAL BLOCK ADDRESS OUT OF RANGE (SBC-3): an extent of no blocks may begin at the very end. */
function refuseExtent(nexus: UnitNexus, { lba, sectors }: Extent): ScsiResult | undefined {
  const end = nexus.unit.geometry().sectors;
  return lba > end || lba + sectors > end ? checkCondition(SENSE.lbaOutOfRange) : undefined;
}

/** Longer than MAXIMUM TRANSFER LENGTH of VPD B0h (SBC-3). */
function refuseTooLong(nexus: UnitNexus, { sectors }: Extent): ScsiResult | undefined {
  const { device } = nexus.unit;
  return sectors * device.geometry().sectorSize > device.limits.maxTransferBytes
    ? checkCondition(SENSE.invalidFieldInCdb)
    : undefined;
}

/** Longer than VPD B0h says, or of no length: WSNZ there says that 0 does not mean "to the end". */
function refuseWriteSame(nexus: UnitNexus, { sectors }: Extent): ScsiResult | undefined {
  const most = maxWriteSameSectors(nexus.unit.device.geometry().sectorSize);
  return sectors === 0 || sectors > most ? checkCondition(SENSE.invalidFieldInCdb) : undefined;
}

/** Longer than VPD B0h says for the command; `byte` is where the CDB has its length. */
function refuseMoreThan({ sectors }: Extent, most: SectorCount, byte: number): ScsiResult | undefined {
  return sectors > most ? invalidCdbField(byte, 7) : undefined;
}
