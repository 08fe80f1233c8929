import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MAX_VOLUME_BYTES, TIB } from '../../gateway/base/units.ts';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import type { Site } from '../support/gateway-process.ts';
import { startSite } from '../support/gateway-process.ts';

let site: Site;

beforeAll(async () => {
  site = await startSite({ rpoSeconds: 1 });
});

afterAll(async () => {
  await site.close();
});

describe('a volume of 64 TiB', () => {
  it('opens, is written at both ends and in the middle, and is there again after a crash, for what is written alone', async () => {
    const { gateway } = site;
    const target = gateway.createVolume('huge', '64T', 4096);
    const at = [0, MAX_VOLUME_BYTES / 8192, MAX_VOLUME_BYTES / 4096 - 1];
    const data = at.map((_, index) => Buffer.alloc(4096, index + 1));
    const connect = (): Promise<Initiator> =>
      Initiator.connect({ host: gateway.host, port: gateway.port, target, lun: 0 });
    const disk = await connect();
    expect((await disk.readCapacity()).bytes).toBe(64 * TIB);
    for (const [index, lba] of at.entries()) await disk.write(lba, data[index] ?? Buffer.alloc(0));
    await disk.close();
    await gateway.call('flush', { name: 'huge' });
    await gateway.end('SIGKILL');
    await gateway.start();
    const again = await connect();
    for (const [index, lba] of at.entries())
      expect((await again.read(lba, 1)).equals(data[index] ?? Buffer.alloc(0))).toBe(true);
    expect((await again.read(12_345_678, 1)).equals(Buffer.alloc(4096))).toBe(true);
    await again.close();
    const report = await gateway.call('status', {});
    // An index that grew with the volume would take gigabytes for it.
    expect(report.cache.indexBytes).toBeLessThan(64 * 1024 * 1024);
    expect(report.process.rssBytes).toBeLessThan(1024 ** 3);
  });
});
