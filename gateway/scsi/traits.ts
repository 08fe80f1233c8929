import type { ByteCount } from '../base/units.ts';
import type { Command } from './cdb.ts';
import { coarse } from './extent-lock.ts';
import type { Access, Extent } from './extent-lock.ts';
import { INTERNAL_CHUNK_BYTES, MAX_PARAMETER_BYTES } from './limits.ts';
import type { UnitNexus } from './logical-unit.ts';
import { unmapRanges } from './provisioning.ts';

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
 * How many bytes of medium data the command has in memory or in the device at a time, when the initiator takes `announcedBytes`;
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
    case 'write-and-verify': {
      const piece = Math.min(command.sectors * nexus.unit.device.geometry().sectorSize, INTERNAL_CHUNK_BYTES);
      return command.byteCheck === 'none' ? piece : 2 * piece; // what is there, and what should be
    }
    case 'write-same':
      return Math.min(command.sectors * nexus.unit.device.geometry().sectorSize, INTERNAL_CHUNK_BYTES);
    case 'prefetch':
    case 'extended-copy':
      return INTERNAL_CHUNK_BYTES;
    default:
      return 0;
  }
}

/** Whether the command goes through the medium in pieces, much longer than its initiator has to send for it. */
export function worksInPieces(command: UnitCommand): boolean {
  switch (command.kind) {
    case 'verify':
    case 'write-same':
    case 'prefetch':
    case 'extended-copy':
      return true;
    default:
      return false;
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
 * How the command touches the medium as far as others are concerned: with a claim of that kind on its extents from its beginning to its
 * end; `counted`: it is short, and has a claim only while one that is atomic is about. Undefined: not at all, or it takes its
 * claims itself while it runs, or (PRE-FETCH) nothing depends on what it reads.
 */
export function accessOf(command: UnitCommand): Access | 'counted' | undefined {
  switch (command.kind) {
    case 'read':
    case 'write':
      return 'counted';
    case 'verify':
    case 'write-same':
    case 'unmap':
      return 'shared';
    case 'write-and-verify':
      return command.byteCheck === 'none' ? 'shared' : 'exclusive';
    case 'compare-and-write':
    case 'or-write':
    case 'write-atomic':
      return 'exclusive';
    default:
      return undefined;
  }
}

/** The extents of a command that has an access; those of UNMAP are in its data. */
export function extentsOf(command: UnitCommand, data: readonly Buffer[]): Extent[] {
  if (command.kind === 'unmap') {
    return coarse(unmapRanges(Buffer.concat(data)).map(({ lba, sectors }) => ({ first: lba, end: lba + sectors })));
  }
  return 'lba' in command ? [{ first: command.lba, end: command.lba + command.sectors }] : [];
}
