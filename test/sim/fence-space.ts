import type { FenceState } from '../../gateway/replication/fence-machine.ts';
import type { Bounds, Mutations } from './fence-bounds.ts';
import { NO_MUTATIONS } from './fence-bounds.ts';
import { FOLDS_LEFT, LOST_RAISES_LEFT, RESENDS_LEFT, SENDS_LEFT, SLOTS } from './fence-layout.ts';
import type { Step } from './fence-layout.ts';
import { FenceReader, READER_WIDTH } from './fence-reader.ts';
import type { Emit, Space } from './fence-search.ts';
import { FenceTable } from './fence-table.ts';
import { FenceWriters } from './fence-writers.ts';

/** Everything that can happen: writers and a reader, the table, maintenance, and a network that delays, repeats, reorders and loses. */
export class FenceSpace implements Space {
  readonly width: number;
  readonly #bounds: Bounds;
  readonly #table: FenceTable;
  readonly #writers: FenceWriters;
  readonly #reader: FenceReader;
  readonly #next: Int32Array;

  constructor(bounds: Bounds, mutations: Mutations = NO_MUTATIONS) {
    this.#bounds = bounds;
    this.#table = new FenceTable(bounds, mutations);
    const writersAt = SLOTS + bounds.slots + 1;
    this.#writers = new FenceWriters(this.#table, writersAt, bounds, mutations);
    const readerAt = writersAt + bounds.writers * this.#writers.width;
    this.#reader = new FenceReader(this.#table, readerAt, bounds.readerWalks, mutations.reader);
    this.width = readerAt + READER_WIDTH;
    this.#next = new Int32Array(this.width);
  }

  start(): Int32Array {
    const world = new Int32Array(this.width);
    world[FOLDS_LEFT] = this.#bounds.folds;
    world[RESENDS_LEFT] = this.#bounds.resends;
    world[LOST_RAISES_LEFT] = this.#bounds.lostRaises;
    world[SENDS_LEFT] = this.#bounds.sends;
    return world;
  }

  expand(world: Int32Array, emit: Emit): void {
    const step: Step = (label, act) => {
      this.#next.set(world);
      this.#table.violation = undefined;
      act(this.#next);
      emit(this.#next, label, this.#table.violation);
    };
    for (let writer = 0; writer < this.#bounds.writers; writer += 1) this.#writers.expand(world, writer, step);
    this.#table.expand(world, step);
    this.#reader.expand(world, step);
  }

  /** Phases of the writer's machine that were reached. */
  get phases(): ReadonlySet<FenceState['phase']> {
    return new Set(this.#writers.machine.all().map(({ phase }) => phase));
  }

  /** Distinct states of the real machines. */
  get machineStates(): number {
    return this.#writers.machine.all().length + this.#reader.machine.all().length;
  }

  /** Distinct (state, event) pairs that the real machines were run on. */
  get machineSteps(): number {
    return this.#writers.machine.calls + this.#reader.machine.calls;
  }
}
