import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MIB } from '../../gateway/base/units.ts';
import { createAwsClients, type AwsClients } from '../../gateway/cloud/aws-clients.ts';
import type { VersionLog, VolumeItem } from '../../gateway/cloud/version-log.ts';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy/fault-proxy.ts';
import { CloudProcess, GatewayProcess, makeSiteDirectory, removeSiteDirectory } from '../support/gateway-process.ts';
import { adaptersOn } from '../support/local-cloud.ts';
import { eventually } from '../support/processes.ts';
import {
  connectTo,
  contentOf,
  FENCED_SENSE,
  FENCED_WITHIN_MS,
  fencedAfterMs,
  senseOf,
  stamped,
  Writer,
} from './fencing-world.ts';

const BLOCKS = 64;
/** Stamps of the second gateway's writes begin here. */
const SECOND = 1_000_000;
/** What was sent before the takeover lands so long after it. */
const LATE_MS = 2500;

/** One embedded cloud, a gateway whose line can be cut, and another one that takes its volumes over. */
describe('fencing between two gateways', () => {
  let directory: string;
  let cloud: CloudProcess;
  let line: FaultProxy;
  let loser: GatewayProcess;
  let winner: GatewayProcess;
  let clients: AwsClients;
  let table: VersionLog;
  beforeAll(async () => {
    directory = makeSiteDirectory();
    cloud = await CloudProcess.start(directory);
    line = await startFaultProxy(cloud);
    [loser, winner] = await Promise.all([
      GatewayProcess.start({ directory, cloud: line, name: 'loser', rpoSeconds: 1, cacheSize: '256M' }),
      GatewayProcess.start({ directory, cloud, name: 'winner', rpoSeconds: 1, cacheSize: '256M' }),
    ]);
    const endpoint = (port: number): string => `http://127.0.0.1:${port}`;
    const credentials = { accessKeyId: 'local', secretAccessKey: 'local' };
    clients = createAwsClients(
      {
        region: 'us-east-1',
        s3Endpoint: endpoint(cloud.s3Port),
        dynamodbEndpoint: endpoint(cloud.dynamodbPort),
        credentials,
      },
      {},
    );
    table = adaptersOn(clients, 'farshore', 'farshore').log;
  });
  afterAll(async () => {
    await loser.end();
    await winner.end();
    await line.close();
    clients.close();
    await cloud.end();
    removeSiteDirectory(directory);
  });

  /** Not by the command line: its process would be waited for in this one, and the line is here. */
  async function create(name: string, replication: 'async' | 'sync' = 'async'): Promise<void> {
    await loser.call('volume-create', { name, bytes: 64 * MIB, sectorSize: 512, replication });
  }

  async function itemOf(name: string): Promise<VolumeItem> {
    const ref = await table.resolveName(name);
    const item = ref && (await table.getVolume(ref));
    if (item === undefined) throw new Error(`there is no volume ${name}`);
    return item;
  }

  /** The history is one line: numbers without a gap, epochs that never fall; and everything that the newest version needs can be read back. */
  async function expectOneHistory(name: string, { isWhole = true } = {}): Promise<void> {
    const { volume } = await itemOf(name);
    const log = await table.listVersions(volume, 1, 1000);
    const { committedN } = (await winner.call('status', {})).volumes.find((each) => each.name === name) ?? {
      committedN: 0,
    };
    const history = log.filter(({ n }) => n <= committedN);
    history.forEach(({ n, epoch }, at) => {
      const before = history[at - 1];
      if (before === undefined) return;
      expect(epoch).toBeGreaterThanOrEqual(before.epoch);
      if (isWhole) expect(n).toBe(before.n + 1);
      else expect(n).toBeGreaterThan(before.n);
    });
    expect(await winner.call('verify', { name })).toMatchObject({ verdict: 'pass', problems: [] });
  }

  it('cut off in the midst of writes that land late: the loser stops within 15 s of reaching the cloud, answers NOT READY, and what it had acked can all be had', async () => {
    await create('cut');
    await create('kept', 'sync');
    const disk = await connectTo(loser, 'cut');
    const kept = await connectTo(loser, 'kept');
    const writer = new Writer(disk, BLOCKS, 1);
    const synced = new Writer(kept, BLOCKS, 1);
    await writer.write(2 * BLOCKS);
    await loser.call('flush', { name: 'cut' });
    const flushed = [...writer.acked];
    await synced.write(4);
    writer.start();
    synced.start();
    // From now on everything it sends to the cloud gets there, but late, and it hears of nothing.
    const late = { deliver: 'late' as const, answer: 'silence' as const, lateMs: LATE_MS };
    await line.setPlan({ rules: [{ fault: late }] });
    await eventually(
      () => (writer.acked[0] !== flushed[0] ? true : undefined),
      30_000,
      () => 'nothing is written',
    );
    await winner.call('restore', { name: 'cut' });
    await winner.call('restore', { name: 'kept' });
    const there = await connectTo(winner, 'cut');
    const second = new Writer(there, 8, SECOND);
    await second.write(8);
    await winner.call('flush', { name: 'cut' });
    await line.landed();
    await line.setPlan({});
    const [cutMs, keptMs] = await Promise.all([
      fencedAfterMs(loser, 'cut', 60_000),
      fencedAfterMs(loser, 'kept', 60_000),
    ]);
    expect(Math.max(cutMs, keptMs)).toBeLessThan(FENCED_WITHIN_MS);
    await writer.stop();
    await synced.stop();
    expect(await senseOf(disk.read(0, 8))).toEqual(FENCED_SENSE);
    expect(await senseOf(disk.write(0, stamped(3)))).toEqual(FENCED_SENSE);
    expect(await senseOf(kept.read(0, 8))).toEqual(FENCED_SENSE);

    // A version of the loser may have got there before the takeover: the content is a prefix of its writes, with all that was flushed, under the winner's.
    const content = await contentOf(there, BLOCKS);
    content.forEach((stamp, block) => {
      if (block < 8) expect(stamp).toBe(second.acked[block]);
      else expect(stamp).toBeGreaterThanOrEqual(flushed[block] ?? 0);
    });
    // What a sync volume acked is there, every write of it.
    const keptThere = await connectTo(winner, 'kept');
    expect(synced.wrong(await contentOf(keptThere, BLOCKS))).toEqual([]);
    await expectOneHistory('cut');
    await expectOneHistory('kept');

    const report = await loser.call('status', {});
    expect(report.volumes.find(({ name }) => name === 'cut')?.reason).toContain('farshore salvage cut');
    await loser.call('salvage-import', { name: 'cut', as: 'rescued', damaged: false });
    const rescued = await connectTo(loser, 'rescued');
    expect(writer.wrong(await contentOf(rescued, BLOCKS))).toEqual([]);
    expect(await loser.call('verify', { name: 'rescued' })).toMatchObject({ verdict: 'pass' });
    expect(loser.cli('salvage', 'list')).toContain('cut');
    expect((await loser.call('status', {})).salvage).toHaveLength(1);
    for (const each of [disk, kept, there, keptThere, rescued]) await each.close().catch(() => undefined);
  }, 180_000);

  it('paused, and let go on when its part of the log was folded and deleted: it is fenced, and writes nothing more', async () => {
    await create('paused');
    const disk = await connectTo(loser, 'paused');
    const writer = new Writer(disk, BLOCKS, 1);
    await writer.write(BLOCKS);
    await loser.call('flush', { name: 'paused' });
    const flushed = [...writer.acked];
    // Uploads that wait for the line: their puts are sent after the pause, if nobody keeps them from it.
    await line.setPlan({ roundTripMs: 200 });
    writer.start();
    await eventually(
      () => (writer.acked[0] !== flushed[0] ? true : undefined),
      30_000,
      () => 'nothing is written',
    );
    const pid = loser.pid() ?? 0;
    process.kill(pid, 'SIGSTOP');
    try {
      await winner.call('restore', { name: 'paused' });
      const there = await connectTo(winner, 'paused');
      const second = new Writer(there, 8, SECOND);
      await second.write(8);
      await winner.call('flush', { name: 'paused' });
      await winner.call('fold', { name: 'paused' });
      await deleteFolded('paused');
      await line.setPlan({});
      process.kill(pid, 'SIGCONT');
      expect(await fencedAfterMs(loser, 'paused', 60_000)).toBeLessThan(FENCED_WITHIN_MS);
      await writer.stop();
      expect(await senseOf(disk.read(0, 8))).toEqual(FENCED_SENSE);
      await second.write(8);
      await winner.call('flush', { name: 'paused' });
      const content = await contentOf(there, BLOCKS);
      content.forEach((stamp, block) => {
        if (block < 8) expect(stamp).toBe(second.acked[block]);
        else expect(stamp).toBeGreaterThanOrEqual(flushed[block] ?? 0);
      });
      await expectOneHistory('paused', { isWhole: false });
      await there.close();
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await disk.close().catch(() => undefined);
  }, 180_000);

  /** What maintenance will do: the floor is raised, then records that are in the checkpoint go, takeovers excepted (rule 4). */
  async function deleteFolded(name: string): Promise<void> {
    const item = await itemOf(name);
    const floor = item.checkpoint?.n ?? 0;
    expect(floor).toBeGreaterThan(2);
    expect(await table.raiseFloor(item, floor, item.maintenanceEpoch)).toBe('ok');
    const log = await table.listVersions(item.volume, 1, 1000);
    const takeovers = new Set(log.filter(({ epoch }, at) => epoch !== log[at - 1]?.epoch).map(({ n }) => n));
    const folded = log.map(({ n }) => n).filter((n) => n <= floor && !takeovers.has(n));
    expect(folded.length).toBeGreaterThan(0);
    for (let at = 0; at < folded.length; at += 25) await table.deleteVersions(item.volume, folded.slice(at, at + 25));
  }

  it('handed over in the midst of writes: nothing that was acked is lost, and the sessions end', async () => {
    await create('given');
    const disk = await connectTo(loser, 'given');
    const writer = new Writer(disk, BLOCKS, 1);
    await writer.write(BLOCKS);
    writer.start();
    const { gateway: to } = await winner.call('status', {});
    await loser.call('handover', { name: 'given', to });
    await writer.stop();
    expect(writer.failure).toBeDefined();
    // It is the winner's when the command returns; its initiators may have to try again for a moment.
    const there = await eventually(
      () => connectTo(winner, 'given').catch(() => undefined),
      30_000,
      () => 'the volume that was handed over is not served',
    );
    expect(writer.wrong(await contentOf(there, BLOCKS))).toEqual([]);
    expect((await loser.call('status', {})).volumes.find(({ name }) => name === 'given')?.state).toBe('fenced');
    await expectOneHistory('given');
    await there.close();
    await disk.close().catch(() => undefined);
  }, 180_000);
});
