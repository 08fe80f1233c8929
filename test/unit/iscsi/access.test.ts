import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { MIB } from '../../../gateway/base/units.ts';
import type { AccessEvent } from '../../../gateway/iscsi/target-registry.ts';
import {
  KIND,
  buildDataOut,
  buildRequest,
  buildTaskManagement,
  cdb,
  read10,
  senseOf,
  write10,
} from '../../support/iscsi-wire.ts';
import { holdWrites } from '../../support/held-writes.ts';
import { IscsiWorld, TARGET, gate } from '../../support/iscsi-world.ts';
import { RamDevice } from '../../support/ram-device.ts';
import type { LoginOptions, RawInitiator } from '../../support/raw-initiator.ts';

const ALICE = 'iqn.2026-11.a:alice';
const BOB = 'iqn.2026-11.a:bob';
const DATA = Buffer.alloc(512, 0x5a);
const WRITE_LUN_1 = { cdb: write10(0, 1), lun: 1, write: true, expectedBytes: 512, data: DATA };
const REPORT_LUNS = cdb(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64);
const NO_LUN = { key: 5, asc: 0x25, ascq: 0 };
const LUNS_CHANGED = { key: 6, asc: 0x3f, ascq: 0x0e };
const WRITE_PROTECTED = { key: 7, asc: 0x27, ascq: 0 };

