import type { VolumeReport } from './admin/gateway-api.ts';
import { FarshoreError } from './base/errors.ts';
import type { ByteCount } from './base/units.ts';
import { flushInTime, type FlushDeps } from './flush-in-time.ts';
import { checkVolumeSize } from './naming.ts';
import type { ServedVolume } from './served-volume.ts';

/**
 * `volume resize`: resolves when the version with the new size is committed. Everything acked is made a version first: while the cloud does not answer
 * nothing is begun that would take effect nobody knows when. Asking for the size it has changes nothing. Rejects with `input` (a size that can't be, or
 * smaller without `force`, or with data beyond the end), `retry` (cloud away: nothing was changed), `busy`, `fenced`, `stopped`.
 */
export async function resizeServed(
  deps: FlushDeps,
  served: ServedVolume,
  bytes: ByteCount,
  force: boolean,
): Promise<VolumeReport> {
  checkVolumeSize(bytes);
  const volume = served.serving();
  const { name } = served.entry;
  const { bytes: before } = await volume.status();
  if (bytes < before && !force) {
    throw new FarshoreError(
      'input',
      `volume ${name} has ${before} bytes now, and ${bytes} are fewer: what a file system or a partition table has beyond them would be cut off. Shrink those first, unmap the rest, then repeat the command with --force`,
    );
  }
  if (bytes !== before) {
    await flushInTime(deps, served.entry, volume, 'resized');
    await volume.resize(bytes);
  }
  return served.report();
}
