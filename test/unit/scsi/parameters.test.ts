import { describe, expect, test } from 'vitest';
import { MIB, TIB } from '../../../gateway/base/units.ts';
import type { BlockDevice } from '../../../gateway/base/block-device.ts';
import { SUPPORTED_COMMANDS } from '../../../gateway/scsi/supported-commands.ts';
import { SENSE, descriptorSense, fixedSense } from '../../../gateway/scsi/sense.ts';
import { decodeCdb } from '../../../gateway/scsi/cdb.ts';
import { decodeLun } from '../../../gateway/scsi/report-luns.ts';
import { ScsiBench } from '../../support/scsi-bench.ts';

const INVALID_FIELD = { key: 5, asc: 0x24, ascq: 0 };

describe('capacity', () => {
  test('READ CAPACITY (10) gives the last LBA and the sector size', async () => {
    expect((await new ScsiBench().run('25')).data.toString('hex')).toBe('00001fff00000200');
    expect((await new ScsiBench({ sectorSize: 4096 }).run('25')).data.toString('hex')).toBe('000003ff00001000');
  });

  test('beyond 2 TiB it points at the longer command', async () => {
    const bench = new ScsiBench();
    const large: BlockDevice = Object.assign(Object.create(bench.device) as BlockDevice, {
      geometry: () => ({ sectorSize: 512 as const, sectors: (64 * TIB) / 512 }),
    });
    const nexus = bench.join(large);
    expect((await bench.run('25', undefined, nexus)).data.toString('hex')).toBe('ffffffff00000200');
    const long = await bench.run('9e 10 0000000000000000 00000020 0000', undefined, nexus);
    expect(long.data.readBigUInt64BE(0)).toBe(BigInt((64 * TIB) / 512 - 1));
  });

  test('READ CAPACITY (16) tells of 4096-byte physical blocks, thin provisioning and zeros', async () => {
    const { data } = await new ScsiBench().run('9e 10 0000000000000000 00000020 0000');
    expect(data.toString('hex')).toBe(`0000000000001fff000002000003c000${'00'.repeat(16)}`);
  });

  test('READ CAPACITY (16) of 12 bytes, as old Windows asks', async () => {
    const { data } = await new ScsiBench().run('9e 10 0000000000000000 0000000c 0000');
    expect(data.toString('hex')).toBe('0000000000001fff00000200');
  });
});

describe('mode pages', () => {
  test('every page at once, with a block descriptor', async () => {
    const { data } = await new ScsiBench().run('1a 00 3f 00 ff 00');
    expect(data.readUInt8(0)).toBe(data.length - 1);
    expect(data.subarray(1, 4).toString('hex')).toBe('001008');
    expect(data.subarray(4, 12).toString('hex')).toBe('0000200000000200');
    const codes: number[] = [];
    for (let at = 12; at < data.length; at += 2 + data.readUInt8(at + 1)) codes.push(data.readUInt8(at));
    expect(codes).toEqual([0x01, 0x02, 0x08, 0x0a, 0x1c]);
  });

  test('the cache is a write-back cache', async () => {
    const { data } = await new ScsiBench().run('1a 08 08 00 ff 00');
    expect(data.subarray(4, 7).toString('hex')).toBe('081204');
  });

  test('MODE SENSE (10) with a long descriptor', async () => {
    const { data } = await new ScsiBench().run('5a 10 0a 00 00 00 00 00 ff 00');
    expect(data.readUInt16BE(0)).toBe(data.length - 2);
    expect([data.readUInt8(4), data.readUInt16BE(6)]).toEqual([1, 16]);
    expect([data.readBigUInt64BE(8), data.readUInt32BE(20)]).toEqual([8192n, 512]);
  });

  test('nothing is changeable, nothing can be saved, unknown pages are refused', async () => {
    const bench = new ScsiBench();
    expect((await bench.run('1a 08 48 00 ff 00')).data.subarray(6).every((byte) => byte === 0)).toBe(true);
    expect((await bench.run('1a 08 c8 00 ff 00')).sense).toMatchObject({ key: 5, asc: 0x39 });
    expect((await bench.run('1a 08 33 00 ff 00')).sense).toMatchObject(INVALID_FIELD);
    expect((await bench.run('1a 08 0a 07 ff 00')).sense).toMatchObject(INVALID_FIELD);
  });

  test.each([0, 3, 4, 12, 200])('the allocation length %i is honoured', async (length) => {
    const whole = (await new ScsiBench().run('1a 00 3f 00 ff 00')).data;
    const { data } = await new ScsiBench().run(Buffer.from([0x1a, 0, 0x3f, 0, length, 0]));
    expect(data.equals(whole.subarray(0, length))).toBe(true);
  });
});

