import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { KIND, buildDataOut, buildTaskManagement, cdb, senseOf, write10 } from '../../support/iscsi-wire.ts';
import { holdWrites } from '../../support/held-writes.ts';
import { IscsiWorld, TARGET, gate } from '../../support/iscsi-world.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';

const DATA = Buffer.alloc(512, 0xdd);
const CONFLICT = 0x18;
const EXCLUSIVE_ACCESS = 3;

const REGISTER = 0;
const RESERVE = 1;
const CLEAR = 3;
const PREEMPT_AND_ABORT = 5;

let world: IscsiWorld;
beforeEach(async () => {
  world = await IscsiWorld.start();
});
afterEach(async () => {
  await world.stop();
  expect(world.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

/** PERSISTENT RESERVE OUT with its parameter list. */
function reserveOut(
  action: number,
  key: bigint,
  newKey = 0n,
  persists = false,
): Parameters<RawInitiator['command']>[0] {
  const block = Buffer.alloc(16);
  block.set([0x5f, action, EXCLUSIVE_ACCESS]);
  block.writeUInt32BE(24, 5);
  const data = Buffer.alloc(24);
  data.writeBigUInt64BE(key, 0);
  data.writeBigUInt64BE(newKey, 8);
  data[20] = persists ? 0x01 : 0x00;
  return { cdb: block, write: true, expectedBytes: 24, data };
}

const write = { cdb: write10(0, 1), write: true, expectedBytes: 512, data: DATA };
const isWritten = (): boolean => world.device.bytes[0] === 0xdd;

/** Two initiators with the keys 1 and 2, the first of which has the unit to itself. */
async function rivals(): Promise<{ victim: RawInitiator; rival: RawInitiator }> {
  const victim = await world.ready({ initiator: 'iqn.2026-11.example:victim' });
  const rival = await world.ready({ initiator: 'iqn.2026-11.example:rival', isid: '00023d000002' });
  expect((await victim.run(reserveOut(REGISTER, 0n, 1n))).status).toBe(0);
  expect((await rival.run(reserveOut(REGISTER, 0n, 2n))).status).toBe(0);
  expect((await victim.run(reserveOut(RESERVE, 1n))).status).toBe(0);
  return { victim, rival };
}

/** Some turns of the target pass. */
async function someTime(): Promise<void> {
  const witness = await world.ready({ initiator: 'iqn.2026-11.example:witness', isid: '00023d0000ee' });
  for (let turn = 0; turn < 5; turn += 1) await witness.clear();
}

/** The rival preempts the victim, which is answered when the victim's write has been let go and not before. */
async function preemptsOnlyAfter(release: () => void, rival: RawInitiator): Promise<void> {
  let answered = false;
  const preempt = rival.run(reserveOut(PREEMPT_AND_ABORT, 2n, 1n)).then(({ status }) => {
    answered = true;
    return status;
  });
  await someTime();
  expect(answered).toBe(false);
  release();
  expect(await preempt).toBe(0);
}

describe('PREEMPT AND ABORT', () => {
  test('is answered when the write that it aborted has left the device, and that write is never answered', async () => {
    const { victim, rival } = await rivals();
    const { entered, release } = holdWrites(world.device);
    const aborted = victim.command(write);
    await entered;
    await preemptsOnlyAfter(release, rival);
    const { last, status } = await victim.run({ cdb: cdb(0) });
    expect(last.itt).not.toBe(aborted);
    expect([status, senseOf(last)]).toEqual([2, { key: 6, asc: 0x2a, ascq: 5 }]);
    expect((await victim.run(write)).status).toBe(CONFLICT);
  });

  test('a write that still waited for its data never lands', async () => {
    const { victim, rival } = await rivals();
    const itt = victim.command({ cdb: write10(0, 2), write: true, expectedBytes: 1024, data: DATA });
    const r2t = await victim.expect(KIND.r2t);
    expect((await rival.run(reserveOut(PREEMPT_AND_ABORT, 2n, 1n))).status).toBe(0);
    victim.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 512, data: DATA }));
    await victim.clear();
    expect(isWritten()).toBe(false);
  });

  test('waits for the write of a session that was lost before, too', async () => {
    const { victim, rival } = await rivals();
    const { entered, release } = holdWrites(world.device);
    victim.command(write);
    await entered;
    victim.destroy();
    while (world.server.sessions().length > 1) await rival.clear();
    await preemptsOnlyAfter(release, rival);
    expect(isWritten()).toBe(true); // before the answer, and none after it
  });

  test('two that preempt each other do not wait for each other', async () => {
    const { victim, rival } = await rivals();
    const { entered, release } = holdWrites(world.device);
    victim.command(write);
    await entered;
    rival.command(reserveOut(PREEMPT_AND_ABORT, 2n, 1n));
    await someTime();
    // The victim registers again and strikes back while the first one waits for its write.
    await victim.clear();
    expect((await victim.run(reserveOut(REGISTER, 0n, 3n))).status).toBe(0);
    const back = victim.run(reserveOut(PREEMPT_AND_ABORT, 3n, 2n));
    await someTime();
    release();
    expect((await back).status).toBe(0);
    // The rival's own command was aborted by it, and is never answered: what comes next is of the next one.
    await rival.clear();
    expect(isWritten()).toBe(true);
  });

  test('CLEAR and the others leave commands that run alone', async () => {
    const { victim, rival } = await rivals();
    const { entered, release } = holdWrites(world.device);
    const itt = victim.command(write);
    await entered;
    expect((await rival.run(reserveOut(CLEAR, 2n))).status).toBe(0);
    release();
    const response = await victim.expect(KIND.scsiResponse);
    expect([response.itt, response.byte3]).toEqual([itt, 0]);
  });
});

