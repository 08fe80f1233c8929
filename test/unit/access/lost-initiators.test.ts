import { afterEach, beforeEach, expect, it } from 'vitest';
import { AccessAdmin } from '../../../gateway/access/access-admin.ts';
import { AccessBook } from '../../../gateway/access/access-book.ts';
import { AccessControl } from '../../../gateway/access/access-control.ts';
import { AuditLog } from '../../../gateway/access/audit-log.ts';
import { adoptVolume } from '../../../gateway/access/part.ts';
import { SecretBox } from '../../../gateway/access/secret-box.ts';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { MIB } from '../../../gateway/base/units.ts';
import { IscsiTargetServer } from '../../../gateway/iscsi/server.ts';
import { DEFAULT_ISCSI_SETTINGS } from '../../../gateway/iscsi/settings.ts';
import { senseOf, write10 } from '../../support/iscsi-wire.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { PromptClock } from '../../support/prompt-clock.ts';
import { RamDevice } from '../../support/ram-device.ts';
import { RawInitiator } from '../../support/raw-initiator.ts';

/** A host that reserved a volume for itself and is unmapped: nobody but an administrator could end its reservation. */

const IQN = 'iqn.2026-11.dev.farshore:office1';
const DATA = { volume: 'id-data', name: 'data', target: `${IQN}:data` };
const LEAVER = 'iqn.2026-11.com.example:leaver';
const STAYER = 'iqn.2026-11.com.example:stayer';
const BY = 'cli:root';
const CONFLICT = 0x18;
const [REGISTER, RESERVE, EXCLUSIVE_ACCESS_REGISTRANTS_ONLY] = [0, 1, 6];
const WRITE = { cdb: write10(0, 1), write: true, expectedBytes: 512, data: Buffer.alloc(512) };

async function gateway(disk: MemoryDisk) {
  const tools = { clock: new PromptClock(), random: systemRandom, log: silentLog };
  const audit = await AuditLog.open({ disk, ...tools });
  const secrets = await SecretBox.open(disk, 'access.key', systemRandom);
  const book = await AccessBook.open({ disk, audit, epochOf: () => 1 });
  const control = new AccessControl({ book, secrets, audit, ...tools });
  const server = new IscsiTargetServer({ ...tools, targets: control, settings: DEFAULT_ISCSI_SETTINGS });
  control.servedBy(server);
  const [portal] = await server.listen([{ host: '127.0.0.1', port: 0 }]);
  const admin = new AccessAdmin({ book, secrets, control, audit, disk, clock: tools.clock, iqn: IQN });
  return { book, control, server, admin, port: portal?.port ?? 0 };
}

let disk: MemoryDisk;
let w: Awaited<ReturnType<typeof gateway>>;
const hosts: RawInitiator[] = [];
beforeEach(async () => {
  disk = new MemoryDisk();
  w = await gateway(disk);
  await w.book.change((document) => ({
    document: adoptVolume(document, DATA, undefined).document,
    result: undefined,
    audit: undefined,
  }));
  w.control.offer(DATA, new RamDevice({ bytes: MIB }));
  for (const name of [LEAVER, STAYER]) {
    await w.admin.addInitiator(name, BY);
    await map(name);
  }
});
afterEach(async () => {
  for (const host of hosts.splice(0)) host.destroy();
  await w.server.close(false);
});

async function map(initiator: string, target?: string): Promise<void> {
  await w.admin.map({ volume: 'data', initiator, target, lun: undefined, readOnly: false, addresses: [] }, BY);
}

async function login(initiator: string, isid: string, target = DATA.target): Promise<RawInitiator> {
  const host = await RawInitiator.connect(w.port);
  hosts.push(host);
  await host.login({ target, initiator, isid });
  await host.clear();
  return host;
}

/** PERSISTENT RESERVE OUT, which persists; with ALL_TG_PT if wanted. */
async function out(host: RawInitiator, action: number, key: bigint, newKey: bigint, allPorts = false): Promise<void> {
  const cdb = Buffer.alloc(16);
  cdb.set([0x5f, action, action === RESERVE ? EXCLUSIVE_ACCESS_REGISTRANTS_ONLY : 0]);
  cdb.writeUInt32BE(24, 5);
  const data = Buffer.alloc(24);
  data.writeBigUInt64BE(key, 0);
  data.writeBigUInt64BE(newKey, 8);
  data[20] = (allPorts ? 4 : 0) | 1;
  expect((await host.run({ cdb, write: true, expectedBytes: 24, data })).status).toBe(0);
}

