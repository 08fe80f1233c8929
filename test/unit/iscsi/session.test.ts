import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  buildCommand,
  buildLogin,
  buildRequest,
  cdb,
  keysOf,
  KIND,
  read10,
  senseOf,
} from '../../support/iscsi-wire.ts';
import { IscsiWorld, TARGET } from '../../support/iscsi-world.ts';
import { RamDevice } from '../../support/ram-device.ts';
import { MIB } from '../../../gateway/base/units.ts';

let world: IscsiWorld;
beforeEach(async () => {
  world = await IscsiWorld.start();
});
afterEach(() => world.stop());

describe('login', () => {
  test('a normal session gets a TSIH and is listed', async () => {
    const initiator = await world.connect();
    const response = await initiator.login({ target: TARGET });
    expect(response.word36 >>> 16).toBe(0);
    expect(response.tsih).not.toBe(0);
    expect(response.flags).toBe(0x80 | (1 << 2) | 3);
    expect(world.server.sessions()).toMatchObject([{ targetName: TARGET, tsih: response.tsih, isid: '00023d000001' }]);
  });

  test('a refused login is answered and the connection closed', async () => {
    const initiator = await world.connect();
    const response = await initiator.login({ target: 'iqn.2026-11.dev.farshore.test:no' });
    expect(response.word36 >>> 16).toBe(0x0203);
    await initiator.closed();
  });

  test('a target that the initiator may not use is refused with 0202 and not listed', async () => {
    world.registry.judge = () => ({ kind: 'forbidden', reason: 'not here' });
    world.registry.shows = () => false;
    const initiator = await world.connect();
    expect((await initiator.login({ target: TARGET })).word36 >>> 16).toBe(0x0202);
    const other = await world.connect();
    await other.login();
    expect(await other.text({ SendTargets: 'All' })).toEqual({});
  });

  test('a first request that is no login drops the connection', async () => {
    const initiator = await world.connect();
    initiator.send(buildCommand({ cdb: cdb(0), itt: 1, cmdSn: 1 }));
    await initiator.closed();
  });

  test('another request during the login ends it', async () => {
    const initiator = await world.connect();
    initiator.send(buildLogin({ csg: 0, keys: { InitiatorName: 'iqn.2026-11.a:b', SessionType: 'Discovery' } }));
    await initiator.expect(KIND.login);
    initiator.send(buildRequest({ opcode: 0x00, itt: 5 }));
    expect((await initiator.expect(KIND.login)).word36 >>> 16).toBe(0x020b);
    await initiator.closed();
  });

  test('a login in full feature phase is rejected and changes nothing', async () => {
    const initiator = await world.ready();
    initiator.send(buildLogin({ transit: true, itt: 9, keys: { InitiatorName: 'iqn.2026-11.a:b' } }));
    const reject = await initiator.expect(KIND.reject);
    expect(reject.byte2).toBe(0x04);
    expect(reject.data.readUInt32BE(16)).toBe(9);
    await initiator.clear();
  });
});

describe('discovery', () => {
  test('SendTargets lists the targets with the address the initiator came by', async () => {
    const initiator = await world.connect();
    await initiator.login();
    expect(await initiator.text({ SendTargets: 'All' })).toEqual({
      TargetName: TARGET,
      TargetAddress: `127.0.0.1:${world.port},1`,
    });
  });

  test('a configured address is what is advertised', async () => {
    await world.stop();
    world = await IscsiWorld.start({
      portals: [{ host: '127.0.0.1', port: 0, advertise: [{ host: '203.0.113.7', port: 3260 }] }],
    });
    const initiator = await world.connect();
    await initiator.login();
    expect((await initiator.text({ SendTargets: 'All' }))['TargetAddress']).toBe('203.0.113.7:3260,1');
  });

  test('a normal session asks for its own target with an empty value', async () => {
    world.targets.set('iqn.2026-11.dev.farshore.test:other', {
      name: 'iqn.2026-11.dev.farshore.test:other',
      luns: () => new Map(),
    });
    const initiator = await world.ready();
    expect((await initiator.text({ SendTargets: '' }))['TargetName']).toBe(TARGET);
  });

  test('a normal session is told of no other target, by whatever it asks: discovery may need a proof of its own', async () => {
    const other = 'iqn.2026-11.dev.farshore.test:another';
    world.targets.set(other, { name: other, luns: () => new Map() });
    const own = { TargetName: TARGET, TargetAddress: `127.0.0.1:${world.port},1` };
    const initiator = await world.ready();
    expect(await initiator.text({ SendTargets: 'All' })).toEqual(own);
    expect(await initiator.text({ SendTargets: TARGET })).toEqual(own);
    expect(await initiator.text({ SendTargets: other })).toEqual({});
    const finder = await world.connect();
    await finder.login();
    expect((await finder.text({ SendTargets: other }))['TargetName']).toBe(other);
  });

  test('a long list comes in parts, each asked for with the tag of the last', async () => {
    for (let index = 0; index < 300; index += 1) {
      const name = `iqn.2026-11.dev.farshore.test:volume-${index}`;
      world.targets.set(name, { name, luns: () => new Map() });
    }
    const initiator = await world.connect();
    await initiator.login();
    let tag = 0xffff_ffff;
    let text = '';
    for (let parts = 0; ; parts += 1) {
      const data = tag === 0xffff_ffff ? Buffer.from('SendTargets=All\0') : Buffer.alloc(0);
      initiator.send(buildRequest({ opcode: 0x04, itt: 50, word20: tag, cmdSn: initiator.cmdSn++, data }));
      const response = await initiator.expect(KIND.text);
      text += response.data.toString();
      tag = response.word20;
      if ((response.flags & 0x80) !== 0) {
        expect(tag).toBe(0xffff_ffff);
        expect(parts).toBeGreaterThan(1);
        break;
      }
      expect(response.flags & 0x40).toBe(0x40);
    }
    expect(text.match(/TargetName=/g)).toHaveLength(301);
  });

  test('commands are rejected in a discovery session', async () => {
    const initiator = await world.connect();
    await initiator.login();
    initiator.command({ cdb: cdb(0) });
    expect((await initiator.expect(KIND.reject)).byte2).toBe(0x04);
  });
});

