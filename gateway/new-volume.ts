import type { ArgumentsOf } from './admin/gateway-api.ts';
import type { Clock, Random } from './base/clock.ts';
import { FarshoreError } from './base/errors.ts';
import type { ByteCount } from './base/units.ts';
import type { VolumeItem } from './cloud/version-log.ts';
import type { Settings } from './config.ts';
import { checkQuota, notStored } from './change-quota.ts';
import { checkVolumeSize, defaultTarget, newNaa } from './naming.ts';

export interface NewVolumeDeps {
  readonly settings: Pick<Settings, 'iqn'>;
  readonly clock: Clock;
  readonly random: Random;
  /** Whether a target made by hand has this name already. */
  readonly targets: { isTaken(targetName: string): boolean };
}

/** The item of a volume that is about to be created, a lineage of its own. Throws `input` or `in-use` for what cannot be had. */
export function newVolumeItem(
  { settings, clock, random, targets }: NewVolumeDeps,
  {
    name,
    bytes,
    quotaBytes,
    stored,
    sectorSize,
    physicalSize,
    removable,
    replication,
    onRemoteLoss,
  }: ArgumentsOf<'volume-create'> & { readonly bytes: ByteCount },
): VolumeItem {
  if (physicalSize !== undefined && physicalSize < sectorSize)
    throw new FarshoreError('input', 'a disk with physical blocks of 512 bytes has sectors of 512 bytes: --sector 512');
  checkVolumeSize(bytes);
  if (quotaBytes !== undefined) {
    if (stored !== undefined) throw notStored();
    checkQuota(quotaBytes);
  }
  const targetName = defaultTarget(settings.iqn, name);
  if (targets.isTaken(targetName)) {
    throw new FarshoreError(
      'in-use',
      `there is a target ${targetName} already; choose another name for the volume, or first: farshore target delete ${targetName}`,
    );
  }
  const volume = random.bytes(8).toString('hex');
  return {
    lineage: volume,
    volume,
    name,
    bytes,
    sectorSize,
    ...(physicalSize === undefined ? {} : { physicalSize }),
    ...(removable === undefined ? {} : { removable }),
    ...(quotaBytes === undefined ? {} : { quotaBytes }),
    replication,
    ...(onRemoteLoss === undefined ? {} : { onRemoteLoss }),
    targetName,
    naa: newNaa(random),
    createdAt: clock.now(),
    epoch: 0,
    owner: '',
    floor: 0,
    checkpoint: undefined,
    maintenanceEpoch: 0,
    retainedFrom: 0,
    deletedAt: undefined,
  };
}
