import { afterEach, describe, expect, test } from 'vitest';
import { sendTargets } from '../../../gateway/iscsi/discovery.ts';
import type { OpenPortal } from '../../../gateway/iscsi/target-registry.ts';
import { KIND, buildLogin, textOf } from '../../support/iscsi-wire.ts';
import { IscsiWorld, TARGET } from '../../support/iscsi-world.ts';

/** TargetAddress values for a peer that came by `local`, with the portals usable at the addresses `usable` says. */
function addresses(
  portals: readonly (Partial<OpenPortal> & { host: string })[],
  local: string,
  usable: (target: unknown, portal: string) => boolean = () => true,
) {
  const pairs = sendTargets('All', {
    targets: [{ name: TARGET, luns: () => new Map() }],
    portals: portals.map((portal) => ({ port: 3260, advertise: undefined, ...portal })),
    local: { host: local, port: 3260 },
    mayUse: usable,
  });
  return pairs.filter(([key]) => key === 'TargetAddress').map(([, value]) => value);
}

describe('the addresses in SendTargets', () => {
  test.each([
    [
      'are those the gateway listens on',
      ['192.0.2.1', '2001:db8::1'],
      '192.0.2.1',
      ['192.0.2.1:3260,1', '[2001:db8::1]:3260,1'],
    ],
    ['name the address a wildcard was reached at', ['0.0.0.0'], '192.0.2.7', ['192.0.2.7:3260,1']],
    ['do so for IPv6', ['::'], '2001:db8::7', ['[2001:db8::7]:3260,1']],
    ['do so for IPv4 that came by an IPv6 socket', ['::'], '192.0.2.7', ['192.0.2.7:3260,1']],
    [
      'leave out an IPv4 wildcard for a peer that has IPv6',
      ['0.0.0.0', '2001:db8::1'],
      '2001:db8::1',
      ['[2001:db8::1]:3260,1'],
    ],
    ['name each once', ['0.0.0.0', '192.0.2.7'], '192.0.2.7', ['192.0.2.7:3260,1']],
    [
      'keep loopback from peers elsewhere',
      ['127.0.0.1', '::1', 'localhost', '192.0.2.1'],
      '192.0.2.1',
      ['192.0.2.1:3260,1'],
    ],
    ['tell it to peers on it', ['127.0.0.1', '192.0.2.1'], '127.0.0.1', ['127.0.0.1:3260,1', '192.0.2.1:3260,1']],
    [
      'keep a link-local one to those who came by it, without its zone',
      ['fe80::1%eth0'],
      'fe80::1',
      ['[fe80::1]:3260,1'],
    ],
    ['keep it from all others', ['fe80::1%eth0', '192.0.2.1'], '192.0.2.1', ['192.0.2.1:3260,1']],
  ])('%s', (_name, hosts, local, expected) => {
    expect(
      addresses(
        hosts.map((host) => ({ host })),
        local,
      ),
    ).toEqual(expected);
  });

  test('are the advertised ones of each portal, where it has any', () => {
    const portals = [
      {
        host: '10.0.0.1',
        advertise: [
          { host: '203.0.113.1', port: 13260 },
          { host: 'san.example.com', port: 3260 },
        ],
      },
      { host: '10.0.0.2' },
    ];
    expect(addresses(portals, '10.0.0.1')).toEqual([
      '203.0.113.1:13260,1',
      'san.example.com:3260,1',
      '10.0.0.2:3260,1',
    ]);
  });

  test('are those of the portals the initiator may use', () => {
    const asked: string[] = [];
    const usable = (_target: unknown, portal: string): boolean => {
      asked.push(portal);
      return portal !== '10.0.0.2';
    };
    const portals = [
      { host: '10.0.0.1' },
      { host: '10.0.0.2', advertise: [{ host: '203.0.113.2', port: 1 }] },
      { host: '::' },
    ];
    expect(addresses(portals, '10.0.0.1', usable)).toEqual(['10.0.0.1:3260,1']);
    expect(asked).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.1']);
  });
});

