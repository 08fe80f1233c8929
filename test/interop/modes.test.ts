import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SENSE_KEY } from '../../gateway/initiator/scsi-error.ts';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import type { VolumeReport } from '../../gateway/admin/gateway-api.ts';
import {
  CloudProcess,
  GatewayProcess,
  makeSiteDirectory,
  removeSiteDirectory,
  SITE_IQN,
} from '../support/gateway-process.ts';
import { eventually } from '../support/processes.ts';

const BLOCK = 4096;
const SITE = { rpoSeconds: 600, remoteLossSeconds: 1 };

let directory: string;
let cloud: CloudProcess;
let office: GatewayProcess;
let spare: GatewayProcess;

beforeAll(async () => {
  directory = makeSiteDirectory();
  cloud = await CloudProcess.start(directory);
  office = await GatewayProcess.start({ directory, cloud, name: 'office', ...SITE });
  spare = await GatewayProcess.start({ directory, cloud, name: 'spare', ...SITE });
});

afterAll(async () => {
  await office.end();
  await spare.end();
  await cloud.end();
  removeSiteDirectory(directory);
});

function connect(gateway: GatewayProcess, volume: string): Promise<Initiator> {
  return Initiator.connect({ host: gateway.host, port: gateway.port, target: `${SITE_IQN}:${volume}` });
}

async function create(name: string, ...options: readonly string[]): Promise<Initiator> {
  office.createVolume(name, '64M', 4096, ...options);
  return connect(office, name);
}

const show = (name: string): Promise<VolumeReport> => office.call('volume-show', { name });

function standing(name: string, wanted: string): Promise<VolumeReport> {
  return eventually(
    async () => {
      const report = await show(name);
      return report.acks?.standing === wanted ? report : undefined;
    },
    30_000,
    () => `${name} does not become ${wanted}`,
  );
}

/** Whether it is still unanswered after everything that is on its way had the time to come. */
async function isWaiting(work: Promise<unknown>): Promise<boolean> {
  let isOver = false;
  work.then(
    () => (isOver = true),
    () => (isOver = true),
  );
  await office.call('status', {});
  await office.call('status', {});
  return !isOver;
}

/** As fast as many commands at once can go. */
async function writeMany(disk: Initiator, blocks: readonly Buffer[]): Promise<void> {
  await Promise.all(blocks.map((data, at) => disk.write(at, data)));
}

describe('a sync volume', () => {
  it('loses nothing that it acked when its gateway is gone with everything on it, at any moment', async () => {
    const disk = await create('books', '--replication', 'sync');
    const blocks = Array.from({ length: 200 }, () => randomBytes(BLOCK));
    const acked = new Map<number, Buffer>();
    const writes = blocks.map(async (data, at) => {
      await disk.write(at, data);
      acked.set(at, data);
      // In the midst of them.
      if (acked.size === 120) await office.end('SIGKILL');
    });
    await Promise.allSettled(writes);
    await disk.close().catch(() => undefined);
    expect(acked.size).toBeGreaterThanOrEqual(120);
    await spare.call('restore', { name: 'books' });
    const there = await connect(spare, 'books');
    for (const [at, data] of acked) expect((await there.read(at, 1)).equals(data)).toBe(true);
    await there.close();
    await office.start();
  });

  it('has its writes wait for a cloud that is away, shows the old content, and tells its administrator', async () => {
    const disk = await create('waiting', '--replication', 'sync');
    const [before, after] = [randomBytes(BLOCK), randomBytes(BLOCK)];
    await disk.write(0, before);
    await cloud.end('SIGKILL');
    const write = disk.write(0, after);
    const report = await standing('waiting', 'blocked');
    expect(report.reason).toMatch(/the cloud does not answer, and writes wait for it/);
    expect(office.cli('volume', 'show', 'waiting')).toMatch(/replication +sync, blocked for \d+ s, 1 waiting/);
    expect(await isWaiting(write)).toBe(true);
    expect((await disk.read(0, 1)).equals(before)).toBe(true);
    await cloud.start();
    await write;
    expect((await disk.read(0, 1)).equals(after)).toBe(true);
    expect(await standing('waiting', 'in-force')).toMatchObject({ lagBytes: 0 });
    await disk.close();
  });

  it('is told to fail: what comes is refused with a hardware error, and what was on its way is done when the cloud is back', async () => {
    const disk = await create('failing', '--replication', 'sync', '--on-remote-loss', 'fail');
    await disk.write(0, randomBytes(BLOCK));
    await cloud.end('SIGKILL');
    const held = randomBytes(BLOCK);
    const write = disk.write(1, held);
    await standing('failing', 'failing');
    await expect(disk.write(0, randomBytes(BLOCK))).rejects.toMatchObject({
      sense: { key: SENSE_KEY.hardwareError, asc: 0x08, ascq: 0 },
    });
    await cloud.start();
    await write;
    await standing('failing', 'in-force');
    await disk.write(2, held);
    expect((await disk.read(1, 2)).equals(Buffer.concat([held, held]))).toBe(true);
    await disk.close();
  });

  it('is told to degrade: it goes on alone, says so everywhere, and is sync again when it has caught up', async () => {
    const disk = await create('degrading', '--replication', 'sync', '--on-remote-loss', 'degrade');
    await disk.write(0, randomBytes(BLOCK));
    await cloud.end('SIGKILL');
    const blocks = Array.from({ length: 20 }, () => randomBytes(BLOCK));
    await writeMany(disk, blocks);
    await disk.flush();
    expect((await standing('degrading', 'degraded')).reason).toMatch(/DEGRADED/);
    expect(office.cli('status')).toMatch(/degraded/i);
    await cloud.start();
    expect(await standing('degrading', 'in-force')).toMatchObject({ lagBytes: 0 });
    await disk.close();
    await office.end('SIGKILL');
    await spare.call('restore', { name: 'degrading' });
    const there = await connect(spare, 'degrading');
    expect((await there.read(0, 20)).equals(Buffer.concat(blocks))).toBe(true);
    await there.close();
    await office.start();
  });
});

describe('a flush volume', () => {
  it('acks writes at once, and a flush when the cloud has everything before it', async () => {
    const disk = await create('mail', '--replication', 'flush');
    const data = randomBytes(BLOCK);
    await disk.write(0, data);
    const { committedN } = await show('mail');
    await disk.flush();
    const flushed = await show('mail');
    expect(flushed.committedN).toBeGreaterThan(committedN);
    expect(flushed.lagBytes).toBe(0);
    await cloud.end('SIGKILL');
    await disk.write(1, data);
    const flush = disk.flush();
    await standing('mail', 'blocked');
    expect(await isWaiting(flush)).toBe(true);
    await cloud.start();
    await flush;
    await disk.close();
  });
});

describe('another mode, while the volume is in use', () => {
  it('is in force from the command on, and after the next start', async () => {
    const disk = await create('ledger');
    await disk.write(0, randomBytes(BLOCK));
    expect(office.cli('volume', 'set', 'ledger', '--replication', 'sync', '--on-remote-loss', 'degrade')).toMatch(
      /replication +sync/,
    );
    await disk.write(1, randomBytes(BLOCK));
    expect(await standing('ledger', 'in-force')).toMatchObject({ lagBytes: 0, replication: 'sync' });
    await disk.close();
    await office.end('SIGKILL');
    await office.start();
    expect(await show('ledger')).toMatchObject({ replication: 'sync', acks: { onRemoteLoss: 'degrade' } });
    office.cli('volume', 'set', 'ledger', '--replication', 'async');
    expect(await show('ledger')).toMatchObject({ replication: 'async', acks: { standing: 'in-force' } });
  });
});
