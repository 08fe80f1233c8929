import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../../gateway/base/clock.ts';
import { closeSession, openSession } from '../../../gateway/initiator/connect.ts';
import type { ChapOptions } from '../../../gateway/initiator/chap.ts';
import { discover } from '../../../gateway/initiator/discovery.ts';
import { chooseAlgorithm, decodeBinary } from '../../../gateway/iscsi/chap-values.ts';
import type { ChapRequirement } from '../../../gateway/iscsi/target-registry.ts';
import { KIND, buildLogin } from '../../support/iscsi-wire.ts';
import type { LoginFields } from '../../support/iscsi-wire.ts';
import { IscsiWorld, TARGET } from '../../support/iscsi-world.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';
import { challengeOf, hex, responseTo, securityStep } from '../../support/raw-chap.ts';

const SECRET = 'a secret of the host';
const TARGET_SECRET = 'a secret of the target';
const INITIATOR = 'iqn.2026-11.dev.farshore.test:initiator';
const NAMES = { InitiatorName: INITIATOR, TargetName: TARGET };
const ONE_WAY: ChapRequirement = { initiator: { user: 'host', secret: Buffer.from(SECRET) }, target: undefined };
const MUTUAL: ChapRequirement = {
  initiator: ONE_WAY.initiator,
  target: { user: 'farshore', secret: Buffer.from(TARGET_SECRET) },
};

let world: IscsiWorld;
beforeEach(async () => {
  world = await IscsiWorld.start();
  world.registry.chap = MUTUAL;
});
afterEach(() => world.stop());

function proofsSeen(): string[] {
  return world.registry.events.flatMap((event) => (event.kind === 'login' ? [event.proof.kind] : []));
}

async function loggedIn(): Promise<RawInitiator> {
  const initiator = await world.connect();
  const challenge = await challengeOf(initiator);
  const keys = { CHAP_N: 'host', CHAP_R: hex(responseTo(challenge, SECRET)) };
  expect((await securityStep(initiator, keys, { transit: true, nsg: 3 })).status).toBe(0);
  await initiator.clear();
  return initiator;
}

function refusalsSeen(): string[] {
  return world.registry.events.flatMap((event) => (event.kind === 'login-refused' ? [event.reason] : []));
}

describe('a value of CHAP', () => {
  test.each([
    ['0x00ff', '00ff'],
    ['0XAbCd', 'abcd'],
    ['0xabc', '0abc'],
    ['0bAP8=', '00ff'],
    ['0BAP8', '00ff'],
    ['0bAAAA', '000000'],
  ])('%s is %s', (text, bytes) => {
    expect(decodeBinary(text)?.bytes.toString('hex')).toBe(bytes);
  });

  test.each([
    '',
    '0x',
    '0b',
    '00ff',
    'x00ff',
    '0x0g',
    '0x00 ff',
    '0bA',
    '0bAP8==',
    '0bA=8=',
    '0bAP-_',
    '12',
    `0x${'00'.repeat(1025)}`,
    `0b${'A'.repeat(1368)}`,
    `0x${'0'.repeat(8000)}`,
  ])('%s is none', (text) => {
    expect(decodeBinary(text)).toBeUndefined();
  });

  test('the longest has 1024 bytes in either form', () => {
    const bytes = Buffer.alloc(1024, 0xa5);
    expect(decodeBinary(`0x${bytes.toString('hex')}`)?.bytes).toEqual(bytes);
    expect(decodeBinary(`0b${bytes.toString('base64')}`)?.bytes).toEqual(bytes);
  });
});

describe('the algorithm', () => {
  test.each([
    ['5', 5],
    ['8,7,6,5', 8],
    ['6,5', 6],
    ['1,2,7', 7],
    ['0x05', 5],
    ['255,254,5', 5],
    ['56', undefined],
    ['9', undefined],
    ['', undefined],
    ['5,', undefined],
    ['5;6', undefined],
    ['MD5', undefined],
    ['-5', undefined],
    ['5.0', undefined],
    ['256,5', undefined],
    [Array.from({ length: 40 }, () => '5').join(','), undefined],
  ])('of "%s" is %s', (offer, number) => {
    expect(chooseAlgorithm(offer)?.number).toBe(number);
  });
});

