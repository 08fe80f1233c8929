import { afterEach, expect, test } from 'vitest';
import { KIB, MIB } from '../../../gateway/base/units.ts';
import {
  KIND,
  buildCommand,
  buildDataOut,
  buildLogin,
  buildRequest,
  buildTaskManagement,
  cdb,
  read10,
  write10,
} from '../../support/iscsi-wire.ts';
import type { Response } from '../../support/iscsi-wire.ts';
import { holdWrites } from '../../support/held-writes.ts';
import { IscsiWorld, TARGET, gate } from '../../support/iscsi-world.ts';
import { RamDevice } from '../../support/ram-device.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';

const DATA = Buffer.alloc(512, 0xdd);

let world: IscsiWorld | undefined;
afterEach(async () => {
  await world?.stop();
  expect(world?.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

async function start(...options: Parameters<typeof IscsiWorld.start>): Promise<IscsiWorld> {
  world = await IscsiWorld.start(...options);
  return world;
}

/** Gives the target the data of every R2T until `count` commands are answered; their statuses. */
async function serveWrites(initiator: RawInitiator, count: number): Promise<number[]> {
  const statuses: number[] = [];
  while (statuses.length < count) {
    const response = (await initiator.receive()) as Response;
    if (response.opcode === KIND.scsiResponse) statuses.push(response.byte3);
    if (response.opcode !== KIND.r2t) continue;
    const { itt, word20: ttt, word40: from, word44: bytes } = response;
    for (let offset = from, dataSn = 0; offset < from + bytes; offset += 64 * KIB, dataSn += 1) {
      const data = Buffer.alloc(Math.min(64 * KIB, from + bytes - offset), 0xab);
      const final = offset + data.length === from + bytes;
      initiator.send(buildDataOut({ itt, ttt, dataSn, offset, data, final }));
    }
  }
  return statuses;
}

test('writes of several bursts that together exceed the share of the session do not wait for each other', async () => {
  const w = await start({ settings: { sessionWriteBytes: 256 * KIB } });
  const initiator = await w.ready({ keys: { ImmediateData: 'No', MaxBurstLength: '65536' } });
  for (let index = 0; index < 4; index += 1)
    initiator.command({ cdb: write10(0, 512), write: true, expectedBytes: 256 * KIB });
  expect(await serveWrites(initiator, 4)).toEqual([0, 0, 0, 0]);
});

const BUSY_OR_GOOD = [0, 0x28];

test.each([
  ['the session', { sessionWriteBytes: 64 * KIB }, [0]],
  ['all sessions', { writeBytesInFlight: 64 * KIB }, BUSY_OR_GOOD],
  ['all sessions, and a single write does not fit', { writeBytesInFlight: 20 * KIB }, BUSY_OR_GOOD],
] as const)(
  'first bursts that fill the share of %s leave room for the rest of a write',
  async (_name, settings, ends) => {
    const w = await start({ settings });
    const initiator = await w.ready({ keys: { FirstBurstLength: '16384' } });
    const data = Buffer.alloc(8 * KIB);
    for (let index = 0; index < 8; index += 1)
      initiator.command({ cdb: write10(0, 64), write: true, expectedBytes: 32 * KIB, data });
    const statuses = await serveWrites(initiator, 8);
    expect(statuses).toContain(0);
    expect(ends).toEqual(expect.arrayContaining([...new Set(statuses)]));
  },
);

test('two writes that each hold half of all the memory and want more are served one after the other', async () => {
  const w = await start({ settings: { writeBytesInFlight: 32 * KIB } });
  const keys = { InitialR2T: 'No', FirstBurstLength: '16384' };
  const initiators = [await w.ready({ keys }), await w.ready({ keys, isid: '00023d000002' })];
  const write = {
    cdb: write10(0, 64),
    write: true,
    expectedBytes: 32 * KIB,
    final: false,
    data: Buffer.alloc(8 * KIB),
  };
  const tags = initiators.map((initiator) => initiator.command(write));
  while (w.server.usage().writeBytes < 32 * KIB) await (await w.ready({ isid: '00023d0000ee' })).clear();
  initiators.forEach((initiator, index) => {
    const itt = tags[index] ?? 0;
    initiator.send(buildDataOut({ itt, dataSn: 0, offset: 8 * KIB, data: Buffer.alloc(8 * KIB) }));
  });
  expect(await Promise.all(initiators.map((initiator) => serveWrites(initiator, 1)))).toEqual([[0], [0]]);
});

test('a write that fails while it waits for room is asked for nothing and holds nothing', async () => {
  const w = await start({ settings: { sessionWriteBytes: 512 } });
  const initiator = await w.ready({ keys: { ImmediateData: 'No' } });
  const first = initiator.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
  const { word20: ttt } = await initiator.expect(KIND.r2t);
  const second = initiator.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
  initiator.send(buildDataOut({ itt: second, ttt: 77, dataSn: 0, offset: 0, data: DATA }));
  await initiator.expect(KIND.reject);
  expect((await initiator.expect(KIND.scsiResponse)).itt).toBe(second);
  initiator.send(buildDataOut({ itt: first, ttt, dataSn: 0, offset: 0, data: DATA }));
  expect((await initiator.expect(KIND.scsiResponse)).itt).toBe(first);
  await initiator.clear();
  expect(w.server.usage().writeBytes).toBe(0);
});

test('a read takes no more from the device than was announced', async () => {
  const w = await start();
  const asked: number[] = [];
  const read = w.device.read.bind(w.device);
  w.device.read = (lba, sectors) => {
    asked.push(sectors);
    return read(lba, sectors);
  };
  const initiator = await w.ready();
  for (const [expectedBytes, fua] of [
    [0, 0],
    [1, 0],
    [1000, 0],
    [1000, 0x08],
  ] as const) {
    const command = read10(0, 8192);
    command[1] = fua;
    const { status, data, last } = await initiator.run({ cdb: command, read: true, expectedBytes });
    expect([status, data.length, last.flags & 0x06, last.word44]).toEqual([
      0,
      expectedBytes,
      0x04,
      4 * MIB - expectedBytes,
    ]);
  }
  expect(asked).toEqual([1, 2, 2]);
});

test('VERIFY keeps to the memory for reads', async () => {
  const w = await start({ settings: { sessionReadBytes: MIB } });
  const initiator = await w.ready();
  const held = gate();
  let inside = 0;
  w.device.intercept = (operation) => {
    if (operation !== 'read') return undefined;
    inside += 1;
    return held.opened;
  };
  for (let index = 0; index < 8; index += 1) {
    const verify = cdb(0x2f);
    verify.writeUInt16BE(2048, 7);
    initiator.command({ cdb: verify });
  }
  initiator.send(buildRequest({ opcode: 0x00, immediate: true, itt: 1, word20: 0xffff_ffff, cmdSn: initiator.cmdSn }));
  await initiator.expect(KIND.nopIn);
  expect(inside).toBe(1);
  held.open();
  for (let index = 0; index < 8; index += 1) expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(0);
});

test('ABORT TASK of a command that is held until its turn gives back the memory of its data', async () => {
  const w = await start();
  const initiator = await w.ready();
  const missing = initiator.cmdSn;
  const ahead = { cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA };
  initiator.send(buildCommand({ ...ahead, itt: 900, cmdSn: missing + 1 }));
  initiator.send(buildTaskManagement({ itt: 901, cmdSn: missing + 2, function: 1, rtt: 900, refCmdSn: missing + 1 }));
  expect((await initiator.expect(KIND.taskManagement)).byte2).toBe(0);
  expect(w.server.usage().writeBytes).toBe(0);
  initiator.send(buildCommand({ cdb: cdb(0), itt: 902, cmdSn: missing }));
  await initiator.expect(KIND.scsiResponse);
  initiator.cmdSn = missing + 2;
  await initiator.clear();
  expect(w.device.bytes[0]).toBe(0);
});

test.each([
  ['of the function itself', 0],
  ['after it', 3],
])('ABORT TASK with a RefCmdSN %s swallows no command to come', async (_name, distance) => {
  const w = await start();
  const initiator = await w.ready();
  initiator.send(
    buildTaskManagement({
      itt: 1,
      cmdSn: initiator.cmdSn,
      function: 1,
      rtt: 555,
      refCmdSn: initiator.cmdSn + distance,
    }),
  );
  expect((await initiator.expect(KIND.taskManagement)).byte2).toBe(1);
  for (let index = 0; index < 5; index += 1) await initiator.clear();
});

test('a peer that leaves out a command for too long is dropped, with what it had sent ahead', async () => {
  const w = await start({ settings: { dataTimeoutSeconds: 5 } });
  const initiator = await w.ready();
  const cmdSn = initiator.cmdSn + 1;
  initiator.send(buildCommand({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA, itt: 900, cmdSn }));
  initiator.send(buildRequest({ opcode: 0x00, immediate: true, itt: 1, word20: 0xffff_ffff, cmdSn }));
  await initiator.expect(KIND.nopIn);
  w.clock.advance(7000);
  await initiator.closed();
});

test('LOGICAL UNIT RESET also ends commands that are held until their turn', async () => {
  const w = await start();
  const initiator = await w.ready();
  const missing = initiator.cmdSn;
  const ahead = { cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA };
  initiator.send(buildCommand({ ...ahead, itt: 900, cmdSn: missing + 1 }));
  initiator.send(buildTaskManagement({ itt: 901, cmdSn: missing + 2, function: 5 }));
  expect((await initiator.expect(KIND.taskManagement)).byte2).toBe(0);
  initiator.send(buildCommand({ cdb: cdb(0), itt: 902, cmdSn: missing }));
  await initiator.expect(KIND.scsiResponse);
  initiator.cmdSn = missing + 2;
  await initiator.clear();
  expect(w.device.bytes[0]).toBe(0);
});

test('with room for a single command, its answer opens the window again', async () => {
  const w = await start({ settings: { queueDepth: 1 } });
  const initiator = await w.ready();
  w.device.intercept = () => Promise.resolve();
  const { last } = await initiator.run({ cdb: read10(0, 1), read: true, expectedBytes: 512 });
  expect(last.maxCmdSn).toBe(initiator.cmdSn);
});

test('a SNACK has no CmdSN: it is refused, and takes nobody else’s place', async () => {
  const w = await start();
  for (const cmdSn of [0, 1]) {
    const initiator = await w.connect();
    initiator.cmdSn = cmdSn;
    await initiator.login({ target: TARGET });
    initiator.send(buildRequest({ opcode: 0x10, flags: 0x80, itt: 1, cmdSn: 0 }));
    const reject = await initiator.expect(KIND.reject);
    expect([reject.byte2, reject.expCmdSn]).toEqual([0x03, cmdSn]);
    await initiator.clear();
  }
});

test('names that are repeated in the second stage of a login are no negotiation', async () => {
  const w = await start();
  const initiator = await w.connect();
  const names = { InitiatorName: 'iqn.2026-11.a:b', TargetName: TARGET, SessionType: 'Normal' };
  initiator.send(buildLogin({ csg: 0, nsg: 1, transit: true, keys: { ...names, AuthMethod: 'None' } }));
  await initiator.expect(KIND.login);
  initiator.send(buildLogin({ csg: 1, nsg: 3, transit: true, keys: { ...names, InitialR2T: 'Yes' } }));
  expect((await initiator.expect(KIND.login)).word36 >>> 16).toBe(0);
  const impostor = await w.connect();
  impostor.send(buildLogin({ csg: 0, nsg: 1, transit: true, keys: { ...names, AuthMethod: 'None' } }));
  await impostor.expect(KIND.login);
  const other = { ...names, InitiatorName: 'iqn.2026-11.a:c' };
  impostor.send(buildLogin({ csg: 1, nsg: 3, transit: true, keys: other }));
  expect((await impostor.expect(KIND.login)).word36 >>> 24).toBe(2);
});

test('a login that was given up while it waited does not cut the session that came after it', async () => {
  const w = await start();
  const old = await w.ready();
  const { entered, release } = holdWrites(w.device);
  old.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA });
  await entered;
  const stays = await w.connect();
  const login = stays.login({ target: TARGET });
  await old.closed();
  const leaves = await w.connect();
  leaves.send(
    buildLogin({
      transit: true,
      keys: { InitiatorName: 'iqn.2026-11.dev.farshore.test:initiator', SessionType: 'Normal', TargetName: TARGET },
    }),
  );
  // Seen by the target in this order: the login, then a request out of turn, which closes the connection.
  leaves.send(buildRequest({ opcode: 0x00, immediate: true, itt: 1, word20: 0xffff_ffff }));
  await leaves.closed();
  release();
  await login;
  await stays.clear();
});

test('a command that announces both directions reports the residual of the one that moved', async () => {
  const w = await start();
  const initiator = await w.ready();
  const both = { read: true, write: true, expectedBytes: 512 };
  const { last } = await initiator.run({ cdb: cdb(0), ...both });
  expect([last.flags & 0x06, last.word44]).toEqual([0x02, 512]);
});

test('ABORT TASK that is repeated while the write is still in the device is not answered before it has left', async () => {
  const w = await start();
  const initiator = await w.ready();
  const { entered, release } = holdWrites(w.device);
  const refCmdSn = initiator.cmdSn;
  const rtt = initiator.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA });
  await entered;
  const abort = { cmdSn: initiator.cmdSn, function: 1, rtt, refCmdSn };
  initiator.send(buildTaskManagement({ itt: 1, ...abort }), buildTaskManagement({ itt: 2, ...abort }));
  await initiator.clear();
  expect(w.device.bytes[0]).toBe(0);
  release();
  for (const itt of [1, 2]) {
    const response = await initiator.expect(KIND.taskManagement);
    expect([response.itt, response.byte2]).toEqual([itt, 0]);
  }
});

