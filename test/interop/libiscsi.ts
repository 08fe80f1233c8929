/**
 * libiscsi's conformance suite by hand:
 *   tsx test/interop/libiscsi.ts [URL[,URL]] [--sector=4096] [--only=Suite,Suite.Test] [--limit=SECONDS] [--tool=PATH] [--out=FILE]
 * Without a URL it starts an embedded cloud and a gateway of its own (`npm run build` first). Prints what does not pass
 * and the counts; several URLs (LUNs of their own) run side by side.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { startSite } from '../support/gateway-process.ts';
import { SUITE_TOOL, countVerdicts, listTests, runSuite } from './libiscsi-suite.ts';
import type { SuiteLuns } from './libiscsi-suite.ts';
import { suiteLuns } from './suite-luns.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sector: { type: 'string', default: '512' },
    only: { type: 'string' },
    limit: { type: 'string', default: '60' },
    tool: { type: 'string', default: SUITE_TOOL },
    out: { type: 'string' },
  },
});

async function run(luns: SuiteLuns): Promise<void> {
  const wanted = values.only?.split(',');
  const isWanted = (test: string): boolean =>
    wanted === undefined || wanted.some((name) => test === `ALL.${name}` || test.startsWith(`ALL.${name}.`));
  const from = performance.now();
  const outcomes = await runSuite(listTests(values.tool).filter(isWanted), {
    luns,
    limitMs: Number(values.limit) * 1000,
    tool: values.tool,
    onOutcome: ({ test, verdict, seconds, detail }) => {
      if (verdict !== 'pass') console.log(`${verdict.padEnd(6)} ${test} (${seconds.toFixed(1)} s) ${detail}`);
    },
  });
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(outcomes, null, 1)}\n`);
  const slowest = outcomes.toSorted((a, b) => b.seconds - a.seconds).slice(0, 10);
  console.log(`slowest: ${slowest.map(({ test, seconds }) => `${test} ${seconds.toFixed(1)} s`).join(', ')}`);
  console.log(JSON.stringify(countVerdicts(outcomes)), `in ${((performance.now() - from) / 1000).toFixed(0)} s`);
  process.exitCode = outcomes.some(({ verdict }) => verdict !== 'pass' && verdict !== 'skip') ? 1 : 0;
}

const urls = positionals[0]?.split(',');
if (urls !== undefined) {
  await run({ plain: urls });
} else {
  const site = await startSite();
  try {
    await run(suiteLuns(site.gateway, values.sector === '4096' ? 4096 : 512));
    if (!site.gateway.isRunning()) console.log(`the gateway has ended:\n${site.gateway.logTail()}`);
  } finally {
    await site.close();
  }
}
