import { KIB } from '../base/units.ts';
import type { ByteCount } from '../base/units.ts';

/** Chunks begin small, so that who does nothing but log in takes little. */
const FIRST_BYTES: ByteCount = 16 * KIB;
/** A queue of 32 writes of 4 KiB with their headers, and what waits behind it. */
const MOST_BYTES: ByteCount = 256 * KIB;

/** Memory that a connection receives into: the same again as long as nobody keeps any of it. */
export class ChunkMemory {
  #chunk: Buffer | undefined;
  #segment: Buffer | undefined;
  #bytes = FIRST_BYTES;
  #isKept = false;

  /** Memory for the next chunk. Larger ones follow one that was filled. */
  next(): Buffer {
    if (this.#chunk === undefined || this.#isKept || this.#chunk.length < this.#bytes) {
      this.#chunk = Buffer.allocUnsafeSlow(this.#bytes);
      this.#isKept = false;
    }
    return this.#chunk;
  }

  /** Memory of exactly so many bytes for a data segment that did not come in one chunk. */
  segment(bytes: ByteCount): Buffer {
    if (this.#segment?.length !== bytes) this.#segment = Buffer.allocUnsafeSlow(bytes);
    return this.#segment;
  }

  /** The chunk was filled. */
  grow(): void {
    this.#bytes = MOST_BYTES;
  }

  /** Nothing has come for a while: it begins small again with the chunk after the next one. */
  rest(): void {
    this.#segment = undefined;
    this.#bytes = FIRST_BYTES;
    this.#isKept = true;
  }

  /** Somebody may go on using this data; without, anything there is: what lies in the same memory is not received into again. */
  keep(data: Buffer | undefined): void {
    if (data === undefined || data.buffer === this.#chunk?.buffer) this.#isKept = true;
    if (data === undefined || data.buffer === this.#segment?.buffer) this.#segment = undefined;
  }
}
