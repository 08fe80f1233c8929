import { FarshoreError } from '../base/errors.ts';
import type { VersionLog, VolumeItem, VolumeRef } from '../cloud/version-log.ts';

/** A table through which a volume of another owner cannot be taken over while the guard is up. */
export interface GuardedLog {
  readonly versions: VersionLog;
  /** From now on the item is passed on whoever owns it. */
  lower(): void;
}

/**
 * An ordinary start must not take a volume from another gateway, unless that one has released it to this one. Every reading of the volume item during the takeover is checked; the
 * epoch is then raised by compare-and-set on what was read, and the owner never changes without it, so nothing can slip in between.
 * `versions` is a plain object, as the metered log is.
 */
export function guardOwner(versions: VersionLog, gateway: string): GuardedLog {
  let up = true;
  const getVolume = async (ref: VolumeRef): Promise<VolumeItem | undefined> => {
    const item = await versions.getVolume(ref);
    const isReleased = item?.handover?.to === gateway && item.handover.state === 'released';
    if (up && item !== undefined && item.owner !== '' && item.owner !== gateway && !isReleased) {
      throw new FarshoreError(
        'fenced',
        `volume ${item.name} belongs to gateway ${item.owner}; to serve it here, take it over with 'farshore restore ${item.name} --takeover'.`,
      );
    }
    return item;
  };
  return {
    versions: { ...versions, getVolume },
    lower: () => {
      up = false;
    },
  };
}
