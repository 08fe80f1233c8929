import { isKind } from '../gateway/base/errors.ts';
import type { FoldResult } from '../gateway/maintenance/fold.ts';
import { foldVolume } from '../gateway/maintenance/fold.ts';
import type { MaintenanceDeps } from '../gateway/maintenance/maintenance-deps.ts';
import { makeMaintenance } from './support/maintenance.ts';
import { parseVolumeRef } from './support/volume-event.ts';

/** What the handler answers with; `skipped` when another maintainer is folding the volume. */
export type FoldAnswer =
  | (Pick<FoldResult, 'n' | 'versionsFolded' | 'shardsRewritten' | 'runs'> & { readonly skipped: false })
  | { readonly skipped: true };

/** Made by the first invocation and kept for those that find the process warm. */
let maintenance: Promise<MaintenanceDeps> | undefined;

/** Folds the log of the volume that the event names: `{ "lineage": …, "volume": … }`. Other failures are the invocation's: Lambda retries it. */
export async function handler(event: unknown): Promise<FoldAnswer> {
  const ref = parseVolumeRef(event);
  maintenance ??= makeMaintenance();
  let deps: MaintenanceDeps;
  try {
    deps = await maintenance;
  } catch (error) {
    // A process that stays warm must not stay broken.
    maintenance = undefined;
    throw error;
  }
  try {
    const { n, versionsFolded, shardsRewritten, runs } = await foldVolume(deps, ref);
    return { skipped: false, n, versionsFolded, shardsRewritten, runs };
  } catch (error) {
    if (!isKind(error, 'busy')) throw error;
    deps.log.info({ ...ref }, error.message);
    return { skipped: true };
  }
}
