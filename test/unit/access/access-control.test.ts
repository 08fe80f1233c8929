import { beforeEach, describe, expect, it } from 'vitest';
import { AccessAdmin } from '../../../gateway/access/access-admin.ts';
import { AccessBook } from '../../../gateway/access/access-book.ts';
import { AccessControl } from '../../../gateway/access/access-control.ts';
import type { AuditEntry } from '../../../gateway/access/audit-entry.ts';
import { readAudit } from '../../../gateway/access/audit-files.ts';
import { AuditLog } from '../../../gateway/access/audit-log.ts';
import { dropVolume } from '../../../gateway/access/operations.ts';
import { adoptVolume } from '../../../gateway/access/part.ts';
import { SecretBox } from '../../../gateway/access/secret-box.ts';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { MIB } from '../../../gateway/base/units.ts';
import type { Initiator, MappedLun } from '../../../gateway/iscsi/target-registry.ts';
import { ManualClock } from '../../support/iscsi-world.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { PromptClock } from '../../support/prompt-clock.ts';
import { RamDevice } from '../../support/ram-device.ts';

const IQN = 'iqn.2026-11.dev.farshore:office1';
const HOST = 'iqn.2026-11.com.example:host';
const OTHER = 'iqn.2026-11.com.example:other';
const LOOPBACK = '127.0.0.1';
const LAN = '10.1.1.5';
const SECRET = Buffer.from('correct horse battery');

const at = (address: string, name = HOST): Initiator => ({ name, address });
const volume = (name: string) => ({ volume: `id-${name}`, name, target: `${IQN}:${name}` });
const shown = (luns: ReadonlyMap<number, MappedLun>) =>
  [...luns].map(([lun, { device, readOnly }]) => [lun, device.identity.name, readOnly ? 'ro' : 'rw'].join(' '));

async function world(disk = new MemoryDisk()) {
  const clock = new PromptClock();
  const audit = await AuditLog.open({ disk, clock, log: silentLog });
  const secrets = await SecretBox.open(disk, 'access.key', systemRandom);
  const book = await AccessBook.open({ disk, audit, epochOf: () => 1 });
  const control = new AccessControl({ book, secrets, audit, log: silentLog, random: systemRandom });
  const patience = new ManualClock();
  const admin = new AccessAdmin({ book, secrets, control, audit, disk, clock: patience, iqn: IQN });
  let changes = 0;
  const settling = { until: Promise.resolve() };
  const sessions: {
    initiatorName: string;
    targetName: string | undefined;
    peer: string;
    portal: string;
    tsih: number;
  }[] = [];
  control.servedBy({
    sessions: () => sessions,
    offered: () => undefined,
    accessChanged: () => {
      changes += 1;
      return settling.until;
    },
  });
  const addVolume = async (name: string): Promise<void> => {
    await book.change((document) => ({
      document: adoptVolume(document, volume(name), undefined).document,
      result: undefined,
      audit: undefined,
    }));
    control.offer(volume(name), new RamDevice({ bytes: MIB, name }));
  };
  const map = (name: string, changed: Partial<Parameters<AccessAdmin['map']>[0]> = {}) =>
    admin.map(
      { volume: name, initiator: HOST, target: undefined, lun: undefined, readOnly: false, addresses: [], ...changed },
      'cli:root',
    );
  const entries = async (): Promise<AuditEntry[]> => {
    await audit.change({ event: 'looked', by: 'test' });
    const found: AuditEntry[] = [];
    await readAudit(disk, (entry) => found.push(entry));
    return found;
  };
  return {
    disk,
    audit,
    secrets,
    book,
    control,
    admin,
    addVolume,
    map,
    sessions,
    entries,
    settling,
    patience,
    changes: () => changes,
  };
}
type World = Awaited<ReturnType<typeof world>>;

let w: World;
beforeEach(async () => {
  w = await world();
  await w.addVolume('a');
  await w.addVolume('b');
  await w.admin.addInitiator(HOST, 'cli:root');
  await w.admin.addInitiator(OTHER, 'cli:root');
});

