import type { ByteCount, SectorCount } from '../base/units.ts';
import { ExtentLock } from './extent-lock.ts';
import { ModeParameters } from './mode-parameters.ts';

/** What commands to a logical unit share: who may touch which extent, mode parameters, whether it is started, counters. */
export class UnitMedia {
  readonly extents = new ExtentLock();
  readonly mode = new ModeParameters();
  readonly counters: MediumCounters = {
    reads: 0,
    readBytes: 0,
    readSectors: 0,
    writes: 0,
    writtenBytes: 0,
    writtenSectors: 0,
    readErrors: 0,
  };
  /** False after a START STOP UNIT that stopped it; a power on starts it (SBC-3). */
  isStarted = true;
  /** False after a START STOP UNIT that ejected a removable medium; a power on loads it. */
  isLoaded = true;
  /** Those that have forbidden the removal of a removable medium (PREVENT ALLOW MEDIUM REMOVAL, SBC-3). */
  readonly preventing = new Set<object>();
  /** A read into the cache is under way that nobody waits for. */
  isPrefetching = false;

  /** Logical unit reset (SAM-5 6.3.3): what initiators have set has its default values again. */
  reset(): void {
    this.mode.reset();
    this.preventing.clear();
  }
}

/** For the log pages: since the gateway serves the unit. */
export interface MediumCounters {
  /** READ commands that asked the device for something, and for how much. */
  reads: number;
  readBytes: ByteCount;
  readSectors: SectorCount;
  /** WRITE and WRITE AND VERIFY commands with data, and how much of it. */
  writes: number;
  writtenBytes: ByteCount;
  writtenSectors: SectorCount;
  /** Reads that ended in a MEDIUM ERROR. */
  readErrors: number;
}
