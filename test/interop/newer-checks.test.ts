import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startSite } from '../support/gateway-process.ts';
import type { Site } from '../support/gateway-process.ts';
import { CHAP_CHECKS } from './chap-checks.ts';
import { chapLun } from './chap-lun.ts';
import { runChecks } from './front-end-check.ts';
import type { CheckedLun } from './front-end-check.ts';
import { NEWER_CHECKS } from './newer-checks.ts';

/** Each command line of the set-up is a process of its own. */
const SET_UP_LIMIT_MS = 300_000;

describe("what libiscsi's newer releases test", () => {
  let site: Site;
  const luns = new Map<number, CheckedLun>();

  beforeAll(async () => {
    site = await startSite();
    for (const sector of [512, 4096] as const) {
      const target = site.gateway.createVolume(`newer${sector}`, '64M', sector);
      luns.set(sector, {
        host: site.gateway.host,
        port: site.gateway.port,
        target,
        lun: 0,
        ...chapLun(site.gateway, site.directory, sector),
      });
    }
  }, SET_UP_LIMIT_MS);

  afterAll(async () => {
    await site.close();
  });

  for (const sector of [512, 4096]) {
    it.each([...NEWER_CHECKS, ...CHAP_CHECKS])(`$test passes at ${sector}-byte sectors`, async (check) => {
      const lun = luns.get(sector);
      if (lun === undefined) throw new Error('no such LUN');
      const [outcome] = await runChecks([check], lun);
      expect(outcome).toMatchObject({ verdict: 'pass', detail: '' });
    });
  }
});
