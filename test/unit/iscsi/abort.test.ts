import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { MIB } from '../../../gateway/base/units.ts';
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

const DATA = Buffer.alloc(512, 0xdd);

let world: IscsiWorld;
beforeEach(async () => {
  world = await IscsiWorld.start();
});
afterEach(async () => {
  await world.stop();
  expect(world.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

/** Resolves when the target has no command of the first session any more that could still be answered. */
async function allAborted(): Promise<void> {
  const witness = await world.ready({ isid: '00023d0000ee' });
  while ((world.server.sessions()[0]?.outstandingTasks ?? 0) > 0) await witness.clear();
}

const isWritten = (): boolean => world.device.bytes[0] === 0xdd;

describe('a new login of the same initiator port', () => {
  test('waits until the write of the old session has left the device', async () => {
    const old = await world.ready();
    const { entered, release } = holdWrites(world.device);
    old.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA });
    await entered;
    const fresh = await world.connect();
    let loggedIn = false;
    const login = fresh.login({ target: TARGET }).then((response) => {
      loggedIn = true;
      return response;
    });
    await old.closed();
    const witness = await world.ready({ isid: '00023d0000ff' });
    await witness.clear();
    expect(loggedIn).toBe(false);
    release();
    expect((await login).word36 >>> 16).toBe(0);
    expect(isWritten()).toBe(true);
  });

  test('drops writes of the old session that still wait for their data', async () => {
    const old = await world.ready({ keys: { ImmediateData: 'No' } });
    const itt = old.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
    const r2t = await old.expect(KIND.r2t);
    const fresh = await world.ready();
    old.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 0, data: DATA }));
    await old.closed();
    await fresh.clear();
    expect(isWritten()).toBe(false);
    expect(world.server.sessions()).toHaveLength(1);
  });

  test('two of them at once: one session is left', async () => {
    const old = await world.ready();
    const { entered, release } = holdWrites(world.device);
    old.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA });
    await entered;
    const contenders = [await world.connect(), await world.connect()];
    const logins = contenders.map((initiator) => initiator.login({ target: TARGET }).catch(() => undefined));
    await old.closed();
    release();
    await Promise.all(logins);
    expect(world.server.sessions()).toHaveLength(1);
  });

  test('another ISID, or another target, is another session', async () => {
    await world.ready();
    await world.ready({ isid: '00023d000002' });
    expect(world.server.sessions()).toHaveLength(2);
  });
});

test('a connection that breaks in the middle of a write does not land it', async () => {
  const initiator = await world.ready({ keys: { ImmediateData: 'No' } });
  const itt = initiator.command({ cdb: write10(0, 2), write: true, expectedBytes: 1024 });
  const r2t = await initiator.expect(KIND.r2t);
  initiator.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 0, data: DATA, final: false }));
  initiator.destroy();
  const other = await world.ready();
  await other.clear();
  expect(isWritten()).toBe(false);
});