describe('an initiator that knows its secret', () => {
  const forms = ['hex', 'base64'] as const;
  for (const algorithm of [5, 6, 7, 8]) {
    for (const form of forms) {
      for (const isMutual of [false, true]) {
        test(`logs in with algorithm ${algorithm}, ${form}, ${isMutual ? 'mutually' : 'one way'}`, async () => {
          const chap: ChapOptions = {
            user: 'host',
            secret: SECRET,
            algorithms: [algorithm],
            form,
            ...(isMutual ? { target: { user: 'farshore', secret: TARGET_SECRET } } : {}),
          };
          await closeSession(await openSession({ ...at(), chap }, TARGET));
          expect(proofsSeen()).toEqual([isMutual ? 'mutual-chap' : 'chap']);
        });
      }
    }
  }

  test('finds out a target that does not know its own', async () => {
    const chap: ChapOptions = { user: 'host', secret: SECRET, target: { secret: 'something else here' } };
    await expect(openSession({ ...at(), chap }, TARGET)).rejects.toThrow('another CHAP secret');
    const named: ChapOptions = { ...chap, target: { user: 'other', secret: TARGET_SECRET } };
    await expect(openSession({ ...at(), chap: named }, TARGET)).rejects.toThrow('another CHAP name');
  });

  test('does not stay with a target that asks for no proof and so gives none', async () => {
    world.registry.chap = undefined;
    const chap: ChapOptions = { user: 'host', secret: SECRET, target: { secret: TARGET_SECRET } };
    await expect(openSession({ ...at(), chap }, TARGET)).rejects.toMatchObject({ statusClass: 2, statusDetail: 1 });
  });

  test('offers CHAP to a target that needs none, and gets in without', async () => {
    world.registry.chap = undefined;
    await closeSession(await openSession({ ...at(), chap: { user: 'host', secret: SECRET } }, TARGET));
    expect(proofsSeen()).toEqual(['none']);
  });

  test('goes straight to full feature phase when it asks to', async () => {
    const initiator = await world.connect();
    const challenge = await challengeOf(initiator, { algorithms: '7,5' });
    expect(challenge.algorithm).toBe('7');
    const keys = { CHAP_N: 'host', CHAP_R: hex(responseTo(challenge, SECRET)) };
    const answer = await securityStep(initiator, keys, { transit: true, nsg: 3 });
    expect([answer.status, answer.transits]).toEqual([0, true]);
    await initiator.clear();
  });

  test('may leave the stage in a request of its own', async () => {
    const initiator = await world.connect();
    const challenge = await challengeOf(initiator);
    const proved = await securityStep(initiator, { CHAP_N: 'host', CHAP_R: hex(responseTo(challenge, SECRET)) });
    expect([proved.status, proved.transits, proved.keys]).toEqual([0, false, {}]);
    expect((await securityStep(initiator, {}, { transit: true, nsg: 3 })).transits).toBe(true);
    await initiator.clear();
  });

  test('may cut its answer into pieces with the C bit', async () => {
    const initiator = await world.connect();
    const challenge = await challengeOf(initiator);
    const text = Buffer.from(`CHAP_N=host\0CHAP_R=${hex(responseTo(challenge, SECRET))}\0`);
    initiator.send(buildLogin({ csg: 0, continued: true, text: text.subarray(0, 20) }));
    await initiator.expect(KIND.login);
    initiator.send(buildLogin({ csg: 0, nsg: 3, transit: true, text: text.subarray(20) }));
    expect((await initiator.expect(KIND.login)).word36 >>> 16).toBe(0);
  });

  test('has its target portal group tag in the first answer', async () => {
    const initiator = await world.connect();
    const first = await securityStep(initiator, { ...NAMES, AuthMethod: 'CHAP,None' }, { transit: true });
    expect([first.transits, first.keys]).toEqual([false, { AuthMethod: 'CHAP', TargetPortalGroupTag: '1' }]);
  });
});

