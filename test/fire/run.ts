import { parseArgs } from 'node:util';
import { fireCampaign } from './campaign.ts';
import { FIRE_CASES, SHORT_CASES } from './cases.ts';

/**
 * A gateway whose cloud is behind the fault proxy, one trouble after the other (npm run build first):
 *   npm run fire                        every trouble once
 *   npm run fire -- --only 'lost'       those whose name has this in it
 *   npm run fire -- --rounds N --seed S
 */
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
  },
});
const cases = [...FIRE_CASES, ...SHORT_CASES.slice(0, 1)].filter(({ name }) => name.includes(values.only));
for (let round = 0; round < Number(values.rounds); round += 1) {
  const seed = Number(values.seed) + round;
  const started = performance.now();
  const tell = (line: string): void => void process.stdout.write(`${line}\n`);
  const { wrong, cases: outcomes, ...figures } = await fireCampaign({ cases, seed, tell });
  const longest = Math.max(...outcomes.map(({ recoveryMs }) => recoveryMs));
  const seconds = Math.round((performance.now() - started) / 1000);
  tell(
    JSON.stringify({ seed, troubles: outcomes.length, ...figures, longestRecoveryMs: Math.round(longest), seconds }),
  );
  for (const line of wrong) tell(line);
  tell(wrong.length === 0 ? 'nothing was lost or mixed, and all was well again by itself' : 'FAILED');
  if (wrong.length > 0) process.exitCode = 1;
}
