import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { senseOf, cdb, write10 } from '../../support/iscsi-wire.ts';
import { IscsiWorld, gate } from '../../support/iscsi-world.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';

let world: IscsiWorld;
beforeEach(async () => {
  world = await IscsiWorld.start();
});
afterEach(async () => {
  await world.stop();
  expect(world.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

describe('a command that takes data', () => {
  const unmap = Buffer.concat([Buffer.from([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]), Buffer.alloc(6)]);

  test.each([
    ['WRITE', write10(0, 1), 512],
    ['UNMAP', unmap, 24],
    ['WRITE SAME', Buffer.concat([Buffer.from([0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Buffer.alloc(6)]), 512],
    ['MODE SELECT', Buffer.concat([Buffer.from([0x15, 0x10, 0, 0, 16, 0]), Buffer.alloc(10)]), 16],
  ])('%s without the W bit is refused, and changes nothing', async (_name, block, bytes) => {
    world.device.bytes.fill(9);
    const initiator = await world.ready();
    for (const fields of [{ expectedBytes: 0 }, { expectedBytes: bytes }, { expectedBytes: bytes, read: true }]) {
      const { status, last } = await initiator.run({ cdb: block, ...fields });
      expect([status, senseOf(last)]).toEqual([2, { key: 5, asc: 0x0e, ascq: 3 }]);
      // Nothing was moved: all that was announced is left over.
      expect(last.word44).toBe(fields.expectedBytes);
    }
    expect(world.device.bytes.every((byte) => byte === 9)).toBe(true);
  });

  test('UNMAP with less of its list than the CDB says is refused as a whole', async () => {
    world.device.bytes.fill(9);
    const initiator = await world.ready();
    const list = Buffer.from('001600100000000000000000000000000000000800000000', 'hex');
    const short = await initiator.run({ cdb: unmap, write: true, expectedBytes: 23, data: list.subarray(0, 23) });
    expect([short.status, senseOf(short.last)]).toEqual([2, { key: 5, asc: 0x1a, ascq: 0 }]);
    expect(world.device.bytes.every((byte) => byte === 9)).toBe(true);
    const whole = await initiator.run({ cdb: unmap, write: true, expectedBytes: 24, data: list });
    expect(whole.status).toBe(0);
    expect(world.device.bytes.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
  });
});

describe('COMPARE AND WRITE of several sessions', () => {
  const compareAndWrite = Buffer.concat([Buffer.from([0x89]), Buffer.alloc(12), Buffer.from([1, 0, 0])]);
  const take = (initiator: RawInitiator, from: number, to: number): Promise<{ status: number }> =>
    initiator.run({
      cdb: compareAndWrite,
      write: true,
      expectedBytes: 1024,
      data: Buffer.concat([Buffer.alloc(512, from), Buffer.alloc(512, to)]),
    });

  test('one of them gets the lock', async () => {
    const initiators = await Promise.all(
      [1, 2, 3, 4].map((index) => world.ready({ isid: `00023d00000${index}`, initiator: `iqn.2026-11.test:${index}` })),
    );
    world.device.intercept = () => new Promise((resolve) => setImmediate(resolve));
    const outcomes = await Promise.all(initiators.map((initiator, index) => take(initiator, 0, index + 1)));
    const winners = outcomes.flatMap(({ status }, index) => (status === 0 ? [index + 1] : []));
    expect(winners).toHaveLength(1);
    expect(world.device.bytes[0]).toBe(winners[0]);
    expect(outcomes.filter(({ status }) => status === 2)).toHaveLength(3);
  });

  test('one that is lost with its session while it is in the device lets the others have their turn', async () => {
    const first = await world.ready();
    const second = await world.ready({ isid: '00023d000009', initiator: 'iqn.2026-11.test:second' });
    const inside = gate();
    const held = gate();
    world.device.intercept = (operation) => {
      if (operation !== 'read') return undefined;
      inside.open();
      return held.opened;
    };
    first.command({
      cdb: compareAndWrite,
      write: true,
      expectedBytes: 1024,
      data: Buffer.concat([Buffer.alloc(512), Buffer.alloc(512, 1)]),
    });
    await inside.opened;
    const late = take(second, 1, 2);
    first.destroy();
    held.open();
    expect((await late).status).toBe(0);
    expect(world.device.bytes[0]).toBe(2);
  });
});

test('sense data follows D_SENSE on the wire', async () => {
  const initiator = await world.ready();
  const page = Buffer.from('000000000a0a04100000000000000000', 'hex');
  const select = Buffer.concat([Buffer.from([0x15, 0x10, 0, 0, 16, 0]), Buffer.alloc(10)]);
  expect((await initiator.run({ cdb: select, write: true, expectedBytes: 16, data: page })).status).toBe(0);
  const { last } = await initiator.run({ cdb: cdb(0xff), expectedBytes: 0 });
  expect(last.data.subarray(2, 5)).toEqual(Buffer.from([0x72, 0x05, 0x20]));
});
