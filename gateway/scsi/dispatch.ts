import type { MaybePromise, SectorRange } from '../base/block-device.ts';
import type { ByteCount } from '../base/units.ts';
import { compareAndWrite, orWrite, writeAtomic } from './atomic-writes.ts';
import { readCapacity10, readCapacity16 } from './capacity.ts';
import { ABORTED, isAborted } from './command-life.ts';
import type { CommandLife } from './command-life.ts';
import { readDefectData } from './defect-data.ts';
import type { Access } from './extent-lock.ts';
import { inquiry } from './inquiry.ts';
import { logSense } from './log-sense.ts';
import type { UnitNexus } from './logical-unit.ts';
import { read, synchronizeCache, verify, write, writeAndVerify, writePart } from './medium.ts';
import { modeSelect } from './mode-select.ts';
import { modeSense } from './mode-sense.ts';
import { prefetch } from './prefetch.ts';
import { getLbaStatus, unmap, writeSame } from './provisioning.ts';
import { GOOD, parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, descriptorSense, fixedSense, resultOfError } from './sense.ts';
import { preventAllow, startStop } from './start-stop.ts';
import { reportSupportedOpcodes, reportTaskManagement } from './supported-commands.ts';
import { reportTargetPortGroups } from './target-port-groups.ts';
import { refuseNow } from './refusals.ts';
import { accessOf, extentsOf } from './traits.ts';
import type { UnitCommand } from './traits.ts';
import { extendedCopy } from './xcopy/copy.ts';
import { copyResults } from './xcopy/outcomes.ts';

export type { CommandLife, UnitCommand };

/** Expected data transfer length in either direction. */
export interface Announced {
  readonly in: ByteCount;
  readonly out: ByteCount;
}

/**
 * Runs a command that `refuse` has passed. `data` is what the command takes from the initiator, or less when it announced
 * less. A read or write is answered in the same turn where the device can, unless it has to wait for a command that is atomic.
 */
export function execute(
  nexus: UnitNexus,
  command: UnitCommand,
  data: readonly Buffer[],
  announced: Announced,
  life: CommandLife,
): MaybePromise<ScsiResult> {
  const { media } = nexus.unit;
  const access = endsInsideSector(nexus, command, announced.out) ? 'exclusive' : accessOf(command);
  const isFree = access === undefined || (access === 'counted' && media.extents.letsAllIn);
  const outcome = isFree
    ? run(nexus, command, data, announced, life)
    : executeInTurn(nexus, command, access, data, announced, life);
  return media.mode.descriptorSense ? inDescriptorFormat(outcome) : outcome;
}

/** A write that the initiator announces less data for than it is, and no whole number of sectors. */
function endsInsideSector(nexus: UnitNexus, command: UnitCommand, announcedBytes: ByteCount): boolean {
  if (command.kind !== 'write' || announcedBytes === 0) return false;
  const { sectorSize } = nexus.unit.device.geometry();
  return announcedBytes < command.sectors * sectorSize && announcedBytes % sectorSize !== 0;
}

/** Waits for the commands that must not be interrupted, or must not interrupt this one. */
async function executeInTurn(
  nexus: UnitNexus,
  command: UnitCommand,
  access: Access | 'counted',
  data: readonly Buffer[],
  announced: Announced,
  life: CommandLife,
): Promise<ScsiResult> {
  const { extents } = nexus.unit.media;
  const claimed = extentsOf(command, data);
  if (access === 'counted' && extents.letsIn(claimed)) return run(nexus, command, data, announced, life);
  const early = refuseNow(nexus, command); // it must not wait for the end of a SANITIZE
  if (early !== undefined) return early;
  let release;
  try {
    release = await extents.acquireAll(claimed, access === 'counted' ? 'shared' : access);
  } catch (error) {
    return resultOfError(error);
  }
  try {
    if (isAborted(life)) return ABORTED;
    return await run(nexus, command, data, announced, life);
  } finally {
    release();
  }
}

function inDescriptorFormat(outcome: MaybePromise<ScsiResult>): MaybePromise<ScsiResult> {
  if (outcome instanceof Promise) return outcome.then(withDescriptors);
  return withDescriptors(outcome);
}

/** The result with its sense data, if any, in descriptor format. */
export function withDescriptors(result: ScsiResult): ScsiResult {
  return result.sense === undefined ? result : { ...result, sense: { ...result.sense, inDescriptorFormat: true } };
}

