import type { StartStop } from './cdb.ts';
import type { UnitNexus } from './logical-unit.ts';
import { synchronizeCache } from './medium.ts';
import { GOOD, type ScsiResult } from './result.ts';
import { SENSE, checkCondition, invalidCdbField } from './sense.ts';

/**
 * START STOP UNIT (SBC-3). A stopped unit answers commands that need the medium with INITIALIZING COMMAND REQUIRED until
 * somebody starts it; what the cache holds reaches stable storage first. There are no other power conditions to go to, and the
 * medium can be loaded and ejected only where the volume says that it is removable.
 */
export async function startStop(nexus: UnitNexus, command: StartStop): Promise<ScsiResult> {
  if (command.powerCondition !== 0) return GOOD; // START and LOEJ are ignored then
  const { device, media } = nexus.unit;
  const isRemovable = device.identity.removable === true;
  if (command.eject && !isRemovable) return invalidCdbField(4, 1);
  if (command.eject && media.preventing.size > 0) return checkCondition(SENSE.mediumRemovalPrevented);
  if (!command.start && !command.noFlush) {
    const flushed = await synchronizeCache(device);
    if (flushed !== GOOD) return flushed;
  }
  // A removable one starts by itself when it is used.
  if (command.eject) media.isLoaded = command.start;
  else if (!isRemovable) media.isStarted = command.start;
  return GOOD;
}

/** PREVENT ALLOW MEDIUM REMOVAL (SBC-3): holds until this nexus allows it again or is lost, or a reset. */
export function preventAllow(nexus: UnitNexus, prevent: boolean): ScsiResult {
  const { device, media } = nexus.unit;
  if (device.identity.removable !== true) return GOOD; // nothing to remove
  if (prevent) media.preventing.add(nexus);
  else media.preventing.delete(nexus);
  return GOOD;
}