let world: IscsiWorld;
let second: RamDevice;
beforeEach(async () => {
  second = new RamDevice({ bytes: MIB, name: 'second' });
  world = await IscsiWorld.start();
  world.luns.set(1, second);
});
afterEach(async () => {
  await world.stop();
  expect(world.server.usage()).toMatchObject({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

/** Tells the server that access has changed; whether it has been carried out. */
function accessChange(): { readonly done: Promise<void>; isOver: boolean } {
  const change = {
    isOver: false,
    done: world.server.accessChanged().then(() => {
      change.isOver = true;
    }),
  };
  return change;
}

async function initiator(name: string, isid: string): Promise<RawInitiator> {
  const raw = await world.ready({ initiator: name, isid });
  await raw.clear(1);
  return raw;
}

async function lunsOf(raw: RawInitiator): Promise<number[]> {
  const { data } = await raw.run({ cdb: REPORT_LUNS, read: true, expectedBytes: 64 });
  return Array.from({ length: data.readUInt32BE(0) / 8 }, (_, index) => data.readUInt16BE(8 + 8 * index));
}

async function outcome(raw: RawInitiator, lun: number, block = cdb(0)): Promise<unknown> {
  const { status, last } = await raw.run({ cdb: block, lun, read: true, expectedBytes: 512 });
  return status === 2 ? senseOf(last) : status;
}

describe('a LUN that one initiator may not see', () => {
  beforeEach(() => {
    world.masked = (lun, { name }) => lun === 1 && name === BOB;
  });

  test('is not reported to it, and is to the other', async () => {
    const [alice, bob] = [await initiator(ALICE, '00023d000001'), await world.ready({ initiator: BOB })];
    expect(await lunsOf(alice)).toEqual([0, 1]);
    expect(await lunsOf(bob)).toEqual([0]);
  });

  test('answers every command exactly as one that is not there', async () => {
    const bob = await world.ready({ initiator: BOB });
    const blocks = [
      cdb(0x00),
      cdb(0x12, 0, 0, 0, 96),
      cdb(0x12, 1, 0x83, 0, 255),
      cdb(0x03, 0, 0, 0, 18),
      cdb(0x25),
      cdb(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32),
      cdb(0x1a, 0, 0x3f, 0, 255),
      cdb(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64),
      cdb(0x5e, 0, 0, 0, 0, 0, 0, 0, 64),
      cdb(0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
      cdb(0xff),
      read10(0, 1),
      cdb(0x35),
    ];
    for (const block of blocks) {
      const answers = [];
      for (const lun of [1, 2]) {
        const { status, data, last } = await bob.run({ cdb: block, lun, read: true, expectedBytes: 512 });
        answers.push([status, data.toString('hex'), last.data.toString('hex'), last.flags, last.word44]);
      }
      expect(answers[0], block.toString('hex')).toEqual(answers[1]);
    }
  });

  test('cannot be written, reset or cleared by it', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    const bob = await world.ready({ initiator: BOB });
    const write = await bob.run({ cdb: write10(0, 1), lun: 1, write: true, expectedBytes: 512, data: DATA });
    expect(senseOf(write.last)).toEqual(NO_LUN);
    for (const code of [2, 4, 5]) {
      bob.send(buildTaskManagement({ function: code, itt: 900 + code, cmdSn: bob.cmdSn, lun: 1 }));
      expect((await bob.expect(KIND.taskManagement)).byte2).toBe(2);
    }
    // A target reset reaches what it sees: LUN 0, and no more.
    bob.send(buildTaskManagement({ function: 6, itt: 990, cmdSn: bob.cmdSn }));
    expect((await bob.expect(KIND.taskManagement)).byte2).toBe(0);
    expect(await outcome(alice, 1)).toBe(0);
    expect(await outcome(alice, 0)).toMatchObject({ key: 6, asc: 0x29 });
    expect(second.bytes.subarray(0, 512).every((byte) => byte === 0)).toBe(true);
  });

  test('by its address is seen elsewhere', async () => {
    world.masked = (lun, { address }) => lun === 1 && address === '127.0.0.1';
    expect(await lunsOf(await world.ready())).toEqual([0]);
  });
});

describe('when access changes', () => {
  test('a lost LUN is gone at once, and the remaining ones tell so, once', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    const bob = await initiator(BOB, '00023d000002');
    world.masked = (lun, { name }) => lun === 1 && name === BOB;
    await world.server.accessChanged();
    expect(await outcome(bob, 1)).toEqual(NO_LUN);
    expect(await outcome(bob, 0)).toEqual(LUNS_CHANGED);
    expect(await outcome(bob, 0)).toBe(0);
    expect(await outcome(alice, 0)).toBe(0);
    expect(await outcome(alice, 1)).toBe(0);
  });

  test('a new LUN is there at once', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    world.luns.set(7, new RamDevice({ bytes: MIB, name: 'seventh' }));
    await world.server.accessChanged();
    expect(await outcome(alice, 0)).toEqual(LUNS_CHANGED);
    expect(await lunsOf(alice)).toEqual([0, 1, 7]);
    await alice.clear(7);
  });

  test('it is told at one LUN, and never again at another', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    world.luns.set(7, new RamDevice({ bytes: MIB, name: 'seventh' }));
    await world.server.accessChanged();
    expect(await outcome(alice, 1)).toEqual(LUNS_CHANGED);
    expect(await outcome(alice, 0)).toBe(0);
  });

  test('whoever asks for the LUNs, at whichever, is not told at any that they have changed; who asks wrongly is', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    const bob = await initiator(BOB, '00023d000002');
    world.luns.set(7, new RamDevice({ bytes: MIB, name: 'seventh' }));
    await world.server.accessChanged();
    const tooShort = await alice.run({ cdb: cdb(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 8), expectedBytes: 8 });
    expect(tooShort.last.byte3).toBe(2);
    expect(await lunsOf(bob)).toEqual([0, 1, 7]);
    expect([await outcome(bob, 0), await outcome(bob, 1)]).toEqual([0, 0]);
    expect(await outcome(alice, 1)).toEqual(LUNS_CHANGED);
  });

  test('also where nothing is left at LUN 0 to ask', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    world.masked = (lun) => lun === 0;
    await world.server.accessChanged();
    expect(await lunsOf(alice)).toEqual([1]);
    expect(await outcome(alice, 1)).toBe(0);
  });

  test('nothing is told when nothing changed', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    await world.server.accessChanged();
    expect(await outcome(alice, 0)).toBe(0);
  });

  test('another unit behind the same LUN is a new one', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    world.luns.set(1, new RamDevice({ bytes: 2 * MIB, name: 'other' }));
    await world.server.accessChanged();
    expect(await outcome(alice, 1)).toMatchObject({ key: 6, asc: 0x29 });
    expect(await outcome(alice, 0)).toEqual(LUNS_CHANGED);
  });

  test('a write that waits for its data ends, and its data lands nowhere', async () => {
    const alice = await world.ready({ initiator: ALICE, keys: { ImmediateData: 'No' } });
    await alice.clear(1);
    const itt = alice.command({ cdb: write10(0, 1), lun: 1, write: true, expectedBytes: 512 });
    const r2t = await alice.expect(KIND.r2t);
    world.masked = (lun) => lun === 1;
    await world.server.accessChanged();
    const ended = await alice.expect(KIND.scsiResponse);
    expect([ended.itt, ended.byte3, senseOf(ended)]).toEqual([itt, 2, NO_LUN]);
    alice.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 0, data: DATA }));
    await alice.clear();
    expect(second.bytes.subarray(0, 512).equals(DATA)).toBe(false);
  });

  test.each(['lost', 'read-only'])(
    'a write in the device of a LUN that is %s is waited for, and answered as what it becomes: nothing lands after that, or was said to have failed',
    async (how) => {
      const alice = await initiator(ALICE, '00023d000001');
      const { entered, release } = holdWrites(second);
      const itt = alice.command(WRITE_LUN_1);
      await entered;
      if (how === 'lost') world.masked = (lun) => lun === 1;
      else world.readOnly = (lun) => lun === 1;
      const change = accessChange();
      if (how === 'lost') expect(await outcome(alice, 0)).toEqual(LUNS_CHANGED);
      else expect(await outcome(alice, 0)).toBe(0);
      expect(change.isOver).toBe(false);
      release();
      await change.done;
      const answer = await alice.expect(KIND.scsiResponse);
      expect([answer.itt, answer.byte3]).toEqual([itt, 0]);
      expect(second.bytes.subarray(0, 512).equals(DATA)).toBe(true);
    },
  );

  test('one that does not get to its end there is not answered: nobody knows what became of it', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    const inside = gate();
    const ended = gate();
    second.intercept = async (operation) => {
      if (operation !== 'write') return;
      inside.open();
      await ended.opened;
      throw new FarshoreError('stopped', 'the volume is closed');
    };
    alice.command(WRITE_LUN_1);
    await inside.opened;
    world.masked = (lun) => lun === 1;
    const change = accessChange();
    ended.open();
    await change.done;
    // It would come before the next one.
    expect(await outcome(alice, 0)).toEqual(LUNS_CHANGED);
    expect(await outcome(alice, 0)).toBe(0);
  });

  test('a write that a closed connection has left in the device is waited for, where it may not be any more', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    const { entered, release } = holdWrites(second);
    alice.command(WRITE_LUN_1);
    await entered;
    alice.destroy();
    while (world.server.sessions().length > 0) await new Promise((resolve) => setImmediate(resolve));
    await world.server.accessChanged(); // its LUN is still there: nothing to wait for
    world.masked = (lun) => lun === 1;
    const change = accessChange();
    await world.ready({ initiator: BOB });
    expect(change.isOver).toBe(false);
    release();
    await change.done;
    expect(second.bytes.subarray(0, 512).equals(DATA)).toBe(true);
  });

  test('commands that came ahead of their turn find what is there when it comes', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    const missing = alice.cmdSn++;
    const itt = alice.command({ cdb: write10(0, 1), lun: 1, write: true, expectedBytes: 512, data: DATA });
    alice.send(buildRequest({ opcode: 0, immediate: true, itt: 5, word20: 0xffff_ffff, cmdSn: alice.cmdSn }));
    await alice.expect(KIND.nopIn);
    world.masked = (lun) => lun === 1;
    await world.server.accessChanged();
    alice.send(buildRequest({ opcode: 0, itt: 6, word20: 0xffff_ffff, cmdSn: missing }));
    await alice.expect(KIND.nopIn);
    const answer = await alice.expect(KIND.scsiResponse);
    expect([answer.itt, senseOf(answer)]).toEqual([itt, NO_LUN]);
    expect(second.bytes.subarray(0, 512).equals(DATA)).toBe(false);
  });

  test('a LUN that may only be read any more refuses writes, also one under way, and says so', async () => {
    const alice = await world.ready({ initiator: ALICE, keys: { ImmediateData: 'No' } });
    await alice.clear(1);
    const itt = alice.command({ cdb: write10(0, 1), lun: 1, write: true, expectedBytes: 512 });
    await alice.expect(KIND.r2t);
    world.readOnly = (lun) => lun === 1;
    await world.server.accessChanged();
    const ended = await alice.expect(KIND.scsiResponse);
    expect([ended.itt, senseOf(ended)]).toEqual([itt, WRITE_PROTECTED]);
    expect(await outcome(alice, 1)).toEqual({ key: 6, asc: 0x2a, ascq: 0x01 });
    expect(await outcome(alice, 0)).toBe(0);
    const write = await alice.run({ cdb: write10(0, 1), lun: 1, write: true, expectedBytes: 512 });
    expect(senseOf(write.last)).toEqual(WRITE_PROTECTED);
    expect((await alice.run({ cdb: read10(0, 1), lun: 1, read: true, expectedBytes: 512 })).status).toBe(0);
    world.readOnly = () => false;
    await world.server.accessChanged();
    expect(await outcome(alice, 1)).toEqual({ key: 6, asc: 0x2a, ascq: 0x01 });
    const allowed = alice.command({ cdb: write10(0, 1), lun: 1, write: true, expectedBytes: 512 });
    expect((await alice.expect(KIND.r2t)).itt).toBe(allowed);
  });

  test('a session that has lost its target is ended, with the write in its device; others stay', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    const bob = await initiator(BOB, '00023d000002');
    const { entered, release } = holdWrites(world.device);
    alice.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA });
    await entered;
    world.registry.judge = (_target, { name }) => (name === ALICE ? { kind: 'not-found' } : undefined);
    const change = accessChange();
    await alice.closed();
    expect(change.isOver).toBe(false);
    release();
    await change.done;
    world.device.intercept = undefined;
    expect(await outcome(bob, 0)).toBe(0);
    expect(world.server.sessions().map(({ initiatorName }) => initiatorName)).toEqual([BOB]);
    const again = await world.connect();
    expect((await again.login({ target: TARGET, initiator: ALICE })).word36 >>> 16).toBe(0x0203);
  });

  test('a session without proof does not outlive the demand for one', async () => {
    const alice = await initiator(ALICE, '00023d000001');
    world.registry.chap = { initiator: { user: 'a', secret: Buffer.from('secret') }, target: undefined };
    await world.server.accessChanged();
    await alice.closed();
  });

  test('a discovery session does not outlive it either', async () => {
    const finder = await world.connect();
    await finder.login();
    world.registry.chapForDiscovery = () => ({
      initiator: { user: 'a', secret: Buffer.from('secret') },
      target: undefined,
    });
    await world.server.accessChanged();
    await finder.closed();
  });

  test('SendTargets follows in a discovery session, and in a normal one of the target', async () => {
    const other = `${TARGET}-2`;
    world.targets.set(other, { name: other, luns: () => new Map() });
    const finder = await world.connect();
    await finder.login();
    const alice = await initiator(ALICE, '00023d000001');
    expect((await finder.text({ SendTargets: other }))['TargetName']).toBe(other);
    world.registry.shows = ({ name }) => name !== other;
    expect(await finder.text({ SendTargets: other })).toEqual({});
    for (const raw of [finder, alice]) expect((await raw.text({ SendTargets: 'All' }))['TargetName']).toBe(TARGET);
    world.registry.shows = () => false;
    expect(await alice.text({ SendTargets: '' })).toEqual({});
  });
});

