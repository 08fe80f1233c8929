import { describe, expect, test } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { KIB } from '../../../gateway/base/units.ts';
import { ScsiBench } from '../../support/scsi-bench.ts';

const OUT_OF_RANGE = { key: 5, asc: 0x21, ascq: 0 };
const INVALID_FIELD = { key: 5, asc: 0x24, ascq: 0 };
const WRONG_LENGTH = { key: 5, asc: 0x0e, ascq: 3 };

/** One CDB of each length for an extent, in hexadecimal. */
const FORMS: Readonly<Record<string, readonly ((lba: number, count: number) => string)[]>> = {
  read: [cdb6(0x08), cdb10(0x28), cdb12(0xa8), cdb16(0x88)],
  write: [cdb6(0x0a), cdb10(0x2a), cdb12(0xaa), cdb16(0x8a)],
  verify: [cdb10(0x2f), cdb12(0xaf), cdb16(0x8f)],
  'write and verify': [cdb10(0x2e), cdb12(0xae), cdb16(0x8e)],
  'synchronize cache': [cdb10(0x35), cdb16(0x91)],
  'pre-fetch': [cdb10(0x34), cdb16(0x90)],
};

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
function cdb6(opcode: number) {
  return (lba: number, count: number): string => `${hex(opcode, 2)}${hex(lba, 6)}${hex(count & 0xff, 2)}00`;
}
function cdb10(opcode: number, flags = 0) {
  return (lba: number, count: number): string => `${hex(opcode, 2)}${hex(flags, 2)}${hex(lba, 8)}00${hex(count, 4)}00`;
}
function cdb12(opcode: number, flags = 0) {
  return (lba: number, count: number): string => `${hex(opcode, 2)}${hex(flags, 2)}${hex(lba, 8)}${hex(count, 8)}0000`;
}
function cdb16(opcode: number, flags = 0) {
  return (lba: number, count: number): string => `${hex(opcode, 2)}${hex(flags, 2)}${hex(lba, 16)}${hex(count, 8)}0000`;
}

describe.each([512, 4096] as const)('sectors of %i bytes', (sectorSize) => {
  test('what any WRITE has written, any READ reads', async () => {
    const bench = new ScsiBench({ sectorSize });
    for (const [index, form] of (FORMS['write'] ?? []).entries()) {
      const data = Buffer.alloc(3 * sectorSize, index + 1);
      expect((await bench.run(form(5, 3), data)).status).toBe(0);
      for (const readForm of FORMS['read'] ?? [])
        expect((await bench.run(readForm(5, 3))).data.equals(data)).toBe(true);
    }
    expect(bench.device.bytes.subarray(0, 5 * sectorSize).every((byte) => byte === 0)).toBe(true);
  });

  test('every command with an extent ends at the end of the device', async () => {
    const bench = new ScsiBench({ sectorSize });
    const end = bench.device.geometry().sectors;
    for (const [name, forms] of Object.entries(FORMS)) {
      for (const form of forms) {
        const takes = name === 'write' || name === 'write and verify';
        const data = Buffer.alloc(takes ? sectorSize : 0);
        expect((await bench.run(form(end - 1, 1), data)).status, name).toBe(0);
        expect((await bench.run(form(end, 1), data)).sense, name).toMatchObject(OUT_OF_RANGE);
        expect((await bench.run(form(end - 1, 2), data)).sense, name).toMatchObject(OUT_OF_RANGE);
        if (form(0, 0).length > 12) expect((await bench.run(form(end + 1, 0))).sense, name).toMatchObject(OUT_OF_RANGE);
      }
    }
    expect((await bench.run(`8800${'ff'.repeat(8)}00000001 0000`)).sense).toMatchObject(OUT_OF_RANGE);
  });

  test('no sectors are no error, and a length of 0 in the short forms means 256', async () => {
    const bench = new ScsiBench({ sectorSize });
    for (const form of [cdb10(0x28), cdb12(0xa8), cdb16(0x88)])
      expect((await bench.run(form(0, 0))).data.length).toBe(0);
    expect((await bench.run(cdb6(0x08)(0, 0))).data.length).toBe(256 * sectorSize);
  });

  test('longer than the device takes is refused', async () => {
    const bench = new ScsiBench({ sectorSize, bytes: 32 * 1024 * KIB });
    const longest = (16 * 1024 * KIB) / sectorSize;
    expect((await bench.run(cdb16(0x88)(0, longest))).status).toBe(0);
    expect((await bench.run(cdb16(0x88)(0, longest + 1))).sense).toMatchObject(INVALID_FIELD);
  });
});

