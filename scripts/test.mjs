// npm test: sets up what a fresh clone lacks, runs every gating stage, prints a table and `N passed, N failed`.
//   npm test                     everything
//   npm test -- --only=unit,sim  some stages (by name)
//   FARSHORE_NO_APT=1            install no Debian packages; what needs them fails and says so
import { spawn } from 'node:child_process';
import { existsSync, openSync, closeSync, readFileSync, rmSync } from 'node:fs';
import { checkNode, installDebianPackages, installPackages, makeStageFolder } from './setup.mjs';

const bin = (name) => [process.execPath, `node_modules/${name}`];
const vitest = (...folders) => [...bin('vitest/vitest.mjs'), 'run', ...folders];

/**
 * `budget`: seconds it may take on two cores; over it the stage fails, so that the sum stays bearable.
 * `alone`: nothing else may run beside it (it measures, or is heavy). `needs`: stages that must have passed.
 * `tools`: it runs Debian's programs. `vm`: it boots a virtual machine.
 */
const STAGES = [
  { name: 'build', budget: 60, command: [process.execPath, 'scripts/build.mjs'], alone: true },
  { name: 'types', budget: 180, command: [...bin('typescript/bin/tsc'), '-p', '.'] },
  { name: 'unit', budget: 600, command: vitest('test/unit') },
  { name: 'property', budget: 600, command: vitest('test/property') },
  { name: 'lint', budget: 600, command: [...bin('eslint/bin/eslint.js'), '.'] },
  { name: 'contract', budget: 300, command: vitest('test/contract') },
  { name: 'format', budget: 120, command: [...bin('prettier/bin/prettier.cjs'), '--check', '--log-level=warn', '.'] },
  {
    name: 'imports',
    budget: 90,
    command: [...bin('dependency-cruiser/bin/dependency-cruise.mjs'), 'bin', 'lib', 'gateway', 'lambdas'],
  },
  { name: 'dead-code', budget: 120, command: [...bin('knip/bin/knip.js'), '--no-progress'] },
  { name: 'cdk', budget: 300, command: vitest('test/cdk') },
  { name: 'sim', budget: 600, command: vitest('test/sim', '--maxWorkers=2'), alone: true },
  { name: 'fuzz', budget: 600, command: vitest('test/fuzz', '--maxWorkers=1'), alone: true },
  // Its files wait for processes and for the passing of time more than they work; one at a time is Vitest's choice on two cores.
  {
    name: 'interop',
    budget: 1200,
    command: vitest('test/interop', '--maxWorkers=2'),
    needs: ['build'],
    alone: true,
    tools: true,
  },
  {
    name: 'vm',
    budget: 420,
    command: [process.execPath, '--import', 'tsx', 'test/interop/vm.ts', '--short'],
    needs: ['build'],
    alone: true,
    tools: true,
    vm: true,
  },
  {
    name: 'bench',
    budget: 180,
    command: [process.execPath, '--import', 'tsx', 'bench/bench.ts', '--smoke'],
    needs: ['build'],
    alone: true,
    tools: true,
  },
  {
    name: 'soak',
    budget: 180,
    command: [process.execPath, '--import', 'tsx', 'bench/soak.ts', '--smoke'],
    needs: ['build'],
    alone: true,
  },
  { name: 'demo', budget: 240, command: [process.execPath, 'dist/farshore.js', 'demo'], needs: ['build'], alone: true },
];
const LANES = 2;
/** What is told of failed tests: how many of a stage, and how many characters of each. */
const MAX_FAILURES = 20;
const MAX_WHY = 600;

checkNode();
const onlyFlag = process.argv.find((word) => word.startsWith('--only='))?.slice('--only='.length);
const wanted = onlyFlag?.split(',');
const unknown = wanted?.filter((name) => !STAGES.some((stage) => stage.name === name)) ?? [];
if (unknown.length > 0) {
  console.error(
    `No stage is called ${unknown.join(', ')}; there are: ${STAGES.map((stage) => stage.name).join(', ')}.`,
  );
  process.exit(2);
}
const stages = STAGES.filter((stage) => wanted === undefined || wanted.includes(stage.name));

const setupStart = performance.now();
installPackages();
const missing = stages.some((stage) => stage.tools)
  ? installDebianPackages({ vm: stages.some((stage) => stage.vm) })
  : [];
makeStageFolder();
const setupSeconds = (performance.now() - setupStart) / 1000;

/** @type {Map<string, { state: string, seconds: number, passed: number, failed: number, skipped: number, failures: string[] }>} */
const results = new Map();

