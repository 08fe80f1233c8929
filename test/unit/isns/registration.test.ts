import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import type { Log } from '../../../gateway/base/log.ts';
import { connectOverTcp } from '../../../gateway/isns/connection.ts';
import type { IsnsPortal, IsnsTarget } from '../../../gateway/isns/messages.ts';
import { startIsnsRegistration } from '../../../gateway/isns/registration.ts';
import type { IsnsRegistration } from '../../../gateway/isns/registration.ts';
import { honestly, IsnsServer, type Received } from '../../support/isns-server.ts';
import { eventually } from '../../support/processes.ts';
import { ManualClock } from '../initiator/manual-clock.ts';

const ENTITY = 'iqn.2026-11.dev.farshore:office';
const A = 'iqn.2026-11.dev.farshore:a';
const B = 'iqn.2026-11.dev.farshore:b';
const C = 'iqn.2026-11.dev.farshore:c';
const REGISTER = 1;
const QUERY = 2;
const DEREGISTER = 4;

let server: IsnsServer;
let clock: ManualClock;
let registration: IsnsRegistration;
let targets: IsnsTarget[];
let portals: IsnsPortal[];
let warnings: string[];
let infos: string[];

function start(): void {
  const log: Log = {
    ...silentLog,
    warn: (_fields, message) => warnings.push(message),
    info: (_fields, message) => infos.push(message),
  };
  registration = startIsnsRegistration({
    clock,
    random: { bytes: (count) => Buffer.alloc(count), fraction: () => 0.999_999 },
    log,
    server: 'the test server',
    connect: connectOverTcp({ host: '127.0.0.1', port: server.port }, clock),
    entity: ENTITY,
    groupTag: 1,
    targets: () => targets,
    portals: () => portals,
  });
}

const until = (met: () => boolean, what: string): Promise<true> =>
  eventually(
    () => (met() ? true : undefined),
    20_000,
    () => `${what}: ${JSON.stringify(registration.state())}`,
  );
const registered = (count: number): Promise<true> =>
  until(() => registration.state().state === 'registered' && registration.state().targets === count, 'not registered');
/** Lets time pass until the server has got another request. */
async function anotherRequest(advanceMs: number): Promise<Received> {
  const before = server.received.length;
  clock.advance(advanceMs);
  await until(() => server.received.length > before, 'no request came');
  return server.received[before] ?? expect.fail();
}
const confirmed = (sinceMs: number): Promise<true> =>
  until(() => (registration.state().confirmedAt ?? 0) >= sinceMs, 'not confirmed');
const tags = ({ attributes }: Received): number[] => attributes.map(([tag]) => tag);
const textOf = (request: Received | undefined, tag: number, which = 0): string | undefined =>
  request?.attributes
    .filter((attribute) => attribute[0] === tag)
    [which]?.[1].toString()
    .replace(/\0+$/, '');
const functions = (): number[] => server.received.map(({ functionId }) => functionId);

beforeEach(async () => {
  server = await IsnsServer.start();
  clock = new ManualClock();
  targets = [{ name: A, alias: 'disk a' }, { name: B }];
  portals = [
    { host: '127.0.0.1', port: 3260 },
    { host: '::1', port: 3261 },
  ];
  warnings = [];
  infos = [];
});

afterEach(async () => {
  server.dropConnections();
  await server.close();
  const closing = registration.close();
  clock.advance(10_000);
  await closing;
});

