import { sleep, systemClock } from '../../gateway/base/clock.ts';
import { MIB } from '../../gateway/base/units.ts';
import { SimRandom } from '../sim/sim-random.ts';
import type { TargetState } from './fuzz-world.ts';
import { MASKED_LUN, PRIVATE_TARGET, SHARED_TARGET } from './fuzz-world.ts';
import { Scenario } from './scenario.ts';
import type { ScenarioResult } from './scenario.ts';
import { TargetProcess } from './target-process.ts';
import { Witness } from './witness.ts';

export interface CampaignOptions {
  readonly seed: number;
  /** The first step, and how many damaged PDUs (or steps, or seconds) end the campaign, whichever comes first. */
  readonly firstStep: number;
  readonly mutated: number;
  readonly steps: number;
  readonly seconds: number;
  /** Steps under way at once. */
  readonly lanes: number;
  /** How long the witnesses wait for any answer. */
  readonly boundMs: number;
  /** A bug of plants.ts. */
  readonly planted?: string;
  readonly print?: (line: string) => void;
}

export interface CampaignReport {
  readonly failure: string | undefined;
  /** Steps that were under way when it failed, the oldest first, and those that had just ended. */
  readonly suspects: readonly number[];
  readonly totals: Readonly<Record<keyof ScenarioResult, number>>;
  readonly steps: number;
  readonly checkpoints: number;
  readonly seconds: number;
  readonly witnessAnswers: number;
  readonly slowestAnswerMs: number;
  readonly firstHeapBytes: number;
  readonly lastHeapBytes: number;
}

/** What the heap may grow between the first checkpoint and any other. */
const HEAP_SLACK_BYTES = 24 * MIB;
const HANDLE_SLACK = 2;
/** Damaged PDUs between two checkpoints. */
const CHECKPOINT_EVERY = 40_000;
const FIRST_CHECKPOINT = 2000;
/** The target gives up a dead peer after some seconds. */
const QUIET_MS = 10_000;
/** Between two looks at a target that has not let go of everything yet: it is another process, and only its state tells. */
const LOOK_AGAIN_MS = 100;
const RECENT_STEPS = 40;