function run(stage) {
  const log = `.stage/${stage.name}.log`;
  const json = `.stage/${stage.name}.json`;
  rmSync(json, { force: true });
  const isVitest = stage.command.some((word) => word.endsWith('vitest.mjs'));
  const words = isVitest
    ? [...stage.command, '--reporter=default', '--reporter=json', `--outputFile.json=${json}`]
    : stage.command;
  const start = performance.now();
  const out = openSync(log, 'w');
  return new Promise((resolve) => {
    const child = spawn(words[0], words.slice(1), {
      stdio: ['ignore', out, out],
      env: { ...process.env, FORCE_COLOR: '0' },
    });
    const limit = setTimeout(() => child.kill('SIGKILL'), stage.budget * 1000);
    child.on('close', (status, signal) => {
      clearTimeout(limit);
      closeSync(out);
      const seconds = (performance.now() - start) / 1000;
      const result = { state: 'passed', seconds, passed: 0, failed: 0, skipped: 0, failures: [] };
      if (isVitest && existsSync(json)) {
        const report = JSON.parse(readFileSync(json, 'utf8'));
        result.passed = report.numPassedTests;
        result.failed = report.numFailedTests;
        result.skipped = report.numPendingTests + report.numTodoTests;
        result.failures = failuresOf(report);
      } else if (status === 0) result.passed = 1;
      if (signal === 'SIGKILL' && seconds >= stage.budget) result.state = `over its budget of ${stage.budget} s`;
      else if (status !== 0) result.state = 'failed';
      else if (isVitest && result.passed === 0) result.state = 'failed (ran no test)';
      if (result.state !== 'passed' && result.failed === 0) result.failed = 1;
      resolve(result);
    });
  });
}

/** The names of the tests that failed, and the beginning of why: an error's own text can be longer than what is shown of the log. */
function failuresOf(report) {
  return report.testResults.flatMap((file) => {
    const failed = file.assertionResults.filter((test) => test.status === 'failed');
    const tests = failed.map((test) => `${test.fullName}\n    ${(test.failureMessages[0] ?? '').slice(0, MAX_WHY)}`);
    const own = failed.length === 0 && file.status === 'failed' ? [(file.message ?? '').slice(0, MAX_WHY)] : [];
    return [...tests, ...own].map((text) => `  ${file.name}: ${text}`);
  });
}

function show(stage, result) {
  console.log(
    `${result.state === 'passed' ? '  ok ' : 'FAIL '} ${stage.name.padEnd(10)} ${result.seconds.toFixed(1).padStart(6)} s`,
  );
  if (result.state === 'passed') return;
  for (const failure of result.failures.slice(0, MAX_FAILURES)) console.log(failure);
  const text = existsSync(`.stage/${stage.name}.log`) ? readFileSync(`.stage/${stage.name}.log`, 'utf8') : '';
  console.log(`--- ${stage.name}: ${result.state}; the end of its output:\n${text.slice(-8000)}\n---`);
}

/** Runs the queue on two lanes in order; a stage marked `alone` waits for both. */
async function runAll() {
  const running = new Set();
  for (const stage of stages) {
    const limit = stage.alone ? 1 : LANES;
    while (running.size >= limit) await Promise.race(running);
    const broken = (stage.needs ?? []).filter((name) => results.has(name) && results.get(name).state !== 'passed');
    if (broken.length > 0) {
      results.set(stage.name, {
        state: `not run: ${broken.join(', ')} failed`,
        seconds: 0,
        passed: 0,
        failed: 1,
        skipped: 0,
        failures: [],
      });
      continue;
    }
    const job = run(stage).then((result) => {
      results.set(stage.name, result);
      show(stage, result);
      running.delete(job);
    });
    running.add(job);
    if (stage.alone) await job;
  }
  await Promise.all(running);
}

const start = performance.now();
await runAll();

console.log(`\nstage        state                              seconds  budget  passed  failed  skipped`);
console.log(
  `set-up       ${(missing.length === 0 ? 'passed' : `missing ${missing.join(' ')}`).padEnd(34)} ${setupSeconds.toFixed(1).padStart(7)}`,
);
const total = { passed: 0, failed: missing.length > 0 ? 1 : 0, skipped: 0 };
for (const stage of stages) {
  const result = results.get(stage.name);
  total.passed += result.passed;
  total.failed += result.failed;
  total.skipped += result.skipped;
  console.log(
    `${stage.name.padEnd(12)} ${result.state.padEnd(34)} ${result.seconds.toFixed(1).padStart(7)} ${String(stage.budget).padStart(7)} ${String(result.passed).padStart(7)} ${String(result.failed).padStart(7)} ${String(result.skipped).padStart(8)}`,
  );
}
console.log(`total        ${((performance.now() - start) / 1000).toFixed(1)} s`);
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exitCode = total.failed > 0 ? 1 : 0;
