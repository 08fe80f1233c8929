import type {
  BlockDevice,
  DeviceGeometry,
  DeviceIdentity,
  DeviceLimits,
  Provisioning,
} from '../../gateway/base/block-device.ts';
import type { ByteCount, Lba, SectorCount } from '../../gateway/base/units.ts';
import { KIB, MIB } from '../../gateway/base/units.ts';
import { REFERENCED_PIECE_BYTES } from '../../gateway/iscsi/sender.ts';

/** Reads give views of this; long enough for the longest piece. */
const ZEROS = Buffer.alloc(256 * KIB);

/** A BlockDevice without storage: reads give zeros, writes are dropped, all in the same turn. What is left is the cost of the front end. */
export class NullDevice implements BlockDevice {
  readonly identity: DeviceIdentity;
  readonly limits: DeviceLimits = { maxTransferBytes: 8 * MIB, maxUnmapRanges: 256, maxAtomicBytes: MIB };
  readonly #geometry: DeviceGeometry;

  constructor(options: { readonly bytes: ByteCount; readonly sectorSize?: 512 | 4096; readonly name?: string }) {
    const { bytes, sectorSize = 512, name = 'null' } = options;
    this.#geometry = { sectorSize, sectors: bytes / sectorSize };
    const naa = Buffer.alloc(16);
    naa[0] = 0x60;
    naa.write(name.slice(0, 15), 1, 'latin1');
    this.identity = { name, naa, serial: `null-${name}` };
  }

  geometry(): DeviceGeometry {
    return this.#geometry;
  }

  read(_lba: Lba, sectors: SectorCount): readonly Buffer[] {
    const pieces: Buffer[] = [];
    for (let left = sectors * this.#geometry.sectorSize; left > 0; left -= ZEROS.length)
      pieces.push(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
    return pieces;
  }

  readInto(_lba: Lba, sectors: SectorCount, into: Buffer, at: number): boolean {
    const bytes = sectors * this.#geometry.sectorSize;
    if (bytes >= REFERENCED_PIECE_BYTES) return false; // `read` costs less: it is sent without a copy
    into.fill(0, at, at + bytes);
    return true;
  }

  write(): void {
    return undefined;
  }

  gatherWrite(): boolean {
    return true;
  }

  logGathered(): void {
    return undefined;
  }

  flush(): void {
    return undefined;
  }

  unmap(): void {
    return undefined;
  }

  provisioning(_lba: Lba, sectors: SectorCount): Provisioning {
    return { mapped: false, sectors };
  }
}
