/**
 * libiscsi's conformance suite over Farshore and over Debian's tgt in the same way, and docs/CONFORMANCE.md from it:
 *   npm run conformance [-- --only=Suite,Suite] [--out=FILE] [--tool=PATH]
 * Fails on what the baseline does not allow.
 */
import { writeFileSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { format, resolveConfig } from 'prettier';
import { describeError } from '../../gateway/base/errors.ts';
import { makeSiteDirectory, removeSiteDirectory, startSite } from '../support/gateway-process.ts';
import type { Site } from '../support/gateway-process.ts';
import { runTool } from '../support/processes.ts';
import { Tgtd } from '../support/tgtd.ts';
import { chapLun } from './chap-lun.ts';
import { CHAP_CHECKS } from './chap-checks.ts';
import { conformanceReport } from './conformance-report.ts';
import type { Column } from './conformance-report.ts';
import { runChecks } from './front-end-check.ts';
import type { CheckedLun } from './front-end-check.ts';
import baselines from './libiscsi-baseline.json' with { type: 'json' };
import { SUITE_TOOL, baselineOf, countVerdicts, listTests, regressions, runSuite } from './libiscsi-suite.ts';
import type { Baselines, SuiteLuns, TestOutcome } from './libiscsi-suite.ts';
import { NEWER_CHECKS } from './newer-checks.ts';
import { LANES, suiteLuns } from './suite-luns.ts';

const DEFAULT_OUT = resolve(import.meta.dirname, '../../docs/CONFORMANCE.md');
const TEST_LIMIT_MS = 60_000;
const LUN_BYTES = 128 * 1024 * 1024;
const TGT_TARGET = 'iqn.2026-11.dev.farshore:tgt';
const CHECKS = [...NEWER_CHECKS, ...CHAP_CHECKS];
/** Checked by eye; the type of a JSON module is wider. */
const BASELINES = baselines as Baselines;

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    out: { type: 'string', default: DEFAULT_OUT },
    tool: { type: 'string', default: SUITE_TOOL },
  },
});
const suites = values.only?.split(',');
const tests = listTests(values.tool).filter(
  (test) => suites === undefined || suites.includes(test.split('.')[1] ?? ''),
);

async function suite(title: string, luns: SuiteLuns): Promise<TestOutcome[]> {
  const from = performance.now();
  const outcomes = await runSuite(tests, { luns, limitMs: TEST_LIMIT_MS, tool: values.tool });
  const seconds = ((performance.now() - from) / 1000).toFixed(0);
  console.log(`${title}: ${JSON.stringify(countVerdicts(outcomes))} in ${seconds} s`);
  return outcomes;
}

async function farshoreColumn(site: Site, sector: 512 | 4096): Promise<Column> {
  const { gateway } = site;
  const title = `Farshore, ${sector}-byte sectors`;
  const outcomes = await suite(title, suiteLuns(gateway, sector));
  const target = gateway.createVolume(`checked${sector}`, '128M', sector);
  const lun: CheckedLun = {
    host: gateway.host,
    port: gateway.port,
    target,
    lun: 0,
    ...chapLun(gateway, site.directory, sector),
  };
  const checks = await runChecks(CHECKS, lun);
  if (!gateway.isRunning()) throw new Error(`the gateway has ended:\n${gateway.logTail()}`);
  return { title, outcomes, checks, baseline: baselineOf(BASELINES, sector) };
}

/** A tgtd with a LUN of each kind on files of their own. */
async function tgtColumn(directory: string, title: string, params: string | undefined): Promise<Column> {
  let files = 0;
  const makeFile = async (): Promise<string> => {
    files += 1;
    const file = join(directory, `${title.replaceAll(/\W+/g, '-')}-${files}.img`);
    await writeFile(file, '');
    await truncate(file, LUN_BYTES);
    return file;
  };
  const tgtd = await Tgtd.start({ directory, file: await makeFile(), target: TGT_TARGET, tuned: false });
  const guarded = await Tgtd.start({ directory, file: await makeFile(), target: TGT_TARGET, tuned: false });
  try {
    const add = async (further: string[]): Promise<number> =>
      tgtd.addLun(await makeFile(), [...(params === undefined ? [] : [params]), ...further].join(',') || undefined);
    const url = (lun: number): string => `iscsi://${tgtd.host}:${tgtd.port}/${tgtd.target}/${lun}`;
    const plain: string[] = [];
    for (let lane = 0; lane < LANES; lane += 1) plain.push(url(await add([])));
    const special = {
      'read-only': url(await add(['readonly=1'])),
      removable: url(await add(['removable=1'])),
      // As it comes: what it says of physical blocks is left alone.
      '512n': url(await add([])),
      blank: url(await add([])),
    };
    const outcomes = await suite(title, { plain, special });
    const secret = 'a secret of tgt';
    const chapUser = (user: string) => ({ target: TGT_TARGET, initiator: 'iqn.2026-11.dev.farshore:peer', user });
    const chap = { secret, plain: chapUser('checker'), hexLike: chapUser('0xabcd'), base64Like: chapUser('0bYWJj') };
    for (const { user } of [chap.plain, chap.hexLike, chap.base64Like]) guarded.requireChap(user, secret);
    const lun = await add([]);
    const checks = [
      ...(await runChecks(NEWER_CHECKS, { host: tgtd.host, port: tgtd.port, target: TGT_TARGET, lun })),
      ...(await runChecks(CHAP_CHECKS, { host: guarded.host, port: guarded.port, target: TGT_TARGET, lun: 1, chap })),
    ];
    return { title, outcomes, checks, baseline: undefined };
  } finally {
    await tgtd.stop();
    await guarded.stop();
  }
}

function versionOf(debianPackage: string): string {
  return runTool('dpkg-query', ['-W', '-f=${Version}', debianPackage]);
}

async function run(): Promise<void> {
  const directory = makeSiteDirectory();
  const site = await startSite();
  const columns: Column[] = [];
  try {
    for (const sector of [512, 4096] as const) columns.push(await farshoreColumn(site, sector));
    columns.push(await tgtColumn(directory, 'tgt, plain', undefined));
    columns.push(await tgtColumn(directory, 'tgt, thin', 'thin_provisioning=1'));
  } finally {
    await site.close();
    removeSiteDirectory(directory);
  }
  const report = conformanceReport(columns, {
    date: new Date().toISOString().slice(0, 10),
    libiscsi: versionOf('libiscsi-bin'),
    tgt: versionOf('tgt'),
    node: process.version,
  });
  const style = await resolveConfig(DEFAULT_OUT);
  writeFileSync(values.out, await format(report, { ...style, parser: 'markdown' }));
  const unexpected = columns.flatMap(({ title, outcomes, checks, baseline }) =>
    baseline === undefined
      ? []
      : regressions([...outcomes, ...checks.map((check) => ({ ...check, test: `own ${check.test}` }))], baseline).map(
          (line) => `${title}: ${line}`,
        ),
  );
  for (const line of unexpected) console.log(`unexpected: ${line}`);
  process.exitCode = unexpected.length > 0 ? 1 : 0;
}

try {
  await run();
} catch (error) {
  console.error(`conformance: ${describeError(error)}`);
  process.exitCode = 1;
}