describe('discovery', () => {
  const DISCOVERY: ChapRequirement = { initiator: { user: 'finder', secret: Buffer.from(SECRET) }, target: undefined };

  test('has credentials of its own', async () => {
    world.registry.chapForDiscovery = () => DISCOVERY;
    const found = await discover({ ...at(), chap: { user: 'finder', secret: SECRET } });
    expect(found.map(({ name }) => name)).toEqual([TARGET]);
    await expect(discover({ ...at(), chap: { user: 'host', secret: SECRET } })).rejects.toMatchObject({
      statusDetail: 1,
    });
    await expect(discover(at())).rejects.toMatchObject({ statusDetail: 1 });
  });

  test('is open when no credentials are set', async () => {
    expect((await discover(at())).length).toBe(1);
  });
});

describe('whoever tries to get in without a proof', () => {
  test('is refused when it offers AuthMethod None alone', async () => {
    const initiator = await world.connect();
    const answer = await securityStep(initiator, { ...NAMES, AuthMethod: 'None' }, { transit: true, nsg: 3 });
    expect(answer.status).toBe(0x0201);
    await initiator.closed();
  });

  test('is refused when it starts behind the security stage', async () => {
    const initiator = await world.connect();
    expect((await initiator.login({ target: TARGET })).word36 >>> 16).toBe(0x0201);
    await initiator.closed();
  });

  test('is refused when the first of several PDUs starts behind it', async () => {
    const initiator = await world.connect();
    initiator.send(buildLogin({ csg: 1, continued: true, text: Buffer.from(`InitiatorName=${INITIATOR}\0`) }));
    await initiator.expect(KIND.login);
    initiator.send(buildLogin({ csg: 1, nsg: 3, transit: true, text: Buffer.from(`TargetName=${TARGET}\0`) }));
    expect((await initiator.expect(KIND.login)).word36 >>> 16).toBe(0x0201);
  });

  test('is refused when it leaves the stage without naming a method', async () => {
    const initiator = await world.connect();
    expect((await securityStep(initiator, NAMES, { transit: true })).status).toBe(0x0201);
  });

  test('gets no further by asking to, again and again', async () => {
    const initiator = await world.connect();
    const first = await securityStep(initiator, { ...NAMES, AuthMethod: 'CHAP' }, { transit: true, nsg: 3 });
    expect(first.transits).toBe(false);
    expect((await securityStep(initiator, {}, { transit: true, nsg: 3 })).transits).toBe(false);
    const offered = await securityStep(initiator, { CHAP_A: '5' }, { transit: true, nsg: 3 });
    expect(offered.transits).toBe(false);
    expect((await securityStep(initiator, {}, { transit: true, nsg: 3 })).status).toBe(0x0201);
    await initiator.closed();
  });

  test('is refused when it goes to the next stage with the challenge open', async () => {
    const initiator = await world.connect();
    await challengeOf(initiator);
    const answer = await securityStep(initiator, {}, { csg: 1, nsg: 3, transit: true });
    expect(answer.status).toBe(0x0200);
  });

  test('is refused when it negotiates the method again', async () => {
    const initiator = await world.connect();
    await securityStep(initiator, { ...NAMES, AuthMethod: 'CHAP' });
    expect((await securityStep(initiator, { AuthMethod: 'None' }, { transit: true, nsg: 3 })).status).toBe(0x0200);
  });

  test('is refused when it becomes somebody else on the way', async () => {
    const initiator = await world.connect();
    const challenge = await challengeOf(initiator);
    const answer = await securityStep(
      initiator,
      { InitiatorName: 'iqn.2026-11.a:other', CHAP_N: 'host', CHAP_R: hex(responseTo(challenge, SECRET)) },
      { transit: true, nsg: 3 },
    );
    expect(answer.status).toBe(0x0200);
  });

  const wrong: readonly [string, (right: string) => Record<string, string>][] = [
    ['no response', () => ({ CHAP_N: 'host' })],
    ['no name', (right) => ({ CHAP_R: right })],
    ['another name', (right) => ({ CHAP_N: 'hosts', CHAP_R: right })],
    ['an empty name', (right) => ({ CHAP_N: '', CHAP_R: right })],
    ['the name in hexadecimal', (right) => ({ CHAP_N: '0x686f7374', CHAP_R: right })],
    ['a very long name', (right) => ({ CHAP_N: 'h'.repeat(4000), CHAP_R: right })],
    ['a response that is short', (right) => ({ CHAP_N: 'host', CHAP_R: right.slice(0, -2) })],
    ['a response that is long', (right) => ({ CHAP_N: 'host', CHAP_R: `${right}00` })],
    ['a response of 1024 bytes', () => ({ CHAP_N: 'host', CHAP_R: `0x${'00'.repeat(1024)}` })],
    ['a response of 4000 bytes', () => ({ CHAP_N: 'host', CHAP_R: `0x${'00'.repeat(4000)}` })],
    ['a response in neither form', (right) => ({ CHAP_N: 'host', CHAP_R: right.slice(2) })],
    ['an empty response', () => ({ CHAP_N: 'host', CHAP_R: '0x' })],
    ['the challenge as response', () => ({ CHAP_N: 'host', CHAP_R: `0x${'00'.repeat(16)}` })],
    ['another offer along with it', (right) => ({ CHAP_A: '5', CHAP_N: 'host', CHAP_R: right })],
    ['half a challenge of its own', (right) => ({ CHAP_N: 'host', CHAP_R: right, CHAP_I: '1' })],
    ['the other half', (right) => ({ CHAP_N: 'host', CHAP_R: right, CHAP_C: '0x0102' })],
    ['an identifier of two octets', (right) => ({ CHAP_N: 'host', CHAP_R: right, CHAP_I: '256', CHAP_C: '0x01' })],
    [
      'a challenge of 1025 bytes',
      (right) => ({ CHAP_N: 'host', CHAP_R: right, CHAP_I: '1', CHAP_C: `0x${'01'.repeat(1025)}` }),
    ],
    ['a challenge in no form', (right) => ({ CHAP_N: 'host', CHAP_R: right, CHAP_I: '1', CHAP_C: 'hello' })],
  ];
  test.each(wrong)('is refused with %s', async (_name, keys) => {
    const initiator = await world.connect();
    const challenge = await challengeOf(initiator);
    const answer = await securityStep(initiator, keys(hex(responseTo(challenge, SECRET))), { transit: true, nsg: 3 });
    expect(answer).toEqual({ status: 0x0201, transits: false, keys: {} });
    await initiator.closed();
    expect(refusalsSeen()).toHaveLength(1);
    expect(world.server.sessions()).toEqual([]);
  });

  test('has one attempt a challenge: the right answer after a wrong one is too late', async () => {
    const initiator = await world.connect();
    const challenge = await challengeOf(initiator);
    initiator.send(
      buildLogin({ csg: 0, nsg: 3, transit: true, keys: { CHAP_N: 'host', CHAP_R: hex(Buffer.alloc(16)) } }),
      buildLogin({
        csg: 0,
        nsg: 3,
        transit: true,
        keys: { CHAP_N: 'host', CHAP_R: hex(responseTo(challenge, SECRET)) },
      }),
    );
    expect((await initiator.expect(KIND.login)).word36 >>> 16).toBe(0x0201);
    await initiator.closed();
    expect(world.server.sessions()).toEqual([]);
  });

  test('gains nothing by an answer it has overheard: no challenge comes twice', async () => {
    const seen = new Set<string>();
    for (let round = 0; round < 50; round += 1) {
      const initiator = await world.connect();
      const challenge = await challengeOf(initiator, { algorithms: '8' });
      expect(challenge.bytes.length).toBe(32);
      seen.add(challenge.bytes.toString('hex'));
      initiator.destroy();
    }
    expect(seen.size).toBe(50);
    const [first, second] = [await world.connect(), await world.connect()];
    const overheard = responseTo(await challengeOf(first), SECRET);
    await challengeOf(second);
    const answer = await securityStep(second, { CHAP_N: 'host', CHAP_R: hex(overheard) }, { transit: true, nsg: 3 });
    expect(answer.status).toBe(0x0201);
  });

  test.each([
    ['an unknown algorithm', { CHAP_A: '9' }],
    ['56, which is not 5', { CHAP_A: '56' }],
    ['no offer', { CHAP_N: 'host', CHAP_R: '0x00' }],
    ['an offer and a challenge at once', { CHAP_A: '5', CHAP_I: '1', CHAP_C: '0x01' }],
  ])('is refused with %s', async (_name, keys) => {
    const initiator = await world.connect();
    await securityStep(initiator, { ...NAMES, AuthMethod: 'CHAP' });
    expect((await securityStep(initiator, keys)).status).toBe(0x0201);
  });

  test('is refused when it speaks CHAP where it was not agreed on', async () => {
    world.registry.chap = undefined;
    const initiator = await world.connect();
    await securityStep(initiator, { ...NAMES, AuthMethod: 'None' });
    expect((await securityStep(initiator, { CHAP_A: '5' })).status).toBe(0x0200);
  });
});

