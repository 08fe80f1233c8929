import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { AccessAdmin } from '../../../gateway/access/access-admin.ts';
import { AccessBook } from '../../../gateway/access/access-book.ts';
import { AccessControl } from '../../../gateway/access/access-control.ts';
import { accessOperations } from '../../../gateway/access-operations.ts';
import { AuditLog } from '../../../gateway/access/audit-log.ts';
import { setUnitState } from '../../../gateway/access/operations.ts';
import { adoptVolume } from '../../../gateway/access/part.ts';
import { SecretBox } from '../../../gateway/access/secret-box.ts';
import { reservations } from '../../../gateway/admin/show-access.ts';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { MIB } from '../../../gateway/base/units.ts';
import { IscsiTargetServer } from '../../../gateway/iscsi/server.ts';
import { DEFAULT_ISCSI_SETTINGS } from '../../../gateway/iscsi/settings.ts';
import { sessionsHere } from '../../../gateway/sessions-control.ts';
import { senseOf, write10 } from '../../support/iscsi-wire.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { PromptClock } from '../../support/prompt-clock.ts';
import { RamDevice } from '../../support/ram-device.ts';
import { RawInitiator } from '../../support/raw-initiator.ts';

const DATA = { volume: 'id-data', name: 'data', target: 'iqn.2026-11.dev.farshore:office1:data' };
const CALLER = { by: 'cli:root' };
const WRITE = { cdb: write10(0, 1), write: true, expectedBytes: 512, data: Buffer.alloc(512) };

/** A gateway with one volume, whose unit kept something that nobody understands. */
async function office() {
  const disk = new MemoryDisk();
  const tools = { clock: new PromptClock(), random: systemRandom, log: silentLog };
  const audit = await AuditLog.open({ disk, ...tools });
  const secrets = await SecretBox.open(disk, 'access.key', systemRandom);
  const book = await AccessBook.open({ disk, audit, epochOf: () => 1 });
  await book.change((document) => ({
    document: setUnitState(
      adoptVolume(document, DATA, undefined).document,
      DATA.volume,
      '{"format":1,"reservations":5}',
    ),
    result: undefined,
    audit: undefined,
  }));
  const control = new AccessControl({ book, secrets, audit, ...tools });
  const server = new IscsiTargetServer({ ...tools, targets: control, settings: DEFAULT_ISCSI_SETTINGS });
  control.servedBy(server);
  control.offer(DATA, new RamDevice({ bytes: MIB }));
  const [portal] = await server.listen([{ host: '127.0.0.1', port: 0 }]);
  const operations = accessOperations(
    {
      admin: new AccessAdmin({
        book,
        secrets,
        control,
        audit,
        disk,
        clock: tools.clock,
        iqn: 'iqn.2026-11.dev.farshore',
      }),
      control,
      audit,
      sessions: sessionsHere(server, control),
      volumeName: () => DATA.name,
      targetsChanged: () => undefined,
      warnings: () => Promise.resolve([]),
    },
    () => undefined,
    () => false,
  );
  const audited = vi.spyOn(audit, 'change');
  return { book, server, operations, audited, port: portal?.port ?? 0 };
}

let w: Awaited<ReturnType<typeof office>>;
let host: RawInitiator;
beforeEach(async () => {
  w = await office();
  host = await RawInitiator.connect(w.port);
  await host.login({ target: DATA.target });
});
afterEach(async () => {
  host.destroy();
  await w.server.close(false);
});

const clear = (discardUnreadable: boolean, name = DATA.name) =>
  w.operations['reservation-clear']({ name, discardUnreadable }, undefined, CALLER);

it('gives a volume back whose reservations cannot be understood, when told to, and says so to its hosts and the auditor', async () => {
  await host.run({ cdb: Buffer.alloc(16) }); // it is told of the power on
  expect(senseOf((await host.run(WRITE)).last)).toMatchObject({ key: 2, asc: 0x04, ascq: 0x03 });
  expect(reservations(await w.operations['reservation-list']({ name: DATA.name }, undefined, CALLER))).toContain(
    'cannot be understood',
  );
  await expect(clear(false)).rejects.toMatchObject({ kind: 'input', message: /--discard-unreadable/ });
  expect(await clear(true)).toMatchObject({ readable: false, registrations: [] });
  expect(senseOf((await host.run(WRITE)).last)).toMatchObject({ key: 6, asc: 0x2a, ascq: 0x03 });
  expect((await host.run(WRITE)).status).toBe(0);
  expect(w.book.document.volumes[0]?.unitState).toBe('{"format":1}');
  expect(w.audited.mock.calls).toEqual([
    [expect.objectContaining({ event: 'reservation-clear', by: 'cli:root', volume: 'data' })],
  ]);
});

it('names a volume that is not open here', async () => {
  await expect(clear(true, 'other')).rejects.toMatchObject({ kind: 'not-found', message: /farshore status/ });
  expect(w.audited).not.toHaveBeenCalled();
});