describe('REPORT LUNS', () => {
  test('needs room for one LUN, and knows its reports', async () => {
    const bench = new ScsiBench();
    expect((await bench.run('a0 00 00 000000 0000000f 00 00')).sense).toMatchObject(INVALID_FIELD);
    expect((await bench.run('a0 00 03 000000 00000010 00 00')).sense).toMatchObject(INVALID_FIELD);
    expect((await bench.run('a0 00 01 000000 00000010 00 00')).data.toString('hex')).toBe('0000000000000000');
    expect((await bench.run('a0 00 02 000000 00000100 00 00')).data.toString('hex')).toBe(
      '0000000800000000' + '00'.repeat(8),
    );
  });

  test.each([
    ['0000000000000000', 0],
    ['0005000000000000', 5],
    ['00ff000000000000', 255],
    ['4005000000000000', 5],
    ['4100000000000000', -1],
    ['0100000000000000', -1],
    ['c101000000000000', -1],
    ['0000000100000000', -1],
  ])('the LUN field %s is %i', (field, lun) => {
    expect(decodeLun(Buffer.from(field, 'hex'), 0)).toBe(lun);
  });
});

describe('sense', () => {
  test('fixed format, with a field pointer', () => {
    expect(fixedSense({ ...SENSE.invalidFieldInCdb, field: { inCdb: true, byte: 2, bit: 7 } }).toString('hex')).toBe(
      '70000500000000 0a 00000000 2400 00 cf0002'.replaceAll(' ', ''),
    );
  });

  test('which field of which segment of a copy, in both formats', () => {
    const sense = { ...SENSE.copyAborted, field: { inCdb: false, byte: 20, segment: 3 } };
    expect(fixedSense(sense).toString('hex')).toBe('70000a000000000a000000030000' + '00' + 'a00014');
    expect(descriptorSense(sense).toString('hex')).toBe(
      '720a000000000014' + '010a00000000000300000000' + '02060000a0001400',
    );
  });

  test('fixed format, with information', () => {
    expect(fixedSense({ ...SENSE.miscompare, information: 0x1234 }).toString('hex')).toBe(
      'f0000e000012340a000000001d0000000000',
    );
  });

  test('descriptor format', () => {
    expect(descriptorSense(SENSE.lbaOutOfRange).toString('hex')).toBe('7205210000000000');
    expect(descriptorSense({ ...SENSE.miscompare, information: 2 ** 40 }).toString('hex')).toBe(
      '720e1d000000000c000a80000000010000000000',
    );
  });

  test('REQUEST SENSE gives a pending unit attention, once', async () => {
    const bench = new ScsiBench();
    bench.nexus.raise(SENSE.capacityChanged);
    expect((await bench.run('03 00 00 00 12 00')).data.toString('hex')).toBe('700006000000000a000000002a0900000000');
    expect((await bench.run('03 00 00 00 12 00')).data.readUInt8(2)).toBe(0);
    expect((await bench.run('03 01 00 00 12 00')).data.toString('hex')).toBe('7200000000000000');
  });
});

describe('unit attentions', () => {
  test('are reported once, the oldest first, and not to INQUIRY', async () => {
    const bench = new ScsiBench();
    bench.nexus.raise(SENSE.busDeviceReset);
    bench.nexus.raise(SENSE.lunsChanged);
    bench.nexus.raise(SENSE.busDeviceReset);
    expect((await bench.run('12 00 00 00 24 00')).status).toBe(0);
    expect((await bench.run('00')).sense).toMatchObject({ key: 6, asc: 0x29, ascq: 3 });
    expect((await bench.run('00')).sense).toMatchObject({ key: 6, asc: 0x3f, ascq: 0x0e });
    expect((await bench.run('00')).status).toBe(0);
  });

  test('REPORT LUNS settles that the LUNs have changed', async () => {
    const bench = new ScsiBench();
    bench.nexus.raise(SENSE.lunsChanged);
    expect((await bench.run('a0 00 00 000000 00000010 00 00')).status).toBe(0);
    expect((await bench.run('00')).status).toBe(0);
  });

  test('come before anything else that may be wrong with a command', async () => {
    const bench = new ScsiBench();
    bench.nexus.raise(SENSE.busDeviceReset);
    expect((await bench.run('c5')).sense).toMatchObject({ key: 6 });
    expect((await bench.run('c5')).sense).toMatchObject({ key: 5, asc: 0x20 });
  });
});

