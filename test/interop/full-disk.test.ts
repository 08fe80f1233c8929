import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import { decodeSense, SCSI_STATUS, SENSE_KEY } from '../../gateway/initiator/scsi-error.ts';
import { connectStamped, StampedDisk, type Endpoint } from '../crash/stamped-disk.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { CloudProcess, GatewayProcess, makeSiteDirectory, removeSiteDirectory } from '../support/gateway-process.ts';
import { eventually } from '../support/processes.ts';
import { RawInitiator } from '../support/raw-initiator.ts';
import { SmallDisk } from '../support/small-disk.ts';

const MIB = 1024 * 1024;
const VOLUME_BYTES = 16 * MIB;
/** Room for the four chunks that a cache begins with, and not for a fifth. */
const SMALL_BYTES = 160 * MIB;
const WRITERS = 64;
const LIMIT_MS = 300_000;
const MAKE_ROOM = 'the disk of the state directory is full; make room on it';
/** What is left then has no room for a write of the flood. */
const ALMOST_FULL = 0.95;
/** Of a core, while everything waits. */
const MOST_CPU = 0.5;
const CPU_WINDOW_MS = 3_000;

describe('a state directory on a disk that is full', () => {
  let directory: string;
  let small: SmallDisk;
  let cloud: CloudProcess;
  let gateway: GatewayProcess;
  let endpoint: Endpoint;
  const disk = new StampedDisk(VOLUME_BYTES, new SimRandom('full disk'));
  const cacheStatus = async () => (await gateway.call('status', {})).cache;
  const volumeState = async (name: string) =>
    (await gateway.call('status', {})).volumes.find((volume) => volume.name === name);

  beforeAll(async () => {
    directory = makeSiteDirectory();
    small = SmallDisk.mount(join(directory, 'gateway'), join(directory, 'disk.img'), SMALL_BYTES);
    cloud = await CloudProcess.start(directory);
    gateway = await GatewayProcess.start({ directory, cloud, cacheSize: '1G', ramSize: '16M', rpoSeconds: 1 });
    const target = gateway.createVolume('full', String(VOLUME_BYTES));
    endpoint = { target, host: gateway.host, port: gateway.port };
  }, LIMIT_MS);

  afterAll(async () => {
    await gateway.end();
    await cloud.end();
    small.unmount();
    removeSiteDirectory(directory);
  });

  it(
    'tells writes BUSY and keeps serving reads and logins; what cannot be recorded is not done, and status says what is full',
    async () => {
      const writer = await Initiator.connect({ ...endpoint, busyTimeoutMs: 0 });
      await disk.writeSome(writer, 16, 100);
      await gateway.call('flush', { name: 'full' });
      await gateway.call('limit', { set: { direction: 'upload', plan: 'pause' } });
      const watcher = await RawInitiator.connect(gateway.port, gateway.host);
      await watcher.login({ target: endpoint.target });
      await watcher.clear();
      const flood = disk.writeUntilRefused(writer, WRITERS);
      await eventually(
        async () => ((await cacheStatus()).dirtyShare > ALMOST_FULL ? true : undefined),
        LIMIT_MS,
        () => gateway.logTail(),
      );
      // Once, to each: THIN PROVISIONING SOFT THRESHOLD REACHED.
      const warned = await watcher.run({ cdb: Buffer.alloc(16) });
      expect(warned.status).toBe(SCSI_STATUS.checkCondition);
      expect(decodeSense(warned.last.data.subarray(2))).toEqual({
        key: SENSE_KEY.unitAttention,
        asc: 0x38,
        ascq: 0x07,
      });
      expect((await watcher.run({ cdb: Buffer.alloc(16) })).status).toBe(SCSI_STATUS.good);
      watcher.destroy();
      small.fill();

      const reader = await connectStamped(endpoint);
      expect(await disk.wrongNow(reader)).toEqual([]);
      expect((await cacheStatus()).state).toMatch(/^the cache stays at 4 of 32 chunks: .*make room on it/);
      expect(() => gateway.cli('volume', 'create', 'other', '--size', '1G')).toThrow(MAKE_ROOM);
      // Nothing is left of it.
      expect(await gateway.call('volume-list', {})).toMatchObject([{ name: 'full' }]);
      expect(() => gateway.cli('initiator', 'add', 'iqn.2026-11.dev.farshore:x')).toThrow(MAKE_ROOM);
      const before = (await gateway.call('status', {})).process;
      await pause(CPU_WINDOW_MS);
      const after = (await gateway.call('status', {})).process;
      expect((after.cpuMs - before.cpuMs) / (after.intervalMs - before.intervalMs)).toBeLessThan(MOST_CPU);

      const refusals = await flood;
      expect(refusals).toHaveLength(WRITERS);
      const statuses = new Set(refusals.map(({ status }) => status));
      expect(
        [...statuses].filter((status) => status !== SCSI_STATUS.busy && status !== SCSI_STATUS.taskSetFull),
      ).toEqual([]);
      expect(await disk.lostOrForeign(reader, 'acked')).toEqual([]);
      await Promise.all([writer.close(), reader.close()]);
    },
    LIMIT_MS,
  );

  it(
    'starts after a SIGKILL without a byte of room, says what it waits for, and loses nothing once there is room',
    async () => {
      await gateway.end('SIGKILL');
      small.fill();
      gateway.launch();
      const reason = await eventually(
        // There is nobody to ask at first.
        async () => (await volumeState('full').catch(() => undefined))?.reason,
        LIMIT_MS,
        () => gateway.logTail(),
      );
      expect(reason).toContain(MAKE_ROOM);
      small.makeRoom();
      await eventually(
        async () => ((await volumeState('full'))?.state === 'serving' ? true : undefined),
        LIMIT_MS,
        () => gateway.logTail(),
      );
      const initiator = await connectStamped(endpoint);
      expect(await disk.lostOrForeign(initiator, 'acked')).toEqual([]);
      await gateway.call('flush', { name: 'full' });
      expect(await volumeState('full')).toMatchObject({ state: 'serving', lagBytes: 0 });
      expect((await volumeState('full'))?.reason).toBeUndefined();
      await disk.writeSome(initiator, 16, 100);
      await gateway.call('flush', { name: 'full' });
      expect(await disk.lostOrForeign(initiator, 'acked')).toEqual([]);
      await initiator.close();
      expect(await gateway.call('verify', { name: 'full' })).toMatchObject({ verdict: 'pass', problems: [] });
      gateway.createVolume('other', '1G');
      expect((await volumeState('other'))?.state).toBe('serving');
    },
    LIMIT_MS,
  );
});
