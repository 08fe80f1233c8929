import { fenceMachine } from '../../gateway/replication/fence-machine.ts';
import type { FenceEffect, FenceEvent, FenceState } from '../../gateway/replication/fence-machine.ts';
import type { Bounds, Mutations } from './fence-bounds.ts';
import {
  ASK,
  ASK_LIST,
  ASK_RAISE,
  ASK_VOLUME,
  DEAD,
  EPOCH,
  FIRST_MACHINE_STATE,
  LOST_RAISES_LEFT,
  OFF,
  RESENDS_LEFT,
  SENDS_LEFT,
  STATE,
  STRAY_RAISE,
  askFor,
  at,
} from './fence-layout.ts';
import type { Step } from './fence-layout.ts';
import { Memo } from './fence-memo.ts';
import type { FenceTable } from './fence-table.ts';
import { chainOf, idOf } from './fence-versions.ts';
import type { Version } from './fence-versions.ts';

/** Inside a writer's part, after STATE and ASK. Versions sent by this start: */
const SENT = 2;
/** When started again in its old epoch (keepEpoch): that epoch; else 0. */
const OLD_EPOCH = 3;
const PUTS = 4;

/** A put: version | copies under way | answers under way | what it may replace. */
const VERSION_MASK = 0xfff;
const COPY = 1 << 12;
const COPIES_MASK = 7 << 12;
const ANSWER_OK = 1 << 15;
const ANSWER_CONFLICT = 1 << 16;
const READ_BACK = 1 << 17;
const ANSWERS = ANSWER_OK | ANSWER_CONFLICT | READ_BACK;
const REPLACES_SHIFT = 18;

type Event = FenceEvent<Version>;

/** What the enumeration needs to know of a machine's state, worked out once. */
interface About {
  readonly phase: FenceState['phase'];
  readonly walks: number;
  readonly raises: number;
  readonly epoch: number;
  /** Id of the last version sent. */
  readonly last: number;
  readonly underWay: number;
  readonly awaitsPut: readonly number[];
  readonly awaitsRead: readonly number[];
}

/** Codes of events; equal codes, equal events. */
const CODE = {
  volume: (view: number) => 8 * view + 1,
  page: (found: number) => 8 * found + 2,
  raised: (outcome: number) => 8 * outcome + 3,
  notified: 4,
  send: (id: number) => 8 * id + 5,
  answer: (n: number, outcome: number) => 8 * (n * 4 + outcome) + 6,
  found: (n: number, found: number) => 8 * (n + 64 * found) + 7,
};
const OUTCOMES = ['ok', 'conflict', 'unknown'] as const;
const [OK, CONFLICT, UNKNOWN] = [0, 1, 2] as const;

/**
 * Writers, each the real machine, and the network between them and the table. Reads happen at one instant, together with what the
 * machine makes of them: what it sends after that may be as late as it likes. Puts are copies under way, which land in any order and at any
 * time, also after their writer has died; answers are heard in any order, or never.
 */
export class FenceWriters {
  readonly machine: Memo<FenceState, Event, FenceEffect, About>;
  readonly width: number;
  readonly #table: FenceTable;
  readonly #bounds: Bounds;
  readonly #mutations: Mutations;
  readonly #first: number;

  /** `first`: where the first writer's part begins. */
  constructor(table: FenceTable, first: number, bounds: Bounds, mutations: Mutations) {
    this.#table = table;
    this.#bounds = bounds;
    this.#mutations = mutations;
    this.#first = first;
    this.machine = new Memo(fenceMachine(chainOf, mutations.fence), aboutState, FIRST_MACHINE_STATE);
    const mostPuts = bounds.versions * (mutations.keepEpoch ? 2 : 1) + bounds.walks * bounds.raises + 1;
    this.width = PUTS + mostPuts;
  }

  /** What the bounds leave of one writer's next steps. */
  expand(world: Int32Array, writer: number, step: Step): void {
    const base = this.#first + writer * this.width;
    const name = `w${writer}`;
    const state = at(world, base + STATE);
    if (state === OFF) {
      // Writers are alike: the next one to start is always the first that has not.
      if (writer === 0 || at(world, base - this.width + STATE) !== OFF)
        step(
          () => `${name} starts`,
          (next) => {
            this.#start(next, base);
          },
        );
      return;
    }
    if (state !== DEAD) {
      this.#expandAsk(world, base, name, step);
      if (this.machine.about(state).phase === 'active') this.#expandActive(world, base, name, step);
    }
    for (let put = base + PUTS; put < base + this.width && at(world, put) !== 0; put += 1) {
      this.#expandArrival(world, put, base, name, step);
      if (state !== DEAD) this.#expandAnswers(world, put, base, name, step);
    }
  }

