import { describe, expect, test } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { MIB } from '../../../gateway/base/units.ts';
import { ScsiBench } from '../../support/scsi-bench.ts';

/** A sixteen-byte CDB; the length goes where the command has it. */
function cdb(opcode: number, lba: number, at: number, count: number, flags = 0): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.set([opcode, flags]);
  bytes.writeBigUInt64BE(BigInt(lba), 2);
  bytes[at] = count;
  if (at > 10) bytes[at - 1] = count >> 8;
  return bytes;
}
const compareAndWrite = (lba: number, count: number, flags = 0): Buffer => cdb(0x89, lba, 13, count & 0xff, flags);
const orWrite = (lba: number, count: number, flags = 0): Buffer => cdb(0x8b, lba, 13, count, flags);
const writeAtomic = (lba: number, count: number, flags = 0): Buffer => cdb(0x9c, lba, 13, count, flags);

const INVALID_FIELD = { key: 5, asc: 0x24, ascq: 0 };
const FUA = 0x08;

describe.each([512, 4096] as const)('with sectors of %i bytes', (size) => {
  const sectors = (count: number, value: number): Buffer => Buffer.alloc(count * size, value);
  const start = (): ScsiBench => new ScsiBench({ sectorSize: size });

  test('COMPARE AND WRITE writes what was compared equal, with FUA when it says so', async () => {
    const bench = start();
    bench.device.recordsWrites = true;
    expect((await bench.run(compareAndWrite(3, 2, FUA), Buffer.concat([sectors(2, 0), sectors(2, 7)]))).status).toBe(0);
    expect(bench.device.bytes.subarray(3 * size, 5 * size)).toEqual(sectors(2, 7));
    expect(bench.device.writes).toEqual([{ lba: 3, sectors: 2, fua: true }]);
  });

  test('COMPARE AND WRITE says where the first difference is, and changes nothing', async () => {
    const bench = start();
    const compared = sectors(2, 0);
    compared[size + 5] = 1;
    const { sense } = await bench.run(compareAndWrite(3, 2), Buffer.concat([compared, sectors(2, 7)]));
    expect(sense).toEqual({ key: 0x0e, asc: 0x1d, ascq: 0, information: size + 5 });
    expect(bench.device.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('nothing to write is GOOD; COMPARE AND WRITE with data of another length is refused', async () => {
    const bench = start();
    bench.device.recordsWrites = true;
    for (const nothing of [compareAndWrite(3, 0), orWrite(3, 0), writeAtomic(3, 0)])
      expect((await bench.run(nothing)).status).toBe(0);
    expect(bench.device.writes).toEqual([]); // the device is not troubled with it
    for (const bytes of [size, 3 * size, 4 * size]) {
      expect((await bench.run(compareAndWrite(3, 1), Buffer.alloc(bytes))).sense).toMatchObject(INVALID_FIELD);
    }
    expect((await bench.run(compareAndWrite(3, 256), sectors(512, 0))).sense).toMatchObject(INVALID_FIELD);
    expect(bench.device.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('ORWRITE sets bits', async () => {
    const bench = start();
    bench.device.bytes.fill(0xf0, size, 2 * size);
    expect((await bench.run(orWrite(1, 2), sectors(2, 0x33))).status).toBe(0);
    expect(bench.device.bytes.subarray(size, 3 * size)).toEqual(Buffer.concat([sectors(1, 0xf3), sectors(1, 0x33)]));
    expect((await bench.run(orWrite(1, 2), sectors(1, 0xff))).sense).toMatchObject({ asc: 0x0e, ascq: 3 });
    expect(bench.device.bytes[size]).toBe(0xf3);
  });

  test('WRITE ATOMIC is one call of the device, never part of one', async () => {
    const bench = start();
    bench.device.recordsWrites = true;
    expect((await bench.run(writeAtomic(5, 16, FUA), sectors(16, 9))).status).toBe(0);
    expect(bench.device.writes).toEqual([{ lba: 5, sectors: 16, fua: true }]);
    expect((await bench.run(writeAtomic(5, 16), sectors(8, 1))).sense).toMatchObject({ asc: 0x0e, ascq: 3 });
    expect((await bench.run(writeAtomic(5, 0))).status).toBe(0);
    expect(bench.device.writes).toHaveLength(1);
  });

  test('VPD B0h says how long they may be, and longer ones are refused', async () => {
    const bench = new ScsiBench({ sectorSize: size, bytes: 4 * MIB });
    const page = (await bench.run('12 01 b0 00 ff 00')).data;
    expect(page[5]).toBe(255);
    const atomic = page.readUInt32BE(44);
    // One operation has 256 blocks of 4096 bytes; a write that begins inside a block touches one more.
    expect(atomic).toBe(size === 512 ? 2040 : 256);
    expect(page.subarray(48, 64).every((byte) => byte === 0)).toBe(true);
    expect((await bench.run(writeAtomic(0, atomic), Buffer.alloc(atomic * size))).status).toBe(0);
    expect((await bench.run(writeAtomic(0, atomic + 1), Buffer.alloc((atomic + 1) * size))).sense).toMatchObject(
      INVALID_FIELD,
    );
  });
});

test('there are no atomic boundaries and no protection information', async () => {
  const bench = new ScsiBench();
  const bounded = writeAtomic(0, 8);
  bounded[11] = 8;
  expect((await bench.run(bounded, Buffer.alloc(4096))).sense).toMatchObject(INVALID_FIELD);
  for (const command of [compareAndWrite(0, 1, 0x20), orWrite(0, 1, 0x20), writeAtomic(0, 1, 0x20)]) {
    expect((await bench.run(command, Buffer.alloc(1024))).sense).toMatchObject(INVALID_FIELD);
  }
});

test('what lies beyond the end is refused', async () => {
  const bench = new ScsiBench();
  const end = bench.device.geometry().sectors;
  for (const command of [compareAndWrite, orWrite, writeAtomic]) {
    expect((await bench.run(command(end, 1), Buffer.alloc(1024))).sense).toMatchObject({ asc: 0x21 });
    expect((await bench.run(command(end - 1, 2), Buffer.alloc(2048))).sense).toMatchObject({ asc: 0x21 });
  }
});

test('a device that fails gives its answer, and the next command its turn', async () => {
  const bench = new ScsiBench();
  bench.device.intercept = (operation) => {
    if (operation === 'read') throw new FarshoreError('damaged', 'a block is damaged');
  };
  const [first, second] = await Promise.all([
    bench.run(compareAndWrite(0, 1), Buffer.alloc(1024)),
    bench.run(writeAtomic(0, 1), Buffer.alloc(512, 4)),
  ]);
  expect(first.sense).toMatchObject({ key: 3, asc: 0x11 });
  expect(second.status).toBe(0);
});

test('an aborted command that waited for its turn does nothing, and lets the next one have it', async () => {
  const bench = new ScsiBench();
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  bench.device.intercept = (operation) => (operation === 'write' ? gate : undefined);
  const life = { state: 'executing' };
  const first = bench.run(writeAtomic(0, 8), Buffer.alloc(4096, 1));
  const aborted = bench.run(writeAtomic(0, 8), Buffer.alloc(4096, 2), bench.nexus, 4096, life);
  const last = bench.run(orWrite(8, 1), Buffer.alloc(512, 3));
  life.state = 'aborted';
  open();
  await Promise.all([first, aborted, last]);
  expect(bench.device.bytes[0]).toBe(1);
  expect(bench.device.bytes[4096]).toBe(3);
});

test('plain writes elsewhere do not wait for an atomic command', async () => {
  const bench = new ScsiBench();
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  let writes = 0;
  bench.device.intercept = (operation) => {
    if (operation !== 'write') return undefined;
    writes += 1;
    return writes === 1 ? gate : undefined;
  };
  const atomic = bench.run(writeAtomic(0, 8), Buffer.alloc(4096, 1));
  while (writes === 0) await new Promise((resolve) => setImmediate(resolve));
  expect((await bench.run('2a 00 00 00 00 08 00 00 08 00', Buffer.alloc(4096, 2))).status).toBe(0);
  open();
  expect((await atomic).status).toBe(0);
});
