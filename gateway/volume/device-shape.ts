import type { DeviceGeometry, DeviceIdentity, DeviceLimits } from '../base/block-device.ts';
import { BLOCK_SIZE, MIB, type ByteCount } from '../base/units.ts';
import type { VolumeItem } from '../cloud/version-log.ts';
import { OP_BYTES } from './write-path.ts';

/** Of every volume. */
export const VOLUME_LIMITS: DeviceLimits = {
  maxTransferBytes: 8 * MIB,
  maxUnmapRanges: 4096,
  maxAtomicBytes: OP_BYTES,
};

export function geometryOf({ sectorSize, physicalSize }: VolumeItem, bytes: ByteCount): DeviceGeometry {
  return { sectorSize, sectors: Math.floor(bytes / sectorSize), physicalSize: physicalSize ?? BLOCK_SIZE };
}

/** `history`: see DeviceIdentity. */
export function identityOf({ name, naa, removable }: VolumeItem, history: string): DeviceIdentity {
  return { name, naa, serial: naa.toString('hex'), removable: removable === true, history };
}