  #start(next: Int32Array, base: number): void {
    const { state, effects } = this.machine.start();
    next[base + STATE] = state;
    next[base + ASK] = 0;
    this.#perform(next, base, effects);
  }

  #expandAsk(world: Int32Array, base: number, name: string, step: Step): void {
    const ask = at(world, base + ASK);
    const from = ask >> 2;
    switch (ask & 3) {
      case ASK_VOLUME:
        step(
          () => `${name} reads ${this.#table.volumeText(world)}`,
          (next) => {
            next[base + ASK] = 0;
            const epoch = this.#epochShown(next, base);
            const code = CODE.volume(this.#table.viewCode(next, epoch));
            this.#dispatch(next, base, code, () => ({ type: 'volume', view: this.#table.view(next, epoch) }));
          },
        );
        return;
      case ASK_RAISE:
        this.#expandRaise(world, base, from, name, step);
        return;
      case ASK_LIST: {
        const found = this.#table.slot(world, from);
        step(
          () => `${name} lists from ${from}: ${this.#table.versionText(found)}`,
          (next) => {
            next[base + ASK] = 0;
            const entries = found === 0 ? [] : [this.#table.versions.entry(found)];
            this.#dispatch(next, base, CODE.page(found), () => ({ type: 'page', entries }));
          },
        );
        return;
      }
      default:
    }
  }

  #expandRaise(world: Int32Array, base: number, from: number, name: string, step: Step): void {
    const raised = (how: string, outcome: 0 | 1 | 2, act: (next: Int32Array) => void): void => {
      step(
        () => `${name} raises the epoch to ${from + 1}: ${how}`,
        (next) => {
          next[base + ASK] = 0;
          act(next);
          this.#dispatch(next, base, CODE.raised(outcome), () => ({ type: 'raised', outcome: OUTCOMES[outcome] }));
        },
      );
    };
    const land = (next: Int32Array): void => {
      next[EPOCH] = from + 1;
    };
    const loseAnswer = (next: Int32Array): void => {
      next[LOST_RAISES_LEFT] = at(next, LOST_RAISES_LEFT) - 1;
    };
    if (at(world, base + OLD_EPOCH) > 0) {
      raised('it has it already', OK, () => undefined);
      return;
    }
    const wins = at(world, EPOCH) === from;
    if (wins) raised('ok', OK, land);
    else raised('conflict', CONFLICT, () => undefined);
    if (at(world, LOST_RAISES_LEFT) === 0) return;
    if (wins)
      raised('done, the answer is lost', UNKNOWN, (next) => {
        land(next);
        loseAnswer(next);
      });
    raised('under way, given up', UNKNOWN, (next) => {
      next[STRAY_RAISE] = from + 1;
      loseAnswer(next);
    });
  }

  /** Broken rule 5: who starts again in its old epoch takes it for the next one. */
  #epochShown(next: Int32Array, base: number): number | undefined {
    const oldEpoch = at(next, base + OLD_EPOCH);
    const looking = this.machine.about(at(next, base + STATE)).phase === 'looking';
    return oldEpoch > 0 && looking ? oldEpoch - 1 : undefined;
  }

  #expandActive(world: Int32Array, base: number, name: string, step: Step): void {
    const { last, underWay, epoch } = this.machine.about(at(world, base + STATE));
    const { versions, depth, slots } = this.#bounds;
    const n = this.#table.versions.at(last).n + 1;
    const sent = at(world, base + SENT);
    if (at(world, SENDS_LEFT) > 0 && sent < versions && underWay < depth && n <= slots)
      step(
        () => `${name} sends version ${n} of epoch ${epoch}`,
        (next) => {
          next[SENDS_LEFT] = at(next, SENDS_LEFT) - 1;
          next[base + SENT] = sent + 1;
          const tag = at(next, base + OLD_EPOCH) > 0 ? 1 : 0;
          this.#send(next, base, this.#table.versions.compose(last, epoch, false, tag));
        },
      );
    if (this.#mutations.keepEpoch && sent > 0 && at(world, base + OLD_EPOCH) === 0)
      step(
        () => `${name} loses its memory and starts again in epoch ${epoch}`,
        (next) => {
          next[base + OLD_EPOCH] = epoch;
          next[base + SENT] = 0;
          this.#start(next, base);
          this.#tidy(next, base);
        },
      );
  }

  #expandArrival(world: Int32Array, put: number, base: number, name: string, step: Step): void {
    const word = at(world, put);
    if ((word & COPIES_MASK) === 0) return;
    const id = word & VERSION_MASK;
    step(
      () => `table: ${name}'s put of ${this.#table.versionText(id)} arrives`,
      (next) => {
        const done = this.#table.put(next, this.#table.versions.at(id), word >> REPLACES_SHIFT);
        next[put] = (word - COPY) | (done ? ANSWER_OK : ANSWER_CONFLICT);
        this.#tidy(next, base);
      },
    );
  }

  #expandAnswers(world: Int32Array, put: number, base: number, name: string, step: Step): void {
    const word = at(world, put);
    const { id, n } = this.#table.versions.at(word & VERSION_MASK);
    const hears = (what: string, outcome: 0 | 1 | 2, act: (next: Int32Array) => void): void => {
      step(
        () => `${name} hears ${what} for ${n}`,
        (next) => {
          act(next);
          const event = (): Event => ({ type: 'put-answer', n, outcome: OUTCOMES[outcome] });
          this.#dispatch(next, base, CODE.answer(n, outcome), event);
        },
      );
    };
    const { awaitsPut } = this.machine.about(at(world, base + STATE));
    if (awaitsPut.includes(id)) {
      for (const [flag, outcome] of [[ANSWER_OK, OK] as const, [ANSWER_CONFLICT, CONFLICT] as const])
        if ((word & flag) !== 0)
          hears(`'${OUTCOMES[outcome]}'`, outcome, (next) => {
            next[put] = word & ~flag;
          });
      if (at(world, RESENDS_LEFT) > 0)
        hears('nothing', UNKNOWN, (next) => {
          next[RESENDS_LEFT] = at(next, RESENDS_LEFT) - 1;
        });
    }
    if ((word & READ_BACK) === 0) return;
    const found = this.#table.slot(world, n);
    step(
      () => `${name} reads ${n} back: ${this.#table.versionText(found)}`,
      (next) => {
        next[put] = word & ~READ_BACK;
        const there = found === 0 ? undefined : this.#table.versions.position(found);
        this.#dispatch(next, base, CODE.found(n, found), () => ({ type: 'found', n, there }));
      },
    );
  }

  #dispatch(next: Int32Array, base: number, code: number, event: () => Event): void {
    const before = at(next, base + STATE);
    const { state, effects } = this.machine.next(before, code, event);
    next[base + STATE] = state;
    this.#perform(next, base, effects);
    // An effect that is answered at once has gone on from here.
    if (at(next, base + STATE) === state) this.#settle(next, base, before, state);
  }

  #perform(next: Int32Array, base: number, effects: readonly FenceEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case 'read-volume':
          next[base + ASK] = ASK_VOLUME;
          break;
        case 'notify':
          this.#dispatch(next, base, CODE.notified, () => ({ type: 'notified' }));
          break;
        case 'raise':
          next[base + ASK] = askFor(ASK_RAISE, effect.from);
          break;
        case 'list':
          next[base + ASK] = askFor(ASK_LIST, effect.from);
          break;
        case 'compose':
          this.#compose(next, base, effect);
          break;
        case 'put': {
          const put = this.#findPut(next, base, effect.n);
          const word = at(next, put) & ((1 << REPLACES_SHIFT) - 1);
          if ((word & COPIES_MASK) === COPIES_MASK) throw new Error('the bounds are too wide');
          next[put] = (word + COPY) | (effect.previousEpoch << REPLACES_SHIFT);
          break;
        }
        case 'read': {
          const put = this.#findPut(next, base, effect.n);
          next[put] = at(next, put) | READ_BACK;
          break;
        }
        case 'active':
          this.#table.checkInHistory(next, idOf(effect.after.chain), 'active, but its takeover is not history');
          break;
        case 'committed':
          this.#checkCommitted(next, base, effect.n);
          break;
        case 'accepted':
        case 'restart':
          break;
      }
    }
  }

  #compose(next: Int32Array, base: number, effect: Extract<FenceEffect, { type: 'compose' }>): void {
    if (effect.after.n >= this.#bounds.slots) {
      this.#die(next, base);
      return;
    }
    const { walks } = this.machine.about(at(next, base + STATE));
    const tag = walks * 2 + (at(next, base + OLD_EPOCH) > 0 ? 1 : 0);
    this.#send(next, base, this.#table.versions.compose(idOf(effect.after.chain), effect.epoch, true, tag));
  }

  /** The bytes of a version are fixed: it gets its place among the puts, then the machine is told. */
  #send(next: Int32Array, base: number, id: number): void {
    const { n } = this.#table.versions.at(id);
    let put = base + PUTS;
    while (at(next, put) !== 0) put += 1;
    if (put >= base + this.width) throw new Error('the bounds are too wide');
    next[put] = id;
    this.#dispatch(next, base, CODE.send(id), () => ({ type: 'send', n, chain: `c${id}` }));
  }

  /** The newest put at n. */
  #findPut(next: Int32Array, base: number, n: number): number {
    for (let put = base + this.width - 1; put >= base + PUTS; put -= 1) {
      const word = at(next, put);
      if (word !== 0 && this.#table.versions.at(word & VERSION_MASK).n === n) return put;
    }
    throw new Error(`no bytes for version ${n}`);
  }

  #checkCommitted(next: Int32Array, base: number, n: number): void {
    const state = this.machine.state(at(next, base + STATE));
    if (state.phase !== 'active' || state.committed.n !== n) throw new Error('committed something else');
    this.#table.checkInHistory(next, idOf(state.committed.chain), 'acked, but not in the history');
  }

  /** Checks a stop, applies the bounds. */
  #settle(next: Int32Array, base: number, before: number, state: number): void {
    const now = this.machine.state(state);
    if (now.phase === 'stopped') {
      const { epoch } = this.machine.about(before);
      if (now.why === 'damaged') this.#table.blame('a writer reports damage where there is none');
      if (now.why === 'fenced' && epoch === at(next, EPOCH))
        this.#table.blame(`fenced in epoch ${epoch}, though nobody raised it`);
      this.#die(next, base);
      return;
    }
    const { walks, raises } = this.machine.about(state);
    if (walks > this.#bounds.walks || raises > this.#bounds.raises) this.#die(next, base);
    else this.#tidy(next, base);
  }

  #die(next: Int32Array, base: number): void {
    next[base + STATE] = DEAD;
    next[base + ASK] = 0;
    next[base + SENT] = 0;
    next[base + OLD_EPOCH] = 0;
    this.#tidy(next, base);
  }

  /** Forgets answers nobody waits for and puts that are over, so that equal worlds look equal. */
  #tidy(next: Int32Array, base: number): void {
    const state = at(next, base + STATE);
    const about = state === DEAD ? undefined : this.machine.about(state);
    let kept = base + PUTS;
    for (let put = base + PUTS; put < base + this.width; put += 1) {
      let word = at(next, put);
      if (word === 0) break;
      const id = word & VERSION_MASK;
      const awaited = about !== undefined && (about.awaitsPut.includes(id) || about.awaitsRead.includes(id));
      if (!awaited) word &= ~ANSWERS;
      next[put] = 0;
      if (!awaited && (word & COPIES_MASK) === 0) continue;
      next[kept] = word;
      kept += 1;
    }
  }
}

function aboutState(state: FenceState): About {
  const walks = 'walks' in state ? state.walks : 0;
  const raises = 'raises' in state ? state.raises : 0;
  const epoch = 'epoch' in state ? state.epoch : 0;
  const about = { phase: state.phase, walks, raises, epoch, last: 0, underWay: 0, awaitsPut: [], awaitsRead: [] };
  if (state.phase === 'taking') {
    const id = [idOf(state.chain)];
    return { ...about, ...(state.awaits === 'put' ? { awaitsPut: id } : { awaitsRead: id }) };
  }
  if (state.phase !== 'active') return about;
  const awaiting = (what: string): number[] =>
    state.puts.filter(({ awaits }) => awaits === what).map(({ chain }) => idOf(chain));
  return {
    ...about,
    last: idOf((state.puts.at(-1) ?? state.committed).chain),
    underWay: state.puts.length,
    awaitsPut: awaiting('put'),
    awaitsRead: awaiting('read'),
  };
}
