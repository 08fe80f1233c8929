import { spawn } from 'node:child_process';
import { runTool } from '../support/processes.ts';

/** Debian's libiscsi-bin; `--tool` of the scripts names another build of it. */
export const SUITE_TOOL = 'iscsi-test-cu';

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

/** What some tests need of a LUN, since they skip or misjudge every other one. */
export type LunKind = 'plain' | 'read-only' | 'removable' | '512n' | '4k-in-8k' | 'blank';

/** The LUNs of one target; the tests write to all of them. */
export interface SuiteLuns {
  /** One lane each, side by side. */
  readonly plain: readonly string[];
  /** LUNs of a special kind, where the target can have them; without one the test runs on a plain LUN. */
  readonly special?: Readonly<Partial<Record<Exclude<LunKind, 'plain'>, string>>>;
}

export interface SuiteOptions {
  readonly luns: SuiteLuns;
  readonly limitMs: number;
  readonly tool?: string;
  readonly onOutcome?: (outcome: TestOutcome) => void;
}

const MAX_DETAIL = 600;

/** It looks once a minute whether the SANITIZE it has begun is over: begun first, and given that minute on top of the limit. */
const SLOW_TEST = 'ALL.Sanitize.Reset';
const SLOW_TEST_MS = 60_000;

/** `ALL.<suite>.<test>` of every test of libiscsi's conformance suite. */
export function listTests(tool = SUITE_TOOL): string[] {
  return runTool(tool, ['--list'])
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.startsWith('ALL.') && line.split('.').length === 3);
}

/** The LUN a test is for; every target gets it where it has one. */
export function lunKindOf(test: string): LunKind {
  const suite = test.split('.')[1] ?? '';
  if (suite === 'ReadOnly') return 'read-only';
  if (['PreventAllow', 'StartStopUnit', 'NoMedia'].includes(suite)) return 'removable';
  // It zeroes 256 blocks and expects zeros in the one after them.
  if (test === 'ALL.MultipathIO.CompareAndWrite') return 'blank';
  // They look at what happens to parts of a physical block, which must have several logical ones.
  if (/^ALL\.(CompareAndWrite|WriteSame1[06])\.(InvalidDataOutSize|UnmapUnaligned)$/.test(test)) return '4k-in-8k';
  // It asks for the status of LBA i+1 and expects that of i+8 when eight logical blocks make a physical one.
  return test === 'ALL.GetLBAStatus.UnmapSingle' ? '512n' : 'plain';
}

/** Runs every test in a process of its own: one after the other on each LUN, the plain LUNs side by side. */
export async function runSuite(tests: readonly string[], options: SuiteOptions): Promise<TestOutcome[]> {
  const { plain, special = {} } = options.luns;
  const outcomes: TestOutcome[] = [];
  const run = async (test: string, url: string): Promise<void> => {
    const outcome = await runTest(test, url, options);
    outcomes.push(outcome);
    options.onOutcome?.(outcome);
  };
  const specialUrl = (test: string): string | undefined => {
    const kind = lunKindOf(test);
    return kind === 'plain' ? undefined : special[kind];
  };
  const slowFirst = tests.toSorted((a, b) => Number(b === SLOW_TEST) - Number(a === SLOW_TEST));
  const waiting = slowFirst.filter((test) => specialUrl(test) === undefined).values();
  await Promise.all(
    plain.map(async (url) => {
      for (const test of waiting) await run(test, url);
    }),
  );
  for (const test of tests) {
    const url = specialUrl(test);
    if (url !== undefined) await run(test, url);
  }
  return outcomes.toSorted((a, b) => tests.indexOf(a.test) - tests.indexOf(b.test));
}

/** `-d` lets it write, `-S` run SANITIZE; MultipathIO takes the URL twice. */
export function runTest(
  test: string,
  url: string,
  options: Pick<SuiteOptions, 'limitMs' | 'tool'>,
): Promise<TestOutcome> {
  const words = ['-d', '-S', '-v', '-t', test, url];
  if (test.includes('.MultipathIO.')) words.push(url);
  const from = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(options.tool ?? SUITE_TOOL, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    const pieces: Buffer[] = [];
    const collect = (piece: Buffer): void => {
      pieces.push(piece);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    let hung = false;
    const limitMs = options.limitMs + (test === SLOW_TEST ? SLOW_TEST_MS : 0);
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
const SET_UP_NOTE = /^(\S+ \S+ +)?\[SKIPPED\] PERSISTENT RESERVE IN is not implemented\.$/;

function skipLines(output: string, test: string): string[] {
  const lines = [...new Set((output.match(/\[SKIPPED\][^\n]*/g) ?? []).map((line) => line.trim()))];
  return /^ALL\.Pr(in|out)/.test(test) ? lines : lines.filter((line) => !SET_UP_NOTE.test(line));
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

/** What is known not to pass: the test's name and `skip` or `fail`, all that the tool may say of it, and the reason. */
export type Baseline = Readonly<
  Record<string, { readonly verdict: 'skip' | 'fail'; readonly detail: string; readonly reason: string }>
>;

/** libiscsi-baseline.json: what holds at either sector size, and what at one. */
export type Baselines = Readonly<Record<'both' | '512' | '4096', Baseline>>;

export function baselineOf(baselines: Baselines, sector: 512 | 4096): Baseline {
  return { ...baselines.both, ...baselines[sector] };
}

/** One sentence for each outcome that is worse than the baseline allows; a hang or a crash is never allowed. */
export function regressions(outcomes: readonly TestOutcome[], baseline: Baseline): string[] {
  return outcomes
    .filter(({ test, verdict, detail }) => {
      const allowed = baseline[test];
      if (verdict === 'pass') return false;
      // A failure is allowed for what is known of it alone: behind it another one must not hide.
      return allowed?.verdict !== verdict || oneLine(allowed.detail) !== oneLine(detail);
    })
    .map(({ test, verdict, detail }) => `${test}: ${verdict}: ${detail}`);
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').trim();
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
