/**
 * The long form of the fence's enumeration.
 *
 *   npm run fence:long                                        every battery of the long list
 *   npm run fence:long -- name=reader                         those whose name contains the word
 *   npm run fence:long -- writers=3 sends=2 resends=1 …       one enumeration with these bounds (the rest as in two writers)
 *   max=100                                                   gives up after so many million states (default 100, about 16 bytes each)
 *
 * Exit code 1 on a violation, with a shortest way to it; 2 when a bound was reached before the end.
 */
import { parseArgs } from 'node:util';
import { CI_BATTERY, LONG_BATTERY } from './fence-battery.ts';
import type { Battery } from './fence-battery.ts';
import type { Bounds } from './fence-bounds.ts';
import { search } from './fence-search.ts';
import { FenceSpace } from './fence-space.ts';

const DEFAULT_MAX_MILLIONS = 100;

function main(): number {
  const { positionals } = parseArgs({ allowPositionals: true });
  const settings = new Map(positionals.map((text) => splitSetting(text)));
  const maxStates = 1e6 * Number(settings.get('max') ?? DEFAULT_MAX_MILLIONS);
  let code = 0;
  for (const battery of chosen(settings)) code = Math.max(code, run(battery, maxStates));
  return code;
}

function splitSetting(text: string): [string, string] {
  const equals = text.indexOf('=');
  if (equals < 1) throw new Error(`'${text}' is not of the form name=value`);
  return [text.slice(0, equals), text.slice(equals + 1)];
}

function chosen(settings: ReadonlyMap<string, string>): readonly Battery[] {
  const word = settings.get('name');
  const [base] = CI_BATTERY;
  if (!base) throw new Error('there is no battery');
  const own = [...settings].filter(([key]) => key !== 'max' && key !== 'name');
  if (own.length === 0) return LONG_BATTERY.filter(({ name }) => name.includes(word ?? ''));
  const bounds: Bounds = { ...base.bounds };
  for (const [key, value] of own) {
    if (!(key in bounds)) throw new Error(`there is no bound '${key}'; there are ${Object.keys(bounds).join(', ')}`);
    if (!/^\d{1,3}$/.test(value)) throw new Error(`'${value}' is not a number for ${key}`);
    Object.assign(bounds, { [key]: Number(value) });
  }
  return [{ name: own.map((pair) => pair.join('=')).join(' '), bounds, atLeastStates: 0 }];
}

function run({ name, bounds }: Battery, maxStates: number): number {
  const startedAt = performance.now();
  const space = new FenceSpace(bounds);
  console.log(`${name}: ${JSON.stringify(bounds)}`);
  const result = search(space, {
    maxStates,
    progress: (states, depth) => {
      if (process.stderr.isTTY) process.stderr.write(`\r  ${states} states, depth ${depth} `);
    },
  });
  const seconds = (performance.now() - startedAt) / 1000;
  console.log(
    `  ${result.outcome}: ${result.states} states, ${result.transitions} transitions, depth ${result.depth}, ` +
      `${seconds.toFixed(0)} s; the machines in ${space.machineStates} states, run ${space.machineSteps} times`,
  );
  if (result.outcome !== 'violation') return result.outcome === 'holds' ? 0 : 2;
  console.log(`  ${result.violation}`);
  for (const line of result.trace) console.log(`    ${line}`);
  return 1;
}

process.exitCode = main();
