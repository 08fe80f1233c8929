import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ChapRequirement } from '../../../gateway/iscsi/target-registry.ts';
import { KIND, buildCommand, buildDataOut, buildLogin, write10 } from '../../support/iscsi-wire.ts';
import { IscsiWorld, TARGET } from '../../support/iscsi-world.ts';
import { challengeOf, hex, responseTo } from '../../support/raw-chap.ts';

/** Cuts that are tried side by side. */
const BATCH = 16;
const SECTOR = 512;
const NEW = Buffer.alloc(SECTOR, 0x11);
const NEXT = Buffer.alloc(SECTOR, 0x22);

let world: IscsiWorld;
beforeEach(async () => {
  world = await IscsiWorld.start();
});
afterEach(async () => {
  await world.stop();
  expect(world.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

const isid = (offset: number): string => `80${offset.toString(16).padStart(10, '0')}`;

/** Runs `attempt` for every offset up to `end`, a batch at a time. */
async function atEveryByte(end: number, attempt: (offset: number) => Promise<void>): Promise<void> {
  for (let first = 0; first <= end; first += BATCH) {
    const offsets = Array.from({ length: Math.min(BATCH, end + 1 - first) }, (_, index) => first + index);
    await Promise.all(offsets.map(attempt));
  }
}

async function allGone(): Promise<void> {
  while (world.server.usage().connections > 0) await new Promise((resolve) => setImmediate(resolve));
  expect(world.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
}

test('a login may break off at every byte: nothing is left of it, and the next one of the port succeeds', async () => {
  const keys = { InitiatorName: 'iqn.2026-11.a:b', TargetName: TARGET, AuthMethod: 'None' };
  const whole = (offset: number): Buffer =>
    Buffer.concat([
      buildLogin({ csg: 0, nsg: 1, transit: true, isid: isid(offset), keys }),
      buildLogin({ csg: 1, nsg: 3, transit: true, isid: isid(offset), keys: { MaxBurstLength: '65536' } }),
    ]);
  const end = whole(0).length;
  await atEveryByte(end, async (offset) => {
    const broken = await world.connect();
    broken.sendBytes(whole(offset).subarray(0, offset));
    broken.socket.end();
    await broken.closed();
    const next = await world.connect();
    expect((await next.login({ target: TARGET, initiator: 'iqn.2026-11.a:b', isid: isid(offset) })).word36).toBe(0);
    next.destroy();
  });
  await allGone();
});

test('the answer to a challenge may break off at every byte: nobody gets in by it, and nobody is held to have guessed', async () => {
  const required: ChapRequirement = { initiator: { user: 'u', secret: Buffer.from('s') }, target: undefined };
  world.registry.chap = required;
  const answer = (response: string): Buffer =>
    buildLogin({ csg: 0, nsg: 3, transit: true, keys: { CHAP_N: 'u', CHAP_R: response } });
  const end = answer(hex(Buffer.alloc(16))).length;
  await atEveryByte(end - 1, async (offset) => {
    const broken = await world.connect();
    const challenge = await challengeOf(broken);
    broken.sendBytes(answer(hex(responseTo(challenge, 's'))).subarray(0, offset));
    broken.socket.end();
    await broken.closed();
  });
  await allGone();
  expect(world.registry.events).toEqual([]);
});

test('a write may break off at every byte: all of it lands or nothing, and nothing after the next session has begun', async () => {
  // Half of the data comes with the command, half unasked behind it.
  const bytes = (offset: number): Buffer =>
    Buffer.concat([
      buildCommand({
        cdb: write10(offset, 1),
        itt: 1,
        cmdSn: 1,
        write: true,
        final: false,
        expectedBytes: SECTOR,
        data: NEW.subarray(0, SECTOR / 2),
      }),
      buildDataOut({ itt: 1, dataSn: 0, offset: SECTOR / 2, data: NEW.subarray(SECTOR / 2) }),
    ]);
  const end = bytes(0).length;
  const sectorAt = (offset: number): Buffer => world.device.bytes.subarray(offset * SECTOR, (offset + 1) * SECTOR);
  await atEveryByte(end, async (offset) => {
    const broken = await world.connect();
    await broken.login({ target: TARGET, isid: isid(offset), keys: { InitialR2T: 'No' } });
    // The unit attention of the power on is in the way of the command.
    await broken.clear();
    const stream = bytes(offset);
    stream.writeUInt32BE(broken.cmdSn, 24);
    broken.sendBytes(stream.subarray(0, offset));
    broken.socket.end();
    // The same port again, without waiting for the end of the old connection.
    const next = await world.connect();
    expect((await next.login({ target: TARGET, isid: isid(offset) })).word36).toBe(0);
    await next.clear();
    const before = Buffer.from(sectorAt(offset));
    expect(before.equals(NEW) || before.equals(Buffer.alloc(SECTOR)), `cut after ${offset}`).toBe(true);
    if (offset < end) expect(before.equals(NEW), `cut after ${offset}`).toBe(false);
    const itt = next.command({ cdb: write10(offset, 1), write: true, expectedBytes: SECTOR, data: NEXT });
    expect((await next.expect(KIND.scsiResponse)).itt).toBe(itt);
    await broken.closed();
    expect(sectorAt(offset).equals(NEXT), `cut after ${offset}`).toBe(true);
    next.destroy();
  });
  await allGone();
  for (let offset = 0; offset <= end; offset += 1) expect(sectorAt(offset).equals(NEXT)).toBe(true);
});