test('a reservation outlives the session that made it, and goes to the next one of the same port', async () => {
  const { victim, rival } = await rivals();
  victim.destroy();
  while (world.server.sessions().length > 1) await rival.clear();
  expect((await rival.run(write)).status).toBe(CONFLICT);
  const again = await world.ready({ initiator: 'iqn.2026-11.example:victim' });
  expect((await again.run(write)).status).toBe(0);
});

test('a session of the same port as a lost one is told of the loss, and not of a power on', async () => {
  const { victim, rival } = await rivals();
  victim.destroy();
  while (world.server.sessions().length > 1) await rival.clear();
  const again = await world.connect();
  await again.login({ initiator: 'iqn.2026-11.example:victim', target: TARGET });
  expect(senseOf((await again.run({ cdb: cdb(0) })).last)).toEqual({ key: 6, asc: 0x29, ascq: 7 });
});

describe('task management while a registration is being made durable', () => {
  /** Saves wait until the gate is opened. */
  function holdSaves(): { entered: Promise<void>; release: () => void } {
    const inside = gate();
    const held = gate();
    const save = (): Promise<void> => {
      inside.open();
      return held.opened;
    };
    const unit = { device: world.device, readOnly: false, state: { load: () => undefined, save } };
    const luns = new Map([[0, unit]]);
    world.targets.set(TARGET, { name: TARGET, luns: () => luns });
    return { entered: inside.opened, release: held.open };
  }

  /** How many keys READ KEYS tells. */
  async function keyCount(initiator: RawInitiator): Promise<number> {
    const { data } = await initiator.run({ cdb: cdb(0x5e, 0, 0, 0, 0, 0, 0, 0, 255), read: true, expectedBytes: 255 });
    return data.readUInt32BE(4) / 8;
  }

  test('LOGICAL UNIT RESET is answered when it is over: nothing takes effect after the answer', async () => {
    const { entered, release } = holdSaves();
    const initiator = await world.ready();
    const other = await world.ready({ isid: '00023d000002' });
    initiator.command(reserveOut(REGISTER, 0n, 1n, true));
    await entered;
    let answered = false;
    other.send(buildTaskManagement({ itt: 7, cmdSn: other.cmdSn, function: 5 }));
    const reset = other.expect(KIND.taskManagement).then(({ byte2 }) => {
      answered = true;
      return byte2;
    });
    await someTime();
    expect(answered).toBe(false);
    release();
    expect(await reset).toBe(0);
    await other.clear();
    expect(await keyCount(other)).toBe(1); // durable before the reset could do anything about it
  });

  test('a command that is aborted while it waits for its turn never takes effect', async () => {
    const { entered, release } = holdSaves();
    const initiator = await world.ready();
    const other = await world.ready({ isid: '00023d000002' });
    const first = initiator.command(reserveOut(REGISTER, 0n, 1n, true));
    await entered;
    const refCmdSn = other.cmdSn;
    const rtt = other.command(reserveOut(REGISTER, 0n, 2n, true));
    other.send(buildTaskManagement({ itt: 7, cmdSn: other.cmdSn, function: 1, rtt, refCmdSn }));
    await someTime();
    release();
    expect((await initiator.expect(KIND.scsiResponse)).itt).toBe(first);
    expect((await other.expect(KIND.taskManagement)).byte2).toBe(0);
    expect(await keyCount(other)).toBe(1);
  });
});
