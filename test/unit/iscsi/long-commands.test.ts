import { afterEach, beforeEach, expect, test } from 'vitest';
import { MIB } from '../../../gateway/base/units.ts';
import { KIND, buildTaskManagement, read10 } from '../../support/iscsi-wire.ts';
import { IscsiWorld, gate } from '../../support/iscsi-world.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';
import { RamDevice } from '../../support/ram-device.ts';

const LUN_RESET = 5;
const SESSION_BYTES = 8 * MIB;
const PIECES = 16;

let world: IscsiWorld;
let device: RamDevice;
let held: ReturnType<typeof gate>;
let writes = 0;
beforeEach(async () => {
  device = new RamDevice({ bytes: PIECES * MIB });
  world = await IscsiWorld.start({ luns: new Map([[0, device]]), settings: { sessionReadBytes: SESSION_BYTES } });
  writes = 0;
  held = gate();
  device.intercept = (operation) => {
    if (operation !== 'write') return undefined;
    writes += 1;
    return held.opened;
  };
});
afterEach(async () => {
  held.open();
  await world.stop();
  expect(world.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

/** A WRITE SAME of the whole device, in as many pieces. */
function writeSame(initiator: RawInitiator): void {
  const cdb = Buffer.alloc(16);
  cdb[0] = 0x93;
  cdb.writeUInt32BE((PIECES * MIB) / 512, 10);
  initiator.command({ cdb, write: true, expectedBytes: 512, data: Buffer.alloc(512, 7) });
}

/** As many of them as a session may have, all of them arrived. */
async function flood(initiator: RawInitiator): Promise<number> {
  const count = 64;
  for (let index = 0; index < count; index += 1) writeSame(initiator);
  const witness = await world.ready({ isid: '00023d0000ee' });
  while ((world.server.sessions()[0]?.outstandingTasks ?? 0) < count) await witness.clear();
  for (let turn = 0; turn < 5; turn += 1) await witness.clear();
  return count;
}

test('however many a session sends, they have no more than half of its room in the device, and reads pass them', async () => {
  const initiator = await world.ready();
  const count = await flood(initiator);
  expect(world.server.usage().readBytes).toBe(SESSION_BYTES / 2);
  expect(writes).toBe(SESSION_BYTES / 2 / MIB);
  const itt = initiator.command({ cdb: read10(0, 8), read: true, expectedBytes: 4096 });
  const first = await initiator.expect(KIND.dataIn);
  expect(first.itt).toBe(itt);
  held.open();
  for (let answered = 0; answered < count; answered += 1) {
    expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(0);
  }
  expect(writes).toBe(count * PIECES);
  expect(device.bytes.equals(Buffer.alloc(PIECES * MIB, 7))).toBe(true);
});

test('a LUN RESET waits for the piece of each that is in the device, and no more is written', async () => {
  const initiator = await world.ready();
  await flood(initiator);
  const inside = writes;
  const other = await world.ready({ isid: '00023d0000ff', initiator: 'iqn.2026-11.test:other' });
  other.send(buildTaskManagement({ function: LUN_RESET, itt: 77, cmdSn: other.cmdSn }));
  while ((world.server.sessions()[0]?.outstandingTasks ?? 0) > 0) await other.run({ cdb: Buffer.alloc(6) });
  held.open();
  const answer = await other.expect(KIND.taskManagement);
  expect([answer.itt, answer.byte2, writes]).toEqual([77, 0, inside]);
});