test('discovery sessions in its name do not keep an initiator from its target', async () => {
  const small = await IscsiWorld.start({ settings: { maxSessionsPerInitiator: 2 } });
  try {
    for (const isid of ['00023d000001', '00023d000002', '00023d000003']) {
      const finder = await small.connect();
      const { word36 } = await finder.login({ initiator: ALICE, isid });
      expect(word36 >>> 16).toBe(isid.endsWith('3') ? 0x0302 : 0);
    }
    await small.ready({ initiator: ALICE });
  } finally {
    await small.stop();
  }
});

describe('sessions in the name of another that nobody has proved', () => {
  const status = async (of: IscsiWorld, at: number, options: LoginOptions): Promise<number> => {
    const raw = await of.connect(of.ports[at], at === 0 ? '127.0.0.1' : '::1');
    return (await raw.login({ initiator: ALICE, ...options })).word36 >>> 16;
  };
  test.each([
    ['discovering', {}],
    ['its target', { target: TARGET }],
  ])('do not keep it from %s at another address', async (_what, wanted) => {
    const small = await IscsiWorld.start({
      settings: { maxSessionsPerInitiator: 2 },
      portals: [
        { host: '127.0.0.1', port: 0 },
        { host: '::1', port: 0 },
      ],
    });
    try {
      for (const isid of ['00023d000001', '00023d000002']) expect(await status(small, 0, { ...wanted, isid })).toBe(0);
      expect(await status(small, 0, { ...wanted, isid: '00023d000003' })).toBe(0x0302);
      expect(await status(small, 1, { ...wanted, isid: '00023d000004' })).toBe(0);
    } finally {
      await small.stop();
    }
  });
});

