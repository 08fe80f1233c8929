import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import { startSite, type Site } from '../support/gateway-process.ts';

const VOLUME_BYTES = 32 * 1024 * 1024;
const SECTOR = 512;

/** Bytes that differ from block to block. */
function pattern(bytes: number, seed: string): Buffer {
  const content = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += 32) createHash('sha256').update(`${seed} ${at}`).digest().copy(content, at);
  return content;
}

describe('a volume with a raw image on site', () => {
  let site: Site;

  beforeAll(async () => {
    site = await startSite({ cacheSize: '512M', ramSize: '32M' });
  }, 60_000);

  afterAll(async () => {
    await site.close();
  });

  const connect = (target: string): Promise<Initiator> =>
    Initiator.connect({ host: site.gateway.host, port: site.gateway.port, target });

  it('is that image after a clean stop, goes on from it, and from the log after a SIGKILL', async () => {
    const image = join(site.directory, 'plain.raw');
    const target = site.gateway.createVolume('plain', String(VOLUME_BYTES), 512, '--stored', image);
    expect(statSync(image).size).toBe(VOLUME_BYTES);
    const model = Buffer.alloc(VOLUME_BYTES);
    const put = async (initiator: Initiator, at: number, data: Buffer): Promise<void> => {
      for (let from = 0; from < data.length; from += 256 * 1024)
        await initiator.write((at + from) / SECTOR, data.subarray(from, from + 256 * 1024));
      data.copy(model, at);
    };
    const first = await connect(target);
    await put(first, 0, pattern(4 * 1024 * 1024, 'a'));
    await put(first, 20 * 1024 * 1024 + 512, pattern(1536, 'not whole blocks'));
    await first.close();
    await site.gateway.end('SIGTERM');
    expect(readFileSync(image).equals(model)).toBe(true);

    await site.gateway.start();
    expect(site.gateway.cli('volume', 'show', 'plain')).toContain(`stored in    ${image}`);
    const second = await connect(target);
    expect((await second.read(0, 8192)).equals(model.subarray(0, 8192 * SECTOR))).toBe(true);
    await put(second, 1024 * 1024, pattern(2 * 1024 * 1024, 'b'));
    await site.gateway.end('SIGKILL');
    await second.close();

    await site.gateway.start();
    const third = await connect(target);
    expect((await third.read(2048, 4096)).equals(model.subarray(1024 * 1024, 3 * 1024 * 1024))).toBe(true);
    await third.close();
    await site.gateway.end('SIGTERM');
    expect(readFileSync(image).equals(model)).toBe(true);
    await site.gateway.start();
  }, 60_000);

  it('is refused where the image would be somebody else’s, and leaves nothing behind', () => {
    const image = join(site.directory, 'present.raw');
    writeFileSync(image, 'mine');
    expect(() => site.gateway.createVolume('second', '16M', 512, '--stored', image)).toThrow(/exists already/);
    expect(readFileSync(image, 'utf8')).toBe('mine');
    const fresh = join(site.directory, 'fresh.raw');
    expect(() => site.gateway.createVolume('plain', '16M', 512, '--stored', fresh)).toThrow(
      /there is a (target|volume)/,
    );
    expect(existsSync(fresh)).toBe(false);
  });
});
