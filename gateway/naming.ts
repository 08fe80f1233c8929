import type { Random } from './base/clock.ts';
import { FarshoreError } from './base/errors.ts';
import { BLOCK_SIZE, MAX_VOLUME_BYTES, MIB, type ByteCount } from './base/units.ts';

const MIN_VOLUME_BYTES = MIB;
/** RFC 7143 4.2.7.2: an iSCSI name has at most 223 bytes. */
const MAX_TARGET_NAME_BYTES = 223;
/**
 * NAA 6 (IEEE Registered Extended, SPC-4 7.8.6.6.5) needs a company id. Farshore has none from the IEEE, so it uses one with the
 * locally-administered bit set, which no company is ever assigned.
 */
const LOCAL_COMPANY_ID = 0xfaf540;

/** A fresh designator: 4 bits NAA 6, 24 bits company id, 100 random bits. */
export function newNaa(random: Random): Buffer {
  const naa = random.bytes(16);
  naa[0] = 0x60 | (LOCAL_COMPANY_ID >>> 20);
  naa.writeUInt16BE((LOCAL_COMPANY_ID >>> 4) & 0xffff, 1);
  naa[3] = ((LOCAL_COMPANY_ID & 0xf) << 4) | ((naa[3] ?? 0) & 0xf);
  return naa;
}

/** Every volume has its default target: the gateway's name with the volume's behind it. */
export function defaultTarget(iqn: string, volume: string): string {
  const target = `${iqn}:${volume}`;
  if (Buffer.byteLength(target) > MAX_TARGET_NAME_BYTES) {
    throw new FarshoreError(
      'input',
      `the target name ${target} would be longer than ${MAX_TARGET_NAME_BYTES} bytes; choose a shorter volume name`,
    );
  }
  return target;
}

/** Whole blocks, from 1 MiB to 64 TiB. */
export function checkVolumeSize(bytes: ByteCount): void {
  if (bytes % BLOCK_SIZE !== 0)
    throw new FarshoreError('input', `a volume's size is a multiple of ${BLOCK_SIZE} bytes; ${bytes} is not`);
  if (bytes < MIN_VOLUME_BYTES || bytes > MAX_VOLUME_BYTES) {
    throw new FarshoreError('input', `a volume has from 1M to 64T; ${bytes} bytes is outside`);
  }
}
