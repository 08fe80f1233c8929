import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../../gateway/base/units.ts';
import { KIND, buildDataOut, read10, senseOf, write10 } from '../../support/iscsi-wire.ts';
import type { Response } from '../../support/iscsi-wire.ts';
import { IscsiWorld } from '../../support/iscsi-world.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';

/** Bytes that differ everywhere, so that a misplaced one shows. */
function pattern(bytes: number, seed = 1): Buffer {
  const data = Buffer.alloc(bytes);
  let state = seed;
  for (let index = 0; index < bytes; index += 1) {
    state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
    data[index] = state >> 16;
  }
  return data;
}

let world: IscsiWorld;
beforeEach(async () => {
  world = await IscsiWorld.start();
});
afterEach(async () => {
  await world.stop();
  expect(world.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

/** Answers an R2T with PDUs of at most `maxBytes`. */
function answer(initiator: RawInitiator, r2t: Response, data: Buffer, maxBytes: number): void {
  const end = r2t.word40 + r2t.word44;
  for (let offset = r2t.word40, dataSn = 0; offset < end; offset += maxBytes, dataSn += 1) {
    const part = data.subarray(offset, Math.min(offset + maxBytes, end));
    const final = offset + part.length === end;
    initiator.send(buildDataOut({ itt: r2t.itt, ttt: r2t.word20, dataSn, offset, data: part, final }));
  }
}

describe('writes', () => {
  test('immediate data alone', async () => {
    const initiator = await world.ready();
    const data = pattern(4096);
    const { status } = await initiator.run({ cdb: write10(8, 8), write: true, expectedBytes: 4096, data });
    expect(status).toBe(0);
    expect(world.device.bytes.subarray(4096, 8192).equals(data)).toBe(true);
  });

  test('solicited data in several bursts of several PDUs', async () => {
    const initiator = await world.ready({ keys: { MaxBurstLength: '65536', ImmediateData: 'No' } });
    const data = pattern(200 * 512);
    const itt = initiator.command({ cdb: write10(0, 200), write: true, expectedBytes: data.length });
    for (let offset = 0, r2tSn = 0; offset < data.length; offset += 65_536, r2tSn += 1) {
      const r2t = await initiator.expect(KIND.r2t);
      expect([r2t.itt, r2t.word36, r2t.word40]).toEqual([itt, r2tSn, offset]);
      expect(r2t.word44).toBe(Math.min(65_536, data.length - offset));
      answer(initiator, r2t, data, 10_000);
    }
    const done = await initiator.expect(KIND.scsiResponse);
    expect([done.byte3, done.word36]).toEqual([0, 2]);
    expect(world.device.bytes.subarray(0, data.length).equals(data)).toBe(true);
  });

  test('immediate, unsolicited and solicited data of one command', async () => {
    const initiator = await world.ready({
      keys: { InitialR2T: 'No', FirstBurstLength: '16384', MaxBurstLength: '20480' },
    });
    const data = pattern(64 * KIB);
    const itt = initiator.command({
      cdb: write10(16, 128),
      write: true,
      final: false,
      expectedBytes: data.length,
      data: data.subarray(0, 1000),
    });
    initiator.send(
      buildDataOut({ itt, dataSn: 0, offset: 1000, data: data.subarray(1000, 9000), final: false }),
      buildDataOut({ itt, dataSn: 1, offset: 9000, data: data.subarray(9000, 16_384) }),
    );
    for (let asked = 16_384; asked < data.length;) {
      const r2t = await initiator.expect(KIND.r2t);
      expect(r2t.word40).toBe(asked);
      answer(initiator, r2t, data, 8192);
      asked += r2t.word44;
    }
    expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(0);
    expect(world.device.bytes.subarray(8192, 8192 + data.length).equals(data)).toBe(true);
  });

  test('unsolicited data that ends early is followed by an R2T for the rest', async () => {
    const initiator = await world.ready({ keys: { InitialR2T: 'No', FirstBurstLength: '65536' } });
    const data = pattern(8192);
    const itt = initiator.command({ cdb: write10(0, 16), write: true, final: false, expectedBytes: 8192 });
    initiator.send(buildDataOut({ itt, dataSn: 0, offset: 0, data: data.subarray(0, 512) }));
    const r2t = await initiator.expect(KIND.r2t);
    expect([r2t.word40, r2t.word44]).toEqual([512, 7680]);
    answer(initiator, r2t, data, 8192);
    expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(0);
    expect(world.device.bytes.subarray(0, 8192).equals(data)).toBe(true);
  });

  test('several writes collect their data side by side', async () => {
    const initiator = await world.ready({ keys: { ImmediateData: 'No' } });
    const data = [pattern(4096, 1), pattern(4096, 2), pattern(4096, 3)];
    data.forEach((_, index) => initiator.command({ cdb: write10(8 * index, 8), write: true, expectedBytes: 4096 }));
    const r2ts = [await initiator.expect(KIND.r2t), await initiator.expect(KIND.r2t), await initiator.expect(KIND.r2t)];
    for (const index of [2, 0, 1]) answer(initiator, r2ts[index] as Response, data[index] as Buffer, 1024);
    for (let count = 0; count < 3; count += 1) expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(0);
    expect(world.device.bytes.subarray(0, 12_288).equals(Buffer.concat(data))).toBe(true);
    expect(new Set(r2ts.map((r2t) => r2t.word20)).size).toBe(3);
  });

  test.each([
    ['DataSN', { dataSn: 5, offset: 0 }],
    ['offset', { dataSn: 0, offset: 512 }],
    ['length', { dataSn: 0, offset: 0, bytes: 4096 }],
  ])('a wrong %s is rejected and the write fails without touching the medium', async (_what, wrong) => {
    const initiator = await world.ready({ keys: { ImmediateData: 'No' } });
    const itt = initiator.command({ cdb: write10(0, 4), write: true, expectedBytes: 2048 });
    const r2t = await initiator.expect(KIND.r2t);
    const data = Buffer.alloc('bytes' in wrong ? wrong.bytes : 2048, 0xee);
    initiator.send(buildDataOut({ itt, ttt: r2t.word20, dataSn: wrong.dataSn, offset: wrong.offset, data }));
    expect((await initiator.expect(KIND.reject)).byte2).toBe(0x04);
    const done = await initiator.expect(KIND.scsiResponse);
    expect([done.itt, done.byte3, senseOf(done).key]).toEqual([itt, 2, 0x0b]);
    expect(world.device.bytes.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
    await initiator.clear();
  });

  test('a failed write waits for the end of its burst before it is answered', async () => {
    const initiator = await world.ready({ keys: { ImmediateData: 'No' } });
    const itt = initiator.command({ cdb: write10(0, 4), write: true, expectedBytes: 2048 });
    const ttt = (await initiator.expect(KIND.r2t)).word20;
    const data = Buffer.alloc(512);
    initiator.send(buildDataOut({ itt, ttt, dataSn: 1, offset: 0, data, final: false }));
    await initiator.expect(KIND.reject);
    initiator.send(buildDataOut({ itt, ttt, dataSn: 2, offset: 512, data, final: false }));
    await initiator.clear();
    initiator.send(buildDataOut({ itt, ttt, dataSn: 3, offset: 1024, data }));
    expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(2);
  });

  test('data nobody asked for is dropped', async () => {
    const initiator = await world.ready();
    initiator.send(buildDataOut({ itt: 12_345, ttt: 99, dataSn: 0, offset: 0, data: Buffer.alloc(512, 1) }));
    await initiator.clear(); // the next thing it hears is the answer to this
    expect(world.device.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('immediate data beyond what was agreed on is refused', async () => {
    const initiator = await world.ready({ keys: { ImmediateData: 'No' } });
    const data = Buffer.alloc(512, 1);
    const { status, last } = await initiator.run({ cdb: write10(0, 1), write: true, expectedBytes: 512, data });
    expect([status, senseOf(last)]).toEqual([2, { key: 0x0b, asc: 0x0c, ascq: 0x0c }]);
    expect(world.device.bytes[0]).toBe(0);
  });

  test('a write beyond the end is refused before its data is asked for', async () => {
    const initiator = await world.ready({ keys: { ImmediateData: 'No' } });
    const { last } = await initiator.run({ cdb: write10(16_384, 1), write: true, expectedBytes: 512 });
    expect(senseOf(last)).toEqual({ key: 5, asc: 0x21, ascq: 0 });
  });
});

describe('reads', () => {
  test('Data-In respects the limits of PDU and burst, offsets and numbers run on, status comes with the last', async () => {
    const initiator = await world.ready({ keys: { MaxRecvDataSegmentLength: '3000', MaxBurstLength: '8192' } });
    pattern(32 * KIB).copy(world.device.bytes);
    const itt = initiator.command({ cdb: read10(0, 64), read: true, expectedBytes: 32_768 });
    const parts: Buffer[] = [];
    let offset = 0;
    for (let dataSn = 0; offset < 32_768; dataSn += 1) {
      const pdu = await initiator.expect(KIND.dataIn);
      expect([pdu.itt, pdu.word36, pdu.word40]).toEqual([itt, dataSn, offset]);
      expect(pdu.data.length).toBeLessThanOrEqual(3000);
      parts.push(pdu.data);
      offset += pdu.data.length;
      expect((pdu.flags & 0x80) !== 0).toBe(offset % 8192 === 0);
      expect((pdu.flags & 0x01) !== 0).toBe(offset === 32_768);
    }
    expect(Buffer.concat(parts).equals(world.device.bytes.subarray(0, 32_768))).toBe(true);
  });

  test('large reads arrive whole, however slowly they are taken', async () => {
    const initiator = await world.ready({ keys: { MaxRecvDataSegmentLength: '262144', MaxBurstLength: '1048576' } });
    pattern(8 * MIB).copy(world.device.bytes);
    for (let index = 0; index < 4; index += 1)
      initiator.command({ cdb: read10(index * 4096, 4096), read: true, expectedBytes: 2 * MIB });
    initiator.socket.pause();
    await new Promise((resolve) => setImmediate(resolve));
    initiator.socket.resume();
    const parts: Buffer[] = [];
    for (let bytes = 0; bytes < 8 * MIB;) {
      const pdu = await initiator.expect(KIND.dataIn);
      parts.push(pdu.data);
      bytes += pdu.data.length;
    }
    expect(Buffer.concat(parts).equals(world.device.bytes)).toBe(true);
  });

  test('many small reads in one chunk are all answered', async () => {
    const initiator = await world.ready();
    pattern(64 * KIB).copy(world.device.bytes);
    for (let index = 0; index < 100; index += 1)
      initiator.command({ cdb: read10(index, 8), read: true, expectedBytes: 4096 });
    for (let index = 0; index < 100; index += 1) {
      const pdu = await initiator.expect(KIND.dataIn);
      expect(pdu.data.equals(world.device.bytes.subarray(index * 512, index * 512 + 4096))).toBe(true);
    }
  });
});

describe('residuals', () => {
  const OVERFLOW = 0x04;
  const UNDERFLOW = 0x02;
  test.each([
    ['a read of more than was announced', 2, 512, 512, OVERFLOW, 512],
    ['a read of less', 1, 10_000, 512, UNDERFLOW, 9488],
    ['a read of part of a sector', 1, 200, 200, OVERFLOW, 312],
    ['a read of exactly as much', 1, 512, 512, 0, 0],
  ])('%s', async (_name, blocks, expectedBytes, bytes, flag, residual) => {
    const initiator = await world.ready();
    const { status, data, last } = await initiator.run({ cdb: read10(0, blocks), read: true, expectedBytes });
    expect([status, data.length, last.flags & 0x06, last.word44]).toEqual([0, bytes, flag, residual]);
  });

  test('a read that was announced as nothing', async () => {
    const initiator = await world.ready();
    const { status, data, last } = await initiator.run({ cdb: read10(0, 1), read: true, expectedBytes: 0 });
    expect([status, data.length, last.flags & 0x06, last.word44]).toEqual([0, 0, OVERFLOW, 512]);
  });

  test('a write that announced more takes what it needs', async () => {
    const initiator = await world.ready();
    const data = Buffer.alloc(1024, 0xaa);
    const { status, last } = await initiator.run({ cdb: write10(0, 1), write: true, expectedBytes: 1024, data });
    expect([status, last.flags & 0x06, last.word44]).toEqual([0, UNDERFLOW, 512]);
    expect(world.device.bytes.readUInt16BE(511)).toBe(0xaa00);
  });

  test('a write that announced fewer sectors writes those', async () => {
    const initiator = await world.ready();
    const data = Buffer.alloc(512, 0xbb);
    const { status, last } = await initiator.run({ cdb: write10(0, 2), write: true, expectedBytes: 512, data });
    expect([status, last.flags & 0x06, last.word44]).toEqual([0, OVERFLOW, 512]);
    expect(world.device.bytes.readUInt16BE(511)).toBe(0xbb00);
  });

  test('a write that announced part of a sector changes that part and no more', async () => {
    const initiator = await world.ready();
    world.device.bytes.fill(0x11, 0, 1536);
    const data = Buffer.alloc(712, 0xcc);
    const { status, last } = await initiator.run({ cdb: write10(0, 3), write: true, expectedBytes: 712, data });
    expect([status, last.flags & 0x06, last.word44]).toEqual([0, OVERFLOW, 824]);
    expect(world.device.bytes.readUInt16BE(711)).toBe(0xcc11);
    expect(world.device.bytes.subarray(0, 712).equals(data)).toBe(true);
  });

  test('a write and verify that announced part of a sector is refused and writes nothing', async () => {
    const initiator = await world.ready();
    const data = Buffer.alloc(200, 0xcc);
    const block = write10(0, 1);
    block[0] = 0x2e;
    const { status, last } = await initiator.run({ cdb: block, write: true, expectedBytes: 200, data });
    expect([status, senseOf(last)]).toEqual([2, { key: 5, asc: 0x0e, ascq: 3 }]);
    expect([last.flags & 0x06, last.word44]).toEqual([OVERFLOW, 312]);
    expect(world.device.bytes[0]).toBe(0);
  });

  test('a failed command leaves everything over', async () => {
    const initiator = await world.ready();
    const { last } = await initiator.run({ cdb: read10(0xffff_ffff, 1), read: true, expectedBytes: 512 });
    expect([last.flags & 0x06, last.word44]).toEqual([UNDERFLOW, 512]);
  });
});
