import { parseArgs } from 'node:util';
import { describeError } from '../../gateway/base/errors.ts';
import { BREAKAGES } from './breakages.ts';
import { replayCommand, runSeed } from './run-seed.ts';
import type { Breakage } from './sim-process.ts';

/**
 * The simulation by hand:
 *   npm run sim -- --seed N [--trace]           one world, exactly as before
 *   npm run sim -- --seeds N [--from M]         many, until one fails
 *   npm run sim -- --operations N [--from M]    as many seeds as N calls of initiators take; the long form is 1000000
 *   npm run sim -- --seeds N --broken 'a rule'  with one rule broken (names: breakages.ts)
 * `--keep-going` does not end at the first seed that fails.
 */
const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    operations: { type: 'string' },
    from: { type: 'string', default: '1' },
    trace: { type: 'boolean', default: false },
    broken: { type: 'string' },
    'keep-going': { type: 'boolean', default: false },
  },
});

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

function chosenBreakage(): Breakage | undefined {
  if (values.broken === undefined) return undefined;
  const known: Readonly<Record<string, Breakage>> = BREAKAGES;
  const breakage = known[values.broken];
  if (breakage === undefined) throw new Error(`no such rule; there are: ${Object.keys(known).join(', ')}`);
  return breakage;
}

/** A word that is no number would run nothing, and call that a success. */
function whole(text: string | undefined, flag: string, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`--${flag} ${text} is not a whole number above 0`);
  return value;
}

const from = whole(values.seed ?? values.from, values.seed === undefined ? 'from' : 'seed', 1);
const otherwise = values.operations === undefined ? 1000 : Infinity;
const count = values.seed === undefined ? whole(values.seeds, 'seeds', otherwise) : 1;
const enough = whole(values.operations, 'operations', Infinity);
const breakage = chosenBreakage();
const totals: Record<string, number> = {};
let failed = 0;
let ran = 0;
let operations = 0;
const startedAt = performance.now();
for (let seed = from; seed < from + count && operations < enough; seed++) {
  const report = await runSeed(seed, { breakage, trace: values.trace ? print : undefined });
  ran++;
  operations += report.operations;
  for (const [name, times] of Object.entries(report.counts)) totals[name] = (totals[name] ?? 0) + times;
  if (report.failure !== undefined) {
    failed++;
    const { failure } = report;
    print(
      `seed ${seed} FAILED: ${failure instanceof Error ? (failure.stack ?? failure.message) : describeError(failure)}`,
    );
    if (failure instanceof Error && failure.cause instanceof Error) print(`caused by ${failure.cause.stack ?? ''}`);
    print(`replay: ${replayCommand(seed)}`);
    if (!values['keep-going']) break;
  } else if (values.seed !== undefined) print(`seed ${seed} passed, trace ${report.hash}`);
  if (ran % 100 === 0) print(`${ran} seeds, ${operations} operations, ${failed} failed`);
}
const seconds = (performance.now() - startedAt) / 1000;
print(
  `${ran} seeds, ${operations} operations in ${seconds.toFixed(0)} s (${(operations / seconds).toFixed(0)}/s), ${failed} failed`,
);
print(
  Object.entries(totals)
    .map(([name, times]) => `${name} ${times}`)
    .join(', '),
);
process.exitCode = failed > 0 ? 1 : 0;
