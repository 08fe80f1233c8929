import { KIB } from '../base/units.ts';
import type { ByteCount } from '../base/units.ts';

/** After so much received data answers are sent although more of it comes in the same turn: initiators must not run dry. */
const SEND_AFTER_BYTES = 256 * KIB;

/** Gathers the chunks that one turn of the event loop brings, so that what answers them goes out in one system call. */
export class Turn {
  #bytes: ByteCount = 0;

  /**
   * A chunk has been received; whether its answers should go out now. Otherwise they wait for the end of the turn. `isFull`: it has filled the memory
   * there was for it, so that more comes in the same turn.
   */
  isSentAfter(chunkBytes: ByteCount, isFull: boolean): boolean {
    this.#bytes += chunkBytes;
    return !isFull || this.#bytes >= SEND_AFTER_BYTES;
  }

  /** Everything has been sent. */
  sent(): void {
    this.#bytes = 0;
  }
}
