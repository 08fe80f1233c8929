/**
 * libiscsi's conformance suite by hand:
 *   tsx test/interop/libiscsi.ts URL[,URL] [--only=Suite,Suite] [--limit=SECONDS] [--out=FILE]
 * Prints what does not pass and the counts; several URLs (LUNs of their own) run side by side.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { countVerdicts, listTests, runSuite } from './libiscsi-suite.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string' }, limit: { type: 'string' }, out: { type: 'string' } },
});
const urls = positionals[0]?.split(',') ?? [];
if (urls.length === 0) {
  console.error('Name a LUN: tsx test/interop/libiscsi.ts iscsi://127.0.0.1:3260/<target>/0');
  process.exit(2);
}
const suites = values.only?.split(',');
const tests = listTests().filter((test) => suites === undefined || suites.includes(test.split('.')[1] ?? ''));
const from = performance.now();
const outcomes = await runSuite(tests, {
  urls,
  limitMs: Number(values.limit ?? 60) * 1000,
  onOutcome: ({ test, verdict, seconds, detail }) => {
    if (verdict !== 'pass') console.log(`${verdict.padEnd(6)} ${test} (${seconds.toFixed(1)} s) ${detail}`);
  },
});
if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(outcomes, null, 1)}\n`);
const slowest = outcomes.toSorted((a, b) => b.seconds - a.seconds).slice(0, 10);
console.log(`slowest: ${slowest.map(({ test, seconds }) => `${test} ${seconds.toFixed(1)} s`).join(', ')}`);
console.log(JSON.stringify(countVerdicts(outcomes)), `in ${((performance.now() - from) / 1000).toFixed(0)} s`);
const lost = outcomes.filter(({ verdict }) => verdict === 'hang' || verdict === 'crash');
process.exitCode = lost.length > 0 ? 1 : 0;
