import { afterEach, beforeEach, expect, test } from 'vitest';
import { Announcement, announced } from '../../gateway/announcement.ts';
import type { Settings } from '../../gateway/config.ts';
import { silentLog } from '../../gateway/base/log.ts';
import type { OpenPortal } from '../../gateway/iscsi/target-registry.ts';
import { IsnsServer } from '../support/isns-server.ts';
import { eventually } from '../support/processes.ts';

const MAPPED = 'iqn.2026-11.dev.farshore:mapped';
const OPEN = 'iqn.2026-11.dev.farshore:open';
const access = {
  announced: (loopback: boolean) => (loopback ? [MAPPED, OPEN] : [MAPPED]),
  portalsOf: () => undefined,
};

function portal(host: string, advertise?: OpenPortal['advertise']): OpenPortal {
  return { host, port: 3260, advertise };
}
/** Of a gateway with one thread. */
const only = (...main: OpenPortal[]) => ({ main, others: [] });

test('a target that is open to this machine alone is not announced where others could reach for it', () => {
  const { targets, portals } = announced(only(portal('127.0.0.1'), portal('::1'), portal('192.0.2.2')), access);
  expect(targets).toEqual([{ name: MAPPED, alias: undefined, portals: undefined }]);
  expect(portals).toEqual([{ host: '192.0.2.2', port: 3260 }]);
});

test('where there are loopback portals only, it is', () => {
  const { targets, portals } = announced(only(portal('127.0.0.1'), portal('::1')), access);
  expect(targets.map(({ name }) => name)).toEqual([MAPPED, OPEN]);
  expect(portals.map(({ host }) => host)).toEqual(['127.0.0.1', '::1']);
});

test('a loopback portal that is known outside as another is announced as that', () => {
  const outside = { host: '203.0.113.7', port: 3261 };
  expect(announced(only(portal('127.0.0.1', [outside]), portal('192.0.2.2')), access)).toEqual({
    targets: [{ name: MAPPED, alias: undefined, portals: undefined }],
    portals: [outside, { host: '192.0.2.2', port: 3260 }],
  });
  expect(announced(only(portal('127.0.0.1', [outside])), access).targets).toHaveLength(2);
});

test('of several threads each target is announced at the portals of its own', () => {
  const main = [portal('127.0.0.1'), portal('192.0.2.2', [{ host: '203.0.113.7', port: 3260 }])];
  const others = [
    { ...portal('127.0.0.1'), port: 3261 },
    { ...portal('192.0.2.2', [{ host: '203.0.113.7', port: 3261 }]), port: 3261 },
  ];
  const [near, far] = ['iqn.2026-11.dev.farshore:near', 'iqn.2026-11.dev.farshore:far'];
  const seen = announced(
    { main, others },
    { announced: () => [near, far], portalsOf: (name) => (name === far ? others : undefined) },
  );
  const outside = (port: number) => ({ host: '203.0.113.7', port });
  expect(seen).toEqual({
    targets: [
      { name: near, alias: undefined, portals: [outside(3260)] },
      { name: far, alias: undefined, portals: [outside(3261)] },
    ],
    portals: [outside(3260), outside(3261)],
  });
});

let server: IsnsServer;
let announcement: Announcement;
beforeEach(async () => {
  server = await IsnsServer.start();
  announcement = new Announcement();
});
afterEach(async () => {
  await announcement.close();
  await server.close();
});

test('the server has that, and no more', async () => {
  const settings = { isns: { host: '127.0.0.1', port: server.port }, iqn: 'iqn.2026-11.dev.farshore:office' };
  // Nothing else of the settings is read.
  announcement.start(settings as Settings, only(portal('127.0.0.1'), portal('192.0.2.2')), access, silentLog);
  await eventually(
    () => (announcement.report()?.state === 'registered' ? true : undefined),
    20_000,
    () => `not registered: ${JSON.stringify(announcement.report())}`,
  );
  const [entity] = [...server.entities.values()];
  expect([...(entity?.targets.keys() ?? [])]).toEqual([MAPPED]);
  expect(entity?.portals.size).toBe(1);
});