/** What the target server would find out for this initiator. */
function seen(initiator: Initiator, portal: string): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const target of w.control.discover(initiator, portal)) found[target.name] = shown(target.luns(initiator));
  return found;
}

describe('an open volume', () => {
  it('is seen by everybody at loopback portals, without a credential, and by nobody at others', () => {
    expect(seen(at(LOOPBACK, 'iqn.x'), LOOPBACK)).toEqual({ [`${IQN}:a`]: ['0 a rw'], [`${IQN}:b`]: ['0 b rw'] });
    expect(seen(at(LOOPBACK, 'iqn.x'), '::1')).toEqual(seen(at(LOOPBACK, 'iqn.x'), LOOPBACK));
    expect(w.control.authorize(`${IQN}:a`, at(LOOPBACK), LOOPBACK)).toMatchObject({ kind: 'allowed', chap: undefined });
    expect(seen(at('10.1.1.9'), LAN)).toEqual({});
    expect(w.control.authorize(`${IQN}:a`, at('10.1.1.9'), LAN)).toEqual({ kind: 'not-found' });
  });

  it('is closed to everybody else by the first map, for ever', async () => {
    await w.map('a');
    expect(seen(at(LOOPBACK, OTHER), LOOPBACK)).toEqual({ [`${IQN}:b`]: ['0 b rw'] });
    await w.admin.unmap({ volume: 'a', initiator: HOST, target: undefined }, 'cli:root');
    expect(seen(at(LOOPBACK), LOOPBACK)).toEqual({ [`${IQN}:b`]: ['0 b rw'] });
    expect(w.control.authorize(`${IQN}:a`, at(LOOPBACK), LOOPBACK)).toEqual({ kind: 'not-found' });
  });
});

