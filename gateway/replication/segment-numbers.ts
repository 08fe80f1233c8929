import { invariant } from '../base/errors.ts';
import type { Epoch, SegmentNumber } from '../base/units.ts';
import type { NumberRange, VersionLog, VolumeRef } from '../cloud/version-log.ts';

/** Numbers taken from the ledger at a time: one request per 4,096 segments (32 GiB). */
export const NUMBER_RANGE = 4096;

/**
 * Segment numbers of one epoch. Each is handed out once and never again, whatever becomes of it: a range whose answer was
 * lost is left unused, and nothing is kept over a restart.
 */
export class SegmentNumbers {
  readonly #versions: VersionLog;
  readonly #ref: VolumeRef;
  readonly #epoch: Epoch;
  #range: NumberRange = { from: 0, to: 0 };
  #next: SegmentNumber = 0;

  constructor(versions: VersionLog, ref: VolumeRef, epoch: Epoch) {
    this.#versions = versions;
    this.#ref = ref;
    this.#epoch = epoch;
  }

  /** Rejects with `retry` when a new range is needed and the table is away. Calls must not overlap. */
  async take(): Promise<SegmentNumber> {
    if (this.#next >= this.#range.to) {
      const range = await this.#versions.allocateNumbers(this.#ref, this.#epoch, NUMBER_RANGE);
      invariant(range.from >= this.#range.to && range.to > range.from, 'ranges of segment numbers only rise');
      this.#range = range;
      this.#next = range.from;
    }
    const number = this.#next;
    this.#next += 1;
    return number;
  }
}
