import { afterEach, beforeEach, expect, test } from 'vitest';
import { cdb, write10 } from '../../support/iscsi-wire.ts';
import { IscsiWorld, TARGET, gate } from '../../support/iscsi-world.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';

/** A persistent reservation belongs to the initiator port, which is its name and ISID, and outlives its sessions (SPC-4 5.13). */

const HOLDER = { initiator: 'iqn.2026-11.a:holder', isid: '00023d000001' };
const OTHER = { initiator: 'iqn.2026-11.a:other', isid: '00023d000001' };
const KEY = 0x1122_3344;
const CONFLICT = 0x18;

let world: IscsiWorld;
beforeEach(async () => {
  world = await IscsiWorld.start();
});
afterEach(() => world.stop());

/** PERSISTENT RESERVE OUT: REGISTER (0) or RESERVE (1) of type WRITE EXCLUSIVE. */
async function reserveOut(initiator: RawInitiator, action: 0 | 1): Promise<number> {
  const block = cdb(0x5f, action, action === 1 ? 0x01 : 0);
  block.writeUInt32BE(24, 5);
  const data = Buffer.alloc(24);
  data.writeUInt32BE(action === 1 ? KEY : 0, 4);
  data.writeUInt32BE(action === 0 ? KEY : 0, 12);
  return (await initiator.run({ cdb: block, write: true, expectedBytes: 24, data })).status;
}

async function reserved(): Promise<RawInitiator> {
  const holder = await world.ready(HOLDER);
  expect(await reserveOut(holder, 0)).toBe(0);
  expect(await reserveOut(holder, 1)).toBe(0);
  return holder;
}

async function write(initiator: RawInitiator): Promise<number> {
  const data = Buffer.alloc(512, 1);
  return (await initiator.run({ cdb: write10(0, 1), write: true, expectedBytes: 512, data })).status;
}

test('a port that logs in again over its own session still has its reservation, and others have none', async () => {
  const holder = await reserved();
  const other = await world.ready(OTHER);
  expect(await write(other)).toBe(CONFLICT);
  const again = await world.ready(HOLDER);
  await holder.closed();
  expect(await write(again)).toBe(0);
  expect(await write(other)).toBe(CONFLICT);
});

test('a port whose connection was lost still has it', async () => {
  const holder = await reserved();
  holder.destroy();
  const other = await world.ready(OTHER);
  expect(await write(other)).toBe(CONFLICT);
  expect(await write(await world.ready(HOLDER))).toBe(0);
});

test('the same name with another ISID is another port', async () => {
  await reserved();
  expect(await write(await world.ready({ ...HOLDER, isid: '00023d000002' }))).toBe(CONFLICT);
});

test('the same ISID with another name is another port, and replaces no session', async () => {
  const holder = await reserved();
  expect(await write(await world.ready(OTHER))).toBe(CONFLICT);
  expect(await write(holder)).toBe(0);
});

test('a write of the replaced session has left the device before the new session is told that it is in', async () => {
  const holder = await reserved();
  const [held, inside] = [gate(), gate()];
  world.device.intercept = (operation) => {
    if (operation !== 'write') return undefined;
    inside.open();
    return held.opened;
  };
  holder.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: Buffer.alloc(512, 7) });
  await inside.opened;
  const again = await world.connect();
  let isIn = false;
  const login = again.login({ target: TARGET, ...HOLDER }).then((answer) => {
    isIn = true;
    return answer;
  });
  await holder.closed();
  const other = await world.ready(OTHER); // the rest of the world goes on
  expect(await write(other)).toBe(CONFLICT);
  expect(isIn).toBe(false);
  held.open();
  expect((await login).word36).toBe(0);
  expect(world.device.bytes[0]).toBe(7);
});
