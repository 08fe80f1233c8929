import type { MaybePromise } from '../base/block-device.ts';
import type { ByteCount } from '../base/units.ts';
import { readCapacity10, readCapacity16 } from './capacity.ts';
import type { Command } from './cdb.ts';
import { inquiry } from './inquiry.ts';
import { INTERNAL_CHUNK_BYTES, MAX_PARAMETER_BYTES, maxWriteSameSectors } from './limits.ts';
import type { UnitNexus } from './logical-unit.ts';
import { prefetch, read, synchronizeCache, verify, write, writeAndVerify } from './medium.ts';
import { modeSense } from './mode-sense.ts';
import { getLbaStatus, unmap, writeSame } from './provisioning.ts';
import { GOOD, parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, descriptorSense, fixedSense, invalidCdbField } from './sense.ts';
import { reportSupportedOpcodes, reportTaskManagement } from './supported-commands.ts';

/** Commands about one logical unit; REPORT LUNS is about the target. */
export type UnitCommand = Exclude<Command, { kind: 'report-luns' }>;

/**
 * Everything that can be wrong with a command before its data is known: the answer, or undefined when it may run.
 * A command that has passed stays valid: a device does not shrink while it is served.
 */
export function refuse(nexus: UnitNexus, command: UnitCommand): ScsiResult | undefined {
  switch (command.kind) {
    case 'read':
    case 'write':
    case 'verify':
    case 'write-and-verify':
      return refuseExtent(nexus, command) ?? refuseTooLong(nexus, command);
    case 'prefetch':
    case 'synchronize-cache':
      return refuseExtent(nexus, command);
    case 'get-lba-status':
      return refuseExtent(nexus, command);
    case 'write-same':
      return refuseExtent(nexus, command) ?? refuseWriteSame(nexus, command);
    case 'start-stop':
      return command.eject && command.powerCondition === 0 ? invalidCdbField(4, 1) : undefined;
    default:
      return undefined;
  }
}

interface Extent {
  readonly lba: number;
  readonly sectors: number;
}

function refuseExtent(nexus: UnitNexus, { lba, sectors }: Extent): ScsiResult | undefined {
  const end = nexus.unit.geometry().sectors;
  return lba > end || lba + sectors > end || (lba === end && sectors > 0)
    ? checkCondition(SENSE.lbaOutOfRange)
    : undefined;
}

/** Longer than MAXIMUM TRANSFER LENGTH of VPD B0h (SBC-3 6.5.3). */
function refuseTooLong(nexus: UnitNexus, { sectors }: Extent): ScsiResult | undefined {
  const { device } = nexus.unit;
  return sectors * device.geometry().sectorSize > device.limits.maxTransferBytes
    ? checkCondition(SENSE.invalidFieldInCdb)
    : undefined;
}

function refuseWriteSame(nexus: UnitNexus, { sectors }: Extent): ScsiResult | undefined {
  // WSNZ is 0: a length of 0 means "to the end", which is subject to the same limit.
  return sectors > maxWriteSameSectors(nexus.unit.device.geometry().sectorSize)
    ? checkCondition(SENSE.invalidFieldInCdb)
    : undefined;
}

/** How many bytes the command takes from the initiator. */
export function dataOutBytes(nexus: UnitNexus, command: UnitCommand): ByteCount {
  switch (command.kind) {
    case 'write':
    case 'write-and-verify':
      return command.sectors * nexus.unit.device.geometry().sectorSize;
    case 'verify':
      if (command.byteCheck === 'none' || command.sectors === 0) return 0;
      return (command.byteCheck === 'full' ? command.sectors : 1) * nexus.unit.device.geometry().sectorSize;
    case 'write-same':
      return command.noData ? 0 : nexus.unit.device.geometry().sectorSize;
    case 'unmap':
      return Math.min(command.parameterBytes, MAX_PARAMETER_BYTES);
    default:
      return 0;
  }
}

