import type { ByteCount, Lba, SectorCount } from './units.ts';

/** Answered in the same turn where possible, so that the hot path needs no promise. */
export type MaybePromise<T> = T | Promise<T>;

export interface SectorRange {
  readonly lba: Lba;
  readonly sectors: SectorCount;
}

/** What initiators see of the device and what follows it through a restore. */
export interface DeviceIdentity {
  /** Volume name, for people. */
  readonly name: string;
  /** NAA IEEE Registered Extended designator (type 6), 16 bytes, stable for the life of the volume (SPC-4 7.8.6.6.5). */
  readonly naa: Buffer;
  /** Unit serial number (VPD 80h), ASCII. */
  readonly serial: string;
  /** Whether it says that its medium can be ejected; a fixed disk otherwise. */
  readonly removable?: boolean;
  /**
   * Another one when the device goes on without what was flushed last, as after the loss of the gateway that had it: under the same one
   * everything is there that ever was.
   */
  readonly history?: string;
}

/** Sizes a physical block may be told to have: hosts align what they write to it. */
export const PHYSICAL_SIZES = [512, 4096, 8192, 16384] as const;
export type PhysicalSize = (typeof PHYSICAL_SIZES)[number];

export interface DeviceGeometry {
  readonly sectorSize: 512 | 4096;
  readonly sectors: SectorCount;
  /** Physical block as it is told to initiators; 4096 when it is not said. */
  readonly physicalSize?: PhysicalSize;
}

/** Advertised in VPD B0h; the device may be called only within them. */
export interface DeviceLimits {
  /** Longest single read or write. */
  readonly maxTransferBytes: ByteCount;
  readonly maxUnmapRanges: number;
  /**
   * A write that lies within so many bytes from the 4096-byte border at or before its start is one operation: after a crash, here
   * or on another gateway, it is there whole or not at all. A multiple of 4096.
   */
  readonly maxAtomicBytes: ByteCount;
}

export interface Provisioning {
  readonly mapped: boolean;
  /** How many sectors from the asked one on are in the same state (at least 1). */
  readonly sectors: SectorCount;
}

export interface SpaceLimit {
  /** The most bytes that may be mapped. */
  readonly bytes: ByteCount;
  /** From so many on initiators are told that it runs low. */
  readonly lowBytes: ByteCount;
  /** Mapped at most; undefined: not counted yet. */
  readonly mappedBytes: ByteCount | undefined;
}

/** Hears how a write ended; an object that is there anyway, so that the hot path makes neither a promise nor a closure. */
export interface WriteEnd {
  /** Called once for each write, not within the call that started it; undefined: it may be acked. May start others; must not throw. */
  writeEnded(error: Error | undefined): void;
}

/**
 * The seam between the protocol half and the storage half. Ranges are within the device and its limits:
 * the caller has checked. Failures are FarshoreErrors; the kind decides the sense code.
 */
export interface BlockDevice {
  readonly identity: DeviceIdentity;
  readonly limits: DeviceLimits;
  /**
   * Counts what initiators are to be told of the space that it writes into: how often it has begun to run low, and among these notices
   * `changes`, how often the limit became another one. A device may be without it.
   */
  readonly lowSpace?: { readonly notices: number; readonly changes?: number };
  /** What there is to be mapped at most; undefined: as much as there is. A device may be without it. */
  space?(): SpaceLimit | undefined;
  /** May change (resize); read it per command. */
  geometry(): DeviceGeometry;

  /**
   * Pieces whose concatenation is `sectors * sectorSize` bytes. They stay valid until the next turn of the
   * event loop at least, and the caller must not change them. Pieces of 64 KiB or more are sent without a copy, which
   * may take longer: those must never change afterwards (fresh buffers, not views of a slab that is reused).
   */
  read(lba: Lba, sectors: SectorCount): MaybePromise<readonly Buffer[]>;

  /**
   * What `read` gives, copied to `at` of `into`, when all of it is in memory. False: ask `read`; some of the bytes there may have been
   * overwritten. Never throws. A device may be without it.
   */
  readInto?(lba: Lba, sectors: SectorCount, into: Buffer, at: number): boolean;

  /**
   * `data` is a whole number of sectors in any number of pieces; it must stay unchanged until the call is answered.
   * Resolves when the write may be acked: in the local log (and, with `fua`, on stable storage).
   */
  write(lba: Lba, data: readonly Buffer[], options: { readonly fua: boolean }): MaybePromise<void>;

  /**
   * The short way for writes that ask for nothing special: takes one that can be logged in this turn, without waiting for anything, and logs it with all others that
   * were gathered when `logGathered` is called, which must be in the same call of the event loop. `data` must stay unchanged until that has been answered. Reads
   * may see it from now on. False: nothing has been done, and `write` is to be asked. Never throws. A device without it has `write` alone.
   */
  gatherWrite?(lba: Lba, data: Buffer): boolean;

  /** All that was gathered may be acked: now when it is undefined. A rejection is for all of them. */
  logGathered?(): MaybePromise<void>;

  /** Resolves when every write answered before the call is on stable storage (SYNCHRONIZE CACHE). */
  flush(): MaybePromise<void>;

  /** Deallocates; reads of whole blocks inside give zeros afterwards. Parts of blocks are zeroed, so reads of any sector do. */
  unmap(ranges: readonly SectorRange[]): MaybePromise<void>;

  provisioning(lba: Lba, sectors: SectorCount): MaybePromise<Provisioning>;
}
