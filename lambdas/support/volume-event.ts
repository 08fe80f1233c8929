import { FarshoreError } from '../../gateway/base/errors.ts';
import type { VolumeRef } from '../../gateway/cloud/version-log.ts';
import { ID_PATTERN } from '../../gateway/format/ids.ts';

/** The volume an event is about; `input` when it names none. */
export function parseVolumeRef(event: unknown): VolumeRef {
  const { lineage, volume } = typeof event === 'object' && event !== null ? (event as Partial<VolumeRef>) : {};
  const valid = [lineage, volume].every((id) => typeof id === 'string' && ID_PATTERN.test(id));
  if (!valid || lineage === undefined || volume === undefined) {
    throw new FarshoreError('input', 'the event must be { "lineage": "…", "volume": "…" }.');
  }
  return { lineage, volume };
}