describe('a mapped volume', () => {
  it('is seen by its initiators alone, at every portal, under the LUN and right of each', async () => {
    await w.admin.createTarget('shared', 'cli:root');
    await w.map('a', { target: 'shared', lun: 3, readOnly: true });
    await w.map('b', { target: 'shared' });
    await w.map('b', { target: 'shared', initiator: OTHER, lun: 9 });
    expect(seen(at('10.1.1.9'), LAN)).toEqual({ [`${IQN}:shared`]: ['3 a ro', '0 b rw'] });
    expect(seen(at('10.1.1.9', OTHER), LAN)).toEqual({ [`${IQN}:shared`]: ['9 b rw'] });
    expect(seen(at('10.1.1.9', 'iqn.x'), LAN)).toEqual({});
  });

  it('is seen from the addresses it is mapped for alone', async () => {
    await w.map('a', { addresses: ['10.1.1.0/24', 'fd00::7'] });
    expect(seen(at('10.1.1.9'), LAN)).toEqual({ [`${IQN}:a`]: ['0 a rw'] });
    expect(seen(at('fd00::7'), LAN)).toEqual({ [`${IQN}:a`]: ['0 a rw'] });
    expect(seen(at('10.1.2.9'), LAN)).toEqual({});
    expect(w.control.authorize(`${IQN}:a`, at('10.1.2.9'), LAN)).toEqual({ kind: 'not-found' });
  });

  it('answers a target it hides exactly like one that is not there', async () => {
    await w.map('a');
    const stranger = at('10.1.1.9', 'iqn.x');
    expect(w.control.authorize(`${IQN}:a`, stranger, LAN)).toEqual(
      w.control.authorize(`${IQN}:nothing`, stranger, LAN),
    );
  });

  it('is not there before it is offered, nor after it is withdrawn, and the server is told each time', async () => {
    await w.map('a');
    const before = w.changes();
    await w.control.withdraw('id-a');
    expect(seen(at('10.1.1.9'), LAN)).toEqual({});
    expect(w.changes()).toBe(before + 1);
    w.control.offer(volume('a'), new RamDevice({ bytes: MIB, name: 'a' }));
    expect(seen(at('10.1.1.9'), LAN)).toEqual({ [`${IQN}:a`]: ['0 a rw'] });
    expect(w.changes()).toBe(before + 2);
  });

  it('asks those who will see it to try again while it is being opened, and nobody else', async () => {
    await w.map('a', { addresses: ['10.1.1.9'] });
    await w.control.withdraw('id-a');
    await w.control.withdraw('id-b');
    const opened = [w.control.expect('id-a'), w.control.expect('id-b')];
    const ask = (name: string, initiator: Initiator, portal: string) =>
      w.control.authorize(`${IQN}:${name}`, initiator, portal).kind;
    expect(ask('a', at('10.1.1.9'), LAN)).toBe('unavailable');
    expect(ask('a', at('10.1.1.8'), LAN)).toBe('not-found');
    expect(ask('a', at('10.1.1.9', OTHER), LAN)).toBe('not-found');
    expect(ask('b', at(LOOPBACK), LOOPBACK)).toBe('unavailable');
    expect(ask('b', at('10.1.1.9'), LAN)).toBe('not-found');
    w.control.offer(volume('a'), new RamDevice({ bytes: MIB, name: 'a' }));
    for (const done of opened) done();
    expect(ask('a', at('10.1.1.9'), LAN)).toBe('allowed');
    expect(ask('b', at(LOOPBACK), LOOPBACK)).toBe('not-found');
  });

  it('gives a session the same map of LUNs until access changes, then another', async () => {
    await w.map('a');
    const host = at('10.1.1.9');
    const answer = w.control.authorize(`${IQN}:a`, host, LAN);
    if (answer.kind !== 'allowed') throw new Error('not allowed');
    const { target } = answer;
    const luns = target.luns(host);
    expect(target.luns(host)).toBe(luns);
    await luns.get(0)?.state?.save('{"reservations":1}');
    expect(target.luns(host)).toBe(luns);
    await w.map('a', { readOnly: true });
    expect(shown(target.luns(host))).toEqual(['0 a ro']);
    await w.admin.unmap({ volume: 'a', initiator: HOST, target: undefined }, 'cli:root');
    expect(target.luns(host).size).toBe(0);
  });

  it('keeps what its logical unit saves over a restart, without a word to live sessions', async () => {
    await w.map('a');
    const changes = w.changes();
    const state = [...w.control.discover(at('10.1.1.9'), LAN)][0]?.luns(at('10.1.1.9')).get(0)?.state;
    expect(state?.load()).toBeUndefined();
    await state?.save('{"reservations":1}');
    expect(state?.load()).toBe('{"reservations":1}');
    expect(w.changes()).toBe(changes);
    const again = await world(w.disk.copy());
    expect(again.book.document.volumes[0]?.unitState).toBe('{"reservations":1}');
  });

  it('counts the sessions that see it', async () => {
    await w.map('a');
    w.sessions.push(
      { initiatorName: HOST, targetName: `${IQN}:a`, peer: '10.1.1.9:5000', portal: LAN, tsih: 1 },
      { initiatorName: HOST, targetName: `${IQN}:b`, peer: '127.0.0.1:5001', portal: LOOPBACK, tsih: 2 },
      { initiatorName: HOST, targetName: undefined, peer: '10.1.1.9:5002', portal: LAN, tsih: 3 },
    );
    expect(w.control.sessions('id-a')).toBe(1);
    expect(w.control.sessions('id-b')).toBe(1);
  });
});

