import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startSite } from '../support/gateway-process.ts';
import type { Site } from '../support/gateway-process.ts';
import { cdb } from '../support/iscsi-wire.ts';
import { eventually } from '../support/processes.ts';
import { RawInitiator } from '../support/raw-initiator.ts';
import { StampedDisk, connectStamped } from './stamped-disk.ts';

/** More in the long form. */
const ROUNDS = Number(process.env['FARSHORE_CRASH_ROUNDS'] ?? 10);
const ROUND_LIMIT_MS = 30_000;
const DISK_BYTES = 32 * 1024 * 1024;
/** A kill comes after this many acks, different in every round. */
const LEAST_ACKS = 100;
const ACKS_SPREAD = 1500;
const WRITERS = 16;

describe('SIGKILL of the gateway in the middle of writes', () => {
  let site: Site;

  beforeAll(async () => {
    site = await startSite({ cacheSize: '512M', ramSize: '32M' });
  });

  afterAll(async () => {
    await site.close();
  });

  it(
    `loses no acked write in ${ROUNDS} rounds`,
    async () => {
      const target = site.gateway.createVolume('crash', String(DISK_BYTES));
      const endpoint = { host: site.gateway.host, port: site.gateway.port, target };
      const disk = new StampedDisk(DISK_BYTES, Number(process.env['FARSHORE_SEED'] ?? 1));
      for (let round = 0; round < ROUNDS; round += 1) {
        const initiator = await connectStamped(endpoint);
        const killAfter = LEAST_ACKS + disk.below(ACKS_SPREAD);
        await disk.writeUntilBroken(initiator, WRITERS, killAfter, () => site.gateway.end('SIGKILL'));
        await site.gateway.start();
        const again = await connectStamped(endpoint);
        expect(await disk.lostOrForeign(again), `round ${round}, ${disk.acked} acks`).toEqual([]);
        await again.close();
      }
      expect(disk.acked).toBeGreaterThan(ROUNDS * LEAST_ACKS);
    },
    ROUNDS * ROUND_LIMIT_MS,
  );

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
      ROUND_LIMIT_MS,
      () => site.gateway.logTail(),
    );
    const reader = await connectStamped({ host: site.gateway.host, port: site.gateway.port, target });
    const content = await reader.read(0, DISK_BYTES / 512);
    expect(content.every((byte) => byte === 0x5a)).toBe(true);
    await reader.close();
  }, 60_000);
});
