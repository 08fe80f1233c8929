import { createHash, randomBytes } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GatewayReport } from '../../gateway/admin/gateway-api.ts';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import {
  CloudProcess,
  GatewayProcess,
  SITE_IQN,
  type Site,
  makeSiteDirectory,
  removeSiteDirectory,
  startSite,
} from '../support/gateway-process.ts';
import { eventually } from '../support/processes.ts';

const PROGRAM = resolve(import.meta.dirname, '../../dist/farshore.js');
const MIB = 1024 * 1024;

/** The command line as a user types it. */
function farshore(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...words], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

function connect(gateway: GatewayProcess, volume: string): Promise<Initiator> {
  return Initiator.connect({ host: gateway.host, port: gateway.port, target: `${SITE_IQN}:${volume}` });
}

const volumeOf = async (gateway: GatewayProcess, name: string): Promise<GatewayReport['volumes'][number] | undefined> =>
  (await gateway.call('status', {})).volumes.find((volume) => volume.name === name);

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('one gateway, as its administrator uses it', () => {
  let site: Site;
  beforeAll(async () => {
    site = await startSite({ rpoSeconds: 1 });
  });
  afterAll(async () => {
    await site.close();
  });

  it('creates, lists and shows a volume, in a table and as JSON', () => {
    const created = farshore('volume', 'create', 'data', '--size', '64M', '--config', site.gateway.configFile);
    expect(created).toMatchObject({ status: 0, stderr: '' });
    expect(created.stdout).toContain(`${SITE_IQN}:data LUN 0`);
    expect(farshore('volume', 'list', '--config', site.gateway.configFile).stdout).toContain('this gateway');
    const shown = JSON.parse(
      farshore('--json', 'volume', 'show', 'data', '--config', site.gateway.configFile).stdout,
    ) as unknown;
    expect(shown).toMatchObject({ name: 'data', bytes: 64 * MIB, state: 'serving', replication: 'async' });
  });

  it.each([
    ['an unknown volume', ['volume', 'show', 'nothing'], 3, 'is not served by this gateway'],
    ['a name that is taken', ['volume', 'create', 'data', '--size', '64M'], 4, 'there is a volume data already'],
    ['a size that is none', ['volume', 'create', 'x', '--size', 'big'], 2, 'is not a size'],
    ['a size that is no whole block', ['volume', 'create', 'x', '--size', '1048577'], 2, 'multiple of 4096'],
    ['a name that is none', ['volume', 'create', 'X!', '--size', '64M'], 2, 'lower-case'],
    [
      'a replication mode that there is not',
      ['volume', 'create', 'x', '--size', '64M', '--replication', 'maybe'],
      2,
      'Allowed choices are async, flush, sync',
    ],
    ['nothing to be set', ['volume', 'set', 'data'], 2, '--on-remote-loss'],
    ['an unknown command', ['explode'], 2, 'unknown command'],
    ['a restore without --takeover', ['restore', 'data'], 2, '--takeover'],
    ['a restore of what is not there', ['restore', 'nothing', '--takeover'], 3, 'there is no volume nothing'],
    ['a restore of what is served here', ['restore', 'data', '--takeover'], 4, 'is served here already'],
    ['a purge of a volume in use', ['volume', 'delete', 'data', '--purge', '--confirm', 'data'], 2, 'is not deleted'],
  ])('refuses %s with one sentence and an exit code', (_what, words, status, sentence) => {
    const refused = farshore(...words, '--config', site.gateway.configFile);
    expect(refused.stderr).toContain(sentence);
    expect(refused.status).toBe(status);
  });

  it('refuses a second gateway on its state directory, naming the process', () => {
    const second = farshore('serve', '--config', site.gateway.configFile);
    expect(second.status).toBe(4);
    expect(second.stderr).toContain(String(site.gateway.pid()));
  });

  it('refuses unknown keys, and a bucket or table that is not there, before it serves', () => {
    const good = readFileSync(site.gateway.configFile, 'utf8').replace(
      site.gateway.stateDirectory,
      join(site.directory, 'other'),
    );
    const refusal = (name: string, text: string) => {
      const config = join(site.directory, `${name}.yaml`);
      writeFileSync(config, text);
      return farshore('serve', '--config', config);
    };
    expect(refusal('key', `${good}colour: red\n`)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('unknown key colour') as string,
    });
    expect(refusal('bucket', good.replace('bucket: farshore', 'bucket: nowhere'))).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('nowhere') as string,
    });
    expect(refusal('table', good.replace('table: farshore', 'table: nowhere'))).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('nowhere') as string,
    });
  });

  it('makes what was written a committed version on flush, and tells the versions', async () => {
    const disk = await connect(site.gateway, 'data');
    const data = randomBytes(4 * MIB);
    await disk.write(0, data);
    expect(farshore('flush', 'data', '--config', site.gateway.configFile)).toMatchObject({ status: 0 });
    expect(await volumeOf(site.gateway, 'data')).toMatchObject({ lagBytes: 0, lagSeconds: 0 });
    expect(farshore('versions', 'data', '--config', site.gateway.configFile).stdout).toMatch(/write/);
    expect(digest(await disk.read(0, (4 * MIB) / 512))).toBe(digest(data));
    await disk.close();
  });

  it('reads the cloud back: verify passes, before a fold and after it', () => {
    expect(farshore('verify', 'data', '--config', site.gateway.configFile).stdout).toContain('data: pass');
    expect(farshore('fold', 'data', '--config', site.gateway.configFile)).toMatchObject({ status: 0 });
    expect(farshore('verify', 'data', '--config', site.gateway.configFile).stdout).toContain('data: pass');
  });

  it('finds nothing wrong with itself', () => {
    const found = farshore('doctor', '--config', site.gateway.configFile);
    expect(found.stdout).not.toContain('fail');
    for (const check of ['config', 'disk', 'clock', 'bucket', 'table']) expect(found.stdout).toContain(check);
    expect(found.status).toBe(0);
  });

  it('loses nothing acked to SIGKILL, and nothing to a clean stop', async () => {
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      const disk = await connect(site.gateway, 'data');
      const data = randomBytes(2 * MIB);
      await disk.write(8192, data);
      await site.gateway.end(signal);
      await disk.close().catch(() => undefined);
      await site.gateway.start();
      const again = await connect(site.gateway, 'data');
      expect(digest(await again.read(8192, (2 * MIB) / 512))).toBe(digest(data));
      await again.close();
    }
  });

  it('reads zeros where it was unmapped, here and after a restart', async () => {
    const disk = await connect(site.gateway, 'data');
    await disk.unmap([{ lba: 8192, sectors: 2048 }]);
    expect((await disk.read(8192, 2048)).every((byte) => byte === 0)).toBe(true);
    await disk.close();
    await site.gateway.end('SIGKILL');
    await site.gateway.start();
    const again = await connect(site.gateway, 'data');
    expect((await again.read(8192, 2048)).every((byte) => byte === 0)).toBe(true);
    await again.close();
  });

  it('goes back to an older version, and forward again: the history stays', async () => {
    const disk = await connect(site.gateway, 'data');
    const old = randomBytes(MIB);
    const young = randomBytes(MIB);
    await disk.write(0, old);
    const { n } = await site.gateway.call('flush', { name: 'data' });
    await disk.write(0, young);
    const newer = await site.gateway.call('flush', { name: 'data' });
    await disk.close();
    const { configFile } = site.gateway;
    const wanted = [
      [n, old],
      [newer.n, young],
    ] as const;
    for (const [version, content] of wanted) {
      expect(
        farshore('restore', 'data', '--takeover', '--version', String(version), '--config', configFile).stderr,
      ).toBe('');
      const again = await connect(site.gateway, 'data');
      expect(digest(await again.read(0, MIB / 512))).toBe(digest(content));
      await again.close();
    }
    expect(farshore('verify', 'data', '--config', configFile).stdout).toContain('data: pass');
  });

  it('keeps a deleted volume until it is purged by its name typed again', async () => {
    const { configFile } = site.gateway;
    site.gateway.createVolume('gone', '16M');
    const disk = await connect(site.gateway, 'gone');
    const data = randomBytes(MIB);
    await disk.write(0, data);
    await disk.close();
    expect(farshore('volume', 'delete', 'gone', '--config', configFile).stdout).toContain('undelete');
    await expect(connect(site.gateway, 'gone')).rejects.toThrow();
    expect(farshore('volume', 'list', '--config', configFile).stdout).toContain('deleted, kept until');
    expect(farshore('volume', 'create', 'gone', '--size', '16M', '--config', configFile).stderr).toContain(
      'still kept',
    );
    expect(farshore('restore', 'gone', '--takeover', '--config', configFile).stderr).toContain('is deleted');
    expect(farshore('volume', 'undelete', 'gone', '--config', configFile).status).toBe(0);
    const back = await connect(site.gateway, 'gone');
    expect(digest(await back.read(0, MIB / 512))).toBe(digest(data));
    await back.close();
    expect(farshore('volume', 'delete', 'gone', '--config', configFile).status).toBe(0);
    expect(farshore('volume', 'delete', 'gone', '--purge', '--config', configFile)).toMatchObject({ status: 2 });
    expect(
      farshore('volume', 'delete', 'gone', '--purge', '--confirm', 'gone', '--config', configFile).stdout,
    ).toContain('gone for ever');
    expect(farshore('volume', 'list', '--config', configFile).stdout).not.toContain('gone');
    expect(farshore('volume', 'create', 'gone', '--size', '16M', '--config', configFile).status).toBe(0);
  });

  it('makes a served volume larger, and smaller only with --force and no data beyond; it is in the audit log and outlives a crash', async () => {
    const { configFile } = site.gateway;
    site.gateway.createVolume('sized', '16M');
    const disk = await connect(site.gateway, 'sized');
    const old = randomBytes(MIB);
    await disk.write(0, old);
    expect(farshore('volume', 'resize', 'sized', '48M', '--config', configFile).stdout).toContain('48.0 MiB');
    expect(await disk.readCapacity()).toMatchObject({ bytes: 48 * MIB });
    await disk.write((47 * MIB) / 512, old);
    const sizeOf = (words: readonly string[]) =>
      farshore('volume', 'resize', 'sized', ...words, '--config', configFile);
    expect(sizeOf(['24M'])).toMatchObject({ status: 2, stderr: expect.stringContaining('--force') as string });
    const refused = sizeOf(['24M', '--force']);
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining('data in 256 blocks') as string });
    expect(digest(await disk.read((47 * MIB) / 512, MIB / 512))).toBe(digest(old));
    await disk.unmap([{ lba: (47 * MIB) / 512, sectors: MIB / 512 }]);
    expect(sizeOf(['24M', '--force'])).toMatchObject({ status: 0, stderr: '' });
    await expect(disk.read((47 * MIB) / 512, 8)).rejects.toThrow('additional sense 21h 00h');
    await site.gateway.end('SIGKILL');
    await site.gateway.start();
    const again = await connect(site.gateway, 'sized');
    expect(await again.readCapacity()).toMatchObject({ bytes: 24 * MIB });
    expect(sizeOf(['48M'])).toMatchObject({ status: 0 });
    expect((await again.read((47 * MIB) / 512, MIB / 512)).every((byte) => byte === 0)).toBe(true);
    expect(digest(await again.read(0, MIB / 512))).toBe(digest(old));
    await again.close();
    const kinds = (await site.gateway.call('versions', { name: 'sized', limit: 20 })).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === 'resize')).toHaveLength(3);
    const audit = readdirSync(join(site.gateway.stateDirectory, 'audit'))
      .map((file) => readFileSync(join(site.gateway.stateDirectory, 'audit', file), 'utf8'))
      .join('');
    expect(audit).toContain('"event":"volume-resize"');
    expect(audit).toContain('"event":"volume-resize-failed"');
    expect(farshore('volume', 'list', '--config', configFile).stdout).toMatch(/sized\s+48\.0 MiB/);
  });

  it('keeps to a quota, which can be changed and outlives a crash: what is mapped is overwritten, the rest refused', async () => {
    const { configFile } = site.gateway;
    site.gateway.createVolume('thin', '64M', 512, '--quota', '4M');
    const counted = async (): Promise<void> => {
      await expect
        .poll(async () => (await site.gateway.call('volume-show', { name: 'thin' })).quota?.mappedBytes, {
          timeout: 60_000,
        })
        .toBeDefined();
    };
    await counted();
    const disk = await connect(site.gateway, 'thin');
    await disk.write(0, randomBytes(4 * MIB));
    await expect(disk.write((8 * MIB) / 512, randomBytes(MIB))).rejects.toThrow('additional sense 27h 07h');
    const data = randomBytes(MIB);
    await disk.write(0, data);
    expect(farshore('volume', 'quota', 'thin', '8M', '--config', configFile).stdout).toContain('8.00 MiB');
    await counted();
    await disk.write((8 * MIB) / 512, data);
    await disk.close();
    await site.gateway.end('SIGKILL');
    await site.gateway.start();
    await counted();
    expect((await site.gateway.call('volume-list', {})).find(({ name }) => name === 'thin')?.quotaBytes).toBe(8 * MIB);
    const again = await connect(site.gateway, 'thin');
    await expect(again.write((16 * MIB) / 512, randomBytes(4 * MIB))).rejects.toThrow('additional sense 27h 07h');
    expect(digest(await again.read((8 * MIB) / 512, MIB / 512))).toBe(digest(data));
    expect(farshore('volume', 'quota', 'thin', 'none', '--config', configFile).stdout).not.toContain('quota');
    await again.write((32 * MIB) / 512, randomBytes(8 * MIB));
    await again.close();
    await site.gateway.call('flush', { name: 'thin' });
  });

  it('asks nothing of S3 and renews its lease once in ten seconds while idle', async () => {
    await site.gateway.call('flush', { name: 'data' });
    const before = (await site.gateway.call('status', {})).cloud.requests;
    const start = performance.now();
    // Two beats later by the gateway's own count, not by ours.
    const after = await eventually(
      async () => {
        const now = (await site.gateway.call('status', {})).cloud.requests;
        return now.dynamoWrite >= before.dynamoWrite + 2 ? now : undefined;
      },
      60_000,
      () => 'the lease is not renewed',
    );
    const seconds = (performance.now() - start) / 1000;
    expect(after.s3Put + after.s3Get + after.s3Other).toBe(before.s3Put + before.s3Get + before.s3Other);
    expect(after.dynamoRead).toBe(before.dynamoRead);
    expect(after.dynamoWrite - before.dynamoWrite).toBeLessThanOrEqual(Math.ceil(seconds / 10) + 1);
  }, 90_000);
});