describe('sequence numbers', () => {
  test('a command beyond the window, or behind it, is dropped in silence', async () => {
    const initiator = await world.ready();
    const next = initiator.cmdSn;
    initiator.send(buildCommand({ cdb: cdb(0), itt: 900, cmdSn: next + 128 }));
    initiator.send(buildCommand({ cdb: cdb(0), itt: 901, cmdSn: next - 1 }));
    const { last } = await initiator.run({ cdb: cdb(0) });
    expect(last.expCmdSn).toBe(next + 1);
  });

  test('commands that arrive ahead of their turn are executed in order', async () => {
    const initiator = await world.ready();
    const next = initiator.cmdSn;
    for (const offset of [3, 1, 2, 0])
      initiator.send(buildCommand({ cdb: cdb(0), itt: 700 + offset, cmdSn: next + offset }));
    for (const offset of [0, 1, 2, 3]) expect((await initiator.expect(KIND.scsiResponse)).itt).toBe(700 + offset);
  });

  test('numbers wrap around', async () => {
    const initiator = await world.connect();
    initiator.cmdSn = 0xffff_fffe;
    await initiator.login({ target: TARGET });
    await initiator.run({ cdb: cdb(0) });
    await initiator.run({ cdb: cdb(0) });
    initiator.cmdSn = 0;
    const { last } = await initiator.run({ cdb: cdb(0) });
    expect([last.expCmdSn, last.maxCmdSn]).toEqual([1, 128]);
  });

  test('StatSN rises with every answer, and immediate commands take no CmdSN', async () => {
    const initiator = await world.ready();
    const { last } = await initiator.run({ cdb: cdb(0) });
    initiator.send(buildCommand({ cdb: cdb(0), itt: 5000, cmdSn: initiator.cmdSn, immediate: true }));
    const second = await initiator.expect(KIND.scsiResponse);
    expect(second.statSn).toBe(last.statSn + 1);
    expect(second.expCmdSn).toBe(last.expCmdSn);
  });
});

describe('other requests', () => {
  test('a ping is echoed', async () => {
    const initiator = await world.ready();
    const data = Buffer.from('are you there?');
    initiator.send(
      buildRequest({ opcode: 0x00, immediate: true, itt: 77, word20: 0xffff_ffff, cmdSn: initiator.cmdSn, data }),
    );
    const answer = await initiator.expect(KIND.nopIn);
    expect([answer.itt, answer.word20, answer.data.toString()]).toEqual([77, 0xffff_ffff, 'are you there?']);
  });

  test('unknown requests and SNACK are rejected with their header', async () => {
    const initiator = await world.ready();
    initiator.send(buildRequest({ opcode: 0x1c, itt: 41, cmdSn: initiator.cmdSn++ }));
    const unknown = await initiator.expect(KIND.reject);
    expect([unknown.byte2, unknown.data.length, unknown.data.readUInt8(0)]).toEqual([0x05, 48, 0x1c]);
    initiator.send(buildRequest({ opcode: 0x10, itt: 42, cmdSn: initiator.cmdSn, immediate: true }));
    expect((await initiator.expect(KIND.reject)).byte2).toBe(0x03);
    await initiator.clear();
  });

  test('logout is answered, then the connection is closed', async () => {
    const initiator = await world.ready();
    initiator.send(buildRequest({ opcode: 0x06, immediate: true, itt: 8, cmdSn: initiator.cmdSn }));
    expect((await initiator.expect(KIND.logout)).byte2).toBe(0);
    await initiator.closed();
    expect(world.server.sessions()).toEqual([]);
  });

  test('logout of a connection that is not there, or for recovery, changes nothing', async () => {
    const initiator = await world.ready();
    const { cmdSn } = initiator;
    initiator.send(buildRequest({ opcode: 0x06, immediate: true, flags: 0x81, itt: 8, word20: 5 << 16, cmdSn }));
    expect((await initiator.expect(KIND.logout)).byte2).toBe(1);
    initiator.send(buildRequest({ opcode: 0x06, immediate: true, flags: 0x82, itt: 9, cmdSn }));
    expect((await initiator.expect(KIND.logout)).byte2).toBe(2);
    await initiator.clear();
  });

  test('text keys that are settled at login cannot be changed later', async () => {
    const initiator = await world.ready();
    expect(await initiator.text({ MaxBurstLength: '512', 'X-key': 'a' })).toEqual({
      MaxBurstLength: 'Reject',
      'X-key': 'NotUnderstood',
    });
  });

  test('MaxRecvDataSegmentLength may be declared anew, and is respected', async () => {
    const initiator = await world.ready();
    expect(await initiator.text({ MaxRecvDataSegmentLength: '512' })).toEqual({});
    initiator.command({ cdb: read10(0, 2), read: true, expectedBytes: 1024 });
    expect((await initiator.expect(KIND.dataIn)).data.length).toBe(512);
    expect((await initiator.expect(KIND.dataIn)).data.length).toBe(512);
  });
});

