import type { VolumeReport } from './admin/gateway-api.ts';
import { FarshoreError } from './base/errors.ts';
import { formatSize } from './base/size.ts';
import { MIB, type ByteCount } from './base/units.ts';
import type { VersionLog } from './cloud/version-log.ts';
import type { ServedVolume } from './served-volume.ts';
import { unlessFenced } from './volume-lookup.ts';

/** Below it a file system's own tables would not fit. */
const MIN_QUOTA: ByteCount = MIB;

/** Throws `input` for a quota that can't be. */
export function checkQuota(bytes: ByteCount): void {
  if (bytes < MIN_QUOTA) throw new FarshoreError('input', `a quota has at least ${formatSize(MIN_QUOTA)}`);
}

/** What of an image is not in the cloud yet is in no count. */
export function notStored(): FarshoreError {
  return new FarshoreError('input', 'a volume with an image on site has no quota: the image bounds it');
}

/**
 * `volume quota`: the most bytes that the volume may have mapped; undefined: as many as there are. In the table first, so that it is in force after
 * every later start, here or elsewhere. Rejects with `input`, `fenced`, and with `retry` when the outcome is not known: the table may have it then, and the volume
 * has it after its next start, or when the command was repeated.
 */
export async function changeQuota(
  table: VersionLog,
  served: ServedVolume,
  bytes: ByteCount | undefined,
): Promise<VolumeReport> {
  if (bytes !== undefined) checkQuota(bytes);
  const volume = served.serving();
  if ((await volume.status()).stored !== undefined) throw notStored();
  const change = table.changeVolume(volume.item, volume.epoch, { quotaBytes: bytes ?? null });
  await unlessFenced(change, served.entry.name);
  await volume.setQuota(bytes);
  return served.report();
}