describe('a session that is killed', () => {
  test('is gone when that is answered, and nothing of it lands later', async () => {
    const alice = await world.ready({ initiator: ALICE, keys: { ImmediateData: 'No' } });
    alice.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
    await alice.expect(KIND.r2t);
    const [info] = world.server.sessions();
    expect(info).toMatchObject({ initiatorName: ALICE, portal: '127.0.0.1', proof: { kind: 'none' } });
    expect(await world.server.endSession(info?.tsih ?? 0)).toEqual({ unsettled: [] });
    await alice.closed();
    expect(world.server.sessions()).toEqual([]);
    expect(world.server.usage().writeBytes).toBe(0);
    expect(await world.server.endSession(info?.tsih ?? 0)).toBeUndefined();
  });

  test('is dead for its initiator at once, and the kill says in bounded time what hangs in a device', async () => {
    const alice = await world.ready({ initiator: ALICE });
    const inside = gate();
    const held = gate();
    world.device.intercept = (operation) => {
      if (operation === 'write') inside.open();
      return held.opened;
    };
    alice.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: Buffer.alloc(512) });
    alice.command({ cdb: read10(0, 1), read: true, expectedBytes: 512 });
    await inside.opened;
    const ended = world.server.endSession(world.server.sessions()[0]?.tsih ?? 0);
    await alice.closed();
    expect(world.server.sessions()).toEqual([]);
    world.clock.advance(10_000);
    expect(await ended).toEqual({ unsettled: [{ lun: 0, command: 'write' }] });
    held.open();
  });
});