describe('what is registered', () => {
  it('is the entity, its portals and each target with its portal group, and nothing that lets the server call us', async () => {
    start();
    await registered(2);
    const [first, second] = server.received;
    expect(tags(first ?? expect.fail())).toEqual([
      ...[32, 1, 0], // source, key, delimiter
      ...[1, 2, 16, 17, 16, 17], // entity, portals
      ...[32, 33, 34, 51, 49, 50, 49, 50], // target, portal group
    ]);
    expect(textOf(first, 32)).toBe(A);
    expect(textOf(first, 1, 0)).toBe(ENTITY);
    expect(textOf(first, 1, 1)).toBe(ENTITY);
    expect(textOf(first, 34)).toBe('disk a');
    const values = (tag: number): string[] =>
      (first?.attributes ?? []).filter((one) => one[0] === tag).map(([, value]) => value.toString('hex'));
    expect(values(16)).toEqual(['00000000000000000000ffff7f000001', '00000000000000000000000000000001']);
    expect(values(17)).toEqual(['00000cbc', '00000cbd']);
    expect(values(2)).toEqual(['00000002']);
    expect(values(33)).toEqual(['00000001']);
    expect(values(51)).toEqual(['00000001']);
    expect(tags(second ?? expect.fail())).toEqual([32, 1, 0, 1, 2, 32, 33, 51, 49, 50, 49, 50]);
    expect(textOf(second, 32)).toBe(A);
    expect(textOf(second, 32, 1)).toBe(B);
    expect(infos).toHaveLength(1);
  });

  it('replaces what an earlier process left, once', async () => {
    server.entities.set(ENTITY, { targets: new Map([[C, { alias: undefined, groups: 1 }]]), portals: new Map() });
    start();
    await registered(2);
    expect(server.targetsOf(ENTITY)).toEqual([A, B]);
    expect(server.received.map(({ flags }) => flags & 0x1000)).toEqual([0x1000, 0]);
    expect(server.received.every(({ flags }) => (flags & 0xc000) === 0x8000)).toBe(true);
  });

  it('is told in messages of few targets, however many there are', async () => {
    targets = Array.from({ length: 256 }, (_, index) => ({
      name: `iqn.2026-11.dev.farshore:${String(index).padStart(198, '0')}`,
      alias: 'é'.repeat(300),
    }));
    start();
    await registered(256);
    expect(server.targetsOf(ENTITY)).toHaveLength(256);
    expect(server.entities.get(ENTITY)?.targets.get(targets[9]?.name ?? '')?.alias).toBe('é'.repeat(127));
    const before = server.received.length;
    expect(before).toBeLessThan(64);
    await anotherRequest(200_000);
    await confirmed(clock.now());
    expect(server.received).toHaveLength(before + 1);
  });

  it('is with each target the portals it is served at, and that it is not reached through the others', async () => {
    const [near, far] = [
      { host: '127.0.0.1', port: 3260 },
      { host: '127.0.0.1', port: 3261 },
    ];
    portals = [near, far];
    targets = [
      { name: A, portals: [near] },
      { name: B, portals: [{ host: '0.0.0.0', port: 3261 }] },
      // Nobody could be told where to go.
      { name: C, portals: [] },
    ];
    start();
    await registered(2);
    // Tag 1 before the port that leads there, a tag of length 0 before the other.
    const groupsOf = (request: Received | undefined): string[] =>
      (request?.attributes ?? [])
        .filter(([tag]) => tag === 50 || tag === 51)
        .map(([tag, value]) => (tag === 50 ? String(value.readUInt32BE()) : `tag ${value.toString('hex')}:`));
    expect(server.received.map(groupsOf)).toEqual([
      ['tag 00000001:', '3260', 'tag :', '3261'],
      ['tag 00000001:', '3261', 'tag :', '3260'],
    ]);
    expect(server.targetsOf(ENTITY)).toEqual([A, B]);
    server.received.length = 0;
    registration.changed();
    await until(() => functions().length === 1, 'nothing was asked');
    targets = [
      { name: A, portals: [far] },
      { name: B, portals: [far] },
    ];
    registration.changed();
    await until(() => functions().join() === [QUERY, QUERY, REGISTER].join(), 'not told again, or more than that');
    expect(textOf(server.received[2], 32, 1)).toBe(A);
    expect(groupsOf(server.received[2])).toEqual(['tag 00000001:', '3261', 'tag :', '3260']);
  });

  it('leaves the portal groups to the server when it does not know them', async () => {
    server.knowsGroups = false;
    start();
    await registered(2);
    expect(server.targetsOf(ENTITY)).toEqual([A, B]);
    expect(server.received.filter((request) => tags(request).includes(51))).toHaveLength(1);
  });

  it('has a wildcard as our own address, and neither host names nor anything twice', async () => {
    portals = [
      { host: '0.0.0.0', port: 3260 },
      { host: '::', port: 3260 },
      { host: '::ffff:127.0.0.1', port: 3260 },
      { host: 'gateway.example', port: 3260 },
      { host: 'fe80::1%eth0', port: 3260 },
    ];
    start();
    await registered(2);
    expect([...(server.entities.get(ENTITY)?.portals.keys() ?? [])]).toEqual([
      '00000000000000000000ffff7f00000100000cbc',
      'fe80000000000000000000000000000100000cbc',
    ]);
  });

  it('is nothing without a portal that can be told, which the state says', async () => {
    portals = [{ host: 'gateway.example', port: 3260 }];
    start();
    await until(() => registration.state().state === 'idle', 'not idle');
    expect(registration.state().problem).toContain('advertised address');
    expect(server.received).toEqual([]);
  });
});