describe('a reflection', () => {
  async function reflect(challenge: (own: Buffer) => Promise<Buffer>): Promise<number> {
    const initiator = await world.connect();
    const own = await challengeOf(initiator);
    const theirs = await challenge(own.bytes);
    const keys = { CHAP_N: 'host', CHAP_R: hex(responseTo(own, SECRET)), CHAP_I: String(own.identifier) };
    return (await securityStep(initiator, { ...keys, CHAP_C: hex(theirs) }, { transit: true, nsg: 3 })).status;
  }

  test('of our own challenge is refused', async () => {
    expect(await reflect((own) => Promise.resolve(own))).toBe(0x0201);
    expect(refusalsSeen()).toEqual(['the initiator sent a challenge of ours back']);
  });

  test('of a challenge that waits on another connection is refused', async () => {
    const other = await world.connect();
    const { bytes } = await challengeOf(other);
    expect(await reflect(() => Promise.resolve(bytes))).toBe(0x0201);
  });

  test('of what was a challenge once does no harm', async () => {
    const other = await world.connect();
    const { bytes } = await challengeOf(other);
    other.destroy();
    while (world.server.usage().connections > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(await reflect(() => Promise.resolve(bytes))).toBe(0);
  });

  test('cannot pay off with the same secret in both directions: that is refused', async () => {
    world.registry.chap = { ...MUTUAL, target: { user: 'farshore', secret: Buffer.from(SECRET) } };
    expect(await reflect(() => Promise.resolve(Buffer.from('a challenge')))).toBe(0x0201);
    const chap: ChapOptions = { user: 'host', secret: SECRET, target: { secret: SECRET } };
    await expect(openSession({ ...at(), chap }, TARGET)).rejects.toThrow('different CHAP secrets');
  });

  test('a target without a secret of its own proves nothing', async () => {
    world.registry.chap = ONE_WAY;
    expect(await reflect(() => Promise.resolve(Buffer.from('a challenge')))).toBe(0x0201);
  });
});

describe('whoever tries names', () => {
  test('that are not there learns no more than by a wrong secret', async () => {
    world.registry.judge = (_target, { name }) => (name === INITIATOR ? undefined : { kind: 'not-found' });
    const attempts: [string, string][] = [
      [INITIATOR, TARGET],
      ['iqn.2026-11.dev.farshore.test:unknown', TARGET],
      [INITIATOR, 'iqn.2026-11.dev.farshore.test:no-such-target'],
    ];
    const outcomes: unknown[] = [];
    for (const [name, target] of attempts) {
      const initiator = await world.connect();
      const first = await securityStep(initiator, { InitiatorName: name, TargetName: target, AuthMethod: 'CHAP,None' });
      const second = await securityStep(initiator, { CHAP_A: '7,5' });
      const third = await securityStep(
        initiator,
        { CHAP_N: 'host', CHAP_R: hex(Buffer.alloc(32)) },
        { transit: true, nsg: 3 },
      );
      await initiator.closed();
      outcomes.push([first, Object.keys(second.keys), second.keys['CHAP_C']?.length, third]);
    }
    expect(outcomes[1]).toEqual(outcomes[0]);
    expect(outcomes[2]).toEqual(outcomes[0]);
    expect(refusalsSeen()).toEqual([
      'the CHAP secret is wrong',
      'no such target, or not for this initiator',
      'no such target, or not for this initiator',
    ]);
  });

  test('without wanting to prove anything is told the same whatever there is, where anybody has to', async () => {
    const registry = world.registry;
    registry.demands = true;
    const pairs: (() => void)[] = [
      () => (registry.judge = () => undefined), // there is, and it has to prove itself
      () => (registry.judge = () => ({ kind: 'not-found' })),
      () => (registry.judge = () => ({ kind: 'forbidden', reason: 'its secret cannot be read' })),
      () => (registry.judge = () => ({ kind: 'unavailable', chap: MUTUAL })),
    ];
    const none = { AuthMethod: 'None' };
    const attempts: [Record<string, string>, LoginFields][][] = [
      [[{ ...NAMES, ...none }, {}]],
      [
        [
          { ...NAMES, ...none },
          { transit: true, nsg: 3 },
        ],
      ],
      [[NAMES, { transit: true, nsg: 1 }]],
      [[NAMES, { csg: 1, transit: true, nsg: 3 }]],
      [
        [
          { ...NAMES, ...none },
          { csg: 1, transit: true, nsg: 3 },
        ],
      ],
      [
        [NAMES, {}],
        [none, {}],
      ],
      [
        [NAMES, {}],
        [{}, { transit: true, nsg: 1 }],
      ],
      [
        [{ ...NAMES, AuthMethod: 'CHAP,None' }, {}],
        [{}, { transit: true, nsg: 3 }],
      ],
      [[{ ...NAMES, AuthMethod: 'KRB5' }, {}]],
    ];
    for (const attempt of attempts) {
      const answers: unknown[] = [];
      for (const pair of pairs) {
        pair();
        const initiator = await world.connect();
        const answer: unknown[] = [];
        for (const [keys, fields] of attempt) answer.push(await securityStep(initiator, keys, fields));
        initiator.destroy();
        answers.push(answer);
      }
      expect(answers.slice(1)).toEqual([answers[0], answers[0], answers[0]]);
    }
    const statuses = registry.events.map((event) => (event.kind === 'login-refused' ? event.status : event.kind));
    expect(new Set(statuses)).toEqual(new Set(['0201']));
    expect(refusalsSeen()).toContain('its secret cannot be read');
  });

  test('of sessions learns nothing either', async () => {
    world.registry.demands = true;
    const challenge = await challengeOf(await world.connect());
    expect(challenge.bytes.length).toBeGreaterThan(0);
    const statuses: number[] = [];
    const own = await loggedIn();
    for (const tsih of [world.server.sessions()[0]?.tsih ?? 0, 4711]) {
      const stranger = await world.connect();
      statuses.push((await securityStep(stranger, { ...NAMES, AuthMethod: 'None' }, { tsih })).status);
    }
    expect(statuses).toEqual([0x0201, 0x0201]);
    own.destroy();
  });

  test('is told that volumes are being opened only when it has proved itself', async () => {
    world.registry.judge = () => ({ kind: 'unavailable', chap: MUTUAL });
    const statuses: number[] = [];
    for (const secret of ['a wrong secret', SECRET]) {
      const initiator = await world.connect();
      const challenge = await challengeOf(initiator);
      const keys = { CHAP_N: 'host', CHAP_R: hex(responseTo(challenge, secret)) };
      statuses.push((await securityStep(initiator, keys, { transit: true, nsg: 3 })).status);
    }
    expect(statuses).toEqual([0x0201, 0x0301]);
  });

  test('without wanting to prove anything is told that there is no such target, where nobody has to', async () => {
    world.registry.judge = () => ({ kind: 'not-found' });
    const initiator = await world.connect();
    expect((await securityStep(initiator, { ...NAMES, AuthMethod: 'None' })).status).toBe(0x0203);
  });
});

describe('the session of a port', () => {
  test('is not ended by whoever takes its name and ISID, but cannot prove it', async () => {
    const initiator = await loggedIn();
    const stranger = await world.connect();
    await challengeOf(stranger); // has gone as far as it gets
    const keys = { CHAP_N: 'host', CHAP_R: hex(Buffer.alloc(16)) };
    expect((await securityStep(stranger, keys, { transit: true, nsg: 3 })).status).toBe(0x0201);
    const other = await world.connect();
    expect((await other.login({ target: TARGET })).word36 >>> 16).toBe(0x0201);
    await initiator.clear();
    expect(world.server.sessions()).toHaveLength(1);
  });

  test('goes on by another connection of whoever can, and of nobody else', async () => {
    const initiator = await loggedIn();
    const tsih = world.server.sessions()[0]?.tsih ?? 0;
    for (const [secret, status] of [
      ['a wrong secret', 0x0201],
      [SECRET, 0],
    ] as const) {
      const again = await world.connect();
      const challenge = await challengeOf(again, { tsih });
      const keys = { CHAP_N: 'host', CHAP_R: hex(responseTo(challenge, secret)) };
      expect((await securityStep(again, keys, { transit: true, nsg: 3, tsih })).status).toBe(status);
      if (status !== 0) await initiator.clear();
    }
    await initiator.closed();
    expect(world.server.sessions()).toMatchObject([{ tsih }]);
  });

  test('is replaced by whoever can', async () => {
    const initiator = await loggedIn();
    const again = await loggedIn();
    await initiator.closed();
    await again.clear();
    expect(world.server.sessions()).toHaveLength(1);
  });

  test('has a handle that tells others nothing', async () => {
    await loggedIn();
    const tsih = world.server.sessions()[0]?.tsih ?? 0;
    for (const [name, isid, status] of [
      [INITIATOR, '00023d000001', 0], // is asked for its proof
      [INITIATOR, '00023d000002', 0x020a],
      ['iqn.2026-11.a:other', '00023d000001', 0x020a],
    ] as const) {
      const stranger = await world.connect();
      const answer = await securityStep(
        stranger,
        { ...NAMES, InitiatorName: name, AuthMethod: 'CHAP' },
        { isid, tsih },
      );
      expect(answer.status).toBe(status);
    }
  });
});

test('a login under way when its credentials change does not get in with the old ones', async () => {
  const initiator = await world.connect();
  const challenge = await challengeOf(initiator);
  world.registry.chap = { initiator: { user: 'host', secret: Buffer.from('another secret now') }, target: undefined };
  const keys = { CHAP_N: 'host', CHAP_R: hex(responseTo(challenge, SECRET)) };
  expect((await securityStep(initiator, keys, { transit: true, nsg: 3 })).status).toBe(0x0201);
  expect(refusalsSeen()).toEqual(['the credentials have changed']);
});

function at() {
  return {
    host: '127.0.0.1',
    port: world.port,
    clock: systemClock,
    random: systemRandom,
    initiatorName: INITIATOR,
  };
}
