import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { crc32c, crc32cPortable } from '../../../gateway/iscsi/digest.ts';
import {
  KIND,
  buildCommand,
  buildDataOut,
  cdb,
  crcBytes,
  read10,
  senseOf,
  withDigests,
  write10,
} from '../../support/iscsi-wire.ts';
import { IscsiWorld } from '../../support/iscsi-world.ts';

const BOTH = { HeaderDigest: 'CRC32C', DataDigest: 'CRC32C' };

describe('CRC-32C', () => {
  // RFC 7143 appendix A.4.
  test.each([
    ['zeros', Buffer.alloc(32), 0x8a9136aa],
    ['ones', Buffer.alloc(32, 0xff), 0x62a8ab43],
    ['rising', Buffer.from(Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e],
    ['falling', Buffer.from(Array.from({ length: 32 }, (_, index) => 31 - index)), 0x113fdb5c],
  ])('32 bytes of %s', (_name, bytes, expected) => {
    expect(crc32c(bytes, 0)).toBe(expected);
    expect(crc32cPortable(bytes, 0)).toBe(expected);
    expect(crcBytes(bytes).readUInt32LE(0)).toBe(expected);
  });

  test('goes on from where it stopped, cut anywhere', () => {
    const bytes = Buffer.from('the quick brown fox jumps over the lazy dog');
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      expect(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut), 0))).toBe(crc32c(bytes, 0));
      expect(crc32cPortable(bytes.subarray(cut), crc32cPortable(bytes.subarray(0, cut), 0))).toBe(crc32c(bytes, 0));
    }
  });
});

describe('sessions', () => {
  let world: IscsiWorld;
  beforeEach(async () => {
    world = await IscsiWorld.start();
  });
  afterEach(() => world.stop());

  test.each([
    ['both', BOTH],
    ['header only', { HeaderDigest: 'CRC32C' }],
    ['data only', { DataDigest: 'CRC32C' }],
  ])('data goes both ways under digests: %s', async (_name, keys) => {
    // The initiator of the test checks every digest it receives.
    const initiator = await world.ready({ keys: { ...keys, MaxRecvDataSegmentLength: '1001', InitialR2T: 'No' } });
    const data = Buffer.from(Array.from({ length: 8192 }, (_, index) => index & 0xff));
    const first = initiator.command({
      cdb: write10(0, 16),
      write: true,
      final: false,
      expectedBytes: 8192,
      data: data.subarray(0, 333),
    });
    initiator.send(buildDataOut({ itt: first, dataSn: 0, offset: 333, data: data.subarray(333) }));
    expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(0);
    const read = await initiator.run({ cdb: read10(0, 16), read: true, expectedBytes: 8192 });
    expect(read.data.equals(data)).toBe(true);
  });

  test('a wrong header digest drops the connection and executes nothing', async () => {
    const initiator = await world.ready({ keys: BOTH });
    const pdu = withDigests(
      buildCommand({
        cdb: write10(0, 1),
        itt: 1,
        cmdSn: initiator.cmdSn,
        write: true,
        expectedBytes: 512,
        data: Buffer.alloc(512, 1),
      }),
      { header: true, data: true },
    );
    pdu.writeUInt8(pdu.readUInt8(48) ^ 1, 48);
    initiator.sendBytes(pdu);
    await initiator.closed();
    expect(world.device.bytes[0]).toBe(0);
  });

  test('a wrong digest of immediate data: rejected, failed so that it is retried, never executed', async () => {
    const initiator = await world.ready({ keys: BOTH });
    const pdu = withDigests(
      buildCommand({
        cdb: write10(0, 1),
        itt: 1,
        cmdSn: initiator.cmdSn++,
        write: true,
        expectedBytes: 512,
        data: Buffer.alloc(512, 1),
      }),
      { header: true, data: true },
    );
    pdu.writeUInt8(pdu.readUInt8(60) ^ 1, 60);
    initiator.sendBytes(pdu);
    expect((await initiator.expect(KIND.reject)).byte2).toBe(0x02);
    const failed = await initiator.expect(KIND.scsiResponse);
    expect([failed.itt, failed.byte3, senseOf(failed)]).toEqual([1, 2, { key: 0x0b, asc: 0x47, ascq: 5 }]);
    expect(world.device.bytes[0]).toBe(0);
    await initiator.clear();
  });

  test('a wrong digest of solicited data: rejected, and the write fails when its burst has ended', async () => {
    const initiator = await world.ready({ keys: { ...BOTH, ImmediateData: 'No' } });
    const itt = initiator.command({ cdb: write10(0, 2), write: true, expectedBytes: 1024 });
    const ttt = (await initiator.expect(KIND.r2t)).word20;
    const data = Buffer.alloc(512, 1);
    const bad = withDigests(buildDataOut({ itt, ttt, dataSn: 0, offset: 0, data, final: false }), {
      header: true,
      data: true,
    });
    bad.writeUInt8(bad.readUInt8(100) ^ 0x80, 100);
    initiator.sendBytes(bad);
    expect((await initiator.expect(KIND.reject)).byte2).toBe(0x02);
    await initiator.clear();
    initiator.send(buildDataOut({ itt, ttt, dataSn: 1, offset: 512, data }));
    const failed = await initiator.expect(KIND.scsiResponse);
    expect([failed.itt, senseOf(failed)]).toEqual([itt, { key: 0x0b, asc: 0x47, ascq: 5 }]);
    expect(world.device.bytes[0]).toBe(0);
    expect((await initiator.run({ cdb: cdb(0) })).status).toBe(0);
  });
});