describe('the refresh', () => {
  it('asks for our own entry three times a period, and changes nothing', async () => {
    start();
    await registered(2);
    clock.advance(199_000);
    for (let round = 0; round < 5; round += 1) {
      const request = await anotherRequest(round === 0 ? 1_000 : 200_000);
      expect(request.functionId).toBe(QUERY);
      expect(textOf(request, 32)).toBe(A);
      expect(textOf(request, 1)).toBe(ENTITY);
      await confirmed(clock.now());
    }
    expect(functions()).toEqual([REGISTER, REGISTER, QUERY, QUERY, QUERY, QUERY, QUERY]);
  });

  it.each([
    { period: 1, refreshMs: 1_000 },
    { period: 0, refreshMs: 300_000 },
    { period: 0xffff_ffff, refreshMs: 300_000 },
    { period: undefined, refreshMs: 60_000 },
  ])('of a server that says period $period comes after $refreshMs ms', async ({ period, refreshMs }) => {
    server.period = period;
    start();
    await registered(2);
    await until(() => clock.pending() === 1, 'other timers');
    clock.advance(refreshMs - 1);
    expect((await anotherRequest(1)).functionId).toBe(QUERY);
    await confirmed(clock.now());
    expect(functions()).toEqual([REGISTER, REGISTER, QUERY]);
  });

  it('registers again, without the replace flag, what the server has lost or dropped', async () => {
    start();
    await registered(2);
    server.entities.clear();
    await anotherRequest(200_000);
    await until(() => server.targetsOf(ENTITY).length === 2, 'not registered again');
    expect(server.received.filter(({ flags }) => (flags & 0x1000) !== 0)).toHaveLength(1);
    await confirmed(clock.now());
    server.entities.get(ENTITY)?.targets.delete(B);
    await anotherRequest(200_000);
    await until(() => server.targetsOf(ENTITY).length === 2, 'not registered again');
    await confirmed(clock.now());
    server.entities.get(ENTITY)?.portals.clear();
    await anotherRequest(200_000);
    await until(() => server.entities.get(ENTITY)?.portals.size === 2, 'not registered again');
  });

  it('removes what of ours appears there and is not wanted', async () => {
    start();
    await registered(2);
    server.entities.get(ENTITY)?.targets.set(C, { alias: undefined, groups: 0 });
    const stray = [Buffer.alloc(16, 1), Buffer.alloc(4, 1)] as const;
    server.entities.get(ENTITY)?.portals.set(Buffer.concat(stray).toString('hex'), stray);
    await anotherRequest(200_000);
    await until(() => server.targetsOf(ENTITY).length === 2, 'not removed');
    await until(() => server.entities.get(ENTITY)?.portals.size === 2, 'not removed');
  });

  it('of a server that shows us nothing registers again', async () => {
    server.answer = (request, socket, honest) => {
      const answer = honest();
      if (request.functionId === QUERY) answer.writeUInt32BE(9, 12);
      socket.write(answer);
    };
    start();
    await registered(2);
    await anotherRequest(200_000);
    await confirmed(clock.now());
    expect(functions()).toEqual([REGISTER, REGISTER, QUERY, REGISTER, REGISTER]);
  });
});

