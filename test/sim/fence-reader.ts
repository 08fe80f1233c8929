import { readerMachine } from '../../gateway/maintenance/walk-machine.ts';
import type { ReaderEffect, ReaderEvent, ReaderRules, ReaderState } from '../../gateway/maintenance/walk-machine.ts';
import { ASK, ASK_LIST, ASK_VOLUME, DEAD, FIRST_MACHINE_STATE, OFF, STATE, TAIL, askFor, at } from './fence-layout.ts';
import type { Step } from './fence-layout.ts';
import { Memo } from './fence-memo.ts';
import type { FenceTable } from './fence-table.ts';
import { chainOf, idOf } from './fence-versions.ts';
import type { Version } from './fence-versions.ts';

/** The true tail when it began. */
const BEGAN = 2;
export const READER_WIDTH = 3;

/** One reader, the real one, whose walk begins at any time. It reads one version at a time: no page is a snapshot. */
export class FenceReader {
  readonly machine: Memo<ReaderState, ReaderEvent<Version>, ReaderEffect, number>;
  readonly #table: FenceTable;
  readonly #base: number;
  readonly #mostWalks: number;

  constructor(table: FenceTable, base: number, mostWalks: number, rules: ReaderRules) {
    this.#table = table;
    this.#base = base;
    this.#mostWalks = mostWalks;
    const walks = (state: ReaderState): number => ('walks' in state ? state.walks : 0);
    this.machine = new Memo(readerMachine(chainOf, Infinity, rules), walks, FIRST_MACHINE_STATE);
  }

  expand(world: Int32Array, step: Step): void {
    const state = at(world, this.#base + STATE);
    if (state === DEAD || this.#mostWalks === 0) return;
    if (state === OFF) {
      step(
        () => 'the reader begins',
        (next) => {
          const { state: first, effects } = this.machine.start();
          next[this.#base + BEGAN] = at(next, TAIL);
          next[this.#base + STATE] = first;
          this.#perform(next, effects);
        },
      );
      return;
    }
    const ask = at(world, this.#base + ASK);
    if (ask === ASK_VOLUME) {
      step(
        () => `the reader reads ${this.#table.volumeText(world)}`,
        (next) => {
          const view = this.#table.view(next);
          this.#dispatch(next, 1 + 2 * this.#table.viewCode(next), { type: 'volume', view });
        },
      );
      return;
    }
    const found = this.#table.slot(world, ask >> 2);
    step(
      () => `the reader lists from ${ask >> 2}: ${this.#table.versionText(found)}`,
      (next) => {
        const entries = found === 0 ? [] : [this.#table.versions.entry(found)];
        this.#dispatch(next, 2 * found, { type: 'page', entries });
      },
    );
  }

  #dispatch(next: Int32Array, code: number, event: ReaderEvent<Version>): void {
    const { state, effects } = this.machine.next(at(next, this.#base + STATE), code, () => event);
    next[this.#base + STATE] = state;
    this.#perform(next, effects);
    const now = this.machine.state(state);
    if (now.phase === 'done') this.#checkRead(next, idOf(now.position.chain));
    else if (now.phase === 'failed') {
      if (now.why === 'damaged') this.#table.blame('the reader reports damage where there is none');
    } else if (this.machine.about(state) <= this.#mostWalks) return;
    next[this.#base + STATE] = DEAD;
    next[this.#base + ASK] = 0;
    next[this.#base + BEGAN] = 0;
  }

  #perform(next: Int32Array, effects: readonly ReaderEffect[]): void {
    for (const effect of effects) {
      if (effect.type === 'read-volume') next[this.#base + ASK] = ASK_VOLUME;
      if (effect.type === 'list') next[this.#base + ASK] = askFor(ASK_LIST, effect.from);
    }
  }

  #checkRead(next: Int32Array, id: number): void {
    this.#table.checkInHistory(next, id, 'the reader accepted what is not history');
    const read = this.#table.versions.at(id).n;
    const began = this.#table.versions.at(at(next, this.#base + BEGAN)).n;
    if (read < began) this.#table.blame(`the reader missed history: it read to ${read}, and ${began} was there before`);
  }
}
