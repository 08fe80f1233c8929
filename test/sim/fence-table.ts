import type { VolumeView } from '../../gateway/maintenance/walk-machine.ts';
import type { Bounds, Mutations } from './fence-bounds.ts';
import { CHECKPOINT, EPOCH, FLOOR, FOLDS_LEFT, SLOTS, STRAY_RAISE, TAIL, at } from './fence-layout.ts';
import type { Step } from './fence-layout.ts';
import { MAX_VERSIONS, Versions } from './fence-versions.ts';
import type { Version } from './fence-versions.ts';

/**
 * The table, what maintenance does to it, and the true history, which only the enumeration knows: from the checkpoint on, every
 * record up to the first gap or falling epoch. The first invariant that a step breaks is kept in `violation`.
 */
export class FenceTable {
  readonly versions = new Versions();
  violation: string | undefined;
  readonly #bounds: Bounds;
  readonly #mutations: Mutations;

  constructor(bounds: Bounds, mutations: Mutations) {
    this.#bounds = bounds;
    this.#mutations = mutations;
  }

  blame(violation: string): void {
    this.violation ??= violation;
  }

  /** A put arrives: rule 1's condition, and what it does to the true history. */
  put(next: Int32Array, version: Version, replacesBelow: number): boolean {
    const present = at(next, SLOTS + version.n);
    if (present === 0 || this.versions.at(present).epoch < replacesBelow) {
      next[SLOTS + version.n] = version.id;
      this.#follow(next, version.n);
      return true;
    }
    if (version.takeover && version.previous === at(next, TAIL))
      this.blame(`stuck: what lies at ${version.n} is not history, and yet no takeover can replace it`);
    return false;
  }

  /** What lies at n; 0 beyond the bounds. */
  slot(world: Int32Array, n: number): number {
    return n <= this.#bounds.slots ? at(world, SLOTS + n) : 0;
  }

  /** The version is, now and so for ever, part of the history. */
  checkInHistory(next: Int32Array, id: number, what: string): void {
    const { n, epoch } = this.versions.at(id);
    if (this.versions.inHistory(at(next, TAIL), n) !== id) this.blame(`${what}: version ${n} of epoch ${epoch}`);
  }

  view(world: Int32Array, epoch = at(world, EPOCH)): VolumeView {
    const checkpoint = this.versions.position(at(world, CHECKPOINT));
    return {
      epoch,
      owner: epoch === 0 ? '' : 'somebody',
      floor: at(world, FLOOR),
      checkpoint: { n: checkpoint.n, epoch: checkpoint.epoch, chain: checkpoint.chain },
    };
  }

  /** Equal codes, equal views. */
  viewCode(world: Int32Array, epoch = at(world, EPOCH)): number {
    return epoch + 32 * (at(world, CHECKPOINT) + MAX_VERSIONS * at(world, FLOOR));
  }

  volumeText(world: Int32Array): string {
    const checkpoint = this.versions.at(at(world, CHECKPOINT)).n;
    return `the volume item: epoch ${at(world, EPOCH)}, checkpoint ${checkpoint}, floor ${at(world, FLOOR)}`;
  }

  versionText(id: number): string {
    if (id === 0) return 'nothing';
    const { n, epoch, takeover } = this.versions.at(id);
    return `${takeover ? 'takeover' : 'version'} ${n} of epoch ${epoch}`;
  }

  expand(world: Int32Array, step: Step): void {
    this.#expandFolds(world, step);
    this.#expandDeletion(world, step);
    const stray = at(world, STRAY_RAISE);
    if (stray === 0) return;
    step(
      () => `table: a late raise of the epoch from ${stray - 1} arrives`,
      (next) => {
        if (at(next, EPOCH) === stray - 1) next[EPOCH] = stray;
        next[STRAY_RAISE] = 0;
      },
    );
  }

  #expandFolds(world: Int32Array, step: Step): void {
    const tail = this.versions.at(at(world, TAIL));
    const folded = this.versions.at(at(world, CHECKPOINT)).n;
    if (at(world, FOLDS_LEFT) > 0)
      for (let n = folded + 1; n <= tail.n; n += 1)
        step(
          () => `maintenance publishes checkpoint ${n}`,
          (next) => {
            next[FOLDS_LEFT] = at(next, FOLDS_LEFT) - 1;
            next[CHECKPOINT] = this.versions.inHistory(tail.id, n);
          },
        );
    if (at(world, FLOOR) < folded)
      step(
        () => `maintenance raises the floor to ${folded}`,
        (next) => {
          next[FLOOR] = folded;
        },
      );
  }

  /** What is deleted was looked at earlier: what lies there by now may be another thing. */
  #expandDeletion(world: Int32Array, step: Step): void {
    const tail = at(world, TAIL);
    const deletable = this.#mutations.deleteAboveFloor ? this.versions.at(at(world, CHECKPOINT)).n : at(world, FLOOR);
    for (let n = 1; n <= deletable; n += 1) {
      const present = at(world, SLOTS + n);
      if (present === 0) continue;
      const lookedLikeTakeover = this.versions.at(this.versions.inHistory(tail, n)).takeover;
      const takeover = lookedLikeTakeover && this.versions.at(present).takeover;
      if (takeover && !this.#mutations.deleteTakeovers) continue;
      step(
        () => `maintenance deletes ${this.versionText(present)}`,
        (next) => {
          next[SLOTS + n] = 0;
        },
      );
    }
  }

  /** Brings the true history up to date after a put at n. */
  #follow(next: Int32Array, n: number): void {
    let tail = this.versions.at(at(next, TAIL));
    const folded = this.versions.at(at(next, CHECKPOINT)).n;
    if (n > folded && n <= tail.n && at(next, SLOTS + n) !== this.versions.inHistory(tail.id, n))
      this.blame(`history rewritten: version ${n} was part of it and has been replaced`);
    for (;;) {
      const present = this.slot(next, tail.n + 1);
      if (present === 0) break;
      const version = this.versions.at(present);
      if (version.epoch < tail.epoch) break;
      if (version.previous !== tail.id) {
        this.blame(`mixed history: ${this.versionText(present)} does not chain to the version before it`);
        break;
      }
      tail = version;
    }
    next[TAIL] = tail.id;
  }
}