/**
 * How many bytes of medium data the command has in memory at a time, when the initiator takes `announcedBytes`;
 * parameter data is too small to count.
 */
export function readBytes(nexus: UnitNexus, command: UnitCommand, announcedBytes: ByteCount): ByteCount {
  switch (command.kind) {
    case 'read':
      return Math.min(command.sectors * nexus.unit.device.geometry().sectorSize, announcedBytes);
    case 'verify':
    case 'write-and-verify':
      return Math.min(command.sectors * nexus.unit.device.geometry().sectorSize, INTERNAL_CHUNK_BYTES);
    default:
      return 0;
  }
}

/** Whether the command changes the medium: those must have ended before their nexus may be taken over. */
export function changesMedium(command: UnitCommand): boolean {
  switch (command.kind) {
    case 'write':
    case 'write-and-verify':
    case 'write-same':
    case 'unmap':
      return true;
    default:
      return false;
  }
}

/** Expected data transfer length in either direction. */
export interface Announced {
  readonly in: ByteCount;
  readonly out: ByteCount;
}

/**
 * Runs a command that `refuse` has passed. `data` is what the command takes from the initiator, or less when it announced
 * less. Answered in the same turn where the device can.
 */
export function execute(
  nexus: UnitNexus,
  command: UnitCommand,
  data: readonly Buffer[],
  announced: Announced,
): MaybePromise<ScsiResult> {
  const { device } = nexus.unit;
  switch (command.kind) {
    case 'read':
      return read(device, command, announced.in);
    case 'write':
      return write(device, command, data, announced.out);
    case 'synchronize-cache':
      return synchronizeCache(device);
    case 'test-unit-ready':
    case 'start-stop':
    case 'prevent-allow':
      return GOOD;
    case 'write-and-verify':
      return writeAndVerify(device, command, data, announced.out);
    case 'verify':
      return command.sectors === 0 ? GOOD : verify(device, command, data);
    case 'prefetch':
      return prefetch();
    case 'unmap':
      return unmap(device, Buffer.concat(data));
    case 'write-same':
      return writeSameOf(nexus, command, data, announced.out);
    case 'get-lba-status':
      return getLbaStatus(device, command.lba, command.allocationLength);
    case 'inquiry':
      return inquiry(nexus, command);
    case 'read-capacity-10':
      return readCapacity10(nexus.unit.geometry());
    case 'read-capacity-16':
      return readCapacity16(nexus.unit.geometry(), command.allocationLength);
    case 'mode-sense':
      return modeSense(nexus.unit.geometry(), command);
    case 'request-sense':
      return requestSense(nexus, command);
    case 'report-opcodes':
      return reportSupportedOpcodes(command);
    case 'report-task-management':
      return reportTaskManagement(command);
  }
}

function writeSameOf(
  nexus: UnitNexus,
  command: Extent & { readonly noData: boolean; readonly unmap: boolean },
  data: readonly Buffer[],
  announcedBytes: ByteCount,
): MaybePromise<ScsiResult> {
  const { sectorSize, sectors: end } = nexus.unit.device.geometry();
  if (!command.noData && announcedBytes !== sectorSize) return checkCondition(SENSE.wrongDataLength);
  const sectors = command.sectors === 0 ? end - command.lba : command.sectors;
  if (sectors > maxWriteSameSectors(sectorSize)) return checkCondition(SENSE.invalidFieldInCdb);
  if (sectors === 0) return GOOD;
  const pattern = command.noData ? undefined : Buffer.concat(data);
  return writeSame(nexus.unit.device, { ...command, sectors }, pattern);
}

/** REQUEST SENSE (SPC-4 6.39): a pending unit attention as data, once; otherwise NO SENSE. */
function requestSense(
  nexus: UnitNexus,
  command: { readonly descriptor: boolean; readonly allocationLength: number },
): ScsiResult {
  const sense = nexus.takeAttention() ?? SENSE.none;
  return parameterData(command.descriptor ? descriptorSense(sense) : fixedSense(sense), command.allocationLength);
}
