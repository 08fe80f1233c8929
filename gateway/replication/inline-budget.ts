import type { Clock } from '../base/clock.ts';
import { KIB, type ByteCount } from '../base/units.ts';

/** A partition of the table takes 1,000 write units a second; what a volume uses of that for itself. */
export const INLINE_UNITS_PER_SECOND = 800;
/** What may go at once after a pause. */
const BURST_UNITS = 400;
/** A unit is a KiB, begun ones included. */
const UNIT_BYTES: ByteCount = KIB;
/** Keys, record and chain of a version item. */
const ITEM_BYTES: ByteCount = KIB;
/** Above it a segment of its own is cheaper by so much that nobody waits for less. */
export const MAX_INLINE_BYTES: ByteCount = 64 * KIB;

/**
 * Which versions carry their data themselves: one round trip instead of two, but each KiB is a write unit, of which a volume's partition has so many a
 * second. A token bucket: what has no room in it goes to S3. Every version costs a unit, so that those do not use up what the table needs.
 */
export class InlineBudget {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #units = BURST_UNITS;
  #filledAt: number;

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
    this.#filledAt = clock.monotonicMs();
  }

  /** Whether a version with so many bytes of data, which somebody waits for, may carry them; counts it if so. */
  takes(bytes: ByteCount): boolean {
    if (bytes > MAX_INLINE_BYTES) return false;
    this.#fill();
    const units = Math.ceil((bytes + ITEM_BYTES) / UNIT_BYTES);
    if (this.#units < units) return false;
    this.#units -= units;
    return true;
  }

  /** Counts a version whose data is elsewhere. */
  noteVersion(): void {
    this.#fill();
    this.#units = Math.max(0, this.#units - Math.ceil(ITEM_BYTES / UNIT_BYTES));
  }

  #fill(): void {
    const now = this.#clock.monotonicMs();
    this.#units = Math.min(BURST_UNITS, this.#units + ((now - this.#filledAt) * INLINE_UNITS_PER_SECOND) / 1000);
    this.#filledAt = now;
  }
}
