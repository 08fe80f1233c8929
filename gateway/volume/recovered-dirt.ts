import type { BlockCount, BlockNumber, WriteSeq } from '../base/units.ts';
import type { DirtySink } from '../cache/build-index.ts';
import type { BlockRange } from '../cache/unmap-payload.ts';
import { PendingUnmaps } from './pending-unmaps.ts';
import type { Sealer } from './sealer.ts';
import type { SettledBatch } from './unsettled.ts';

/** Of a stored volume: what of the dirt is in a version, or not in the image. */
export interface StoredDirt {
  /** Through which write the sealer has nothing to do. */
  readonly replicatedThrough: WriteSeq;
  readonly destager: {
    readonly through: WriteSeq;
    addWrite(block: BlockNumber, count: BlockCount): void;
    addUnmap(ranges: readonly BlockRange[]): void;
  };
}

/** Takes in what recovery finds dirty, in order: for the sealer to replicate, for the destager to bring to the image, and for reads. */
export class RecoveredDirt implements DirtySink {
  readonly unmaps = new PendingUnmaps();
  readonly damaged = new Set<BlockNumber>();
  readonly #sealer: Sealer;
  readonly #stored: StoredDirt | undefined;
  #hasReplicated = false;
  #settledBlocks: BlockNumber[] = [];
  #settledPlaces: number[] = [];

  constructor(sealer: Sealer, stored: StoredDirt | undefined) {
    this.#sealer = sealer;
    this.#stored = stored;
  }

  /** What is in a version already, and only has to reach the image. */
  get unsettled(): readonly SettledBatch[] {
    if (this.#stored === undefined || !this.#hasReplicated) return [];
    const { replicatedThrough: throughSeq } = this.#stored;
    const blocks = Float64Array.from(this.#settledBlocks);
    return [{ throughSeq, blocks, places: Float64Array.from(this.#settledPlaces), lost: new Set() }];
  }

  dirtyWrite(seq: WriteSeq, wallSeconds: number, block: BlockNumber, places: readonly number[]): void {
    if (this.damaged.size > 0) for (let at = 0; at < places.length; at++) this.damaged.delete(block + at);
    if (this.#stored !== undefined && seq > this.#stored.destager.through)
      this.#stored.destager.addWrite(block, places.length);
    if (this.#isReplicated(seq)) {
      places.forEach((place, at) => {
        this.#settledBlocks.push(block + at);
        this.#settledPlaces.push(place);
      });
    } else this.#sealer.dirtyWrite(seq, wallSeconds, block, places);
  }

  dirtyUnmap(seq: WriteSeq, wallSeconds: number, ranges: readonly BlockRange[]): void {
    for (const { block, count } of ranges) {
      this.unmaps.add(block, count, seq);
      for (const damaged of this.damaged) if (damaged >= block && damaged < block + count) this.damaged.delete(damaged);
    }
    if (this.#stored !== undefined && seq > this.#stored.destager.through) this.#stored.destager.addUnmap(ranges);
    if (!this.#isReplicated(seq)) this.#sealer.dirtyUnmap(seq, wallSeconds, ranges);
  }

  damagedBlock(block: BlockNumber): void {
    this.damaged.add(block);
  }

  #isReplicated(seq: WriteSeq): boolean {
    if (this.#stored === undefined || seq > this.#stored.replicatedThrough) return false;
    this.#hasReplicated = true;
    return true;
  }
}
