import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startSite } from '../support/gateway-process.ts';
import type { Site } from '../support/gateway-process.ts';
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
});