test('a write that never ends in one unit does not hold up the reset of another', async () => {
  const stuck = new RamDevice({ bytes: MIB, name: 'stuck' });
  const fine = new RamDevice({ bytes: MIB, name: 'fine' });
  const w = await start({
    luns: new Map([
      [0, fine],
      [1, stuck],
    ]),
  });
  const victim = await w.ready();
  await victim.clear(1);
  const { entered, release } = holdWrites(stuck);
  victim.command({ cdb: write10(0, 1), lun: 1, write: true, expectedBytes: 512, data: DATA });
  await entered;
  victim.destroy();
  const other = await w.ready({ isid: '00023d000002' });
  while (w.server.sessions().length > 1) await other.clear();
  other.send(buildTaskManagement({ itt: 1, cmdSn: other.cmdSn, function: 5 }));
  expect((await other.expect(KIND.taskManagement)).byte2).toBe(0);
  other.send(buildTaskManagement({ itt: 2, cmdSn: other.cmdSn, function: 5, lun: 1 }));
  await other.clear();
  release();
  expect((await other.expect(KIND.taskManagement)).itt).toBe(2);
});

test('what is aborted over and over in a device that hangs does not pile up', async () => {
  const w = await start({ settings: { queueDepth: 2 } });
  const initiator = await w.ready();
  const { release } = holdWrites(w.device);
  const places = 2 + 16;
  const answers: number[] = [];
  for (let round = 0; round < 80; round += 1) {
    const itt = 500 + round;
    const refCmdSn = initiator.cmdSn;
    initiator.send(
      buildCommand({ cdb: write10(0, 1), itt, cmdSn: initiator.cmdSn++, write: true, expectedBytes: 512, data: DATA }),
      buildTaskManagement({
        itt: 900 + round,
        cmdSn: initiator.cmdSn,

        function: 1,
        rtt: itt,
        refCmdSn,
      }),
      buildRequest({ opcode: 0x00, immediate: true, itt: 1, word20: 0xffff_ffff, cmdSn: initiator.cmdSn }),
    );
    for (;;) {
      const answer = (await initiator.receive()) as Response;
      if (answer.opcode === KIND.nopIn) break;
      answers.push(answer.opcode === KIND.scsiResponse ? answer.byte3 : answer.byte2);
    }
  }
  // First nothing is answered, then there is room for no further command, and nothing that its abort could wait for.
  expect(answers.slice(0, 2)).toEqual([0x28, 1]);
  expect(answers.length).toBe(2 * (80 - places));
  release();
});