/** Runs steps against a target of its own until enough have been run, or something is wrong. */
export class Campaign {
  readonly #options: CampaignOptions;
  readonly #underWay = new Set<number>();
  readonly #recent: number[] = [];
  readonly #totals = { sent: 0, mutated: 0, connections: 0, sessions: 0, received: 0, good: 0, refused: 0 };
  #nextStep: number;
  #steps = 0;
  #checkpoints = 0;
  #baseline: TargetState | undefined;
  #last: TargetState | undefined;
  #failure: string | undefined;
  #tellFailure: () => void = () => undefined;
  readonly #failed = new Promise<void>((resolve) => {
    this.#tellFailure = resolve;
  });
  #suspects: number[] = [];

  constructor(options: CampaignOptions) {
    this.#options = options;
    this.#nextStep = options.firstStep;
  }

  async run(): Promise<CampaignReport> {
    const { seed, planted, boundMs } = this.#options;
    const start = performance.now();
    const { target, port } = await TargetProcess.start(seed, planted);
    const random = new SimRandom(`${seed}/witness`);
    const witness = (name: string, lun: number, mayBeEnded: boolean): Witness =>
      new Witness({ port, target: name, lun, boundMs, mayBeEnded, random: random.split(`${name} ${lun}`) });
    const witnesses = [
      witness(PRIVATE_TARGET, 0, false),
      witness(SHARED_TARGET, 0, true),
      witness(SHARED_TARGET, MASKED_LUN, true),
    ];
    void target.died().then((how) => {
      this.#fail(how);
    });
    const work = witnesses.map((one) =>
      one.run().catch((error: unknown) => {
        this.#fail(describe(error));
      }),
    );
    await this.#legs(target, port, witnesses, start);
    for (const one of witnesses) one.stop();
    if (this.#failure === undefined) {
      await Promise.all(work);
      const wrong = await target.stop(QUIET_MS);
      if (wrong !== undefined) this.#fail(wrong);
    } else target.kill();
    return {
      failure: this.#failure,
      suspects: this.#suspects,
      totals: this.#totals,
      steps: this.#steps,
      checkpoints: this.#checkpoints,
      seconds: (performance.now() - start) / 1000,
      witnessAnswers: witnesses.reduce((sum, { answers }) => sum + answers, 0),
      slowestAnswerMs: Math.max(...witnesses.map(({ slowestMs }) => slowestMs)),
      firstHeapBytes: this.#baseline?.heapBytes ?? 0,
      lastHeapBytes: this.#last?.heapBytes ?? 0,
    };
  }

  /** From checkpoint to checkpoint until the end. */
  async #legs(target: TargetProcess, port: number, witnesses: readonly Witness[], start: number): Promise<void> {
    const { mutated, seconds, lanes, print } = this.#options;
    const isOver = (): boolean =>
      this.#failure !== undefined ||
      this.#totals.mutated >= mutated ||
      this.#stepsLeft() <= 0 ||
      performance.now() - start > seconds * 1000;
    do {
      const legEnd = this.#totals.mutated + (this.#checkpoints === 0 ? FIRST_CHECKPOINT : CHECKPOINT_EVERY);
      const lane = async (): Promise<void> => {
        while (!isOver() && this.#totals.mutated < legEnd) await this.#step(port);
      };
      await Promise.all(Array.from({ length: lanes }, lane));
      if (this.#failure === undefined) await this.#checkpoint(target, witnesses);
      print?.(
        `${this.#totals.mutated} damaged PDUs, ${this.#steps} steps, ${Math.round((performance.now() - start) / 1000)} s, ` +
          `heap ${Math.round((this.#last?.heapBytes ?? 0) / MIB)} MiB`,
      );
    } while (!isOver());
  }

  #stepsLeft(): number {
    return this.#options.firstStep + this.#options.steps - this.#nextStep;
  }

  async #step(port: number): Promise<void> {
    if (this.#stepsLeft() <= 0) return;
    const step = this.#nextStep;
    this.#nextStep += 1;
    this.#underWay.add(step);
    const onMisdeed = ({ message }: Error): void => {
      this.#fail(message, step);
    };
    try {
      const result = await new Scenario({ port, onMisdeed }, this.#options.seed, step).run();
      for (const [name, count] of Object.entries(result) as [keyof ScenarioResult, number][])
        this.#totals[name] += count;
    } finally {
      this.#steps += 1;
      this.#underWay.delete(step);
      this.#recent.push(step);
      if (this.#recent.length > RECENT_STEPS) this.#recent.shift();
    }
  }

  /** The first failure counts; what comes after it is its consequence. */
  #fail(message: string, step?: number): void {
    if (this.#failure !== undefined) return;
    this.#failure = message;
    this.#tellFailure();
    const suspects = step === undefined ? [...this.#underWay, ...this.#recent] : [step];
    this.#suspects = suspects.sort((a, b) => a - b);
  }

  /**
   * With nobody but the witnesses connected, and those at rest, the target must come to hold no more than at the first
   * checkpoint. Then the witnesses look at every byte of theirs.
   */
  async #checkpoint(target: TargetProcess, witnesses: readonly Witness[]): Promise<void> {
    try {
      const examined = this.#examine(target, witnesses);
      await Promise.race([examined, this.#failed]);
      if (this.#failure === undefined) this.#checkpoints += 1;
    } catch (error) {
      this.#fail(describe(error));
    }
  }

  async #examine(target: TargetProcess, witnesses: readonly Witness[]): Promise<void> {
    const end = performance.now() + QUIET_MS;
    for (let audited = false; ; audited = true) {
      const resumes = await Promise.all(witnesses.map((one) => one.pause()));
      if (!audited) for (const one of witnesses) await one.audit();
      const state = await target.state(this.#options.boundMs);
      for (const resume of resumes) resume();
      const wrong = this.#judge(state, witnesses.length);
      if (wrong === undefined) {
        this.#baseline ??= state;
        this.#last = state;
        return;
      }
      if (performance.now() > end) throw new Error(wrong);
      await sleep(systemClock, LOOK_AGAIN_MS);
    }
  }

  #judge(state: TargetState, witnesses: number): string | undefined {
    const { connections, sessions, writeBytes, readBytes, heapBytes, handles } = state;
    if (connections !== witnesses || sessions !== witnesses)
      return `${connections} connections and ${sessions} sessions are left, where ${witnesses} should be`;
    if (writeBytes !== 0 || readBytes !== 0)
      return `${writeBytes} bytes of writes and ${readBytes} of reads are accounted for when nobody does anything`;
    const { heapBytes: firstHeap, handles: firstHandles, readOnlyDigest } = this.#baseline ?? state;
    if (handles > firstHandles + HANDLE_SLACK) return `${handles} handles and timers where there were ${firstHandles}`;
    if (heapBytes > firstHeap + HEAP_SLACK_BYTES) return `the heap has grown from ${firstHeap} to ${heapBytes} bytes`;
    if (readOnlyDigest !== state.readOnlyDigest || readOnlyDigest !== BLANK_DIGEST)
      return 'the LUN that may only be read has changed';
    return undefined;
  }
}

/** SHA-256 of the read-only LUN, which holds zeros. */
const BLANK_DIGEST = '5647f05ec18958947d32874eeb788fa396a05d0bab7c1b71f112ceb7e9b31eee';

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