async function lockedOut(): Promise<{ leaver: RawInitiator; stayer: RawInitiator }> {
  const leaver = await login(LEAVER, '00023d000001');
  const stayer = await login(STAYER, '00023d000002');
  await out(leaver, REGISTER, 0n, 1n);
  await out(leaver, RESERVE, 1n, 0n);
  expect((await stayer.run(WRITE)).status).toBe(CONFLICT);
  return { leaver, stayer };
}

/** Names that the volume's document has a registration of. */
function kept(): readonly string[] {
  const document = JSON.parse(w.book.document.volumes[0]?.unitState ?? '{}') as {
    reservations?: { registrations: { name: string }[]; reservation: object | null };
  };
  return document.reservations?.registrations.map(({ name }) => name) ?? [];
}

it('ends what the initiator had reserved, durably, and tells those that are registered', async () => {
  const { stayer } = await lockedOut();
  await out(stayer, REGISTER, 0n, 2n);
  expect(kept()).toEqual([LEAVER, STAYER]);
  await w.admin.unmap({ volume: 'data', initiator: LEAVER, target: undefined }, BY);
  await w.control.enforced();
  expect(senseOf((await stayer.run(WRITE)).last)).toMatchObject({ key: 6, asc: 0x2a, ascq: 0x04 });
  expect((await stayer.run(WRITE)).status).toBe(0);
  expect(kept()).toEqual([STAYER]);
});

it('ends that of an initiator without a session', async () => {
  const { leaver, stayer } = await lockedOut();
  leaver.destroy();
  while (w.server.sessions().length > 1) await new Promise((resolve) => setImmediate(resolve));
  expect((await stayer.run(WRITE)).status).toBe(CONFLICT);
  await w.admin.unmap({ volume: 'data', initiator: LEAVER, target: undefined }, BY);
  await w.control.enforced();
  expect((await stayer.run(WRITE)).status).toBe(0);
  expect(kept()).toEqual([]);
});

it('ends it at the next offer when the map is removed while the volume is closed, by another process even', async () => {
  await lockedOut();
  await w.control.withdraw(DATA.volume);
  await w.server.close(false);
  w = await gateway(disk);
  await w.admin.unmap({ volume: 'data', initiator: LEAVER, target: undefined }, BY);
  expect(kept()).toEqual([LEAVER]);
  w.control.offer(DATA, new RamDevice({ bytes: MIB }));
  await w.control.enforced();
  expect(kept()).toEqual([]);
  expect((await (await login(STAYER, '00023d000002')).run(WRITE)).status).toBe(0);
});

it('leaves alone what is registered at a target that the initiator still reaches', async () => {
  await w.admin.createTarget('second', BY);
  await map(LEAVER, 'second');
  const { leaver, stayer } = await lockedOut();
  const again = await login(LEAVER, '00023d000001', `${IQN}:second`);
  await out(again, REGISTER, 0n, 3n);
  await w.admin.unmap({ volume: 'data', initiator: LEAVER, target: DATA.target }, BY);
  await w.control.enforced();
  await leaver.closed();
  expect(kept()).toEqual([LEAVER]);
  expect((await again.run(WRITE)).status).toBe(2); // told of what was reserved through the other
  expect((await stayer.run(WRITE)).status).toBe(0);
});

it('leaves everything alone when a map is changed, or another volume or initiator is concerned', async () => {
  const { stayer } = await lockedOut();
  await w.admin.map(
    { volume: 'data', initiator: LEAVER, target: undefined, lun: 0, readOnly: true, addresses: ['10.0.0.0/8'] },
    BY,
  );
  await w.admin.addInitiator('iqn.2026-11.com.example:new', BY);
  await map('iqn.2026-11.com.example:new');
  await w.control.enforced();
  expect(kept()).toEqual([LEAVER]);
  expect((await stayer.run(WRITE)).status).toBe(CONFLICT);
});
