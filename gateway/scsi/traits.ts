import type { ByteCount, Lba } from '../base/units.ts';
import type { Command } from './cdb.ts';
import type { Access } from './extent-lock.ts';
import { INTERNAL_CHUNK_BYTES, MAX_PARAMETER_BYTES } from './limits.ts';
import type { UnitNexus } from './logical-unit.ts';

/** Commands about one logical unit; REPORT LUNS is about the target. */
export type UnitCommand = Exclude<Command, { kind: 'report-luns' }>;

/** How many bytes the command takes from the initiator. */
export function dataOutBytes(nexus: UnitNexus, command: UnitCommand): ByteCount {
  switch (command.kind) {
    case 'write':
    case 'write-and-verify':
    case 'or-write':
    case 'write-atomic':
      return command.sectors * nexus.unit.device.geometry().sectorSize;
    case 'compare-and-write':
      return 2 * command.sectors * nexus.unit.device.geometry().sectorSize;
    case 'verify':
      if (command.byteCheck === 'none' || command.sectors === 0) return 0;
      return (command.byteCheck === 'full' ? command.sectors : 1) * nexus.unit.device.geometry().sectorSize;
    case 'write-same':
      return command.noData ? 0 : nexus.unit.device.geometry().sectorSize;
    case 'unmap':
    case 'mode-select':
    case 'sanitize':
    case 'extended-copy':
    case 'persistent-reserve-out':
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
    case 'compare-and-write':
      return command.sectors * nexus.unit.device.geometry().sectorSize;
    case 'or-write':
      return 2 * command.sectors * nexus.unit.device.geometry().sectorSize;
    case 'verify':
    case 'write-and-verify':
      return Math.min(command.sectors * nexus.unit.device.geometry().sectorSize, INTERNAL_CHUNK_BYTES);
    case 'prefetch':
    case 'extended-copy':
      return INTERNAL_CHUNK_BYTES;
    default:
      return 0;
  }
}

/** Whether the command changes a medium: those must have ended before their nexus may be taken over. */
export function changesMedium(command: UnitCommand): boolean {
  switch (command.kind) {
    case 'write':
    case 'write-and-verify':
    case 'write-same':
    case 'unmap':
    case 'compare-and-write':
    case 'or-write':
    case 'write-atomic':
    case 'extended-copy':
    case 'sanitize':
      return true;
    default:
      return false;
  }
}

/** Whether the command, when aborted while it runs, may still change something that others rely on: they wait for its end. */
export function leavesTraces(command: UnitCommand): boolean {
  return command.kind === 'persistent-reserve-out' || changesMedium(command);
}

/** Whether the command cannot be processed while the unit is stopped (SBC-3): it needs the medium. */
export function needsMedium(command: UnitCommand): boolean {
  switch (command.kind) {
    case 'test-unit-ready':
    case 'read':
    case 'verify':
    case 'prefetch':
    case 'get-lba-status':
      return true;
    default:
      return changesMedium(command);
  }
}

/**
 * How the command touches the medium as far as others are concerned; undefined: not at all, or it takes its claims
 * itself while it runs.
 */
export function accessOf(command: UnitCommand): Access | undefined {
  switch (command.kind) {
    case 'read':
    case 'write':
    case 'verify':
    case 'write-and-verify':
    case 'write-same':
    case 'unmap':
      return 'shared';
    case 'compare-and-write':
    case 'or-write':
    case 'write-atomic':
      return 'exclusive';
    default:
      return undefined;
  }
}

/** The extent of a command that has an access; of UNMAP, whose ranges are in its data, and of "to the end" all of it. */
export function extentOf(command: UnitCommand): { readonly first: Lba; readonly end: Lba } {
  if (!('lba' in command) || command.kind === 'get-lba-status') return { first: 0, end: Infinity };
  const toTheEnd = command.kind === 'write-same' && command.sectors === 0;
  return { first: command.lba, end: toTheEnd ? Infinity : command.lba + command.sectors };
}
