import { parseArgs } from 'node:util';
import { crashCampaign } from './campaign.ts';

/**
 * Crashes for real, through iSCSI (npm run build first):
 *   npm run crash                              100 rounds with SIGKILL
 *   npm run crash -- --power-cut               the same on a disk that loses what was not synced
 *   npm run crash -- --in-thread               either of them, the volume on a second I/O thread
 *   npm run crash -- --rounds N --seed S
 */
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    'power-cut': { type: 'boolean', default: false },
    'in-thread': { type: 'boolean', default: false },
  },
});
const started = performance.now();
const report = await crashCampaign({
  rounds: Number(values.rounds),
  seed: Number(values.seed),
  powerCut: values['power-cut'],
  inThread: values['in-thread'],
  tell: (line) => process.stdout.write(`${line}\n`),
});
const { wrong, ...figures } = report;
process.stdout.write(`${JSON.stringify({ ...figures, seconds: Math.round((performance.now() - started) / 1000) })}\n`);
for (const line of wrong) process.stdout.write(`${line}\n`);
process.stdout.write(`${wrong.length === 0 ? 'nothing was lost, mixed or made up' : 'FAILED'}\n`);
process.exitCode = wrong.length === 0 ? 0 : 1;
