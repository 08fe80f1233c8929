import type { ByteCount } from '../../gateway/base/units.ts';
import { Violation } from './history.ts';

/** A resize that nobody knows the outcome of yet. */
export interface Resizing {
  readonly epoch: number;
  readonly bytes: ByteCount;
}

/**
 * Which sizes the volume may have: that of the last resize that was answered, or of one whose outcome is not known. A size takes effect with its version, so
 * it survives every gateway, and a later epoch settles what became of the resizes before it.
 */
export class Sizes {
  #known: ByteCount;
  #epoch = 0;
  readonly #openings: { readonly epoch: number; readonly bytes: ByteCount }[] = [];
  readonly #unsettled = new Set<Resizing>();

  constructor(bytes: ByteCount) {
    this.#known = bytes;
  }

  begin(epoch: number, bytes: ByteCount): Resizing {
    const resizing = { epoch, bytes };
    // What a fenced gateway still tries can't take effect.
    if (epoch >= this.#epoch) this.#unsettled.add(resizing);
    return resizing;
  }

  done(resizing: Resizing): void {
    const { epoch, bytes } = resizing;
    this.#unsettled.delete(resizing);
    if (epoch >= this.#epoch) {
      this.#known = bytes;
      return;
    }
    const next = this.#openings.find((opening) => opening.epoch > epoch);
    if (next?.bytes !== bytes)
      throw new Violation(
        `a resize to ${bytes} bytes was answered in epoch ${epoch}, and the next one began with ${String(next?.bytes)}`,
      );
  }

  refused(resizing: Resizing): void {
    this.#unsettled.delete(resizing);
  }

  /** A gateway has opened the volume with this size: it stays so until it resizes it. */
  opened(epoch: number, bytes: ByteCount): void {
    this.check(`epoch ${epoch}`, bytes);
    if (epoch < this.#epoch) return;
    this.#known = bytes;
    this.#epoch = epoch;
    this.#openings.push({ epoch, bytes });
    this.#unsettled.clear();
  }

  check(what: string, bytes: ByteCount): void {
    const may = [this.#known, ...[...this.#unsettled].map((each) => each.bytes)];
    if (!may.includes(bytes))
      throw new Violation(`${what} has a volume of ${bytes} bytes; it may have ${may.join(' or ')}`);
  }
}