describe('credentials', () => {
  const given = (user: string, secret = SECRET) => ({ initiator: { user, secret }, mutual: undefined });
  const needed = (target: string, initiator = at('10.1.1.9')) => {
    const answer = w.control.authorize(target, initiator, LAN);
    return answer.kind === 'allowed' ? answer.chap?.initiator.user : answer.kind;
  };

  it('are those of the target, or else the general ones of the initiator', async () => {
    await w.map('a');
    await w.map('b');
    await w.admin.setChap(HOST, undefined, given('general'), 'cli:root');
    await w.admin.setChap(HOST, `${IQN}:b`, given('special'), 'cli:root');
    expect(needed(`${IQN}:a`)).toBe('general');
    expect(needed(`${IQN}:b`)).toBe('special');
    await w.admin.setChap(HOST, undefined, undefined, 'cli:root');
    expect(needed(`${IQN}:a`)).toBeUndefined();
  });

  it('come unwrapped to the server, in both directions', async () => {
    await w.map('a');
    const mutual = { user: 'office', secret: Buffer.from('another secret') };
    await w.admin.setChap(HOST, undefined, { initiator: { user: 'host', secret: SECRET }, mutual }, 'cli:root');
    expect(w.control.authorize(`${IQN}:a`, at('10.1.1.9'), LAN)).toMatchObject({
      kind: 'allowed',
      chap: { initiator: { user: 'host', secret: SECRET }, target: mutual },
    });
  });

  it('that cannot be read keep their initiator out, and say what to do', async () => {
    await w.map('a');
    await w.admin.setChap(HOST, undefined, given('host'), 'cli:root');
    const key = await w.secrets.export();
    const moved = w.disk.copy();
    moved.files.delete('access.key');
    w = await world(moved);
    await w.addVolume('a');
    expect(w.control.authorize(`${IQN}:a`, at('10.1.1.9'), LAN)).toEqual({
      kind: 'forbidden',
      reason: expect.stringContaining('farshore access key import') as string,
    });
    expect(w.control.problems()).toEqual([expect.stringContaining('farshore access key import')]);
    await w.admin.importKey(key, 'cli:root');
    expect(needed(`${IQN}:a`)).toBe('host');
    expect(w.control.problems()).toEqual([]);
  });

  it('of discovery are asked of the initiator they are for, or of all', async () => {
    expect(w.control.discoveryChap(at(LAN))).toBeUndefined();
    await w.admin.setDiscoveryChap(undefined, given('all'), 'cli:root');
    await w.admin.setDiscoveryChap(HOST, given('mine'), 'cli:root');
    expect(w.control.discoveryChap(at(LAN))?.initiator).toEqual({ user: 'mine', secret: SECRET });
    expect(w.control.discoveryChap(at(LAN, 'iqn.x'))?.initiator.user).toBe('all');
    const moved = w.disk.copy();
    moved.files.delete('access.key');
    w = await world(moved);
    const unprovable = w.control.discoveryChap(at(LAN));
    expect(unprovable?.initiator.user).toBe('mine');
    expect(unprovable?.initiator.secret.equals(SECRET)).toBe(false);
  });

  it.each([
    ['a short secret', { initiator: { user: 'u', secret: Buffer.alloc(11, 1) }, mutual: undefined }, '11 bytes'],
    ['a long one', { initiator: { user: 'u', secret: Buffer.alloc(256, 1) }, mutual: undefined }, '256 bytes'],
    ['no user', { initiator: { user: '', secret: SECRET }, mutual: undefined }, 'user name'],
    [
      'one secret for both directions',
      { initiator: { user: 'u', secret: SECRET }, mutual: { user: 'm', secret: SECRET } },
      'the same as the secret',
    ],
  ])('refuses %s', async (_what, chap, sentence) => {
    await expect(w.admin.setChap(HOST, undefined, chap, 'cli:root')).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringContaining(sentence) as string,
    });
  });

  it.each(['a\nb', 'a\u001b[31m', 'a\u202e', 'a\u200b', 'a\0'])(
    'belong to no user whose name cannot be seen (%j)',
    async (user) => {
      const chap = { initiator: { user, secret: SECRET }, mutual: undefined };
      await expect(w.admin.setChap(HOST, undefined, chap, 'cli:root')).rejects.toMatchObject({
        kind: 'input',
        message: expect.stringContaining('give one of visible characters') as string,
      });
      await expect(w.admin.setDiscoveryChap(HOST, chap, 'cli:root')).rejects.toMatchObject({ kind: 'input' });
    },
  );

  it('are in no file, report or log in clear', async () => {
    await w.map('a');
    await w.admin.setChap(HOST, undefined, given('host'), 'cli:root');
    await w.admin.setDiscoveryChap(undefined, given('all'), 'cli:root');
    await w.audit.close();
    const everything = [
      ...[...w.disk.files.values()].map((content) => content.toString('latin1')),
      JSON.stringify(w.admin.initiators()),
      JSON.stringify(await w.admin.report({ volume: undefined, initiator: undefined })),
    ].join('\n');
    for (const form of ['utf8', 'base64', 'hex'] as const) expect(everything).not.toContain(SECRET.toString(form));
  });
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a change of access', () => {
  it.each([
    ['unmap', () => w.admin.unmap({ volume: 'a', initiator: HOST, target: undefined }, 'cli:root')],
    ['map --read-only', () => w.map('a', { readOnly: true })],
    [
      'chap',
      () =>
        w.admin.setChap(HOST, undefined, { initiator: { user: 'u', secret: SECRET }, mutual: undefined }, 'cli:root'),
    ],
  ])('is answered (%s) when no write that it forbids can land any more', async (_what, change) => {
    await w.map('a');
    let settle: () => void = () => undefined;
    w.settling.until = new Promise((resolve) => {
      settle = resolve;
    });
    const before = w.changes();
    let isAnswered = false;
    const answered = change().then(() => {
      isAnswered = true;
    });
    while (w.changes() === before) await turn();
    // What comes next does not wait in its place.
    w.settling.until = Promise.resolve();
    await w.control.withdraw('b');
    await turn();
    expect(isAnswered).toBe(false);
    settle();
    await answered;
  });

  it('says so when a write that was under way does not come to an end', async () => {
    await w.map('a');
    w.settling.until = new Promise(() => undefined);
    const before = w.changes();
    const answered = w.admin
      .unmap({ volume: 'a', initiator: HOST, target: undefined }, 'cli:root')
      .catch((error: unknown) => error);
    while (w.changes() === before) await turn();
    await turn();
    w.patience.advance(60_000);
    expect(await answered).toMatchObject({
      kind: 'busy',
      message: expect.stringContaining('may land yet') as string,
    });
    expect(w.book.document.volumes[0]?.maps).toEqual([]);
  });
});