function run(
  nexus: UnitNexus,
  command: UnitCommand,
  data: readonly Buffer[],
  announced: Announced,
  life: CommandLife,
): MaybePromise<ScsiResult> {
  const late = refuseNow(nexus, command); // what it waited for may have taken long
  if (late !== undefined) return late;
  const { device, media } = nexus.unit;
  switch (command.kind) {
    case 'read':
      return read(device, media, command, announced.in);
    case 'write':
      return endsInsideSector(nexus, command, announced.out)
        ? writePart(device, media, command, data)
        : write(device, media, command, data, announced.out);
    case 'synchronize-cache':
      return synchronizeCache(device);
    case 'test-unit-ready':
      return GOOD;
    case 'prevent-allow':
      return preventAllow(nexus, command.prevent);
    case 'start-stop':
      return startStop(nexus, command);
    case 'write-and-verify':
      return writeAndVerify(device, media, command, { data, announcedBytes: announced.out }, life);
    case 'verify':
      return command.sectors === 0 ? GOOD : verify(device, command, data, life);
    case 'compare-and-write':
      return compareAndWrite(device, command, data, announced.out);
    case 'or-write':
      return orWrite(device, command, data, announced.out);
    case 'write-atomic':
      return writeAtomic(device, command, data, announced.out);
    case 'prefetch':
      return prefetch(device, media, command, life);
    case 'unmap':
      return withParameters(command, data, (parameters) => unmap(device, parameters, life));
    case 'write-same':
      return writeSameOf(nexus, command, data, announced.out, life);
    case 'get-lba-status':
      return getLbaStatus(device, command, life);
    case 'inquiry':
      return inquiry(nexus, command);
    case 'read-capacity-10':
      return readCapacity10(nexus.unit.geometry());
    case 'read-capacity-16':
      return readCapacity16(nexus.unit.geometry(), command.allocationLength);
    case 'mode-sense':
      return modeSense(nexus, command);
    case 'mode-select':
      return withParameters(command, data, (parameters) => modeSelect(nexus, command, parameters));
    case 'log-sense':
      return logSense(device, media.counters, command);
    case 'read-defect-data':
      return readDefectData(command);
    case 'request-sense':
      return requestSense(nexus, command);
    case 'report-opcodes':
      return reportSupportedOpcodes(command);
    case 'report-task-management':
      return reportTaskManagement(command);
    case 'persistent-reserve-in':
      return nexus.unit.reservations.in(command);
    case 'persistent-reserve-out':
      return nexus.unit.reservations.out(nexus, command, Buffer.concat(data), life);
    case 'reserve':
      return nexus.unit.reservations.reserve(nexus, life);
    case 'release':
      return nexus.unit.reservations.release(nexus, life);
    case 'report-target-port-groups':
      return reportTargetPortGroups(command);
    case 'extended-copy':
      return withParameters(command, data, (parameters) => extendedCopy(nexus, parameters, life));
    case 'copy-results':
      return copyResults(nexus, command);
    case 'sanitize':
      return withParameters(command, data, (parameters) => nexus.unit.sanitizer.sanitize(command, parameters, life));
  }
}

/** A parameter list that is shorter than its command says is no list (SPC-4). */
function withParameters(
  command: { readonly parameterBytes: ByteCount },
  data: readonly Buffer[],
  act: (parameters: Buffer) => MaybePromise<ScsiResult>,
): MaybePromise<ScsiResult> {
  const parameters = Buffer.concat(data);
  return parameters.length < command.parameterBytes ? checkCondition(SENSE.parameterListLength) : act(parameters);
}

function writeSameOf(
  nexus: UnitNexus,
  command: SectorRange & { readonly noData: boolean },
  data: readonly Buffer[],
  announcedBytes: ByteCount,
  life: CommandLife,
): MaybePromise<ScsiResult> {
  const { device } = nexus.unit;
  if (command.noData) return writeSame(device, command, undefined, life);
  if (announcedBytes !== device.geometry().sectorSize) return checkCondition(SENSE.wrongDataLength);
  return writeSame(device, command, Buffer.concat(data), life);
}

/** REQUEST SENSE (SPC-4): a pending unit attention as data, once; otherwise NO SENSE. What is not given to anybody stays pending. */
function requestSense(
  nexus: UnitNexus,
  command: { readonly descriptor: boolean; readonly allocationLength: number },
): ScsiResult {
  if (command.allocationLength === 0) return GOOD;
  const sense = nexus.takeAttention() ?? nexus.unit.sanitizer.condition ?? SENSE.none;
  return parameterData(command.descriptor ? descriptorSense(sense) : fixedSense(sense), command.allocationLength);
}