describe('a gateway with several portals', () => {
  let world: IscsiWorld | undefined;
  afterEach(() => world?.stop());

  test('serves all of them, IPv6 among them', async () => {
    world = await IscsiWorld.start({
      portals: [
        { host: '127.0.0.1', port: 0 },
        { host: '::1', port: 0 },
        { host: '::', port: 0 },
      ],
    });
    const [v4 = 0, v6 = 0, any = 0] = world.ports;
    for (const [port, host] of [
      [v4, '127.0.0.1'],
      [v6, '::1'],
      [any, '127.0.0.1'],
      [any, '::1'],
    ] as const) {
      const initiator = await world.connect(port, host);
      await initiator.login();
      const text = await initiator.text({ SendTargets: 'All' });
      expect(JSON.stringify(text)).not.toContain('[::]');
      expect(world.server.sessions().at(-1)).toMatchObject({
        portal: host,
        peer: expect.stringContaining(host === '::1' ? '[::1]:' : '127.0.0.1:') as string,
      });
    }
  });

  test('tells the registry by which one an initiator comes', async () => {
    world = await IscsiWorld.start({
      portals: [
        { host: '127.0.0.1', port: 0 },
        { host: '127.0.0.2', port: 0 },
      ],
    });
    world.registry.judge = (_target, _initiator, portal) =>
      portal === '127.0.0.2' ? { kind: 'not-found' } : undefined;
    const [first = 0, second = 0] = world.ports;
    const welcome = await world.connect(first);
    expect((await welcome.login({ target: TARGET })).word36).toBe(0);
    expect(await welcome.text({ SendTargets: '' })).toEqual({
      TargetName: TARGET,
      TargetAddress: `127.0.0.1:${first},1`,
    });
    const other = await world.connect(second, '127.0.0.2');
    expect((await other.login({ target: TARGET })).word36 >>> 16).toBe(0x0203);
  });

  test('counts sessions of each address and of each initiator', async () => {
    world = await IscsiWorld.start({
      settings: { maxConnectionsPerAddress: 2, maxSessionsPerInitiator: 2 },
      portals: [
        { host: '127.0.0.1', port: 0 },
        { host: '::1', port: 0 },
      ],
    });
    const sessions = [await world.ready({ isid: '00023d000001' }), await world.ready({ isid: '00023d000002' })];
    const third = await world.connect();
    expect((await third.login({ target: TARGET, isid: '00023d000003' })).word36 >>> 16, 'a session').toBe(0x0302);
    await third.closed();
    // The same initiator port again is no further session.
    await world.ready({ isid: '00023d000002' });
    const fourth = await world.connect();
    expect((await fourth.login({ target: TARGET, initiator: 'iqn.2026-11.a:b' })).word36 >>> 16, 'one address').toBe(
      0x0302,
    );
    const elsewhere = await world.connect(world.ports[1] ?? 0, '::1');
    expect((await elsewhere.login({ target: TARGET, initiator: 'iqn.2026-11.a:b' })).word36).toBe(0);
    expect(sessions[0]?.isClosed).toBe(false);
  });

  test('closes the oldest connection that has not logged in, of the address that has most of them', async () => {
    world = await IscsiWorld.start({
      settings: { maxLogins: 3 },
      portals: [
        { host: '127.0.0.1', port: 0 },
        { host: '::1', port: 0 },
      ],
    });
    const elsewhere = await world.connect(world.ports[1] ?? 0, '::1');
    const here = [await world.connect(), await world.connect(), await world.connect()];
    await here[0]?.closed();
    expect([elsewhere, ...here].map((each) => each.isClosed)).toEqual([false, true, false, false]);
    expect(world.server.usage().connections).toBe(3);
  });
});

describe('a login', () => {
  let world: IscsiWorld | undefined;
  afterEach(() => world?.stop());

  test('has a bounded number of bytes', async () => {
    world = await IscsiWorld.start();
    const initiator = await world.connect();
    const keys = { InitiatorName: 'iqn.2026-11.a:b', SessionType: 'Discovery' };
    for (let round = 0; ; round += 1) {
      const filler = Object.fromEntries(
        Array.from({ length: 8 }, (_, index) => [`X-${round}-${index}`, 'x'.repeat(990)]),
      );
      initiator.send(buildLogin({ csg: 0, text: textOf(round === 0 ? keys : filler) }));
      const answer = await initiator.expect(KIND.login);
      if (answer.word36 === 0) continue;
      expect([answer.word36 >>> 16, round]).toEqual([0x0200, 17]);
      break;
    }
    await initiator.closed();
  });
});