describe('changes', () => {
  it('are told at once, and nothing but them', async () => {
    start();
    await registered(2);
    server.received.length = 0;
    targets = [...targets, { name: C }];
    registration.changed();
    await registered(3);
    expect(functions()).toEqual([QUERY, REGISTER]);
    expect(textOf(server.received[1], 32, 1)).toBe(C);
    targets = targets.filter(({ name }) => name !== B);
    registration.changed();
    await registered(2);
    expect(functions()).toEqual([QUERY, REGISTER, QUERY, DEREGISTER]);
    expect(server.targetsOf(ENTITY)).toEqual([A, C]);
    targets = [{ name: A, alias: 'renamed' }, { name: C }];
    registration.changed();
    await until(() => server.entities.get(ENTITY)?.targets.get(A)?.alias === 'renamed', 'the alias is the old one');
  });

  it('may take away the target in whose name we speak', async () => {
    start();
    await registered(2);
    targets = [{ name: B }, { name: C }];
    registration.changed();
    await until(() => server.targetsOf(ENTITY).join() === [B, C].join(), 'the old one is still there');
    const removal = server.received.find(({ functionId }) => functionId === DEREGISTER);
    expect(textOf(removal, 32, 0)).toBe(B);
    expect(textOf(removal, 32, 1)).toBe(A);
    expect(textOf(await anotherRequest(200_000), 32)).toBe(B);
  });

  it('may replace all targets, and all portals', async () => {
    start();
    await registered(2);
    targets = [{ name: C }];
    registration.changed();
    await until(() => server.targetsOf(ENTITY).join() === C, 'not replaced');
    portals = [{ host: '127.0.0.1', port: 9999 }];
    registration.changed();
    await until(
      () => [...(server.entities.get(ENTITY)?.portals.keys() ?? [])].join().endsWith('0000270f'),
      'old portals',
    );
    expect(server.entities.get(ENTITY)?.portals.size).toBe(1);
  });

  it('that leave nothing remove the entity, and the next target brings it back', async () => {
    start();
    await registered(2);
    targets = [];
    registration.changed();
    await until(() => registration.state().state === 'idle', 'not idle');
    expect(server.entities.size).toBe(0);
    targets = [{ name: C }];
    registration.changed();
    await registered(1);
    expect(server.targetsOf(ENTITY)).toEqual([C]);
  });

  it('that come while a request is under way are not lost', async () => {
    start();
    await registered(2);
    let answerNow: () => void = () => undefined;
    server.answer = (_request, socket, honest) => {
      answerNow = () => socket.write(honest());
    };
    await anotherRequest(200_000);
    targets = [...targets, { name: C }];
    registration.changed();
    server.answer = honestly;
    answerNow();
    await registered(3);
  });
});