test('the registry hears of every login, logout and end', async () => {
  const alice = await initiator(ALICE, '00023d000001');
  const bob = await initiator(BOB, '00023d000002');
  const finder = await world.connect();
  await finder.login({ initiator: ALICE, isid: '00023d000009' });
  alice.send(buildRequest({ opcode: 0x06, immediate: true, itt: 8, cmdSn: alice.cmdSn }));
  await alice.expect(KIND.logout);
  await alice.closed();
  const tsih = world.server.sessions().find(({ initiatorName }) => initiatorName === BOB)?.tsih ?? 0;
  await world.server.endSession(tsih, 'because');
  await bob.closed();
  const stranger = await world.connect();
  await stranger.login({ target: `${TARGET}-no`, initiator: BOB });
  const told = world.registry.events.map((event: AccessEvent) => [
    event.kind,
    event.initiator.name,
    event.target,
    event.kind === 'session-ended' || event.kind === 'login-refused' ? event.reason : undefined,
  ]);
  expect(told).toEqual([
    ['login', ALICE, TARGET, undefined],
    ['login', BOB, TARGET, undefined],
    ['login', ALICE, undefined, undefined],
    ['logout', ALICE, TARGET, undefined],
    ['session-ended', BOB, TARGET, 'because'],
    ['login-refused', BOB, `${TARGET}-no`, 'no such target, or not for this initiator'],
  ]);
});