describe('flags', () => {
  test('FUA reaches the device', async () => {
    const bench = new ScsiBench();
    bench.device.recordsWrites = true;
    await bench.run(cdb10(0x2a, 0x08)(0, 1), Buffer.alloc(512));
    await bench.run(cdb10(0x2a, 0x10)(0, 1), Buffer.alloc(512));
    expect(bench.device.writes.map(({ fua }) => fua)).toEqual([true, false]);
    await bench.run(cdb10(0x28, 0x08)(0, 1));
    expect(bench.device.flushes).toBe(1);
  });

  test('SYNCHRONIZE CACHE flushes', async () => {
    const bench = new ScsiBench();
    for (const form of FORMS['synchronize cache'] ?? []) await bench.run(form(0, 0));
    expect(bench.device.flushes).toBe(2);
  });

  test.each([0x28, 0x2a, 0x2e, 0x2f, 0x41])('protection information is refused by %i', async (opcode) => {
    for (const protect of [0x20, 0x60, 0xe0])
      expect((await new ScsiBench().run(cdb10(opcode, protect)(0, 1))).sense).toMatchObject(INVALID_FIELD);
  });
});

describe('VERIFY', () => {
  const BYTCHK = 0x02;
  const REPEATED = 0x06;

  test('compares with all the data, and tells where it differs', async () => {
    const bench = new ScsiBench();
    bench.device.bytes.fill(7, 0, 2048);
    const data = Buffer.alloc(2048, 7);
    expect((await bench.run(cdb10(0x2f, BYTCHK)(0, 4), data)).status).toBe(0);
    data[1500] = 8;
    expect((await bench.run(cdb10(0x2f, BYTCHK)(0, 4), data)).sense).toMatchObject({
      key: 0xe,
      asc: 0x1d,
      information: 1500,
    });
  });

  test('compares every sector with one', async () => {
    const bench = new ScsiBench();
    const sector = Buffer.alloc(512, 9);
    bench.device.bytes.fill(9, 0, 2048);
    expect((await bench.run(cdb16(0x8f, REPEATED)(0, 4), sector)).status).toBe(0);
    bench.device.bytes[2000] = 1;
    expect((await bench.run(cdb16(0x8f, REPEATED)(0, 4), sector)).sense).toMatchObject({ key: 0xe, information: 2000 });
  });

  test('without data it reads, so that damage shows', async () => {
    const bench = new ScsiBench();
    bench.device.intercept = () => Promise.reject(new FarshoreError('damaged', 'as the test wants it'));
    expect((await bench.run(cdb10(0x2f)(0, 4))).sense).toMatchObject({ key: 3, asc: 0x11 });
  });

  test('the reserved comparison is refused, and too little data too', async () => {
    const bench = new ScsiBench();
    expect((await bench.run(cdb10(0x2f, 0x04)(0, 1), Buffer.alloc(512))).sense).toMatchObject(INVALID_FIELD);
    expect((await bench.run(cdb10(0x2f, BYTCHK)(0, 2), Buffer.alloc(512))).sense).toMatchObject(WRONG_LENGTH);
  });

  test('WRITE AND VERIFY writes to stable storage and compares', async () => {
    const bench = new ScsiBench();
    bench.device.recordsWrites = true;
    const data = Buffer.alloc(1024, 3);
    for (const form of [cdb10(0x2e), cdb10(0x2e, BYTCHK), cdb16(0x8e, BYTCHK)])
      expect((await bench.run(form(1, 2), data)).status).toBe(0);
    expect(bench.device.writes.every(({ fua }) => fua)).toBe(true);
    expect(bench.device.bytes.subarray(512, 1536).equals(data)).toBe(true);
  });
});