describe('a refused target', () => {
  it('keeps no other out, is named once, and is tried again', async () => {
    server.entities.set('another gateway', {
      targets: new Map([[A, { alias: undefined, groups: 1 }]]),
      portals: new Map(),
    });
    targets = [...targets, { name: C }];
    start();
    await registered(2);
    expect(server.targetsOf(ENTITY)).toEqual([B, C]);
    expect(registration.state().problem).toBe(`${A} is refused: Invalid Registration (3)`);
    expect(warnings).toEqual(['the iSNS server refuses a target']);
    await anotherRequest(200_000);
    await confirmed(clock.now());
    expect(warnings).toHaveLength(1);
    server.entities.delete('another gateway');
    await anotherRequest(200_000);
    await registered(3);
    expect(registration.state().problem).toBeUndefined();
    expect(server.targetsOf(ENTITY)).toEqual([A, B, C]);
  });

  it('in the middle of a batch costs the others nothing', async () => {
    server.refuse.set(C, 8);
    targets = ['1', '2', '3', '4'].map((end) => ({ name: `${A}${end}` }));
    targets.push({ name: C });
    start();
    await registered(4);
    expect(registration.state().problem).toContain('Source Unauthorized');
  });

  it('that is the only one is a failure, said once, tried on with growing pauses', async () => {
    targets = [{ name: A }];
    server.refuse.set(A, 8);
    start();
    await until(() => registration.state().state === 'failing', 'not failing');
    expect(registration.state().problem).toContain('Source Unauthorized');
    clock.advance(1_000);
    await until(() => server.connections === 2, 'not tried again');
    await until(() => server.open() === 0, 'still connected');
    server.refuse.clear();
    clock.advance(2_000);
    await registered(1);
    expect(warnings).toHaveLength(1);
  });
});

describe('a server that restarts', () => {
  it('is told everything again without a wait for the period', async () => {
    start();
    await registered(2);
    server.entities.clear();
    server.dropConnections();
    await until(() => registration.state().state === 'failing', 'not noticed');
    clock.advance(1_000);
    await registered(2);
    expect(server.targetsOf(ENTITY)).toEqual([A, B]);
    expect(warnings).toHaveLength(1);
    expect(infos).toHaveLength(2);
  });

  it('with its database is only asked, and told what it must forget', async () => {
    start();
    await registered(2);
    server.dropConnections();
    await until(() => registration.state().state === 'failing', 'not noticed');
    targets = [{ name: A, alias: 'disk a' }];
    server.received.length = 0;
    clock.advance(1_000);
    await registered(1);
    expect(functions()).toEqual([QUERY, DEREGISTER]);
    expect(server.targetsOf(ENTITY)).toEqual([A]);
  });
});

describe('the end', () => {
  it('removes the entity and closes the connection', async () => {
    start();
    await registered(2);
    await Promise.all([registration.close(), registration.close()]);
    expect(functions().at(-1)).toBe(DEREGISTER);
    expect(server.entities.size).toBe(0);
    expect(registration.state()).toMatchObject({ state: 'closed', targets: 0 });
    await until(() => server.open() === 0, 'still connected');
    expect(clock.pending()).toBe(0);
    expect(warnings).toEqual([]);
  });

  it('connects once more for that where the connection was lost', async () => {
    start();
    await registered(2);
    server.dropConnections();
    await until(() => registration.state().state === 'failing', 'not noticed');
    await registration.close();
    expect(server.entities.size).toBe(0);
  });

  it('waits three seconds at most for a server that does not answer, and says what stays', async () => {
    start();
    await registered(2);
    server.answer = () => undefined;
    const closing = registration.close();
    await until(() => functions().at(-1) === DEREGISTER, 'no request came');
    clock.advance(3_000);
    await closing;
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('stay registered');
    expect(clock.pending()).toBe(0);
  });

  it('waits no longer when a refresh is under way', async () => {
    start();
    await registered(2);
    server.answer = () => undefined;
    await anotherRequest(200_000);
    const closing = registration.close();
    server.answer = honestly;
    clock.advance(3_000);
    await closing;
    expect(clock.pending()).toBe(0);
  });

  it('is at once where nothing was ever registered', async () => {
    server.answer = (_request, socket) => socket.destroy();
    start();
    await until(() => registration.state().state === 'failing', 'not failing');
    await registration.close();
    expect(registration.state().state).toBe('closed');
  });
});
