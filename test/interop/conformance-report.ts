import { countVerdicts } from './libiscsi-suite.ts';
import type { Baseline, TestOutcome, Verdict } from './libiscsi-suite.ts';

/** One target's results. */
export interface Column {
  readonly title: string;
  readonly outcomes: readonly TestOutcome[];
  /** Of our own initiator: what libiscsi's newer releases test. */
  readonly checks: readonly TestOutcome[];
  /** What is known not to pass, with reasons; undefined for a peer, where the tool's own words must do. */
  readonly baseline: Baseline | undefined;
}

export interface Versions {
  readonly date: string;
  readonly libiscsi: string;
  readonly tgt: string;
  readonly node: string;
}

const VERDICTS: readonly Verdict[] = ['pass', 'skip', 'fail', 'hang', 'crash', 'notrun'];

/** docs/CONFORMANCE.md. */
export function conformanceReport(columns: readonly Column[], versions: Versions): string {
  return [
    '# Conformance',
    '',
    `Written by \`npm run conformance\` on ${versions.date}; run it again after a change of the front end.`,
    `libiscsi-bin ${versions.libiscsi} (\`iscsi-test-cu -d -S\`, one process per test, the URL twice for MultipathIO) over`,
    `\`farshore serve\` on Node ${versions.node} with the embedded cloud, and over tgt ${versions.tgt} with files, each on 128 MiB.`,
    'Tests that need a LUN of a special kind get one wherever a target can have it: write-protected (ReadOnly), removable',
    '(PreventAllow, StartStopUnit, NoMedia), without physical blocks larger than logical ones (GetLBAStatus.UnmapSingle, which',
    'misjudges all others), with larger ones (CompareAndWrite and WriteSame, InvalidDataOutSize and UnmapUnaligned), never written to (MultipathIO.CompareAndWrite, which expects zeros it has not written).',
    '',
    '## Sum',
    '',
    ...sums(columns, 'outcomes'),
    '',
    '## What Farshore does not pass, and why',
    '',
    ...ownReasons(columns),
    '',
    '## Every test',
    '',
    ...table(columns, 'outcomes'),
    '',
    "## What libiscsi's newer releases test",
    '',
    'These are not in libiscsi 1.19. Our own initiator makes the same demands of the targets, in the words of RFC 7143, SPC-4',
    'and SBC-3 (test/interop/newer-checks.ts, chap-checks.ts). LUNResetSimpleAsync is the test of that name without its flaw.',
    '',
    ...sums(columns, 'checks'),
    '',
    ...table(columns, 'checks'),
    '',
    '## Why tgt skips and fails',
    '',
    ...peerReasons(columns),
    '',
  ].join('\n');
}

type Part = 'outcomes' | 'checks';

function sums(columns: readonly Column[], part: Part): string[] {
  const shown = VERDICTS.filter((verdict) => columns.some((column) => countVerdicts(column[part])[verdict] > 0));
  return [
    row(['target', ...shown]),
    row(['---', ...shown.map(() => '--:')]),
    ...columns.map((column) => {
      const counts = countVerdicts(column[part]);
      return row([column.title, ...shown.map((verdict) => String(counts[verdict]))]);
    }),
  ];
}

function table(columns: readonly Column[], part: Part): string[] {
  const tests = columns[0]?.[part].map(({ test }) => test) ?? [];
  return [
    row(['test', ...columns.map(({ title }) => title)]),
    row(['---', ...columns.map(() => '---')]),
    ...tests.map((test) =>
      row([
        test.slice('ALL.'.length),
        ...columns.map((column) => {
          const verdict = column[part].find((outcome) => outcome.test === test)?.verdict ?? '';
          return verdict === 'pass' || verdict === 'skip' ? verdict : `**${verdict}**`;
        }),
      ]),
    ),
  ];
}

function ownReasons(columns: readonly Column[]): string[] {
  const lines = columns.flatMap(({ title, outcomes, checks, baseline }) =>
    baseline === undefined
      ? []
      : [...outcomes, ...checks]
          .filter(({ verdict }) => verdict !== 'pass')
          .map(({ test, verdict, detail }) => ({
            title,
            test,
            verdict,
            why: baseline[test]?.reason ?? escape(detail),
          })),
  );
  if (lines.length === 0) return ['Nothing.'];
  return [
    row(['test', 'where', 'verdict', 'why']),
    row(['---', '---', '---', '---']),
    ...lines.map(({ title, test, verdict, why }) => row([test.slice('ALL.'.length), title, verdict, why])),
  ];
}

/** Grouped by what the tool says, since most of it is said many times. */
function peerReasons(columns: readonly Column[]): string[] {
  return columns
    .filter(({ baseline }) => baseline === undefined)
    .flatMap(({ title, outcomes, checks }) => {
      const groups = new Map<string, string[]>();
      for (const { test, verdict, detail } of [...outcomes, ...checks]) {
        if (verdict === 'pass') continue;
        const why = `${verdict}: ${escape(detail)}`;
        groups.set(why, [...(groups.get(why) ?? []), test.slice('ALL.'.length)]);
      }
      return [
        `### ${title}`,
        '',
        row(['what the tool says', 'tests']),
        row(['---', '---']),
        ...[...groups].map(([why, tests]) => row([why, tests.join(', ')])),
        '',
      ];
    });
}

const MAX_WHY = 220;

/** What the tool printed, fit for a table cell. */
function escape(text: string): string {
  const line = text
    .replaceAll(/\[(SKIPPED|FAILED)\]/g, '')
    .replaceAll(/\s+/g, ' ')
    .trim();
  const cut = line.length > MAX_WHY ? `${line.slice(0, MAX_WHY)} …` : line;
  return cut.replaceAll(/[|<>*_`\\]/g, (sign) => `\\${sign}`);
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}
