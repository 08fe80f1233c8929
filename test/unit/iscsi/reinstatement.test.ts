import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { KIND, buildDataOut, cdb, write10 } from '../../support/iscsi-wire.ts';
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

describe('a login with the TSIH of a session and the CID of its connection', () => {
  function tsihOf(initiator: string): number {
    return world.server.sessions().find(({ initiatorName }) => initiatorName === initiator)?.tsih ?? 0;
  }

  test('takes the place of that connection: the session goes on, at its next command', async () => {
    const holder = await world.ready({ ...HOLDER, cid: 3, keys: { InitialR2T: 'No' } });
    const tsih = tsihOf(HOLDER.initiator);
    const next = holder.cmdSn;
    const again = await world.connect();
    again.cmdSn = next;
    const answer = await again.login({ target: TARGET, ...HOLDER, cid: 3, tsih });
    await holder.closed();
    expect([answer.word36 >>> 16, answer.tsih]).toEqual([0, tsih]);
    expect(world.server.sessions()).toMatchObject([{ tsih, initiatorName: HOLDER.initiator }]);
    again.cmdSn = next;
    await again.clear();
    // InitialR2T=No still holds: data comes unasked.
    const data = Buffer.alloc(512, 9);
    const itt = again.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, final: false });
    again.send(buildDataOut({ itt, dataSn: 0, offset: 0, data, final: true }));
    expect((await again.expect(KIND.scsiResponse)).byte3).toBe(0);
  });

  test('goes on when what the session had in a device has left it, and is told nothing of its commands', async () => {
    const holder = await world.ready(HOLDER);
    const tsih = tsihOf(HOLDER.initiator);
    const [held, inside] = [gate(), gate()];
    world.device.intercept = (operation) => {
      if (operation !== 'write') return undefined;
      inside.open();
      return held.opened;
    };
    holder.command({ cdb: write10(0, 1), write: true, expectedBytes: 512, data: Buffer.alloc(512, 7) });
    await inside.opened;
    const again = await world.connect();
    const login = again.login({ target: TARGET, ...HOLDER, tsih });
    await holder.closed();
    held.open();
    expect((await login).tsih).toBe(tsih);
    expect(world.device.bytes[0]).toBe(7);
    again.cmdSn = holder.cmdSn;
    await again.clear();
  });

  test.each([
    ['another CID is a second connection', { cid: 1 }, 0, 0x0206],
    ['another TSIH is one of no session', {}, 1, 0x020a],
    ['another ISID is another port', { isid: '00023d000009' }, 0, 0x020a],
    ['another name is another port', { initiator: 'iqn.2026-11.a:stranger' }, 0, 0x020a],
  ] as const)('%s, and disturbs nobody', async (_what, changes, more, status) => {
    const holder = await world.ready(HOLDER);
    const tsih = tsihOf(HOLDER.initiator) + more;
    const again = await world.connect();
    expect((await again.login({ target: TARGET, ...HOLDER, ...changes, tsih })).word36 >>> 16).toBe(status);
    await holder.clear();
  });

  test('is told no more than others where proofs are asked for', async () => {
    const holder = await world.ready(HOLDER);
    const tsih = tsihOf(HOLDER.initiator);
    world.registry.demands = true;
    const chap = { initiator: { user: 'host', secret: Buffer.from('the right secret') }, target: undefined };
    world.registry.chap = chap;
    for (const each of [tsih, tsih + 1]) {
      const stranger = await world.connect();
      expect((await stranger.login({ target: TARGET, ...HOLDER, tsih: each })).word36 >>> 16).toBe(0x0201);
    }
    await holder.clear();
  });
});
