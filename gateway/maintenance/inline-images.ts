import { invariant } from '../base/errors.ts';
import type { SegmentNumber, VersionNumber } from '../base/units.ts';
import { MAX_SEGMENT_NUMBER } from '../format/ids.ts';

/** Numbers from here on are never given to a segment: in memory they stand for inline images of the log. */
export const FIRST_INLINE_NUMBER = MAX_SEGMENT_NUMBER - 2 ** 24 + 1;

/** Whether an entry of the map in memory leads to an inline image, and not to an object in S3. */
export function isInline(number: SegmentNumber): boolean {
  return number >= FIRST_INLINE_NUMBER;
}

/** The inline payloads of versions that no checkpoint holds yet, pinned in memory under numbers of their own. */
export class InlineImages {
  readonly #images = new Map<SegmentNumber, { readonly n: VersionNumber; readonly bytes: Buffer }>();
  #next = 0;
  /** As told before the last time. */
  #foldedBefore: VersionNumber = 0;

  /** The number under which the image of version n is found. */
  add(n: VersionNumber, bytes: Buffer): SegmentNumber {
    invariant(this.#images.size < 2 ** 23, 'inline images are folded before millions of them have piled up');
    const number = FIRST_INLINE_NUMBER + (this.#next % 2 ** 24);
    this.#next += 1;
    this.#images.set(number, { n, bytes });
    return number;
  }

  get(number: SegmentNumber): Buffer | undefined {
    return this.#images.get(number)?.bytes;
  }

  /** Versions through n are in a checkpoint now. Their images are kept until the next one: a read that has looked them up may be under way. */
  forgetThrough(n: VersionNumber): void {
    for (const [number, image] of this.#images) if (image.n <= this.#foldedBefore) this.#images.delete(number);
    this.#foldedBefore = n;
  }
}