test('a text that comes byte by byte is put together, and one without end is refused', async () => {
  const initiator = await world.ready();
  const part = (tag: number, last: boolean, data: Buffer): Buffer =>
    buildRequest({
      opcode: 0x04,
      itt: 77,
      immediate: true,
      flags: last ? 0x80 : 0x40,
      word20: tag,
      cmdSn: initiator.cmdSn,
      data,
    });
  let tag = 0xffff_ffff;
  const request = Buffer.from('X-a=1\0X-b=2\0');
  for (const [index] of request.entries()) {
    const last = index === request.length - 1;
    initiator.send(part(tag, last, request.subarray(index, index + 1)));
    const response = await initiator.expect(KIND.text);
    tag = response.word20;
    if (last) expect(keysOf(response.data)).toEqual({ 'X-a': 'NotUnderstood', 'X-b': 'NotUnderstood' });
    else expect(response.data.length).toBe(0);
  }
  tag = 0xffff_ffff;
  for (let sent = 0; sent < 64; sent += 8) {
    initiator.send(part(tag, false, Buffer.alloc(8192, 'x')));
    tag = (await initiator.expect(KIND.text)).word20;
  }
  initiator.send(part(tag, false, Buffer.from('x')));
  expect((await initiator.expect(KIND.reject)).byte2).toBe(0x04);
});

describe('logical units', () => {
  test('LUN 0 answers INQUIRY and REPORT LUNS when nothing is mapped to it', async () => {
    world.luns.clear();
    world.luns.set(3, new RamDevice({ bytes: MIB, name: 'three' }));
    const initiator = await world.connect();
    await initiator.login({ target: TARGET });
    const inquiry = await initiator.run({ cdb: cdb(0x12, 0, 0, 0, 96), read: true, expectedBytes: 96 });
    expect(inquiry.data.readUInt8(0)).toBe(0x7f);
    expect(inquiry.data.toString('latin1', 8, 16)).toBe('FARSHORE');
    const luns = await initiator.run({ cdb: cdb(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64), read: true, expectedBytes: 64 });
    expect(luns.data.toString('hex')).toBe('00000008000000000003000000000000');
    const { last } = await initiator.run({ cdb: cdb(0) });
    expect(senseOf(last)).toEqual({ key: 5, asc: 0x25, ascq: 0 });
  });

  test('a LUN mapped while logged in can be used at once, and the others tell of it', async () => {
    const initiator = await world.ready();
    world.luns.set(1, new RamDevice({ bytes: MIB, name: 'one' }));
    await world.server.accessChanged();
    expect(senseOf((await initiator.run({ cdb: cdb(0) })).last)).toEqual({ key: 6, asc: 0x3f, ascq: 0x0e });
    await initiator.clear(1);
    world.luns.delete(1);
    expect(senseOf((await initiator.run({ cdb: cdb(0), lun: 1 })).last)).toEqual({ key: 5, asc: 0x25, ascq: 0 });
  });

  test('the first command of every session meets the power on unit attention, once', async () => {
    const initiator = await world.connect();
    await initiator.login({ target: TARGET });
    const { status, last } = await initiator.run({ cdb: cdb(0) });
    expect([status, senseOf(last)]).toEqual([2, { key: 6, asc: 0x29, ascq: 0 }]);
    expect((await initiator.run({ cdb: cdb(0) })).status).toBe(0);
  });

  test('a changed capacity is told to every session', async () => {
    const first = await world.ready();
    const second = await world.ready({ isid: '00023d000002' });
    world.device.resize(8192);
    for (const initiator of [first, second]) {
      expect(senseOf((await initiator.run({ cdb: cdb(0) })).last)).toEqual({ key: 6, asc: 0x2a, ascq: 9 });
      expect((await initiator.run({ cdb: cdb(0) })).status).toBe(0);
    }
  });
});

test('many sessions are served side by side', async () => {
  const initiators = await Promise.all(
    Array.from({ length: 20 }, (_, index) => world.ready({ isid: `00023d0001${index.toString(16).padStart(2, '0')}` })),
  );
  await Promise.all(initiators.map((initiator) => initiator.clear()));
  expect(world.server.sessions()).toHaveLength(20);
});
