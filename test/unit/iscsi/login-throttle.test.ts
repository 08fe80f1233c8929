import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LoginThrottle, networkOf } from '../../../gateway/iscsi/login-throttle.ts';
import type { ChapRequirement } from '../../../gateway/iscsi/target-registry.ts';
import { IscsiWorld, ManualClock } from '../../support/iscsi-world.ts';
import { buildLogin, KIND } from '../../support/iscsi-wire.ts';
import { challengeOf, hex, responseTo, securityStep } from '../../support/raw-chap.ts';

const NAME = 'iqn.2026-11.a:host';
const HERE = '192.0.2.1';

describe('the throttle', () => {
  let clock: ManualClock;
  let throttle: LoginThrottle;
  beforeEach(() => {
    clock = new ManualClock();
    throttle = new LoginThrottle(clock);
  });

  function fail(times: number, name = NAME, address = HERE): void {
    for (let time = 0; time < times; time += 1) throttle.failed(name, address);
  }

  test('forgives a few mistakes, and then waits longer and longer, up to a bound below the patience of initiators', () => {
    const delays = Array.from({ length: 20 }, () => {
      const delay = throttle.delayMs(NAME, HERE);
      fail(1);
      return delay;
    });
    expect(delays.slice(0, 4)).toEqual([0, 0, 0, 0]);
    expect(delays.slice(4, 9)).toEqual([250, 500, 1000, 2000, 4000]);
    expect(delays.at(-1)).toBe(8000);
  });

  test('forgets with time', () => {
    fail(10);
    expect(throttle.delayMs(NAME, HERE)).toBe(8000);
    clock.advance(60_000);
    expect(throttle.delayMs(NAME, HERE)).toBe(500);
    clock.advance(600_000);
    expect(throttle.delayMs(NAME, HERE)).toBe(0);
  });

  test('forgives whoever gets it right in the end', () => {
    fail(7);
    expect(throttle.delayMs(NAME, HERE)).toBe(2000);
    throttle.succeeded(NAME, HERE);
    expect(throttle.delayMs(NAME, HERE)).toBe(0);
  });

  test('slows an address down that tries many names, though it has one that is right', () => {
    for (let index = 0; index < 30; index += 1) fail(1, `iqn.2026-11.a:${index}`);
    throttle.succeeded(NAME, HERE);
    expect(throttle.delayMs(NAME, HERE)).toBe(8000);
    expect(throttle.delayMs(NAME, '192.0.2.2')).toBe(0);
  });

  test('does not lock out a host because somebody elsewhere guesses its secret', () => {
    for (let index = 0; index < 10_000; index += 1) fail(1, NAME, `198.51.100.${index % 200}`);
    expect(throttle.delayMs(NAME, HERE)).toBe(1000);
  });

  test('takes the addresses of one IPv6 network for one', () => {
    for (let index = 0; index < 30; index += 1) fail(1, `iqn.2026-11.a:${index}`, `2001:db8::${index.toString(16)}`);
    expect(throttle.delayMs('iqn.2026-11.a:new', '2001:db8::ffff')).toBe(8000);
    expect(throttle.delayMs('iqn.2026-11.a:new', '2001:db8:0:1::1')).toBe(0);
  });

  test('lets only so many answers of one address wait at once', () => {
    fail(10);
    for (let index = 0; index < 8; index += 1) {
      expect(throttle.delayMs(NAME, HERE)).toBe(8000);
      throttle.hold(HERE);
    }
    expect(throttle.delayMs(NAME, HERE)).toBeUndefined();
    expect(throttle.delayMs(NAME, '192.0.2.2')).toBe(500);
    throttle.release(HERE);
    expect(throttle.delayMs(NAME, HERE)).toBe(8000);
  });

  test('looks at the answer of a host in the end, however many others of its network wait, in whichever names', () => {
    const neighbour = '2001:db8::66';
    const host = '2001:db8::5';
    for (let index = 0; index < 20; index += 1) fail(1, index % 2 === 0 ? NAME : `iqn.2026-11.a:${index}`, neighbour);
    for (let index = 0; index < 8; index += 1) throttle.hold(neighbour);
    expect(throttle.delayMs(NAME, neighbour)).toBeUndefined();
    expect(throttle.delayMs(NAME, host)).toBe(8000);
    expect(throttle.delayMs('iqn.2026-11.a:other', host)).toBe(8000);
  });

  test('looks at the answers of an initiator that has made no mistakes, though others behind its address have', () => {
    for (let index = 0; index < 20; index += 1) fail(1, `iqn.2026-11.a:${index % 2}`);
    for (let index = 0; index < 8; index += 1) throttle.hold(HERE);
    expect(throttle.delayMs('iqn.2026-11.a:0', HERE)).toBeUndefined();
    expect(throttle.delayMs(NAME, HERE)).toBe(8000);
  });

  test('remembers a bounded number of names, the latest failures longest', () => {
    for (let index = 0; index < 10_000; index += 1) {
      fail(1, `iqn.2026-11.a:${index}`, `2001:db8:${(index >> 8).toString(16)}:${(index & 0xff).toString(16)}::1`);
      if (index % 1000 === 0) fail(2);
    }
    expect(throttle.delayMs(NAME, HERE)).toBe(8000);
  });
});

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8::6', '2001:db8:0:0::/64'],
  ['fe80::1', 'fe80:0:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
])('%s belongs to %s', (address, network) => {
  expect(networkOf(address)).toBe(network);
});

