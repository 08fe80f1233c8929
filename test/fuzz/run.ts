import { parseArgs } from 'node:util';
import { Campaign } from './campaign.ts';
import type { CampaignReport } from './campaign.ts';
import { PLANTS } from './plants.ts';

/**
 * The fuzzer by hand:
 *   npm run fuzz                            a million damaged PDUs, a new seed
 *   npm run fuzz -- --short                 what `npm test` runs
 *   npm run fuzz -- --pdus N --seconds N    less, or for so long
 *   npm run fuzz -- --seed N --step M       one step as before; --steps M-L: several
 *   npm run fuzz -- --plant 'a bug'         against a target with a bug (names: plants.ts)
 */
const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    step: { type: 'string' },
    steps: { type: 'string' },
    pdus: { type: 'string', default: '1000000' },
    seconds: { type: 'string', default: '86400' },
    lanes: { type: 'string', default: '12' },
    bound: { type: 'string', default: '10000' },
    short: { type: 'boolean', default: false },
    plant: { type: 'string' },
  },
});

const REPLAYED_ALONE = 24;
const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
const [first = 0, last = Number.MAX_SAFE_INTEGER] = (values.steps ?? values.step)?.split('-').map(Number) ?? [];
const lastStep = values.step === undefined ? last : first;

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

function campaign(firstStep: number, steps: number, lanes: number, silent: boolean): Promise<CampaignReport> {
  return new Campaign({
    seed,
    firstStep,
    steps,
    mutated: values.short ? 15_000 : Number(values.pdus),
    seconds: values.short ? 25 : Number(values.seconds),
    lanes,
    boundMs: Number(values.bound),
    ...(values.plant === undefined ? {} : { planted: values.plant }),
    ...(silent ? {} : { print }),
  }).run();
}

if (values.plant !== undefined && !(values.plant in PLANTS))
  throw new Error(`no such bug; there are: ${Object.keys(PLANTS).join(', ')}`);
print(`seed ${seed}`);
const report = await campaign(first, Math.max(1, lastStep - first + 1), Number(values.lanes), false);
const { totals } = report;
print(
  `${totals.mutated} damaged of ${totals.sent} PDUs in ${report.steps} steps, ${totals.sessions} sessions on ${totals.connections} ` +
    `connections; ${totals.received} PDUs received, ${totals.good} commands GOOD, ${totals.refused} not; ` +
    `witnesses: ${report.witnessAnswers} answers, the slowest ${Math.round(report.slowestAnswerMs)} ms; ` +
    `${report.checkpoints} checkpoints, heap ${report.firstHeapBytes} to ${report.lastHeapBytes} bytes; ` +
    `${Math.round(report.seconds)} s, ${Math.round(totals.mutated / report.seconds)} damaged PDUs a second`,
);
if (report.failure !== undefined) {
  process.exitCode = 1;
  print(`FAILED: ${report.failure}`);
  const words = values.plant === undefined ? '' : ` --plant '${values.plant}'`;
  const [oldest = 0] = report.suspects;
  const newest = report.suspects.at(-1) ?? oldest;
  print(`replay: npm run fuzz -- --seed ${seed} --steps ${oldest}-${newest}${words}`);
  if (values.step === undefined) {
    // One step that does it alone is worth more than a crowd.
    for (const step of report.suspects.slice(-REPLAYED_ALONE)) {
      const alone = await campaign(step, 1, 1, true);
      if (alone.failure === undefined) continue;
      print(`alone: npm run fuzz -- --seed ${seed} --step ${step}${words}\n${alone.failure}`);
      break;
    }
  }
}
