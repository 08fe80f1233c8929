import { describeError } from '../../gateway/base/errors.ts';
import { replayCommand, runSeed } from './run-seed.ts';

/** Each of the two files runs at most so many worlds, for at most so long, whichever ends first. By hand: `npm run sim -- --seeds 100000`. */
export const SEEDS_PER_FILE = Number(process.env['FARSHORE_SIM_SEEDS'] ?? 2000);
const SECONDS = Number(process.env['FARSHORE_SIM_SECONDS'] ?? 110);
/** Fewer would say nothing, however slow the machine is. */
export const FEWEST_SEEDS = Math.min(SEEDS_PER_FILE, 200);
/** Against a hang only. */
export const PATIENCE_MS = 900_000;

/** Runs the worlds from `first` on until one fails or the time is over; answers how many there were. Throws what the first one failed with. */
export async function runSeeds(first: number): Promise<number> {
  const startedAt = performance.now();
  let ran = 0;
  while (ran < SEEDS_PER_FILE && (ran < FEWEST_SEEDS || performance.now() < startedAt + SECONDS * 1000)) {
    const seed = first + ran;
    const { failure } = await runSeed(seed);
    if (failure !== undefined) {
      const why = describeError(failure);
      throw new Error(`seed ${seed}: ${why}\nreplay with: ${replayCommand(seed)}`, { cause: failure });
    }
    ran++;
  }
  const seconds = (performance.now() - startedAt) / 1000;
  process.stdout.write(`simulation: seeds ${first} to ${first + ran - 1}, ${ran} worlds in ${seconds.toFixed(0)} s\n`);
  return ran;
}