describe('a server under guessing', () => {
  const REQUIRED: ChapRequirement = {
    initiator: { user: 'host', secret: Buffer.from('the right secret') },
    target: undefined,
  };
  let world: IscsiWorld;
  beforeEach(async () => {
    world = await IscsiWorld.start();
    world.registry.chap = REQUIRED;
  });
  afterEach(() => world.stop());

  async function guess(): Promise<number> {
    const initiator = await world.connect();
    await challengeOf(initiator);
    const keys = { CHAP_N: 'host', CHAP_R: hex(Buffer.alloc(16)) };
    return (await securityStep(initiator, keys, { transit: true, nsg: 3 })).status;
  }

  test('looks at no answer before its time, right or wrong', async () => {
    for (let round = 0; round < 4; round += 1) expect(await guess()).toBe(0x0201);
    const outcomes: string[] = [];
    const answers = ['the right secret', 'a wrong secret'].map(async (secret) => {
      const initiator = await world.connect();
      const challenge = await challengeOf(initiator);
      initiator.send(
        buildLogin({
          csg: 0,
          nsg: 3,
          transit: true,
          keys: { CHAP_N: 'host', CHAP_R: hex(responseTo(challenge, secret)) },
        }),
      );
      const { word36 } = await initiator.expect(KIND.login);
      outcomes.push(`${secret}: ${(word36 >>> 16).toString(16)}`);
    });
    const other = await world.connect(); // whoever needs no answer looked at is served meanwhile
    await challengeOf(other);
    expect(outcomes).toEqual([]);
    world.clock.advance(249);
    await challengeOf(await world.connect());
    expect(outcomes).toEqual([]);
    world.clock.advance(1);
    await Promise.all(answers);
    expect(outcomes.sort()).toEqual(['a wrong secret: 201', 'the right secret: 0']);
  });

  test('drops whoever cannot wait, and forgets that it waited', async () => {
    for (let round = 0; round < 4; round += 1) await guess();
    for (let round = 0; round < 20; round += 1) {
      const initiator = await world.connect();
      const challenge = await challengeOf(initiator);
      const keys = { CHAP_N: 'host', CHAP_R: hex(responseTo(challenge, 'the right secret')) };
      initiator.send(
        buildLogin({ csg: 0, nsg: 3, transit: true, keys }),
        buildLogin({ csg: 0, nsg: 3, transit: true }),
      );
      await initiator.closed();
    }
    world.clock.advance(60_000);
    expect(await guess()).toBe(0x0201);
    expect(world.server.sessions()).toEqual([]);
  });

  test('tells of a flood in sums', async () => {
    for (let round = 0; round < 3; round += 1) await guess();
    world.clock.advance(10_000);
    const refusals = world.registry.events.flatMap((event) => (event.kind === 'login-refused' ? [event] : []));
    expect(refusals.map(({ count, status, reason }) => [count, status, reason])).toEqual([
      [1, '0201', 'the CHAP secret is wrong'],
      [2, '0201', 'the CHAP secret is wrong'],
    ]);
    expect(refusals[0]).toMatchObject({
      initiator: { name: 'iqn.2026-11.dev.farshore.test:initiator', address: '127.0.0.1' },
      target: 'iqn.2026-11.dev.farshore.test:disk',
      portal: '127.0.0.1',
    });
  });
});