describe('UNMAP', () => {
  function list(...ranges: readonly (readonly [lba: number, count: number])[]): Buffer {
    const data = Buffer.alloc(8 + 16 * ranges.length);
    data.writeUInt16BE(data.length - 2, 0);
    data.writeUInt16BE(16 * ranges.length, 2);
    ranges.forEach(([lba, count], index) => {
      data.writeBigUInt64BE(BigInt(lba), 8 + 16 * index);
      data.writeUInt32BE(count, 16 + 16 * index);
    });
    return data;
  }
  const run = (bench: ScsiBench, data: Buffer, flags = 0) =>
    bench.run(`42${hex(flags, 2)}0000000000${hex(data.length, 4)}00`, data);

  test('deallocates every range; the sectors read as zeros and their blocks are not mapped', async () => {
    const bench = new ScsiBench();
    await bench.run(cdb10(0x2a)(0, 64), Buffer.alloc(64 * 512, 1));
    expect((await run(bench, list([0, 8], [20, 3], [32, 16]))).status).toBe(0);
    const { bytes } = bench.device;
    const zero = (from: number, count: number): boolean =>
      bytes.subarray(from * 512, (from + count) * 512).every((byte) => byte === 0);
    expect([zero(0, 8), zero(20, 3), zero(32, 16), zero(8, 1), zero(23, 1), zero(48, 1)]).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
    const { data } = await bench.run('9e 12 0000000000000000 00000088 0000');
    const states: number[][] = [];
    for (let at = 8; at < 8 + 16 * 5; at += 16)
      states.push([Number(data.readBigUInt64BE(at)), data.readUInt32BE(at + 8), data.readUInt8(at + 12)]);
    expect(states).toEqual([
      [0, 8, 1],
      [8, 24, 0],
      [32, 16, 1],
      [48, 16, 0],
      [64, 8128, 1],
    ]);
  });

  test('nothing is deallocated when one range is wrong', async () => {
    const bench = new ScsiBench();
    await bench.run(cdb10(0x2a)(0, 8), Buffer.alloc(4096, 1));
    expect((await run(bench, list([0, 8], [8190, 3]))).sense).toMatchObject(OUT_OF_RANGE);
    expect(bench.device.bytes[0]).toBe(1);
  });

  test('an empty list is no error, a truncated header and too many ranges are', async () => {
    const bench = new ScsiBench();
    expect((await run(bench, Buffer.alloc(0))).status).toBe(0);
    expect((await run(bench, list())).status).toBe(0);
    expect((await run(bench, list([5, 0]))).status).toBe(0);
    expect((await run(bench, Buffer.alloc(4))).sense).toMatchObject({ key: 5, asc: 0x1a });
    expect((await run(bench, list(...Array.from({ length: 257 }, () => [0, 1] as const)))).sense).toMatchObject({
      key: 5,
      asc: 0x26,
    });
    expect((await run(bench, list([0, 1]), 0x01)).sense).toMatchObject(INVALID_FIELD);
  });

  test('a descriptor that is cut off is not looked at', async () => {
    const bench = new ScsiBench();
    bench.device.bytes.fill(1, 0, 1024);
    const whole = list([0, 1], [1, 1]);
    expect(
      (await bench.run(`42000000000000${hex(whole.length - 1, 4)}00`, whole.subarray(0, whole.length - 1))).status,
    ).toBe(0);
    expect([bench.device.bytes[0], bench.device.bytes[512]]).toEqual([0, 1]);
  });
});