describe('two gateways on one cloud', () => {
  let directory: string;
  let cloud: CloudProcess;
  let office: GatewayProcess;
  let spare: GatewayProcess;
  beforeAll(async () => {
    directory = makeSiteDirectory();
    cloud = await CloudProcess.start(directory);
    office = await GatewayProcess.start({ directory, cloud, name: 'office', rpoSeconds: 1 });
    spare = await GatewayProcess.start({ directory, cloud, name: 'spare', rpoSeconds: 1 });
  });
  afterAll(async () => {
    await office.end();
    await spare.end();
    await cloud.end();
    removeSiteDirectory(directory);
  });

  it('a taken-over gateway stops serving within 15 s though it is idle, and does not take the volume back when it starts again', async () => {
    office.createVolume('shared', '64M');
    const disk = await connect(office, 'shared');
    const data = randomBytes(3 * MIB);
    await disk.write(0, data);
    await office.call('flush', { name: 'shared' });
    const identity = (await disk.vitalProductData(0x83)).toString('hex');

    const start = performance.now();
    expect(farshore('restore', 'shared', '--takeover', '--config', spare.configFile)).toMatchObject({
      status: 0,
      stderr: '',
    });
    await eventually(
      async () => ((await volumeOf(office, 'shared'))?.state === 'fenced' ? true : undefined),
      30_000,
      () => 'the old gateway still serves',
    );
    expect(performance.now() - start).toBeLessThan(15_000);
    await expect(disk.read(0, 8)).rejects.toThrow();
    await expect(disk.write(0, Buffer.alloc(4096))).rejects.toThrow();
    await disk.close().catch(() => undefined);

    const there = await connect(spare, 'shared');
    expect(digest(await there.read(0, (3 * MIB) / 512))).toBe(digest(data));
    expect((await there.vitalProductData(0x83)).toString('hex')).toBe(identity);
    await there.write(0, randomBytes(4096));
    await there.close();

    await office.end('SIGTERM');
    await office.start();
    expect(await volumeOf(office, 'shared')).toMatchObject({ state: 'fenced' });
    expect(await volumeOf(spare, 'shared')).toMatchObject({ state: 'serving' });
  });

  it('what the loser had not replicated is kept in a salvage file when it comes back', async () => {
    office.createVolume('torn', '64M');
    const disk = await connect(office, 'torn');
    await disk.write(0, randomBytes(MIB));
    await office.call('flush', { name: 'torn' });
    await cloud.end('SIGKILL');
    const lost = randomBytes(MIB);
    await disk.write(4096, lost);
    await office.end('SIGKILL');
    await disk.close().catch(() => undefined);
    await cloud.start();

    await spare.call('restore', { name: 'torn' });
    const there = await connect(spare, 'torn');
    expect((await there.read(4096, MIB / 512)).every((byte) => byte === 0)).toBe(true);
    await there.write(4096, randomBytes(MIB));
    await spare.call('flush', { name: 'torn' });
    await there.close();

    await office.start();
    expect(farshore('restore', 'torn', '--takeover', '--config', office.configFile).stderr).toBe('');
    const salvage = join(office.stateDirectory, 'salvage');
    const kept = existsSync(salvage) ? readdirSync(salvage).map((name) => readFileSync(join(salvage, name))) : [];
    expect(kept.some((file) => file.includes(lost.subarray(0, 4096)))).toBe(true);
  });

  it('a mistyped version takes the volume from nobody', async () => {
    office.createVolume('typo', '16M');
    const words = ['restore', 'typo', '--takeover', '--version', '99', '--config', spare.configFile];
    expect(farshore(...words)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('nothing was changed') as string,
    });
    expect(farshore('volume', 'list', '--config', office.configFile).stdout).toMatch(/typo .*serving +this gateway/);
  });

  it('a deleted volume comes back on another gateway, though it is purged only where it was deleted', async () => {
    office.createVolume('orphan', '16M');
    const disk = await connect(office, 'orphan');
    const data = randomBytes(MIB);
    await disk.write(0, data);
    await disk.close();
    expect(farshore('volume', 'delete', 'orphan', '--config', office.configFile).status).toBe(0);
    expect(
      farshore('volume', 'delete', 'orphan', '--purge', '--confirm', 'orphan', '--config', spare.configFile).status,
    ).toBe(4);
    expect(farshore('volume', 'undelete', 'orphan', '--config', spare.configFile).stderr).toBe('');
    const back = await connect(spare, 'orphan');
    expect(digest(await back.read(0, MIB / 512))).toBe(digest(data));
    await back.close();
  });

  it('deleting while the cloud is away changes nothing: the volume stays online', async () => {
    office.createVolume('held', '16M');
    const disk = await connect(office, 'held');
    await cloud.end('SIGKILL');
    await disk.write(0, randomBytes(MIB));
    expect(farshore('volume', 'delete', 'held', '--config', office.configFile).status).toBe(5);
    await disk.write(0, randomBytes(MIB));
    await disk.close();
    await cloud.start();
    expect(farshore('volume', 'delete', 'held', '--config', office.configFile).status).toBe(0);
  });

  it('a copied state directory is noticed: its unreplicated writes are set aside, not replayed', async () => {
    office.createVolume('copied', '64M');
    const disk = await connect(office, 'copied');
    await disk.write(0, randomBytes(MIB));
    await office.call('flush', { name: 'copied' });
    await disk.close();
    await office.end('SIGTERM');
    const copy = join(directory, 'copy');
    cpSync(office.stateDirectory, copy, { recursive: true });
    await office.start();
    const again = await connect(office, 'copied');
    const newest = randomBytes(MIB);
    await again.write(0, newest);
    await office.call('flush', { name: 'copied' });
    await again.close();
    await office.end('SIGKILL');
    // The machine is rolled back to the copy: the cloud is ahead of it now.
    rmSync(office.stateDirectory, { recursive: true });
    cpSync(copy, office.stateDirectory, { recursive: true });
    await office.start();
    const back = await connect(office, 'copied');
    expect(digest(await back.read(0, MIB / 512))).toBe(digest(newest));
    await back.close();
    expect(farshore('verify', 'copied', '--config', office.configFile).stdout).toContain('copied: pass');
  });
});