describe('supported commands', () => {
  test('every listed command is decoded, and every decoded opcode is listed', () => {
    for (const { opcode, serviceAction, usage } of SUPPORTED_COMMANDS) {
      const cdb = Buffer.alloc(16);
      cdb.set([opcode, serviceAction ?? 0]);
      expect(decodeCdb(cdb).kind).not.toBe('unknown-opcode');
      expect(decodeCdb(cdb).kind).not.toBe('invalid-field');
      expect(usage[0]).toBe(opcode);
    }
    const listed = new Set(SUPPORTED_COMMANDS.map(({ opcode }) => opcode));
    for (let opcode = 0; opcode < 256; opcode += 1)
      if (decodeCdb(Buffer.from([opcode, ...Array.from({ length: 15 }, () => 0)])).kind !== 'unknown-opcode')
        expect(listed.has(opcode)).toBe(true);
  });

  test('all commands at once, with and without timeouts', async () => {
    const bench = new ScsiBench();
    const plain = (await bench.run('a3 0c 00 00 0000 00001000 00 00')).data;
    expect([plain.readUInt32BE(0), plain.length]).toEqual([
      8 * SUPPORTED_COMMANDS.length,
      4 + 8 * SUPPORTED_COMMANDS.length,
    ]);
    const timed = (await bench.run('a3 0c 80 00 0000 00001000 00 00')).data;
    expect(timed.length).toBe(4 + 20 * SUPPORTED_COMMANDS.length);
    // A copy may take five minutes and a SANITIZE any time; everything else a minute, as long as a full cache makes it wait.
    const seconds = new Map([
      [0x83, 300],
      [0x48, 0],
    ]);
    for (let at = 4; at < timed.length; at += 20)
      expect([timed[at], timed.readUInt32BE(at + 16)]).toEqual([timed[at], seconds.get(timed[at] ?? 0) ?? 60]);
  });

  test('one command, by the reporting options', async () => {
    const bench = new ScsiBench();
    expect((await bench.run('a3 0c 01 28 0000 00000100 00 00')).data.toString('hex')).toBe(
      '0003000a28f8ffffffff00ffff04',
    );
    expect((await bench.run('a3 0c 01 c5 0000 00000100 00 00')).data.toString('hex')).toBe('00010000');
    expect((await bench.run('a3 0c 01 9e 0010 00000100 00 00')).sense).toMatchObject(INVALID_FIELD);
    expect((await bench.run('a3 0c 02 9e 0010 00000100 00 00')).data.readUInt8(1)).toBe(3);
    expect((await bench.run('a3 0c 02 9e 0013 00000100 00 00')).data.readUInt8(1)).toBe(1);
    expect((await bench.run('a3 0c 02 28 0000 00000100 00 00')).sense).toMatchObject(INVALID_FIELD);
    expect((await bench.run('a3 0c 03 28 0000 00000100 00 00')).data.readUInt8(1)).toBe(3);
    expect((await bench.run('a3 0c 07 28 0000 00000100 00 00')).sense).toMatchObject(INVALID_FIELD);
  });

  test('task management functions', async () => {
    expect((await new ScsiBench().run('a3 0d 00 000000 00000004 00 00')).data.toString('hex')).toBe('da000000');
  });
});

test('a CDB with NACA set is refused, whatever its length', async () => {
  const bench = new ScsiBench();
  for (const cdb of ['00 00 00 00 00 04', '28 00 00000000 00 0001 04', '88 00 0000000000000000 00000001 00 04'])
    expect((await bench.run(cdb)).sense).toMatchObject(INVALID_FIELD);
});

test('START STOP UNIT and PREVENT ALLOW are taken, ejecting is not', async () => {
  const bench = new ScsiBench({ bytes: MIB });
  for (const cdb of [
    '1b 00 00 00 00 00',
    '1b 00 00 00 01 00',
    '1b 00 00 00 30 00',
    '1e 00 00 00 01 00',
    '1e 00 00 00 00 00',
  ])
    expect((await bench.run(cdb)).status).toBe(0);
  expect((await bench.run('1b 00 00 00 02 00')).sense).toMatchObject(INVALID_FIELD);
});
