import { afterEach, describe, expect, test } from 'vitest';
import {
  KIND,
  buildCommand,
  buildDataOut,
  buildLogin,
  buildRequest,
  buildTaskManagement,
  cdb,
  read10,
  textOf,
  write10,
} from '../support/iscsi-wire.ts';
import type { Response } from '../support/iscsi-wire.ts';
import { IscsiWorld, TARGET } from '../support/iscsi-world.ts';
import { RawInitiator } from '../support/raw-initiator.ts';

/** One of each request an initiator sends, in an order that makes sense; the R2T's tag is the first of its session. */
const DATA = Buffer.alloc(1024, 0x5a);
const LOGIN = buildLogin({
  transit: true,
  cmdSn: 1,
  keys: { InitiatorName: 'iqn.2026-11.dev.farshore.test:stream', TargetName: TARGET, InitialR2T: 'No' },
});
const EXCHANGE: readonly Buffer[] = [
  buildCommand({ cdb: cdb(0), itt: 1, cmdSn: 1 }),
  buildCommand({ cdb: cdb(0x12, 0, 0, 0, 96), itt: 2, cmdSn: 2, read: true, expectedBytes: 96 }),
  buildCommand({ cdb: write10(0, 2), itt: 3, cmdSn: 3, write: true, expectedBytes: 1024, data: DATA }),
  buildCommand({
    cdb: write10(2, 2),
    itt: 4,
    cmdSn: 4,
    write: true,
    final: false,
    expectedBytes: 1024,
    data: DATA.subarray(0, 200),
  }),
  buildDataOut({ itt: 4, dataSn: 0, offset: 200, data: DATA.subarray(200) }),
  buildCommand({ cdb: write10(4, 2), itt: 5, cmdSn: 5, write: true, expectedBytes: 1024 }),
  buildDataOut({ itt: 5, ttt: 1, dataSn: 0, offset: 0, data: DATA.subarray(0, 512), final: false }),
  buildDataOut({ itt: 5, ttt: 1, dataSn: 1, offset: 512, data: DATA.subarray(512) }),
  buildCommand({ cdb: read10(0, 6), itt: 6, cmdSn: 6, read: true, expectedBytes: 3072 }),
  buildRequest({ opcode: 0x00, itt: 7, word20: 0xffff_ffff, cmdSn: 7, data: Buffer.from('ping') }),
  buildRequest({ opcode: 0x04, itt: 8, word20: 0xffff_ffff, cmdSn: 8, data: textOf({ SendTargets: '' }) }),
  buildTaskManagement({ function: 1, itt: 9, cmdSn: 9, rtt: 77, refCmdSn: 1 }),
  buildRequest({ opcode: 0x06, itt: 10, immediate: true, cmdSn: 9 }),
];
const STREAM = Buffer.concat(EXCHANGE);

/** The kinds and tags of what comes back for the whole exchange. */
const ANSWERS = [
  [KIND.scsiResponse, 1],
  [KIND.dataIn, 2],
  [KIND.scsiResponse, 3],
  [KIND.scsiResponse, 4],
  [KIND.r2t, 5],
  [KIND.scsiResponse, 5],
  [KIND.dataIn, 6],
  [KIND.nopIn, 7],
  [KIND.text, 8],
  [KIND.taskManagement, 9],
  [KIND.logout, 10],
];

let world: IscsiWorld | undefined;
afterEach(async () => {
  await world?.stop();
  expect(world?.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

/** Everything the target says until it closes. */
async function listen(initiator: RawInitiator): Promise<Response[]> {
  const responses: Response[] = [];
  for (;;) {
    const response = await initiator.receive();
    if (response === undefined) return responses;
    responses.push(response);
  }
}

async function loggedIn(target: IscsiWorld): Promise<RawInitiator> {
  const initiator = await RawInitiator.connect(target.port);
  initiator.sendBytes(LOGIN);
  await initiator.expect(KIND.login);
  return initiator;
}

/** Numbers in [0, bound), the same in every run. */
function generator(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

describe('an exchange', () => {
  test('is answered the same wherever the stream is cut', async () => {
    world = await IscsiWorld.start();
    for (let cut = 1; cut < STREAM.length; cut += 1) {
      const initiator = await loggedIn(world);
      const turn = new Promise<void>((resolve) => {
        initiator.socket.write(STREAM.subarray(0, cut), () => {
          resolve();
        });
      });
      await turn;
      initiator.sendBytes(STREAM.subarray(cut));
      const answers = await listen(initiator);
      expect(answers.map(({ opcode, itt }) => [opcode, itt])).toEqual(ANSWERS);
      // Step through headers byte by byte, through data in strides.
      if (cut > 300) cut += 12;
    }
  });

  test('that is cut off anywhere leaves nothing behind', async () => {
    world = await IscsiWorld.start();
    for (let cut = 0; cut < STREAM.length; cut += 11) {
      const initiator = await loggedIn(world);
      initiator.socket.end(STREAM.subarray(0, cut));
      await listen(initiator);
    }
    const last = await world.ready();
    await last.clear();
    expect(world.server.sessions().filter(({ tsih }) => tsih > 0)).toHaveLength(1);
  });
});

/** Sends a damaged exchange, then makes sure that the target still serves others and gives nothing but whole PDUs. */
async function survives(target: IscsiWorld, bytes: Buffer, login: Buffer = LOGIN): Promise<void> {
  const initiator = await RawInitiator.connect(target.port);
  initiator.sendBytes(login);
  initiator.socket.end(bytes);
  await listen(initiator);
}

describe('a hostile peer', () => {
  test('every PDU cut short, the rest of the stream following', async () => {
    world = await IscsiWorld.start();
    for (const [index, pdu] of EXCHANGE.entries()) {
      for (let length = 0; length < pdu.length; length += 13) {
        const damaged = [...EXCHANGE];
        damaged[index] = pdu.subarray(0, length);
        await survives(world, Buffer.concat(damaged));
      }
    }
    await (await world.ready()).clear();
  });

  test('every bit of every header flipped', async () => {
    world = await IscsiWorld.start();
    for (const [index, pdu] of EXCHANGE.entries()) {
      for (let bit = 0; bit < 48 * 8; bit += 5) {
        const flipped = Buffer.from(pdu);
        flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        const damaged = [...EXCHANGE];
        damaged[index] = flipped;
        await survives(world, Buffer.concat(damaged));
      }
    }
    await (await world.ready()).clear();
  });

  test('every bit of the login flipped, and the login cut short', async () => {
    world = await IscsiWorld.start();
    for (let bit = 0; bit < LOGIN.length * 8; bit += 3) {
      const flipped = Buffer.from(LOGIN);
      flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      await survives(world, STREAM, flipped);
    }
    for (let length = 0; length < LOGIN.length; length += 1) await survives(world, STREAM, LOGIN.subarray(0, length));
    await (await world.ready()).clear();
  });

  test('noise in any amount', async () => {
    world = await IscsiWorld.start();
    const random = generator(20_261_122);
    for (let round = 0; round < 300; round += 1) {
      const damaged = Buffer.from(STREAM);
      for (let hits = random(12) + 1; hits > 0; hits -= 1) damaged.writeUInt8(random(256), random(damaged.length));
      await survives(world, damaged);
    }
    await (await world.ready()).clear();
  });
});