describe('WRITE SAME', () => {
  const UNMAP = 0x08;
  const NO_DATA = 0x01;

  test('repeats one sector', async () => {
    const bench = new ScsiBench();
    const sector = Buffer.alloc(512, 5);
    expect((await bench.run(cdb10(0x41)(3, 4), sector)).status).toBe(0);
    expect((await bench.run(cdb16(0x93)(4000, 4192), sector)).status).toBe(0);
    expect(bench.device.bytes.subarray(3 * 512, 7 * 512).every((byte) => byte === 5)).toBe(true);
    expect(bench.device.bytes.subarray(4000 * 512).every((byte) => byte === 5)).toBe(true);
    expect(bench.device.bytes[7 * 512]).toBe(0);
  });

  test('a length of 0 is refused, as VPD B0h says: what it may not keep it does not take for something else', async () => {
    const bench = new ScsiBench();
    expect((await bench.run('12 01 b0 00 ff 00')).data[4]).toBe(1); // WSNZ
    for (const flags of [0, UNMAP]) {
      for (const form of [cdb10(0x41, flags), cdb16(0x93, flags)])
        expect((await bench.run(form(8190, 0), Buffer.alloc(512, 6))).sense).toMatchObject(INVALID_FIELD);
    }
    expect((await bench.run(cdb16(0x93, NO_DATA)(8190, 0))).sense).toMatchObject(INVALID_FIELD);
    expect(bench.device.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test.each([
    ['zeros', cdb16(0x93), Buffer.alloc(512)],
    ['UNMAP with zeros', cdb16(0x93, UNMAP), Buffer.alloc(512)],
    ['NDOB', cdb16(0x93, NO_DATA), Buffer.alloc(0)],
  ])('%s deallocates', async (_name, form, data) => {
    const bench = new ScsiBench();
    await bench.run(cdb10(0x2a)(0, 16), Buffer.alloc(8192, 1));
    expect((await bench.run(form(0, 8), data)).status).toBe(0);
    expect([bench.device.bytes[0], bench.device.bytes[4096]]).toEqual([0, 1]);
    expect(bench.device.provisioning(0, 8)).toEqual({ mapped: false, sectors: 8 });
  });

  test('UNMAP with anything but zeros writes it: what is read afterwards is the data (SBC-3 5.40)', async () => {
    const bench = new ScsiBench();
    expect((await bench.run(cdb16(0x93, UNMAP)(0, 8), Buffer.alloc(512, 1))).status).toBe(0);
    expect(bench.device.bytes.subarray(0, 4096).every((byte) => byte === 1)).toBe(true);
  });

  test('anything but one sector of data is refused, and so are ANCHOR, NDOB in the short form, and too long a run', async () => {
    const bench = new ScsiBench({ bytes: 32 * 1024 * KIB });
    expect((await bench.run(cdb10(0x41)(0, 1), Buffer.alloc(256))).sense).toMatchObject(WRONG_LENGTH);
    expect((await bench.run(cdb10(0x41)(0, 1), Buffer.alloc(1024))).sense).toMatchObject(WRONG_LENGTH);
    expect((await bench.run(cdb10(0x41, 0x10)(0, 1), Buffer.alloc(512))).sense).toMatchObject(INVALID_FIELD);
    expect((await bench.run(cdb10(0x41, 0x01)(0, 1))).sense).toMatchObject(INVALID_FIELD);
    expect((await bench.run(cdb16(0x93)(0, 32_769), Buffer.alloc(512))).sense).toMatchObject(INVALID_FIELD);
  });
});

test('GET LBA STATUS gives one descriptor at least, and starts inside a run', async () => {
  const bench = new ScsiBench();
  await bench.run(cdb10(0x2a)(0, 16), Buffer.alloc(8192, 1));
  const { data } = await bench.run(`9e 12 ${hex(5, 16)} 00000018 0000`);
  expect([data.length, data.readUInt32BE(0), Number(data.readBigUInt64BE(8)), data.readUInt32BE(16)]).toEqual([
    24, 20, 5, 11,
  ]);
  expect((await bench.run(`9e 12 ${hex(8192, 16)} 00000018 0000`)).sense).toMatchObject(OUT_OF_RANGE);
});

test('what is no operating error is not swallowed', async () => {
  const bench = new ScsiBench();
  bench.device.intercept = () => {
    throw new FarshoreError('bug', 'a broken invariant');
  };
  await expect(bench.run(cdb10(0x28)(0, 1))).rejects.toThrow('a broken invariant');
});
