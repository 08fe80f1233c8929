import type { Clock } from '../base/clock.ts';
import type { BlockCount } from '../base/units.ts';
import { FillRate } from './fill-rate.ts';
import { FREE_SHARE, KEPT_SHARE, LOW_SHARE, weightOf, writeDelayMs } from './pressure.ts';
import type { VolumeLog } from './volume-log.ts';

export interface GaugeHooks {
  /** Attached volumes. */
  readonly volumes: ReadonlyMap<number, VolumeLog>;
  /** Slots of all chunks there are or may be, without those that are being filled from the cloud. */
  totalSlots(): number;
  /** Those in chunks that are ready, or can be made so without a commit; may take a look at all chunks. */
  obtainableSlots(): number;
  /** Those left in the open chunk that nobody has reserved. */
  openSlots(): number;
  /** How much of the index's budget is dirty, 0 to 1. */
  indexShare(): number;
}

/** What the status says of it. */
export interface PressureReport {
  /** How much of the cache holds what the cloud does not have, 0 to 1: it slows writes, and ends them at 1. */
  readonly dirtyShare: number;
  /** If it goes on filling as in the last minute, 0 when it is full; undefined when it does not. */
  readonly secondsUntilFull: number | undefined;
  /** How long a write is held back that comes now, of a volume that fills the cache. */
  readonly writeDelayMs: number;
}

/** How full of dirty data the cache is, and whose doing it is. */
export class PressureGauge {
  /** How often the share has reached LOW_SHARE, from below FREE_SHARE. */
  readonly lowSpace = { notices: 0 };
  #isLow = false;
  readonly #hooks: GaugeHooks;
  readonly #rate: FillRate;
  /** undefined: to be counted again. */
  #obtainable: number | undefined;
  #dirty: BlockCount | undefined;

  constructor(clock: Clock, hooks: GaugeHooks) {
    this.#hooks = hooks;
    this.#rate = new FillRate(clock);
  }

  /** Chunks were taken, sealed or made ready, or something was committed. */
  changed(): void {
    this.#obtainable = undefined;
    this.#dirty = undefined;
  }

  /** The same, when it tells how fast the cache fills. */
  sample(): void {
    this.changed();
    const share = this.share();
    this.#rate.note(share);
    if (share >= LOW_SHARE && !this.#isLow) this.lowSpace.notices++;
    this.#isLow = share >= LOW_SHARE || (this.#isLow && share >= FREE_SHARE);
  }

  /** Of the chunks or of the index, whichever is fuller. */
  share(): number {
    const used = this.#usedSlots() / Math.max(1, this.#hooks.totalSlots());
    return Math.min(1, Math.max(used, this.#hooks.indexShare()));
  }

  /** See weightOf. */
  weight(log: VolumeLog): number {
    const { volumes } = this.#hooks;
    if (volumes.size <= 1) return 1;
    if (this.#dirty === undefined) {
      this.#dirty = 0;
      for (const { index } of volumes.values()) this.#dirty += index.dirtyBlocks;
    }
    return weightOf(log.index.dirtyBlocks, this.#dirty, volumes.size);
  }

  /** Whether what is left is kept for volumes that have less than an even share. */
  isKeptFrom(log: VolumeLog): boolean {
    return this.#hooks.volumes.size > 1 && this.share() > 1 - KEPT_SHARE && this.weight(log) === 1;
  }

  report(): PressureReport {
    this.sample();
    const dirtyShare = this.share();
    return {
      dirtyShare,
      secondsUntilFull: this.#rate.secondsUntilFull(dirtyShare),
      writeDelayMs: writeDelayMs(dirtyShare),
    };
  }

  #usedSlots(): number {
    this.#obtainable ??= this.#hooks.obtainableSlots();
    return Math.max(0, this.#hooks.totalSlots() - this.#obtainable - this.#hooks.openSlots());
  }
}
