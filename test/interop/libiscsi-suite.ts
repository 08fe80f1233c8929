import { spawn } from 'node:child_process';
import { runTool } from '../support/processes.ts';

/**
 * pass · skip (passed, but said [SKIPPED]) · fail · hang (no end within the limit) · crash (ended without a verdict) ·
 * notrun (the suite's own set-up refused)
 */
export type Verdict = 'pass' | 'skip' | 'fail' | 'hang' | 'crash' | 'notrun';

export interface TestOutcome {
  readonly test: string;
  readonly verdict: Verdict;
  readonly seconds: number;
  /** What it complained of, or the end of its output when it came to no verdict. */
  readonly detail: string;
}

export interface SuiteOptions {
  /** One URL per lane; each needs a LUN of its own, for the tests write. */
  readonly urls: readonly string[];
  readonly limitMs: number;
  readonly onOutcome?: (outcome: TestOutcome) => void;
}

const MAX_DETAIL = 600;

/** `ALL.<suite>.<test>` of every test of libiscsi's conformance suite. */
export function listTests(): string[] {
  return runTool('iscsi-test-cu', ['--list'])
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.startsWith('ALL.') && line.split('.').length === 3);
}

/** Runs every test in a process of its own, one after the other on each URL. */
export async function runSuite(tests: readonly string[], options: SuiteOptions): Promise<TestOutcome[]> {
  const outcomes: TestOutcome[] = [];
  const waiting = tests.values();
  await Promise.all(
    options.urls.map(async (url) => {
      for (const test of waiting) {
        const outcome = await runTest(test, url, options.limitMs);
        outcomes.push(outcome);
        options.onOutcome?.(outcome);
      }
    }),
  );
  return outcomes;
}

/** `-d` lets it write, `-S` run SANITIZE; MultipathIO takes the URL twice. */
export function runTest(test: string, url: string, limitMs: number): Promise<TestOutcome> {
  const words = ['-d', '-S', '-v', '-t', test, url];
  if (test.includes('.MultipathIO.')) words.push(url);
  const from = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn('iscsi-test-cu', words, { stdio: ['ignore', 'pipe', 'pipe'] });
    const pieces: Buffer[] = [];
    const collect = (piece: Buffer): void => {
      pieces.push(piece);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    let hung = false;
    const limit = setTimeout(() => {
      hung = true;
      child.kill('SIGKILL');
    }, limitMs);
    child.once('error', reject);
    child.once('close', () => {
      clearTimeout(limit);
      const output = Buffer.concat(pieces).toString('utf8');
      const verdict = hung ? 'hang' : verdictOf(output, test);
      const seconds = (performance.now() - from) / 1000;
      resolve({ test, verdict, seconds, detail: detailOf(output, verdict, test) });
    });
  });
}

/** From CUnit's run summary: `tests <total> <ran> <passed> <failed> <inactive>`. */
export function verdictOf(output: string, test: string): Verdict {
  const summary = /^\s*tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)/m.exec(output);
  if (summary === null) return 'crash';
  if (Number(summary[4]) > 0) return 'fail';
  if (Number(summary[2]) === 0) return 'notrun';
  return skipLines(output, test).length > 0 ? 'skip' : 'pass';
}

/** With -d the tool looks for reservations to clear before every test and says so when there can be none. */
const SET_UP_NOTE = '[SKIPPED] PERSISTENT RESERVE IN is not implemented.';

function skipLines(output: string, test: string): string[] {
  const lines = [...new Set((output.match(/\[SKIPPED\][^\n]*/g) ?? []).map((line) => line.trim()))];
  return /^ALL\.Pr(in|out)/.test(test) ? lines : lines.filter((line) => line !== SET_UP_NOTE);
}

function detailOf(output: string, verdict: Verdict, test: string): string {
  switch (verdict) {
    case 'pass':
      return '';
    case 'skip':
      return skipLines(output, test).join('; ').slice(0, MAX_DETAIL);
    case 'fail': {
      const said = matches(output, /\[FAILED\][^\n]*/g);
      return said === '' ? matches(output, /^\s+\d+\. .*/gm) : said;
    }
    default:
      return output.slice(-MAX_DETAIL);
  }
}

function matches(output: string, pattern: RegExp): string {
  return [...new Set(output.match(pattern) ?? [])]
    .map((line) => line.trim())
    .join('; ')
    .slice(0, MAX_DETAIL);
}

export function countVerdicts(outcomes: readonly TestOutcome[]): Record<Verdict, number> {
  const counts: Record<Verdict, number> = { pass: 0, skip: 0, fail: 0, hang: 0, crash: 0, notrun: 0 };
  for (const outcome of outcomes) counts[outcome.verdict] += 1;
  return counts;
}

/** What is known not to pass: the test's name and `skip` or `fail`, with the reason. */
export type Baseline = Readonly<Record<string, { readonly verdict: 'skip' | 'fail'; readonly reason: string }>>;

/** One sentence for each outcome that is worse than the baseline allows; a hang or a crash is never allowed. */
export function regressions(outcomes: readonly TestOutcome[], baseline: Baseline): string[] {
  return outcomes
    .filter(({ test, verdict }) => {
      const allowed = baseline[test]?.verdict;
      if (verdict === 'pass') return false;
      if (verdict === 'skip') return allowed === undefined;
      return verdict !== 'fail' || allowed !== 'fail';
    })
    .map(({ test, verdict, detail }) => `${test}: ${verdict}: ${detail}`);
}

/** Tests that do better than the baseline says: it should be tightened. */
export function improvements(outcomes: readonly TestOutcome[], baseline: Baseline): string[] {
  return outcomes
    .filter(({ test, verdict }) => {
      const allowed = baseline[test]?.verdict;
      return allowed !== undefined && (verdict === 'pass' || (verdict === 'skip' && allowed === 'fail'));
    })
    .map(({ test, verdict }) => `${test}: ${verdict} where the baseline expects ${baseline[test]?.verdict ?? ''}`);
}
