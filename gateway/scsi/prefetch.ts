import type { BlockDevice } from '../base/block-device.ts';
import { FarshoreError } from '../base/errors.ts';
import { MIB } from '../base/units.ts';
import type { ByteCount, Lba, SectorCount } from '../base/units.ts';
import { ABORTED, isAborted } from './command-life.ts';
import type { CommandLife } from './command-life.ts';
import { INTERNAL_CHUNK_BYTES } from './limits.ts';
import { GOOD } from './result.ts';
import type { ScsiResult } from './result.ts';
import type { UnitMedia } from './unit-media.ts';

/** A hint is not worth more of the line to the cloud than this at a time. */
const MAX_PREFETCH_BYTES: ByteCount = 16 * MIB;

/**
 * PRE-FETCH (10), (16): SBC-3. Reads the extent, which brings what is not there into the cache; with IMMED in the
 * background, one at a time. GOOD, not CONDITION MET: what the cache keeps is its own affair.
 */
export async function prefetch(
  device: BlockDevice,
  media: UnitMedia,
  command: { readonly lba: Lba; readonly sectors: SectorCount; readonly immediate: boolean },
  life: CommandLife,
): Promise<ScsiResult> {
  if (media.isPrefetching) return GOOD;
  media.isPrefetching = true;
  const done = readAhead(device, command, life).finally(() => {
    media.isPrefetching = false;
  });
  if (!command.immediate) await done;
  return isAborted(life) ? ABORTED : GOOD;
}

async function readAhead(
  device: BlockDevice,
  command: { lba: Lba; sectors: SectorCount },
  life: CommandLife,
): Promise<void> {
  const { sectorSize, sectors: end } = device.geometry();
  const toTheEnd = command.sectors === 0 ? end : command.lba + command.sectors; // 0: to the end
  const stop = Math.min(toTheEnd, command.lba + MAX_PREFETCH_BYTES / sectorSize);
  const chunk = INTERNAL_CHUNK_BYTES / sectorSize;
  try {
    for (let at = command.lba; at < stop && !isAborted(life); at += chunk) {
      await device.read(at, Math.min(chunk, stop - at));
    }
  } catch (error) {
    // A hint has no failures; whoever needs the blocks is told when reading them. A broken invariant is no such thing.
    if (!(error instanceof FarshoreError) || error.kind === 'bug') throw error;
  }
}
