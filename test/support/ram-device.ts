import type {
  BlockDevice,
  DeviceGeometry,
  DeviceIdentity,
  DeviceLimits,
  MaybePromise,
  Provisioning,
  SectorRange,
} from '../../gateway/base/block-device.ts';
import type { ByteCount, Lba, SectorCount } from '../../gateway/base/units.ts';
import { BLOCK_SIZE, MIB } from '../../gateway/base/units.ts';

export interface RamDeviceOptions {
  readonly bytes: ByteCount;
  readonly sectorSize?: 512 | 4096;
  readonly name?: string;
  readonly removable?: boolean;
}

/** Called before each device call takes effect: throw or reject to make it fail, return a promise to delay it. */
export type Intercept = (operation: 'read' | 'write' | 'flush' | 'unmap' | 'provisioning') => MaybePromise<void>;

/** A BlockDevice in memory that answers in the same turn. Remembers which blocks are mapped. */
export class RamDevice implements BlockDevice {
  readonly identity: DeviceIdentity;
  readonly limits: DeviceLimits = { maxTransferBytes: 16 * MIB, maxUnmapRanges: 256, maxAtomicBytes: MIB };
  readonly bytes: Buffer;
  readonly writes: { readonly lba: Lba; readonly sectors: SectorCount; readonly fua: boolean }[] = [];
  flushes = 0;
  /** Set to watch or disturb. */
  intercept: Intercept | undefined;
  recordsWrites = false;
  /** Whether it can copy what it reads at once, and how often it has done so. */
  readsAtOnce = true;
  readAtOnce = 0;
  /** Whether it gathers writes, how often it has done so, and how it logs them. */
  gathersWrites = true;
  gathered = 0;
  logging: (() => MaybePromise<void>) | undefined;
  readonly #gathered: { readonly lba: Lba; readonly data: Buffer }[] = [];
  readonly #sectorSize: 512 | 4096;
  readonly #mapped: Uint8Array;
  #sectors: SectorCount;

  constructor(options: RamDeviceOptions) {
    const name = options.name ?? 'ram';
    this.#sectorSize = options.sectorSize ?? 512;
    this.#sectors = options.bytes / this.#sectorSize;
    this.bytes = Buffer.alloc(options.bytes);
    this.#mapped = new Uint8Array(Math.ceil(options.bytes / BLOCK_SIZE));
    const naa = Buffer.alloc(16);
    naa[0] = 0x60;
    naa.write(name.slice(0, 15), 1, 'latin1');
    this.identity = { name, naa, serial: `ram-${name}`, removable: options.removable === true };
  }

  geometry(): DeviceGeometry {
    return { sectorSize: this.#sectorSize, sectors: this.#sectors };
  }

  /** Pretends to be smaller or as large as it is. */
  resize(sectors: SectorCount): void {
    this.#sectors = sectors;
  }

  read(lba: Lba, sectors: SectorCount): MaybePromise<readonly Buffer[]> {
    const result = (): readonly Buffer[] => [
      this.bytes.subarray(lba * this.#sectorSize, (lba + sectors) * this.#sectorSize),
    ];
    return this.#after('read', result);
  }

  /** Not while somebody intercepts, or has asked that it be not. */
  readInto(lba: Lba, sectors: SectorCount, into: Buffer, at: number): boolean {
    if (this.intercept !== undefined || !this.readsAtOnce) return false;
    this.readAtOnce += 1;
    this.bytes.copy(into, at, lba * this.#sectorSize, (lba + sectors) * this.#sectorSize);
    return true;
  }

  write(lba: Lba, data: readonly Buffer[], options: { readonly fua: boolean }): MaybePromise<void> {
    if (this.intercept === undefined) {
      this.#store(lba, data, options.fua);
      return undefined;
    }
    return this.#after('write', () => {
      this.#store(lba, data, options.fua);
    });
  }

  /** Not while somebody intercepts, or has asked that it do not. */
  gatherWrite(lba: Lba, data: Buffer): boolean {
    if (this.intercept !== undefined || !this.gathersWrites) return false;
    this.gathered += 1;
    this.#gathered.push({ lba, data });
    return true;
  }

  /** Only now it looks at the data. */
  logGathered(): MaybePromise<void> {
    for (const { lba, data } of this.#gathered.splice(0)) this.#store(lba, [data], false);
    return this.logging?.();
  }

  flush(): MaybePromise<void> {
    return this.#after('flush', () => {
      this.flushes += 1;
    });
  }

  unmap(ranges: readonly SectorRange[]): MaybePromise<void> {
    return this.#after('unmap', () => {
      for (const { lba, sectors } of ranges) {
        const start = lba * this.#sectorSize;
        const end = start + sectors * this.#sectorSize;
        this.bytes.fill(0, start, end);
        this.#mapped.fill(
          0,
          Math.ceil(start / BLOCK_SIZE),
          Math.max(Math.ceil(start / BLOCK_SIZE), Math.floor(end / BLOCK_SIZE)),
        );
      }
    });
  }

  provisioning(lba: Lba, sectors: SectorCount): MaybePromise<Provisioning> {
    return this.#after('provisioning', () => {
      const perBlock = BLOCK_SIZE / this.#sectorSize;
      const first = Math.floor(lba / perBlock);
      const state = this.#mapped[first];
      let end = first + 1;
      while (end < this.#mapped.length && this.#mapped[end] === state && end * perBlock < lba + sectors) end += 1;
      return { mapped: state === 1, sectors: Math.min(end * perBlock - lba, sectors) };
    });
  }

  #store(lba: Lba, data: readonly Buffer[], fua: boolean): void {
    const start = lba * this.#sectorSize;
    let at = start;
    for (const piece of data) at += piece.copy(this.bytes, at);
    this.#mapped.fill(1, Math.floor(start / BLOCK_SIZE), Math.ceil(at / BLOCK_SIZE));
    if (this.recordsWrites) this.writes.push({ lba, sectors: (at - start) / this.#sectorSize, fua });
  }

  #after<T>(operation: Parameters<Intercept>[0], act: () => T): MaybePromise<T> {
    const held = this.intercept?.(operation);
    return held instanceof Promise ? held.then(act) : act();
  }
}
