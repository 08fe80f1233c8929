import { KIB } from '../base/units.ts';
import type { ByteCount } from '../base/units.ts';
import { HANDED_BYTES } from './sender.ts';

/** So long a peer may take nothing of what it has read while others wait for the memory that lies in. */
const PATIENCE_SECONDS = 10;
/** So slowly it may take it; the same as for the data of writes. */
const MIN_BYTES_PER_SECOND = 64 * KIB;

/**
 * Whether a peer takes what it is sent fast enough for others to wait for it. What has been taken is told in steps of up
 * to HANDED_BYTES, so that much is credited: whoever takes nothing at all is found out after 26 s.
 */
export class Pace {
  #seconds = 0;
  #takenBefore: ByteCount = 0;

  /** Called once a second; `isHurried`: it has something left to take, and others wait. */
  isTooSlow(isHurried: boolean, takenBytes: ByteCount): boolean {
    if (!isHurried) {
      this.#seconds = 0;
      return false;
    }
    if (this.#seconds === 0) this.#takenBefore = takenBytes;
    this.#seconds += 1;
    const taken = takenBytes - this.#takenBefore + HANDED_BYTES;
    return taken < (this.#seconds - PATIENCE_SECONDS) * MIN_BYTES_PER_SECOND;
  }
}