describe('what the auditor is told', () => {
  it('is who can, by what right, since when and by whom, and who did', async () => {
    await w.map('a', { readOnly: true, addresses: ['10.1.1.0/24'] });
    const initiator = { name: HOST, address: '10.1.1.9' };
    const core = { initiator, target: `${IQN}:a`, portal: LAN };
    for (let tsih = 1; tsih <= 2; tsih++)
      w.control.onEvent({ ...core, kind: 'login', tsih, discovery: false, proof: { kind: 'none' } });
    w.control.onEvent({
      ...core,
      initiator: { name: OTHER, address: '10.1.1.8' },
      kind: 'login-refused',
      status: '0203',
      reason: 'no such target',
      count: 3,
    });
    await w.entries();
    const report = await w.admin.report({ volume: 'a', initiator: undefined });
    expect(report.rights).toEqual([
      {
        volume: 'a',
        initiator: HOST,
        target: `${IQN}:a`,
        lun: 0,
        access: 'read-only',
        addresses: ['10.1.1.0/24'],
        authentication: 'none',
        since: expect.any(Number) as number,
        by: 'cli:root',
        suspended: undefined,
      },
    ]);
    expect(report.uses).toMatchObject([{ volume: 'a', initiator: HOST, address: '10.1.1.9', logins: 2 }]);
    expect(report.refusals).toMatchObject([{ initiator: OTHER, count: 3, reason: 'nothing is mapped for it' }]);
    expect((await w.admin.report({ volume: 'b', initiator: undefined })).uses).toEqual([]);
    expect((await w.admin.report({ volume: undefined, initiator: OTHER })).rights).toMatchObject([{ volume: 'b' }]);
  });

  it('is who had a volume that came and went while a session was there', async () => {
    const target = `${IQN}:a`;
    await w.map('a');
    w.sessions.push({ initiatorName: HOST, targetName: target, peer: '10.1.1.9:5000', portal: LAN, tsih: 7 });
    await w.map('b', { target });
    await w.admin.unmap({ volume: 'b', initiator: HOST, target: undefined }, 'cli:root');
    const told = (await w.entries()).filter((entry) => entry.event === 'session-access');
    expect(told).toMatchObject([
      { initiator: HOST, address: '10.1.1.9', target, tsih: 7, gained: ['b'], lost: [] },
      { initiator: HOST, target, tsih: 7, gained: [], lost: ['b'] },
    ]);
    const { uses } = await w.admin.report({ volume: 'b', initiator: undefined });
    expect(uses).toMatchObject([{ volume: 'b', initiator: HOST, address: '10.1.1.9', target, logins: 0 }]);
  });

  it('is every volume that a session sees, however many there are', async () => {
    await w.admin.createTarget('many', 'cli:root');
    for (let count = 0; count < 18; count++) {
      await w.addVolume(`m${count}`);
      await w.map(`m${count}`, { target: 'many' });
    }
    const login = { initiator: at('10.1.1.9'), target: `${IQN}:many`, portal: LAN, tsih: 1, discovery: false } as const;
    w.control.onEvent({ ...login, kind: 'login', proof: { kind: 'none' } });
    await w.entries();
    expect((await w.admin.report({ volume: 'm17', initiator: undefined })).uses).toMatchObject([{ logins: 1 }]);
  });

  it('is the use of an open volume by its portal, whatever address the initiator has on this machine', async () => {
    const login = {
      initiator: at('10.1.1.9'),
      target: `${IQN}:a`,
      portal: LOOPBACK,
      tsih: 1,
      discovery: false,
    } as const;
    w.control.onEvent({ ...login, kind: 'login', proof: { kind: 'none' } });
    w.control.onEvent({ ...login, kind: 'login', initiator: at(LOOPBACK), portal: LAN, proof: { kind: 'none' } });
    await w.entries();
    const { uses } = await w.admin.report({ volume: 'a', initiator: undefined });
    expect(uses).toMatchObject([{ volume: 'a', address: '10.1.1.9', logins: 1 }]);
    const session = { initiatorName: HOST, targetName: `${IQN}:a`, peer: '10.1.1.9:1', portal: LOOPBACK, tsih: 1 };
    expect(w.control.volumesOf(session)).toEqual(['id-a']);
    expect(w.control.volumesOf({ ...session, portal: LAN })).toEqual([]);
  });

  it('is since when a right has been there, which the same map given again does not change, and is no change', async () => {
    const addresses = ['10.1.1.0/24', '10.2.0.0/16'];
    await w.map('a', { addresses });
    const [before] = (await w.admin.report({ volume: 'a', initiator: undefined })).rights;
    w.patience.advance(5000);
    const again = await w.map('a', { lun: 0, addresses: [...addresses].reverse() });
    expect(again.since).toBe(before?.since);
    expect((await w.admin.report({ volume: 'a', initiator: undefined })).rights).toEqual([before]);
    await w.map('a', { addresses: ['10.1.1.0/24'] });
    const [after] = (await w.admin.report({ volume: 'a', initiator: undefined })).rights;
    expect(after?.since).toBe((before?.since ?? 0) + 5000);
    expect((await w.entries()).filter(({ event }) => event.startsWith('map')).map(({ event }) => event)).toEqual([
      'map',
      'map-change',
    ]);
  });

  it('is that a right does not count while the key of its credential is not here', async () => {
    await w.map('a');
    await w.admin.setChap(HOST, undefined, { initiator: { user: 'u', secret: SECRET }, mutual: undefined }, 'cli:root');
    w.disk.files.delete('access.key');
    const moved = await world(w.disk);
    const { rights } = await moved.admin.report({ volume: 'a', initiator: undefined });
    expect(rights).toMatchObject([{ initiator: HOST, suspended: 'the key of its secret is not here' }]);
  });

  it('is that another gateway serves the volume, and that what is told of it is what was known here', async () => {
    await w.map('a');
    const report = await w.admin.report({ volume: undefined, initiator: undefined }, (name) => name === 'a');
    expect(report.elsewhere).toEqual(['a']);
    expect(report.rights).toMatchObject([
      { volume: 'a', suspended: 'another gateway serves the volume now' },
      { volume: 'b', suspended: undefined },
    ]);
  });

  it('tells a volume from an earlier one of the same name', async () => {
    const login = {
      initiator: at('10.1.1.9'),
      target: `${IQN}:a`,
      portal: LOOPBACK,
      tsih: 1,
      discovery: false,
    } as const;
    w.control.onEvent({ ...login, kind: 'login', proof: { kind: 'none' } });
    await w.control.withdraw('id-a');
    const next = { volume: 'id-a2', name: 'a', target: `${IQN}:a` };
    await w.book.change((document) => ({
      document: adoptVolume(dropVolume(document, 'id-a'), next, undefined).document,
      result: undefined,
      audit: undefined,
    }));
    w.control.offer(next, new RamDevice({ bytes: MIB, name: 'a' }));
    w.control.onEvent({ ...login, kind: 'login', initiator: at('10.1.1.8'), proof: { kind: 'none' } });
    await w.entries();
    expect((await w.admin.report({ volume: 'a', initiator: undefined })).uses).toMatchObject([
      { volume: 'a', id: 'id-a', former: true, address: '10.1.1.9', logins: 1 },
      { volume: 'a', id: 'id-a2', former: false, address: '10.1.1.8', logins: 1 },
    ]);
  });

  it('is what discovery takes, without the secrets, how far back the log reaches, and what was not written', async () => {
    await w.admin.setDiscoveryChap(
      undefined,
      { initiator: { user: 'asks', secret: SECRET }, mutual: undefined },
      'cli:root',
    );
    const login = { initiator: at('10.1.1.9'), target: undefined, portal: LAN, discovery: true } as const;
    for (let tsih = 0; tsih < 500; tsih++)
      w.control.onEvent({ ...login, kind: 'login', tsih, proof: { kind: 'none' } });
    w.control.onEvent({
      ...login,
      kind: 'login',
      target: `${IQN}:a`,
      discovery: false,
      tsih: 1,
      proof: { kind: 'none' },
    });
    await w.audit.close();
    const report = await w.admin.report({ volume: undefined, initiator: undefined });
    expect(report.discovery).toMatchObject([{ initiator: undefined, user: 'asks', by: 'cli:root', readable: true }]);
    expect(JSON.stringify(report)).not.toContain('correct horse');
    expect(report.logReaches).toEqual({
      logins: expect.stringMatching(/^2026-/) as string,
      refusals: expect.stringMatching(/^2026-/) as string,
    });
    expect(report.notWritten).toEqual({ login: 440 });
  });

  it('is what was claimed for a target and is no name, and who claimed it', async () => {
    w.control.onEvent({
      kind: 'login-refused',
      initiator: at('10.1.1.8', OTHER),
      target: `x\n${'y'.repeat(8000)}`,
      portal: LAN,
      status: '0203',
      reason: 'no such target',
      count: 1,
    });
    await w.entries();
    const { refusals } = await w.admin.report({ volume: undefined, initiator: OTHER });
    expect(refusals).toMatchObject([{ initiator: OTHER, address: '10.1.1.8' }]);
    expect(refusals[0]?.target).toBe(`no iSCSI name: "x\n${'y'.repeat(221)}"`);
  });

  it('is every change, with what it was before', async () => {
    await w.map('a');
    await w.map('a', { readOnly: true });
    await w.admin.unmap({ volume: 'a', initiator: HOST, target: undefined }, 'cli:alice');
    const changes = (await w.entries()).filter((entry) => ['map', 'map-change', 'unmap'].includes(entry.event));
    expect(changes).toMatchObject([
      { event: 'map', by: 'cli:root', volume: 'a', initiator: HOST, lun: 0, readOnly: false },
      { event: 'map-change', readOnly: true, before: { lun: 0, readOnly: false } },
      { event: 'unmap', by: 'cli:alice', maps: [{ target: `${IQN}:a`, lun: 0, readOnly: true }] },
    ]);
  });

  it('names every target that announces something, and no other', async () => {
    await w.admin.createTarget('empty', 'cli:root');
    expect([...w.control.announced(true)].sort()).toEqual([`${IQN}:a`, `${IQN}:b`]);
  });

  it('names only those with a map where an open volume is not seen', async () => {
    expect([...w.control.announced(false)]).toEqual([]);
    await w.map('a');
    expect([...w.control.announced(false)]).toEqual([`${IQN}:a`]);
  });
});
