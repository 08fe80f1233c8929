export interface Machine<State, Event, Effect> {
  readonly start: { readonly state: State; readonly effects: readonly Effect[] };
  readonly next: (state: State, event: Event) => { readonly state: State; readonly effects: readonly Effect[] };
}

export interface MemoStep<Effect> {
  readonly state: number;
  readonly effects: readonly Effect[];
}

/**
 * Runs a pure machine once per distinct (state, event) and remembers the answer. States are numbered; equal data has
 * one number. `about` is worked out once per state.
 */
export class Memo<State, Event, Effect, About> {
  readonly #machine: Machine<State, Event, Effect>;
  readonly #about: (state: State) => About;
  readonly #first: number;
  readonly #states: State[] = [];
  readonly #abouts: About[] = [];
  readonly #ids = new Map<string, number>();
  readonly #steps: Map<number, MemoStep<Effect>>[] = [];
  #calls = 0;

  /** Numbers below `first` are left for the caller's own use. */
  constructor(machine: Machine<State, Event, Effect>, about: (state: State) => About, first: number) {
    this.#machine = machine;
    this.#about = about;
    this.#first = first;
  }

  start(): MemoStep<Effect> {
    const { state, effects } = this.#machine.start;
    return { state: this.#number(state), effects };
  }

  /** `code` stands for the event: equal codes, equal events. */
  next(id: number, code: number, event: () => Event): MemoStep<Effect> {
    const steps = this.#steps[id - this.#first];
    if (!steps) throw new Error(`there is no state ${id}`);
    const known = steps.get(code);
    if (known) return known;
    this.#calls += 1;
    const { state, effects } = this.#machine.next(this.state(id), event());
    const step = { state: this.#number(state), effects };
    steps.set(code, step);
    return step;
  }

  state(id: number): State {
    const state = this.#states[id - this.#first];
    if (state === undefined) throw new Error(`there is no state ${id}`);
    return state;
  }

  about(id: number): About {
    const about = this.#abouts[id - this.#first];
    if (about === undefined) throw new Error(`there is no state ${id}`);
    return about;
  }

  /** Distinct (state, event) pairs the machine itself was run on. */
  get calls(): number {
    return this.#calls;
  }

  all(): readonly State[] {
    return this.#states;
  }

  #number(state: State): number {
    const key = JSON.stringify(state);
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const id = this.#first + this.#states.length;
    this.#ids.set(key, id);
    this.#states.push(state);
    this.#abouts.push(this.#about(state));
    this.#steps.push(new Map());
    return id;
  }
}
