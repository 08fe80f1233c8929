import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { crashCampaign } from '../crash/campaign.ts';
import { connectStamped } from '../crash/stamped-disk.ts';
import { startSite } from '../support/gateway-process.ts';
import type { Site } from '../support/gateway-process.ts';
import { cdb } from '../support/iscsi-wire.ts';
import { eventually } from '../support/processes.ts';
import { RawInitiator } from '../support/raw-initiator.ts';

/** A hundred and more: npm run crash. */
const ROUNDS = 5;
const CAMPAIGN_LIMIT_MS = 300_000;
const SANITIZE_LIMIT_MS = 30_000;
const DISK_BYTES = 32 * 1024 * 1024;

describe('SIGKILL of the gateway at any moment: in the middle of writes, commits, starts, and of making a chunk', () => {
  const seed = Number(process.env['FARSHORE_SEED'] ?? 1);

  it(
    `loses nothing that was acked, in ${ROUNDS} rounds`,
    async () => {
      const report = await crashCampaign({ rounds: ROUNDS, seed, powerCut: false });
      expect(report).toMatchObject({ wrong: [], rounds: ROUNDS, restores: 1 });
      expect(report.acked).toBeGreaterThan(100);
    },
    CAMPAIGN_LIMIT_MS,
  );

  it(
    `loses nothing that was flushed when it is a power cut, in ${ROUNDS} rounds`,
    async () => {
      const report = await crashCampaign({ rounds: ROUNDS, seed, powerCut: true });
      expect(report).toMatchObject({ wrong: [], rounds: ROUNDS, restores: 1 });
      expect(report.flushes).toBeGreaterThan(5);
    },
    CAMPAIGN_LIMIT_MS,
  );

  it(
    'finds out about a disk that says it has synced the log, and has not',
    async () => {
      const { wrong } = await crashCampaign({ rounds: ROUNDS, seed, powerCut: true, isLying: true });
      expect(wrong.join('\n')).toMatch(
        /^round \d: .*(came after that and is|is not served as it should be: stopped, )/m,
      );
    },
    CAMPAIGN_LIMIT_MS,
  );
});

describe('SIGKILL of the gateway', () => {
  let site: Site;

  beforeAll(async () => {
    site = await startSite({ cacheSize: '512M', ramSize: '32M' });
  });

  afterAll(async () => {
    await site.close();
  });

  it('in the middle of a SANITIZE: it goes on from the start of the gateway, before any initiator has come', async () => {
    const target = site.gateway.createVolume('sanitized', String(DISK_BYTES));
    const initiator = await RawInitiator.connect(site.gateway.port, site.gateway.host);
    await initiator.login({ target });
    await initiator.clear();
    // OVERWRITE with IMMED, at 16 MiB/s: two seconds.
    const list = Buffer.from([1, 0, 0, 1, 0x5a]);
    const begun = await initiator.run({
      cdb: cdb(0x48, 0x81, 0, 0, 0, 0, 0, 0, list.length, 0),
      write: true,
      expectedBytes: list.length,
      data: list,
    });
    expect(begun.status).toBe(0);
    const reason = async (): Promise<string | undefined> =>
      (await site.gateway.call('status', {})).volumes.find(({ name }) => name === 'sanitized')?.reason;
    expect(await reason()).toContain('being sanitized');
    await site.gateway.end('SIGKILL');
    await site.gateway.start();
    expect(await reason()).toContain('being sanitized');
    await eventually(
      async () => ((await reason()) === undefined ? true : undefined),
      SANITIZE_LIMIT_MS,
      () => site.gateway.logTail(),
    );
    const reader = await connectStamped({ host: site.gateway.host, port: site.gateway.port, target });
    const content = await reader.read(0, DISK_BYTES / 512);
    expect(content.every((byte) => byte === 0x5a)).toBe(true);
    await reader.close();
  }, 60_000);
});
