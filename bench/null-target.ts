/** The gateway's protocol half with nothing behind it: what iSCSI and SCSI alone cost. Prints its port. `null-target.js BYTES` */
import type {
  BlockDevice,
  DeviceGeometry,
  DeviceIdentity,
  DeviceLimits,
  Provisioning,
} from '../gateway/base/block-device.ts';
import { systemClock, systemRandom } from '../gateway/base/clock.ts';
import { silentLog } from '../gateway/base/log.ts';
import { MIB } from '../gateway/base/units.ts';
import { IscsiTargetServer } from '../gateway/iscsi/server.ts';
import { DEFAULT_ISCSI_SETTINGS } from '../gateway/iscsi/settings.ts';

const SECTOR_BYTES = 512;
const MAX_TRANSFER_BYTES = 16 * MIB;
const NULL_TARGET = 'iqn.2026-11.dev.farshore:null';

/** Reads zeros, forgets what is written, and answers in the same turn. */
class NullDevice implements BlockDevice {
  readonly identity: DeviceIdentity;
  readonly limits: DeviceLimits = { maxTransferBytes: MAX_TRANSFER_BYTES, maxUnmapRanges: 256, maxAtomicBytes: MIB };
  private readonly zeros = Buffer.alloc(MAX_TRANSFER_BYTES);
  private readonly sectors: number;

  constructor(bytes: number) {
    this.sectors = bytes / SECTOR_BYTES;
    const naa = Buffer.alloc(16);
    naa[0] = 0x60;
    this.identity = { name: 'null', naa, serial: 'null', removable: false };
  }

  geometry(): DeviceGeometry {
    return { sectorSize: SECTOR_BYTES, sectors: this.sectors };
  }

  read(_lba: number, sectors: number): readonly Buffer[] {
    return [this.zeros.subarray(0, sectors * SECTOR_BYTES)];
  }

  write(): undefined {
    return undefined;
  }

  flush(): undefined {
    return undefined;
  }

  unmap(): undefined {
    return undefined;
  }

  provisioning(_lba: number, sectors: number): Provisioning {
    return { mapped: true, sectors };
  }
}

const luns = new Map([[0, { device: new NullDevice(Number(process.argv[2])), readOnly: false, state: undefined }]]);
const target = { name: NULL_TARGET, luns: () => luns };
const server = new IscsiTargetServer({
  log: silentLog,
  clock: systemClock,
  random: systemRandom,
  targets: {
    authorize: (name) => (name === target.name ? { kind: 'allowed', target, chap: undefined } : { kind: 'not-found' }),
    discover: () => [target],
    discoveryChap: () => undefined,
    onEvent: () => undefined,
  },
  settings: DEFAULT_ISCSI_SETTINGS,
});
const [portal] = await server.listen([{ host: '127.0.0.1', port: 0 }]);
console.log(`listening on ${portal?.port ?? 0}`);
