import type { StartStop } from './cdb.ts';
import type { UnitNexus } from './logical-unit.ts';
import { synchronizeCache } from './medium.ts';
import { GOOD, type ScsiResult } from './result.ts';
import { invalidCdbField } from './sense.ts';

/**
 * START STOP UNIT (SBC-3). A stopped unit answers commands that need the medium with INITIALIZING COMMAND REQUIRED until
 * somebody starts it; what the cache holds reaches stable storage first. There are no other power conditions to go to, and the
 * medium cannot be loaded or ejected.
 */
export async function startStop(nexus: UnitNexus, command: StartStop): Promise<ScsiResult> {
  if (command.powerCondition !== 0) return GOOD; // START and LOEJ are ignored then
  if (command.eject) return invalidCdbField(4, 1);
  const { device, media } = nexus.unit;
  if (!command.start && !command.noFlush) {
    const flushed = await synchronizeCache(device);
    if (flushed !== GOOD) return flushed;
  }
  media.isStarted = command.start;
  return GOOD;
}
