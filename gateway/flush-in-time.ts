import type { Clock } from './base/clock.ts';
import { sleep } from './base/clock.ts';
import { FarshoreError } from './base/errors.ts';
import { inTime } from './base/in-time.ts';
import type { VersionNumber } from './base/units.ts';
import type { Progress } from './admin/gateway-api.ts';
import type { CatalogueVolume } from './catalogue.ts';
import type { VolumeTargets } from './target-directory.ts';
import type { VolumeControl } from './volume-control.ts';

export interface FlushDeps {
  readonly clock: Clock;
  readonly targets: VolumeTargets;
}

/** A change gives up when what was acked before it is not in the cloud after this long. */
const FLUSH_WITHIN_MS = 60_000;

/** Resolves when everything acked, and the volume's access control, is in the cloud; rejects with `retry` when it does not get there: the volume was not `changed`. */
export async function flushInTime(
  { clock, targets }: FlushDeps,
  entry: CatalogueVolume,
  volume: Pick<VolumeControl, 'flushRemote'>,
  changed: string,
): Promise<void> {
  const late = (): FarshoreError =>
    new FarshoreError(
      'retry',
      `volume ${entry.name} still has data that is not in the cloud, and it is not getting there; it was not ${changed}. See farshore status, then try again`,
    );
  await inTime(clock, FLUSH_WITHIN_MS, Promise.all([volume.flushRemote(), targets.settled(entry)]), late);
}

const PROGRESS_MS = 250;

/** `flush`: tells how much of what was dirty at the call is in the cloud; with the cloud away that is where it stays. */
export async function flushTelling(
  clock: Clock,
  volume: VolumeControl,
  onProgress: (progress: Progress) => void,
): Promise<{ readonly n: VersionNumber }> {
  const { lagBytes: total } = await volume.status();
  const over = new AbortController();
  const watch = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const { lagBytes } = await volume.status();
      onProgress({ phase: 'replicating', done: Math.max(0, total - lagBytes), total, unit: 'bytes' });
      await sleep(clock, PROGRESS_MS, over.signal);
    }
  };
  // What keeps the status from being told ends the flush too.
  const watching = watch().catch(() => undefined);
  try {
    return await volume.flushRemote();
  } finally {
    over.abort();
    await watching;
  }
}
