import { SimRandom } from '../../sim/sim-random.ts';
import type { Fault, FaultPlan, FaultRule, Service } from './plan.ts';

/** What a rule looks at. */
export interface Asked {
  readonly service: Service;
  readonly operation: string;
  /** Of the key pair that the request is signed with; '' without a signature. */
  readonly accessKey: string;
}

/**
 * Gives each request its fate. Each rule has chances of its own, drawn once for each request that it matches: the same requests in the same
 * order get the same faults, whatever other rules there are.
 */
export class FaultChooser {
  readonly #rules: readonly {
    readonly rule: FaultRule;
    readonly random: SimRandom;
    matched: number;
    fired: number;
  }[];

  constructor({ rules = [], seed = 0 }: FaultPlan) {
    const random = new SimRandom(`faults ${seed}`);
    this.#rules = rules.map((rule, index) => ({ rule, random: random.split(`rule ${index}`), matched: 0, fired: 0 }));
  }

  /** How often each rule has applied, in the order of the plan. */
  get fired(): readonly number[] {
    return this.#rules.map(({ fired }) => fired);
  }

  /** undefined: nothing happens to it. */
  choose(asked: Asked): Fault | undefined {
    let chosen: Fault | undefined;
    for (const entry of this.#rules) {
      const { rule } = entry;
      if (!matches(rule, asked)) continue;
      entry.matched += 1;
      const isDrawn = entry.random.fraction() < (rule.share ?? 1);
      if (chosen !== undefined || !isDrawn || entry.matched <= (rule.after ?? 0)) continue;
      if (entry.fired >= (rule.times ?? Infinity)) continue;
      entry.fired += 1;
      chosen = rule.fault;
    }
    return chosen;
  }
}

function matches({ service, operations, accessKeys }: FaultRule, asked: Asked): boolean {
  return (
    (service === undefined || service === asked.service) &&
    (operations?.includes(asked.operation) ?? true) &&
    (accessKeys?.includes(asked.accessKey) ?? true)
  );
}
