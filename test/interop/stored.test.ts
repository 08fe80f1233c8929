import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import { GatewayProcess, SITE_IQN, startSite, type Site } from '../support/gateway-process.ts';

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
    expect(site.gateway.cli('volume', 'list')).toMatch(/^plain .* stored in \/.*plain\.raw$/m);
    expect(await site.gateway.call('volume-list', {})).toMatchObject([{ name: 'plain', kind: 'stored', image }]);
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

  /** What a spare site that has never heard of the volume reads. */
  async function restoredElsewhere(name: string): Promise<Buffer> {
    const { cloud, directory } = site;
    const spare = await GatewayProcess.start({ directory, cloud, name: `spare-${name}`, cacheSize: '512M' });
    try {
      await spare.call('restore', { name });
      const initiator = await Initiator.connect({ host: spare.host, port: spare.port, target: `${SITE_IQN}:${name}` });
      const content: Buffer[] = [];
      for (let at = 0; at < VOLUME_BYTES; at += 1024 * 1024)
        content.push(await initiator.read(at / SECTOR, (1024 * 1024) / SECTOR));
      await initiator.close();
      return Buffer.concat(content);
    } finally {
      await spare.end('SIGTERM');
    }
  }

  const seeding = async (name: string): Promise<boolean> => {
    const report = (await site.gateway.call('status', {})).volumes.find((volume) => volume.name === name);
    return report?.stored?.catchUp !== undefined;
  };

  it('takes over an image that is there, serves it while it is replicated, goes on after a SIGKILL, and is all of it elsewhere', async () => {
    const image = join(site.directory, 'legacy.raw');
    const model = Buffer.alloc(VOLUME_BYTES);
    pattern(12 * 1024 * 1024, 'legacy').copy(model, 3 * 1024 * 1024);
    writeFileSync(image, model);
    // As slow as an office's line, so that there is a while of it to be seen.
    await site.gateway.call('limit', { set: { direction: 'upload', plan: '1Mbit/s' } });
    site.gateway.cli('volume', 'create', 'legacy', '--stored', image, '--seed');
    expect(await seeding('legacy')).toBe(true);
    expect(site.gateway.cli('volume', 'show', 'legacy')).toContain('taking over the image');
    const first = await connect(`${SITE_IQN}:legacy`);
    expect((await first.read(6144, 2048)).equals(model.subarray(6144 * SECTOR, 8192 * SECTOR))).toBe(true);
    const put = async (initiator: Initiator, at: number, data: Buffer): Promise<void> => {
      await initiator.write(at / SECTOR, data);
      data.copy(model, at);
    };
    await put(first, 3 * 1024 * 1024 + 512, pattern(1536, 'written over it'));
    await put(first, 14 * 1024 * 1024, pattern(128 * 1024, 'before it comes there'));
    await first.flush();
    await site.gateway.end('SIGKILL');
    await first.close();
    await site.gateway.start();
    await site.gateway.call('limit', { set: { direction: 'upload', plan: '1Mbit/s' } });
    const second = await connect(`${SITE_IQN}:legacy`);
    await put(second, 30 * 1024 * 1024, pattern(64 * 1024, 'where nothing was'));
    await site.gateway.call('limit', { set: { direction: 'upload', plan: 'none' } });
    await site.gateway.call('flush', { name: 'legacy' });
    expect(await seeding('legacy')).toBe(false);
    await second.close();
    await site.gateway.end('SIGTERM');
    expect(readFileSync(image).equals(model)).toBe(true);
    expect((await restoredElsewhere('legacy')).equals(model)).toBe(true);
    await site.gateway.start();
  }, 90_000);

  it('says why it does not take over what it cannot, and touches none of it', () => {
    const image = join(site.directory, 'odd.raw');
    writeFileSync(image, Buffer.alloc(1_000_001, 7));
    const create = (...words: string[]): string => {
      try {
        site.gateway.cli('volume', 'create', 'odd', ...words);
      } catch (error) {
        return error instanceof Error ? error.message : String(error);
      }
      throw new Error(`volume create ${words.join(' ')} went well`);
    };
    expect(create('--stored', image, '--seed')).toMatch(/multiple of 4096|no whole number of 4096-byte blocks/);
    expect(create('--stored', join(site.directory, 'none.raw'), '--seed')).toMatch(/there is no image/);
    expect(create('--stored', image, '--seed', '--size', '16M')).toMatch(/1000001 bytes/);
    expect(create('--stored', image)).toMatch(/--size/);
    expect(create('--seed')).toMatch(/--stored|--size/);
    expect(readFileSync(image).equals(Buffer.alloc(1_000_001, 7))).toBe(true);
  });

  const loops = whyNoLoopDevices();
  it.skipIf(loops !== undefined)(
    `lies on a block device as well, with and without something on it${loops === undefined ? '' : ` (${loops})`}`,
    async () => {
      const backing = join(site.directory, 'device.img');
      const content = pattern(VOLUME_BYTES, 'device');
      writeFileSync(backing, content);
      const device = execFileSync('losetup', ['--find', '--show', backing], { encoding: 'utf8' }).trim();
      try {
        expect(() => site.gateway.createVolume('blank', String(VOLUME_BYTES), 512, '--stored', device)).toThrow(
          /has something on it/,
        );
        expect(() => site.gateway.createVolume('blank', '16M', 512, '--stored', backing, '--seed')).toThrow(
          /is attached to/,
        );
        site.gateway.cli('volume', 'create', 'device', '--stored', device, '--seed');
        // Nobody else can have it meanwhile.
        expect(() => site.gateway.cli('volume', 'create', 'again', '--stored', device, '--seed')).toThrow(/in use/);
        const initiator = await connect(`${SITE_IQN}:device`);
        const data = pattern(4096, 'over the device');
        await initiator.write(800, data);
        data.copy(content, 800 * SECTOR);
        await site.gateway.call('flush', { name: 'device' });
        expect(await seeding('device')).toBe(false);
        await initiator.close();
        await site.gateway.end('SIGTERM');
        expect(readFileSync(device).equals(content)).toBe(true);
        expect((await restoredElsewhere('device')).equals(content)).toBe(true);
        await site.gateway.start();
      } finally {
        execFileSync('losetup', ['--detach', device]);
      }
    },
    90_000,
  );
});

/** Why there can be no loop device here; undefined when there can. */
function whyNoLoopDevices(): string | undefined {
  if (process.getuid?.() !== 0) return 'not tried: loop devices are root’s to make';
  const found = spawnSync('losetup', ['--find'], { encoding: 'utf8' });
  if (found.error !== undefined) return 'not tried: there is no losetup here';
  return found.status === 0 && existsSync(found.stdout.trim()) ? undefined : 'not tried: the system has no loop device';
}
