import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startSite } from '../support/gateway-process.ts';
import type { Site } from '../support/gateway-process.ts';
import baselines from './libiscsi-baseline.json' with { type: 'json' };
import { baselineOf, countVerdicts, improvements, listTests, regressions, runSuite } from './libiscsi-suite.ts';
import type { Baselines, TestOutcome } from './libiscsi-suite.ts';
import { requireTools } from './required-tools.ts';
import { suiteLuns } from './suite-luns.ts';

const TEST_LIMIT_MS = 60_000;
const SUITE_LIMIT_MS = 15 * 60_000;
/** Fewer means that the tool's list was misread. */
const LEAST_TESTS = 200;

describe("libiscsi's conformance suite, one process per test", () => {
  let site: Site;

  beforeAll(async () => {
    requireTools('iscsi-test-cu');
    site = await startSite();
  });

  afterAll(async () => {
    await site.close();
  });

  // Side by side: a minute of each is one test's wait for a SANITIZE.
  it.concurrent.each([512, 4096] as const)(
    'does no worse than the baseline at %i-byte sectors, with no hang and no crash',
    async (sector) => {
      const tests = listTests();
      expect(tests.length).toBeGreaterThan(LEAST_TESTS);
      const luns = suiteLuns(site.gateway, sector);
      const outcomes: TestOutcome[] = await runSuite(tests, { luns, limitMs: TEST_LIMIT_MS });
      console.log(JSON.stringify(countVerdicts(outcomes)));
      const expected = baselineOf(baselines as Baselines, sector); // checked by eye; the type of a JSON module is wider
      for (const line of improvements(outcomes, expected)) console.log(`better than the baseline: ${line}`);
      expect(regressions(outcomes, expected)).toEqual([]);
      expect(site.gateway.isRunning(), site.gateway.logTail()).toBe(true);
    },
    SUITE_LIMIT_MS,
  );
});
