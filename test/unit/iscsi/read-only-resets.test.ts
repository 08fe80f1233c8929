import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MIB } from '../../../gateway/base/units.ts';
import { KIND, buildDataOut, buildTaskManagement, cdb, read10, senseOf, write10 } from '../../support/iscsi-wire.ts';
import { IscsiWorld, TARGET, gate } from '../../support/iscsi-world.ts';
import { RamDevice } from '../../support/ram-device.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';

/**
 * An initiator that may only read a LUN: its error handler resets LUNs and targets like that of any host, and must not end what those do
 * that may write.
 */

const WRITER = 'iqn.2026-11.example:writer';
const READER = 'iqn.2026-11.example:reader';
const DATA = Buffer.alloc(512, 0xdd);
const RESERVE = cdb(0x16);
const CONFLICT = 0x18;
const RESET = { key: 6, asc: 0x29, ascq: 3 };
const [CLEAR_TASK_SET, LUN_RESET, WARM_RESET, COLD_RESET] = [4, 5, 6, 7];

let world: IscsiWorld;
let second: RamDevice;
beforeEach(async () => {
  second = new RamDevice({ bytes: 8 * MIB, name: 'second' });
  world = await IscsiWorld.start();
  world.luns.set(1, second);
  world.readOnly = (_, { name }) => name === READER;
});
afterEach(async () => {
  await world.stop();
});

async function ready(name: string, isid: string, luns = [0, 1]): Promise<RawInitiator> {
  const raw = await world.connect();
  await raw.login({ target: TARGET, initiator: name, isid, keys: { ImmediateData: 'No' } });
  for (const lun of luns) await raw.clear(lun);
  return raw;
}

async function manage(raw: RawInitiator, code: number, lun = 0): Promise<number> {
  raw.send(buildTaskManagement({ itt: raw.nextItt++, cmdSn: raw.cmdSn, function: code, lun }));
  return (await raw.expect(KIND.taskManagement)).byte2;
}

/** A write that waits for its data. */
async function writing(raw: RawInitiator, lun = 0): Promise<() => ReturnType<RawInitiator['expect']>> {
  const itt = raw.command({ cdb: write10(0, 1), lun, write: true, expectedBytes: 512 });
  const r2t = await raw.expect(KIND.r2t);
  return () => {
    raw.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 0, data: DATA }));
    return raw.expect(KIND.scsiResponse);
  };
}

async function tested(raw: RawInitiator, lun = 0): Promise<unknown> {
  const { status, last } = await raw.run({ cdb: cdb(0), lun });
  return status === 2 ? senseOf(last) : status;
}

describe('of an initiator that may only read', () => {
  test.each([
    ['CLEAR TASK SET', CLEAR_TASK_SET],
    ['LOGICAL UNIT RESET', LUN_RESET],
    ['TARGET WARM RESET', WARM_RESET],
    ['TARGET COLD RESET', COLD_RESET],
  ])(
    '%s is complete, and ends neither the commands nor the reservation nor the session of a writer',
    async (_, code) => {
      const writer = await ready(WRITER, '00023d000001');
      const reader = await ready(READER, '00023d000002');
      const other = await ready('iqn.2026-11.example:other', '00023d000003');
      expect((await writer.run({ cdb: RESERVE })).status).toBe(0);
      const finish = await writing(writer);
      expect(await manage(reader, code)).toBe(0);
      expect((await finish()).byte3).toBe(0);
      expect(await tested(writer)).toBe(0);
      expect(await tested(other)).toBe(CONFLICT);
      expect(world.device.bytes[0]).toBe(0xdd);
    },
  );

  test.each([
    ['LOGICAL UNIT RESET', LUN_RESET],
    ['TARGET WARM RESET', WARM_RESET],
  ])('%s ends its own commands, and it is told that they are gone', async (_, code) => {
    world.readOnly = (lun) => lun === 0;
    const reader = await ready(READER, '00023d000002');
    const elsewhere = await writing(reader, 1);
    const held = gate();
    world.device.intercept = (operation) => (operation === 'read' ? held.opened : undefined);
    reader.command({ cdb: read10(0, 1), read: true, expectedBytes: 512 });
    expect(await manage(reader, code)).toBe(0);
    held.open();
    expect(await tested(reader)).toEqual(RESET); // and no answer to the read
    if (code === LUN_RESET) expect((await elsewhere()).byte3).toBe(0);
    else expect(await tested(reader, 1)).toEqual(RESET);
  });
});

test('a target reset reaches the LUNs alone that its initiator may write', async () => {
  world.readOnly = (lun, { name }) => name === READER && lun === 0;
  const writer = await ready(WRITER, '00023d000001');
  const reader = await ready(READER, '00023d000002');
  const [kept, gone] = [await writing(writer, 0), await writing(writer, 1)];
  expect(await manage(reader, WARM_RESET)).toBe(0);
  expect((await kept()).byte3).toBe(0);
  void gone();
  expect(await tested(writer, 0)).toBe(0);
  expect(await tested(writer, 1)).toEqual(RESET);
  expect([world.device.bytes[0], second.bytes[0]]).toEqual([0xdd, 0]);
});

describe('TARGET COLD RESET', () => {
  test('ends no session of an initiator that shares no LUN with the one that asks', async () => {
    world.readOnly = () => false;
    world.masked = (lun, { name }) => (name === READER ? lun === 0 : lun === 1);
    const writer = await ready(WRITER, '00023d000001', [0]);
    const asking = await ready(READER, '00023d000002', [1]);
    const finish = await writing(writer);
    expect(await manage(asking, COLD_RESET)).toBe(0);
    await asking.closed();
    expect((await finish()).byte3).toBe(0);
    expect(world.server.sessions().map(({ initiatorName }) => initiatorName)).toEqual([WRITER]);
  });

  test('ends that of a reader who shares a LUN that the one that asks may write', async () => {
    const writer = await ready(WRITER, '00023d000001');
    const reader = await ready(READER, '00023d000002');
    expect(await manage(writer, COLD_RESET)).toBe(0);
    await Promise.all([writer.closed(), reader.closed()]);
  });
});
