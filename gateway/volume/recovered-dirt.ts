import type { BlockNumber, WriteSeq } from '../base/units.ts';
import type { DirtySink } from '../cache/build-index.ts';
import type { BlockRange } from '../cache/unmap-payload.ts';
import { PendingUnmaps } from './pending-unmaps.ts';
import type { Sealer } from './sealer.ts';

/** Takes in what recovery finds uncommitted, in order: for the sealer to replicate, and for reads. */
export class RecoveredDirt implements DirtySink {
  readonly unmaps = new PendingUnmaps();
  readonly damaged = new Set<BlockNumber>();
  readonly #sealer: Sealer;

  constructor(sealer: Sealer) {
    this.#sealer = sealer;
  }

  dirtyWrite(seq: WriteSeq, wallSeconds: number, block: BlockNumber, places: readonly number[]): void {
    if (this.damaged.size > 0) for (let at = 0; at < places.length; at++) this.damaged.delete(block + at);
    this.#sealer.dirtyWrite(seq, wallSeconds, block, places);
  }

  dirtyUnmap(seq: WriteSeq, wallSeconds: number, ranges: readonly BlockRange[]): void {
    for (const { block, count } of ranges) {
      this.unmaps.add(block, count, seq);
      for (const damaged of this.damaged) if (damaged >= block && damaged < block + count) this.damaged.delete(damaged);
    }
    this.#sealer.dirtyUnmap(seq, wallSeconds, ranges);
  }

  damagedBlock(block: BlockNumber): void {
    this.damaged.add(block);
  }
}
