import { Troublemaker } from './troublemaker.ts';
import { checkEnd } from './final-check.ts';
import { makePlan, type Plan } from './plan.ts';
import { startProcessWith, type Breakage } from './sim-process.ts';
import type { StartProcess } from './sim-gateway.ts';
import { SimRandom } from './sim-random.ts';
import { World } from './world.ts';

export interface SeedReport {
  readonly seed: number;
  /** Two runs of a seed must agree in it. */
  readonly hash: string;
  readonly failure: unknown;
  readonly counts: Readonly<Record<string, number>>;
  /** Calls of initiators. */
  readonly operations: number;
}

export interface SeedOptions {
  readonly trace?: ((line: string) => void) | undefined;
  readonly breakage?: Breakage | undefined;
  readonly start?: (plan: Plan, breakage: Breakage | undefined) => StartProcess;
}

/** What a person types to see the same world again. */
export function replayCommand(seed: number): string {
  return `npm run sim -- --seed ${seed} --trace`;
}

/** Runs one world from its seed to its end. */
export async function runSeed(seed: number, options: SeedOptions = {}): Promise<SeedReport> {
  const { trace, breakage, start = startProcessWith } = options;
  const uninstall = breakage?.install?.();
  try {
    return await runWorld(seed, start, breakage, trace);
  } finally {
    uninstall?.();
  }
}

async function runWorld(
  seed: number,
  start: NonNullable<SeedOptions['start']>,
  breakage: Breakage | undefined,
  trace: SeedOptions['trace'],
): Promise<SeedReport> {
  const random = new SimRandom(seed);
  const drawn = makePlan(random.split('plan'));
  const plan = breakage?.plan?.(drawn, random.split('breakage')) ?? drawn;
  const world = new World(random, plan, start(plan, breakage));
  world.clock.traceTo(trace);
  const trouble = new Troublemaker(world);
  let ended = false;
  const script = async (): Promise<void> => {
    await trouble.makeAll();
    if (world.failure === undefined) await checkEnd(world);
  };
  script()
    .catch((error: unknown) => {
      world.fail(error);
    })
    .finally(() => {
      ended = true;
    });
  try {
    const how = await world.clock.run({ when: () => ended || world.failure !== undefined });
    if (how === 'idle') world.fail(new Error('the world fell idle before its end'));
  } catch (error) {
    world.fail(error);
  }
  for (const gateway of world.gateways) gateway.life.alive = false;
  const { refused: _, ...calls } = world.work;
  const operations = Object.values(calls).reduce((sum, times) => sum + times, 0);
  const counts = { ...world.counts, ...world.work, ...trouble.made };
  return { seed, hash: world.clock.traceHash(), failure: world.failure, counts, operations };
}