describe('task management', () => {
  async function manage(
    initiator: Awaited<ReturnType<IscsiWorld['ready']>>,
    fields: { function: number; lun?: number; rtt?: number; refCmdSn?: number },
  ): Promise<number> {
    initiator.send(buildTaskManagement({ itt: initiator.nextItt++, cmdSn: initiator.cmdSn, ...fields }));
    return (await initiator.expect(KIND.taskManagement)).byte2;
  }

  test('ABORT TASK of a write that waits for data: it is gone, and its late data is dropped', async () => {
    const initiator = await world.ready({ keys: { ImmediateData: 'No' } });
    const refCmdSn = initiator.cmdSn;
    const rtt = initiator.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
    const r2t = await initiator.expect(KIND.r2t);
    expect(await manage(initiator, { function: 1, rtt, refCmdSn })).toBe(0);
    initiator.send(buildDataOut({ itt: rtt, ttt: r2t.word20, dataSn: 0, offset: 0, data: DATA }));
    await initiator.clear();
    expect(isWritten()).toBe(false);
  });

  test('ABORT TASK of a write in the device is answered when it has left, and the write is not answered', async () => {
    const initiator = await world.ready();
    const { entered, release } = holdWrites(world.device);
    const refCmdSn = initiator.cmdSn;
    const rtt = initiator.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA });
    await entered;
    const answer = manage(initiator, { function: 1, rtt, refCmdSn });
    await allAborted();
    release();
    expect(await answer).toBe(0);
    await initiator.clear();
  });

  test('ABORT TASK of what is finished: "does not exist", but complete for ESXi', async () => {
    const initiator = await world.ready();
    const refCmdSn = initiator.cmdSn;
    const { last } = await initiator.run({ cdb: cdb(0) });
    expect(await manage(initiator, { function: 1, rtt: last.itt, refCmdSn })).toBe(1);
    const esx = await world.ready({ initiator: 'iqn.1998-01.com.vmware:esx1', isid: '00023d000003' });
    expect(await manage(esx, { function: 1, rtt: 1, refCmdSn: 0 })).toBe(0);
  });

  test('ABORT TASK of a command that has not come: it is taken as come, and never executed', async () => {
    const initiator = await world.ready();
    const refCmdSn = initiator.cmdSn++;
    initiator.send(buildTaskManagement({ itt: 1, cmdSn: initiator.cmdSn, function: 1, rtt: 555, refCmdSn }));
    const response = await initiator.expect(KIND.taskManagement);
    expect([response.byte2, response.expCmdSn]).toEqual([0, refCmdSn + 1]);
    await initiator.clear();
  });

  test.each([
    ['ABORT TASK SET', 2],
    ['CLEAR TASK SET', 4],
    ['LOGICAL UNIT RESET', 5],
    ['TARGET WARM RESET', 6],
  ])('%s ends the commands of the session in the unit', async (_name, code) => {
    const initiator = await world.ready({ keys: { ImmediateData: 'No' } });
    const itt = initiator.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
    const r2t = await initiator.expect(KIND.r2t);
    expect(await manage(initiator, { function: code })).toBe(0);
    initiator.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 0, data: DATA }));
    await initiator.clear();
    expect(isWritten()).toBe(false);
  });

  test('LOGICAL UNIT RESET reaches the commands of other sessions, and every session is told', async () => {
    const victim = await world.ready({ keys: { ImmediateData: 'No' } });
    const itt = victim.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
    const r2t = await victim.expect(KIND.r2t);
    const other = await world.ready({ isid: '00023d000002' });
    expect(await manage(other, { function: 5 })).toBe(0);
    victim.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 0, data: DATA }));
    for (const initiator of [victim, other])
      expect(senseOf((await initiator.run({ cdb: cdb(0) })).last)).toEqual({ key: 6, asc: 0x29, ascq: 3 });
    expect(isWritten()).toBe(false);
  });

  test('TARGET COLD RESET is answered, then every session of the target ends, and none of another', async () => {
    const OTHER = `${TARGET}.other`;
    const elsewhere = new RamDevice({ bytes: MIB, name: 'elsewhere' });
    world.targets.set(OTHER, {
      name: OTHER,
      luns: () => new Map([[0, { device: elsewhere, readOnly: false, state: undefined }]]),
    });
    const victim = await world.ready({ isid: '00023d000002', keys: { ImmediateData: 'No' } });
    const itt = victim.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
    const r2t = await victim.expect(KIND.r2t);
    const bystander = await world.connect();
    await bystander.login({ target: OTHER });
    await bystander.clear();
    const initiator = await world.ready();
    const { entered, release } = holdWrites(world.device);
    initiator.command({ cdb: write10(4, 1), write: true, expectedBytes: 512, data: DATA });
    await entered;
    const answer = manage(initiator, { function: 7 });
    await bystander.clear();
    expect(initiator.isClosed || victim.isClosed).toBe(false); // a write is still in the device
    release();
    expect(await answer).toBe(0);
    await initiator.closed();
    const message = await victim.expect(KIND.async);
    expect(message.word36 >>> 24).toBe(3);
    victim.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 0, data: DATA }));
    await victim.closed();
    await bystander.clear();
    expect(isWritten()).toBe(false);
    await world.ready();
  });

  test('CLEAR TASK SET tells the other initiators whose commands it ended', async () => {
    const victim = await world.ready({ keys: { ImmediateData: 'No' } });
    victim.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
    await victim.expect(KIND.r2t);
    const other = await world.ready({ isid: '00023d000002' });
    expect(await manage(other, { function: 4 })).toBe(0);
    expect(senseOf((await victim.run({ cdb: cdb(0) })).last)).toEqual({ key: 6, asc: 0x2f, ascq: 0 });
    expect((await other.run({ cdb: cdb(0) })).status).toBe(0);
  });

  test.each([
    ['a LUN that is not there', 5, 9, 2],
    ['CLEAR ACA', 3, 0, 5],
    ['TASK REASSIGN', 8, 0, 4],
    ['an unknown function', 77, 0, 5],
  ])('%s gets its response', async (_name, code, lun, response) => {
    expect(await manage(await world.ready(), { function: code, lun })).toBe(response);
  });
});

test('a reset while reads wait in the device does not wait for them', async () => {
  const initiator = await world.ready();
  const held = gate();
  world.device.intercept = (operation) => (operation === 'read' ? held.opened : undefined);
  initiator.command({ cdb: read10(0, 1), read: true, expectedBytes: 512 });
  initiator.send(buildTaskManagement({ itt: 3, cmdSn: initiator.cmdSn, function: 5 }));
  expect((await initiator.expect(KIND.taskManagement)).byte2).toBe(0);
  held.open();
  await initiator.clear();
});

test('logout waits for a write in the device, and leaves it unanswered', async () => {
  const initiator = await world.ready();
  const { entered, release } = holdWrites(world.device);
  initiator.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA });
  await entered;
  initiator.send(buildRequest({ opcode: 0x06, immediate: true, itt: 8, cmdSn: initiator.cmdSn }));
  await allAborted();
  release();
  await initiator.expect(KIND.logout);
  expect(isWritten()).toBe(true);
});

test('a target that is taken away ends its sessions', async () => {
  const initiator = await world.ready();
  world.targets.delete(TARGET);
  await world.server.accessChanged();
  await initiator.closed();
  const other = await world.connect();
  expect((await other.login({ target: TARGET })).word36 >>> 16).toBe(0x0203);
});

describe('failures of the device', () => {
  test.each([
    ['busy', 8, undefined],
    ['retry', 2, { key: 2, asc: 0x04, ascq: 0x01 }],
    ['fenced', 2, { key: 2, asc: 0x04, ascq: 0x03 }],
    ['stopped', 2, { key: 4, asc: 0x44, ascq: 0 }],
    ['damaged', 2, { key: 3, asc: 0x11, ascq: 0 }],
  ] as const)('%s becomes a status, thrown or rejected', async (kind, status, sense) => {
    const initiator = await world.ready();
    for (const fail of [
      () => {
        throw new FarshoreError(kind, 'as the test wants it');
      },
      () => Promise.reject(new FarshoreError(kind, 'as the test wants it')),
    ]) {
      world.device.intercept = fail;
      const result = await initiator.run({ cdb: read10(0, 1), read: true, expectedBytes: 512 });
      expect(result.status).toBe(status);
      if (sense !== undefined) expect(senseOf(result.last)).toEqual(sense);
      const write = await initiator.run({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA });
      expect(write.status).toBe(status);
    }
  });
});
