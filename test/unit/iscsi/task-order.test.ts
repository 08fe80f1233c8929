import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MIB } from '../../../gateway/base/units.ts';
import {
  KIND,
  buildCommand,
  buildDataOut,
  buildTaskManagement,
  cdb,
  read10,
  senseOf,
  write10,
} from '../../support/iscsi-wire.ts';
import { IscsiWorld, gate } from '../../support/iscsi-world.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';

const SIMPLE = 1;
const ORDERED = 2;
const HEAD_OF_QUEUE = 3;
const ACA = 4;

let world: IscsiWorld;
/** LBAs as the device is asked to write them; each call waits until it is let go. */
let begun: number[];
let letGo: Map<number, () => void>;
let changed: () => void;

/** The device records every write and keeps it until `finish`. */
async function start(settings: Parameters<typeof IscsiWorld.start>[0] = {}): Promise<void> {
  world = await IscsiWorld.start(settings);
  begun = [];
  letGo = new Map();
  changed = () => undefined;
  world.device.gathersWrites = false;
  const write = world.device.write.bind(world.device);
  world.device.write = async (lba, data, options) => {
    const { opened, open } = gate();
    begun.push(lba);
    letGo.set(lba, open);
    changed();
    await opened;
    await write(lba, data, options);
  };
}
beforeEach(() => start());
afterEach(async () => {
  for (const open of letGo.values()) open();
  await world.stop();
  expect(world.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

function send(initiator: RawInitiator, lba: number, attribute: number, bytes = 512): number {
  const itt = initiator.nextItt++;
  const pdu = buildCommand({
    cdb: write10(lba, bytes / 512),
    itt,
    cmdSn: initiator.cmdSn++,
    write: true,
    expectedBytes: bytes,
    data: Buffer.alloc(Math.min(bytes, 512), lba + 1),
  });
  pdu.writeUInt8((pdu.readUInt8(1) & ~7) | attribute, 1);
  initiator.send(pdu);
  return itt;
}

/** A command to another unit's worth of target, answered at once: what was sent before it has been looked at. */
async function looked(initiator: RawInitiator): Promise<void> {
  initiator.send(buildTaskManagement({ function: 99, itt: 1, cmdSn: initiator.cmdSn }));
  await initiator.expect(KIND.taskManagement);
}

async function finish(initiator: RawInitiator, lba: number): Promise<void> {
  while (!letGo.has(lba))
    await new Promise<void>((resolve) => {
      changed = resolve;
    });
  letGo.get(lba)?.();
  expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(0);
}

describe('in one session', () => {
  test('SIMPLE commands are in the device side by side', async () => {
    const initiator = await world.ready();
    for (let lba = 0; lba < 4; lba += 1) send(initiator, lba, lba === 2 ? 0 : SIMPLE);
    await looked(initiator);
    expect(begun).toEqual([0, 1, 2, 3]);
    for (const lba of [3, 1, 0, 2]) await finish(initiator, lba);
  });

  test('an ORDERED command waits for all older ones, and the later ones for it', async () => {
    const initiator = await world.ready();
    for (const [lba, attribute] of [SIMPLE, SIMPLE, ORDERED, SIMPLE, SIMPLE, ORDERED, SIMPLE].entries())
      send(initiator, lba, attribute);
    await looked(initiator);
    expect(begun).toEqual([0, 1]);
    await finish(initiator, 1);
    expect(begun).toEqual([0, 1]);
    await finish(initiator, 0);
    expect(begun).toEqual([0, 1, 2]);
    await finish(initiator, 2);
    expect(begun).toEqual([0, 1, 2, 3, 4]);
    await finish(initiator, 4);
    await finish(initiator, 3);
    await finish(initiator, 5);
    await finish(initiator, 6);
    expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test('it waits for an older one whose data has not come', async () => {
    const initiator = await world.ready({ keys: { InitialR2T: 'Yes', ImmediateData: 'Yes' } });
    const itt = send(initiator, 0, SIMPLE, 1024);
    const r2t = await initiator.expect(KIND.r2t);
    send(initiator, 8, ORDERED);
    await looked(initiator);
    expect(begun).toEqual([]);
    initiator.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 512, data: Buffer.alloc(512, 1) }));
    await finish(initiator, 0);
    await finish(initiator, 8);
  });

  test('a HEAD OF QUEUE command overtakes what is held, and holds back all but itself', async () => {
    const initiator = await world.ready();
    for (const [lba, attribute] of [SIMPLE, ORDERED, SIMPLE, HEAD_OF_QUEUE, HEAD_OF_QUEUE, SIMPLE].entries())
      send(initiator, lba, attribute);
    await looked(initiator);
    expect(begun).toEqual([0, 3, 4]);
    await finish(initiator, 0);
    await finish(initiator, 3);
    expect(begun).toEqual([0, 3, 4]);
    await finish(initiator, 4);
    expect(begun).toEqual([0, 3, 4, 1]);
    await finish(initiator, 1);
    await finish(initiator, 2);
    await finish(initiator, 5);
    send(initiator, 6, SIMPLE);
    await finish(initiator, 6);
  });

  test('an aborted ORDERED command lets the later ones go once it can do nothing any more', async () => {
    const initiator = await world.ready();
    send(initiator, 0, SIMPLE);
    const refCmdSn = initiator.cmdSn;
    const rtt = send(initiator, 1, ORDERED);
    send(initiator, 2, SIMPLE);
    initiator.send(buildTaskManagement({ function: 1, itt: 7, cmdSn: initiator.cmdSn, rtt, refCmdSn }));
    expect((await initiator.expect(KIND.taskManagement)).byte2).toBe(0);
    expect(begun).toEqual([0, 2]);
    await finish(initiator, 2);
    await finish(initiator, 0);
  });

  test('one that is aborted in the device holds back the later ones until it has left', async () => {
    const initiator = await world.ready();
    const refCmdSn = initiator.cmdSn;
    const rtt = send(initiator, 1, ORDERED);
    send(initiator, 2, SIMPLE);
    initiator.send(buildTaskManagement({ function: 1, itt: 7, cmdSn: initiator.cmdSn, rtt, refCmdSn }));
    await looked(initiator);
    expect(begun).toEqual([1]);
    letGo.get(1)?.();
    expect((await initiator.expect(KIND.taskManagement)).byte2).toBe(0);
    await finish(initiator, 2);
  });

  test('ORDERED commands that are answered at once leave no trace', async () => {
    const initiator = await world.ready();
    for (let count = 0; count < 5; count += 1) {
      const itt = initiator.nextItt++;
      const pdu = buildCommand({ cdb: read10(0, 1), itt, cmdSn: initiator.cmdSn++, read: true, expectedBytes: 512 });
      pdu.writeUInt8((pdu.readUInt8(1) & ~7) | (count % 2 === 0 ? ORDERED : HEAD_OF_QUEUE), 1);
      initiator.send(pdu);
      expect((await initiator.expect(KIND.dataIn)).itt).toBe(itt);
    }
    send(initiator, 0, SIMPLE);
    await finish(initiator, 0);
  });

  test('an ACA command is refused', async () => {
    const initiator = await world.ready();
    send(initiator, 0, ACA);
    const response = await initiator.expect(KIND.scsiResponse);
    expect(response.byte3).toBe(2);
    expect(senseOf(response)).toEqual({ key: 5, asc: 0x49, ascq: 0 });
    expect(begun).toEqual([]);
  });
});

describe('over sessions', () => {
  test('the task set is that of the unit: ORDERED waits for the commands of others, and theirs for it', async () => {
    const one = await world.ready();
    const two = await world.ready({ isid: '00023d000002' });
    send(one, 0, SIMPLE);
    await looked(one);
    send(two, 1, ORDERED);
    await looked(two);
    send(one, 2, SIMPLE);
    await looked(one);
    expect(begun).toEqual([0]);
    await finish(one, 0);
    await finish(two, 1);
    await finish(one, 2);
  });

  test('a session that breaks off lets the others go', async () => {
    const one = await world.ready({ keys: { ImmediateData: 'Yes', InitialR2T: 'Yes' } });
    const two = await world.ready({ isid: '00023d000002' });
    send(one, 0, ORDERED, 1024);
    await one.expect(KIND.r2t);
    send(two, 1, SIMPLE);
    await looked(two);
    expect(begun).toEqual([]);
    one.destroy();
    await finish(two, 1);
  });

  test('a write of a session that is gone, still in the device, holds back an ORDERED command that comes later', async () => {
    const one = await world.ready();
    const two = await world.ready({ isid: '00023d000002' });
    send(one, 0, SIMPLE);
    await looked(one);
    one.destroy();
    while (world.server.usage().connections > 1) await two.run({ cdb: cdb(0) });
    send(two, 1, ORDERED);
    await looked(two);
    expect(begun).toEqual([0]);
    letGo.get(0)?.();
    await finish(two, 1);
  });
});

describe('held writes that fill the memory do not keep the command they wait for from its data', () => {
  const SMALL = { settings: { writeBytesInFlight: 5120, sessionWriteBytes: MIB } };

  test('when the last that was not held ends', async () => {
    await world.stop();
    await start(SMALL);
    const one = await world.ready({ keys: { InitialR2T: 'Yes' } });
    const two = await world.ready({ isid: '00023d000002', keys: { InitialR2T: 'Yes' } });
    send(two, 100, SIMPLE, 1024);
    const other = await two.expect(KIND.r2t);
    // There is no room for the rest of its data while the other write is under way, nor when both are held.
    const itt = send(one, 0, ORDERED, 8192);
    send(one, 20, SIMPLE);
    await looked(one);
    two.send(buildDataOut({ itt: other.itt, ttt: other.word20, dataSn: 0, offset: 512, data: Buffer.alloc(512) }));
    await finish(two, 100);
    const r2t = await one.expect(KIND.r2t);
    one.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 512, data: Buffer.alloc(7680) }));
    for (const lba of [0, 20]) await finish(one, lba);
  });

  test('when the last that is not held gets all its data, and is held too', async () => {
    await world.stop();
    await start(SMALL);
    const one = await world.ready({ keys: { InitialR2T: 'Yes' } });
    const two = await world.ready({ isid: '00023d000002' });
    const three = await world.ready({ isid: '00023d000003', keys: { InitialR2T: 'No' } });
    send(two, 100, SIMPLE);
    await looked(two);
    const itt = send(one, 0, ORDERED, 8192);
    await looked(one);
    const late = three.nextItt++;
    three.send(
      buildCommand({
        cdb: write10(20, 2),
        itt: late,
        cmdSn: three.cmdSn++,
        write: true,
        final: false,
        expectedBytes: 1024,
        data: Buffer.alloc(512),
      }),
    );
    await looked(three);
    await finish(two, 100);
    three.send(buildDataOut({ itt: late, dataSn: 0, offset: 512, data: Buffer.alloc(512) }));
    const r2t = await one.expect(KIND.r2t);
    one.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: 0, offset: 512, data: Buffer.alloc(7680) }));
    await finish(one, 0);
    await finish(three, 20);
  });
});
