import { afterEach, describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../../gateway/base/units.ts';
import {
  KIND,
  buildCommand,
  buildDataOut,
  buildLogin,
  buildRequest,
  buildTaskManagement,
  read10,
  write10,
} from '../../support/iscsi-wire.ts';
import { holdWrites } from '../../support/held-writes.ts';
import { IscsiWorld, TARGET, gate } from '../../support/iscsi-world.ts';
import { RamDevice } from '../../support/ram-device.ts';

let world: IscsiWorld | undefined;
afterEach(async () => {
  await world?.stop();
  expect(world?.server.usage()).toMatchObject({ connections: 0, sessions: 0, writeBytes: 0 });
});

async function start(...options: Parameters<typeof IscsiWorld.start>): Promise<IscsiWorld> {
  world = await IscsiWorld.start(...options);
  return world;
}

describe('time', () => {
  test('a login that does not come to an end is cut off', async () => {
    const w = await start({ settings: { loginTimeoutSeconds: 5 } });
    const initiator = await w.connect();
    initiator.send(buildLogin({ csg: 0, keys: { InitiatorName: 'iqn.2026-11.a:b', SessionType: 'Discovery' } }));
    await initiator.expect(KIND.login);
    w.clock.advance(5000);
    expect(initiator.isClosed).toBe(false);
    w.clock.advance(1000);
    await initiator.closed();
  });

  test('a silent peer is pinged, and kept when it answers', async () => {
    const w = await start({ settings: { pingAfterSeconds: 3, pingTimeoutSeconds: 3 } });
    const initiator = await w.ready();
    for (let round = 0; round < 3; round += 1) {
      w.clock.advance(3000);
      const ping = await initiator.expect(KIND.nopIn);
      expect([ping.itt, ping.word20 !== 0xffff_ffff]).toEqual([0xffff_ffff, true]);
      initiator.send(
        buildRequest({ opcode: 0x00, immediate: true, itt: 0xffff_ffff, word20: ping.word20, cmdSn: initiator.cmdSn }),
      );
      await initiator.clear();
    }
  });

  test('a dead peer is dropped and its session ended', async () => {
    const w = await start({ settings: { pingAfterSeconds: 3, pingTimeoutSeconds: 3 } });
    const initiator = await w.ready();
    w.clock.advance(7000);
    await initiator.closed();
    expect(w.server.sessions()).toEqual([]);
  });

  test('a peer that owes the data of a write is dropped in the end', async () => {
    const w = await start({ settings: { dataTimeoutSeconds: 5 } });
    const initiator = await w.ready({ keys: { ImmediateData: 'No' } });
    initiator.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
    await initiator.expect(KIND.r2t);
    w.clock.advance(6000);
    await initiator.closed();
  });

  test('data that nobody waits for does not keep such a peer', async () => {
    const w = await start({ settings: { dataTimeoutSeconds: 5 } });
    const initiator = await w.ready({ keys: { ImmediateData: 'No' } });
    const itt = initiator.command({ cdb: write10(0, 1), write: true, expectedBytes: 512 });
    await initiator.expect(KIND.r2t);
    for (let second = 0; second < 6; second += 1) {
      initiator.send(
        buildDataOut({ itt: itt + 1, dataSn: 0, offset: 0, data: Buffer.alloc(512) }),
        buildRequest({ opcode: 0, itt: 7, immediate: true, word20: 0xffff_ffff, cmdSn: initiator.cmdSn }),
      );
      await initiator.expect(KIND.nopIn); // it has been read
      w.clock.advance(1000);
    }
    await initiator.closed();
  });

  test('a peer that takes nothing is dropped, though it goes on asking', async () => {
    const w = await start({ settings: { stallTimeoutSeconds: 5, sessionReadBytes: 64 * MIB } });
    const initiator = await w.ready({ keys: { MaxRecvDataSegmentLength: '262144' } });
    initiator.socket.pause();
    const behind = gate();
    let inside = 0;
    w.device.intercept = () => {
      inside += 1;
      if (inside === 8) behind.open();
      return undefined;
    };
    // More than the buffers of any kernel take.
    for (let index = 0; index < 40; index += 1)
      initiator.command({ cdb: read10(0, 2048), read: true, expectedBytes: MIB });
    await behind.opened;
    const giveUpAfter = 500;
    for (let second = 0; second < giveUpAfter && w.server.usage().connections > 0; second += 1) {
      initiator.command({ cdb: read10(0, 1), read: true, expectedBytes: 512 });
      await new Promise((resolve) => setImmediate(resolve));
      w.clock.advance(1000);
    }
    expect(w.server.usage().connections).toBe(0);
    initiator.socket.resume();
    await initiator.closed();
  });

  test('a peer that takes little is kept', async () => {
    const w = await start({ settings: { stallTimeoutSeconds: 5, pingAfterSeconds: 1000, sessionReadBytes: 64 * MIB } });
    const initiator = await w.ready({ keys: { MaxRecvDataSegmentLength: '262144' } });
    const count = 40;
    for (let index = 0; index < count; index += 1)
      initiator.command({ cdb: read10(0, 2048), read: true, expectedBytes: MIB });
    for (let bytes = 0; bytes < count * MIB;) {
      bytes += (await initiator.expect(KIND.dataIn)).data.length;
      if (bytes % (2 * MIB) === 0) w.clock.advance(1000);
    }
    await initiator.clear();
  });

  test('a graceful stop asks for a logout, and waits for it', async () => {
    const w = await start({ settings: { logoutGraceSeconds: 7 } });
    const initiator = await w.ready();
    const stopped = w.server.close(true);
    const request = await initiator.expect(KIND.async);
    expect([request.word36 >>> 24, request.word40 & 0xffff]).toEqual([1, 7]);
    await initiator.clear();
    initiator.send(buildRequest({ opcode: 0x06, immediate: true, itt: 8, cmdSn: initiator.cmdSn }));
    await initiator.expect(KIND.logout);
    await stopped;
  });

  test('a graceful stop does not wait for ever', async () => {
    const w = await start({ settings: { logoutGraceSeconds: 7 } });
    const initiator = await w.ready();
    const stopped = w.server.close(true);
    await initiator.expect(KIND.async);
    w.clock.advance(7000);
    await stopped;
    await initiator.closed();
  });

  test('nor for a write that waits for a cloud that is away: the device ends it when it is closed', async () => {
    const device = new RamDevice({ bytes: MIB });
    const w = await start({ settings: { logoutGraceSeconds: 7 }, luns: new Map([[0, device]]) });
    const held = holdWrites(device);
    const initiator = await w.ready();
    await initiator.clear();
    initiator.send(
      buildCommand({
        cdb: write10(0, 1),
        write: true,
        expectedBytes: 512,
        data: Buffer.alloc(512),
        itt: 9,
        cmdSn: initiator.cmdSn,
      }),
    );
    await held.entered;
    const stopped = w.server.close(false);
    await initiator.closed();
    w.clock.advance(10_000);
    await stopped;
    held.release();
  });
});

describe('connections', () => {
  test('one too many is told so', async () => {
    const w = await start({ settings: { maxConnections: 2 } });
    await w.ready();
    await w.ready({ isid: '00023d000002' });
    const third = await w.connect();
    expect((await third.login({ target: TARGET, isid: '00023d000003' })).word36 >>> 16).toBe(0x0302);
    await third.closed();
  });

  test('those that never log in keep nobody out, also not at their own address', async () => {
    const w = await start({ settings: { maxConnections: 2, maxLogins: 3, maxLoginsPerAddress: 2 } });
    const first = await w.ready();
    const idle = [await w.connect(), await w.connect(), await w.connect(), await w.connect()];
    await w.ready({ isid: '00023d000002' });
    for (const each of idle.slice(0, 3)) await each.closed();
    expect([first.isClosed, idle[3]?.isClosed]).toEqual([false, false]);
    expect(w.server.usage()).toMatchObject({ connections: 3, sessions: 2 });
  });

  test('discovery sessions take no place of a session with a target', async () => {
    const w = await start({ settings: { maxConnections: 1, maxLogins: 3, maxLoginsPerAddress: 3 } });
    const curious = [await w.connect(), await w.connect(), await w.connect()];
    for (const [index, each] of curious.entries())
      expect((await each.login({ initiator: `iqn.2026-11.a:${index}` })).word36 >>> 16).toBe(0);
    await w.ready();
    await curious[0]?.closed();
    expect(curious.slice(1).map((each) => each.isClosed)).toEqual([false, false]);
  });

  test('a place is free again when a connection is gone', async () => {
    const w = await start({ settings: { maxConnections: 1 } });
    const first = await w.ready();
    first.destroy();
    for (;;) {
      const next = await w.connect();
      if ((await next.login({ target: TARGET })).word36 >>> 16 === 0) break;
    }
  });
});

describe('memory', () => {
  test('data is asked for only as there is room for it', async () => {
    const w = await start({ settings: { sessionWriteBytes: 64 * KIB } });
    const initiator = await w.ready({ keys: { ImmediateData: 'No', MaxBurstLength: '65536' } });
    const first = initiator.command({ cdb: write10(0, 128), write: true, expectedBytes: 64 * KIB });
    const second = initiator.command({ cdb: write10(0, 128), write: true, expectedBytes: 64 * KIB });
    const r2t = await initiator.expect(KIND.r2t);
    expect(r2t.itt).toBe(first);
    await initiator.clear(); // no second R2T before the first write is done
    initiator.send(buildDataOut({ itt: first, ttt: r2t.word20, dataSn: 0, offset: 0, data: Buffer.alloc(64 * KIB) }));
    const answers = [await initiator.receive(), await initiator.receive()];
    expect(answers.map((answer) => [answer?.opcode, answer?.itt])).toEqual([
      [KIND.scsiResponse, first],
      [KIND.r2t, second],
    ]);
  });

  test('what all sessions together hold is bounded: the next one waits for its R2T', async () => {
    const w = await start({ settings: { writeBytesInFlight: 64 * KIB } });
    const holder = await w.ready({ keys: { ImmediateData: 'No', MaxBurstLength: '65536' } });
    const held = holder.command({ cdb: write10(0, 128), write: true, expectedBytes: 64 * KIB });
    const r2t = await holder.expect(KIND.r2t);
    const waiter = await w.ready({ isid: '00023d000002', keys: { ImmediateData: 'No' } });
    const waiting = waiter.command({ cdb: write10(0, 256), write: true, expectedBytes: 128 * KIB });
    await waiter.clear();
    holder.send(buildDataOut({ itt: held, ttt: r2t.word20, dataSn: 0, offset: 0, data: Buffer.alloc(64 * KIB) }));
    await holder.expect(KIND.scsiResponse);
    expect((await waiter.expect(KIND.r2t)).itt).toBe(waiting);
  });

  test('unasked data beyond the bound is answered with TASK SET FULL and not kept', async () => {
    const w = await start({ settings: { writeBytesInFlight: 16 * KIB } });
    const initiator = await w.ready({ keys: { InitialR2T: 'No' } });
    const held = gate();
    w.device.intercept = (operation) => (operation === 'write' ? held.opened : undefined);
    const data = Buffer.alloc(4096);
    const itts = [0, 1, 2].map(() => initiator.command({ cdb: write10(0, 8), write: true, expectedBytes: 4096, data }));
    const full = await initiator.expect(KIND.scsiResponse);
    expect([full.itt, full.byte3]).toEqual([itts[2], 0x28]);
    held.open();
    expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(0);
    expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(0);
    w.device.intercept = undefined;
    expect((await initiator.run({ cdb: write10(0, 8), write: true, expectedBytes: 4096, data })).status).toBe(0);
  });

  test('the window closes while commands are outstanding, and opens again', async () => {
    const w = await start({ settings: { queueDepth: 4 } });
    const initiator = await w.ready();
    const held = gate();
    w.device.intercept = (operation) => (operation === 'read' ? held.opened : undefined);
    for (let index = 0; index < 4; index += 1) initiator.command({ cdb: read10(0, 1), read: true, expectedBytes: 512 });
    const ping = buildRequest({ opcode: 0x00, immediate: true, itt: 1, word20: 0xffff_ffff, cmdSn: initiator.cmdSn });
    initiator.send(ping);
    const closed = await initiator.expect(KIND.nopIn);
    expect((closed.maxCmdSn - closed.expCmdSn) | 0).toBe(-1);
    held.open();
    for (let index = 0; index < 4; index += 1) await initiator.expect(KIND.dataIn);
    initiator.send(ping);
    const open = await initiator.expect(KIND.nopIn);
    expect((open.maxCmdSn - open.expCmdSn) | 0).toBe(3);
  });

  test('however many sessions a host has, and names it gives itself, its reads keep no other waiting', async () => {
    const limit = 24 * MIB;
    const w = await start({ settings: { readBytesInFlight: limit, sessionReadBytes: 8 * MIB } });
    const held = gate();
    let holds = true;
    w.device.intercept = (operation) => (operation === 'read' && holds ? held.opened : undefined);
    for (let index = 0; index < 40; index += 1) {
      const hog = await w.ready({ initiator: `iqn.2026-11.a:hog${index % 2}`, isid: `00023d0001${10 + index}` });
      for (let read = 0; read < 4; read += 1) hog.command({ cdb: read10(0, 2048), read: true, expectedBytes: MIB });
      await hog.clear();
    }
    holds = false;
    expect(w.server.usage().readBytes).toBeLessThanOrEqual(limit / 2 + MIB);
    const host = await w.ready({ initiator: 'iqn.2026-11.a:host', isid: '00023d000001' });
    expect((await host.run({ cdb: read10(0, 1), read: true, expectedBytes: 512 })).data.length).toBe(512);
    expect((await host.run({ cdb: read10(0, 512), read: true, expectedBytes: 256 * KIB })).data.length).toBe(256 * KIB);
    held.open();
  });

  test('aborting a read that waits for room lets on the one behind it', async () => {
    const w = await start({ settings: { readBytesInFlight: 4 * MIB } });
    const other = await w.ready({ initiator: 'iqn.2026-11.a:other', isid: '00023d000001' });
    const host = await w.ready({ initiator: 'iqn.2026-11.a:host', isid: '00023d000002' });
    const held = gate();
    const inDevice = new Promise<void>((resolve) => {
      w.device.intercept = (operation) => {
        if (operation !== 'read') return undefined;
        resolve();
        w.device.intercept = undefined;
        return held.opened;
      };
    });
    other.command({ cdb: read10(0, 2048), read: true, expectedBytes: MIB });
    await inDevice;
    const large = host.command({ cdb: read10(0, 6144), read: true, expectedBytes: 3 * MIB });
    host.command({ cdb: read10(0, 2048), read: true, expectedBytes: MIB });
    host.send(buildTaskManagement({ function: 1, itt: 900, cmdSn: host.cmdSn, rtt: large, refCmdSn: host.cmdSn - 2 }));
    const kinds = [(await host.receive())?.opcode, (await host.receive())?.opcode];
    expect(kinds).toContain(KIND.dataIn); // the small one runs while the other's read is still in the device
    held.open();
  });

  test('a peer that takes next to nothing of what it reads is dropped soon when one that holds less waits', async () => {
    const w = await start({
      luns: new Map([[0, new RamDevice({ bytes: 16 * MIB })]]),
      settings: { readBytesInFlight: 16 * MIB, pingAfterSeconds: 1000 },
    });
    const hog = await w.ready({ initiator: 'iqn.2026-11.a:hog', keys: { MaxRecvDataSegmentLength: '262144' } });
    await hog.clear();
    hog.socket.pause();
    // More than the buffers of any kernel take.
    hog.command({ cdb: read10(0, 32_768), read: true, expectedBytes: 16 * MIB });
    const host = await w.ready({ initiator: 'iqn.2026-11.a:host', isid: '00023d000002' });
    w.clock.advance(40_000); // nobody waits
    host.command({ cdb: read10(0, 256), read: true, expectedBytes: 128 * KIB });
    await host.clear();
    expect(w.server.usage().connections).toBe(2);
    w.clock.advance(27_000);
    expect(w.server.usage().connections).toBe(1);
    for (let bytes = 0; bytes < 128 * KIB;) bytes += (await host.expect(KIND.dataIn)).data.length;
    hog.socket.resume();
    await hog.closed();
  });

  test('reads wait for room instead of piling up', async () => {
    const w = await start({ settings: { sessionReadBytes: MIB } });
    const initiator = await w.ready({ keys: { MaxRecvDataSegmentLength: '262144' } });
    const held = gate();
    let inside = 0;
    w.device.intercept = (operation) => {
      if (operation !== 'read') return undefined;
      inside += 1;
      return held.opened;
    };
    for (let index = 0; index < 8; index += 1)
      initiator.command({ cdb: read10(0, 1024), read: true, expectedBytes: 512 * KIB });
    initiator.send(
      buildRequest({ opcode: 0x00, immediate: true, itt: 1, word20: 0xffff_ffff, cmdSn: initiator.cmdSn }),
    );
    await initiator.expect(KIND.nopIn);
    expect(inside).toBe(2);
    held.open();
    for (let bytes = 0; bytes < 4 * MIB;) bytes += (await initiator.expect(KIND.dataIn)).data.length;
    expect(inside).toBe(8);
  });

  test('more immediate commands than there is room for meet TASK SET FULL', async () => {
    const w = await start({ settings: { queueDepth: 2 } });
    const initiator = await w.ready();
    const held = gate();
    w.device.intercept = () => held.opened;
    let full = 0;
    const count = 30;
    for (let index = 0; index < count; index += 1) {
      const itt = 1000 + index;
      initiator.send(
        buildCommand({
          cdb: read10(0, 1),
          itt,
          cmdSn: initiator.cmdSn,
          immediate: true,
          read: true,
          expectedBytes: 512,
        }),
      );
    }
    for (let index = 0; index < count - 18; index += 1) {
      const answer = await initiator.expect(KIND.scsiResponse);
      if (answer.byte3 === 0x28) full += 1;
    }
    expect(full).toBe(count - 18);
    held.open();
  });
});

test('a portal that is taken is reported, and the others are closed again', async () => {
  const w = await start();
  await expect(w.server.listen([{ host: '127.0.0.1', port: w.port }])).rejects.toMatchObject({ kind: 'in-use' });
});
