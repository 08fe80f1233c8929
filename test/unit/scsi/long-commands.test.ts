import { describe, expect, test } from 'vitest';
import { MIB } from '../../../gateway/base/units.ts';
import type { RamDevice } from '../../support/ram-device.ts';
import { ScsiBench } from '../../support/scsi-bench.ts';

const SECTOR = 512;
/** Pieces in which a command goes through the device. */
const PIECE = MIB / SECTOR;

/** A sixteen-byte CDB with its length at byte 10. */
function cdb(opcode: number, lba: number, count: number, flags = 0): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.set([opcode, flags]);
  bytes.writeBigUInt64BE(BigInt(lba), 2);
  bytes.writeUInt32BE(count, 10);
  return bytes;
}
const writeSame = (lba: number, count: number): Buffer => cdb(0x93, lba, count);
const verify = (lba: number, count: number): Buffer => cdb(0x8f, lba, count);
const compareAndWrite = (lba: number, count: number): Buffer => {
  const bytes = cdb(0x89, lba, 0);
  bytes[13] = count;
  return bytes;
};

function unmapList(...ranges: readonly (readonly [lba: number, count: number])[]): Buffer {
  const list = Buffer.alloc(8 + 16 * ranges.length);
  list.writeUInt16BE(list.length - 2, 0);
  list.writeUInt16BE(list.length - 8, 2);
  for (const [index, [lba, count]] of ranges.entries()) {
    list.writeBigUInt64BE(BigInt(lba), 8 + 16 * index);
    list.writeUInt32BE(count, 16 + 16 * index);
  }
  return list;
}

function unmap(list: Buffer): Buffer {
  const bytes = Buffer.alloc(10);
  bytes[0] = 0x42;
  bytes.writeUInt16BE(list.length, 7);
  return bytes;
}

/** Lets every microtask, and what they begin, go as far as it can. */
async function quiet(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

interface Held {
  readonly calls: string[];
  /** Lets the calls through that are held, and those to come. */
  release(): void;
  /** Lets one through. */
  step(): Promise<void>;
}

/** Holds the device's calls of these kinds. */
function hold(device: RamDevice, ...operations: readonly string[]): Held {
  const calls: string[] = [];
  const waiting: (() => void)[] = [];
  let isOpen = false;
  device.intercept = (operation) => {
    calls.push(operation);
    if (isOpen || !operations.includes(operation)) return undefined;
    return new Promise((resolve) => waiting.push(resolve));
  };
  return {
    calls,
    release() {
      isOpen = true;
      for (const open of waiting.splice(0)) open();
    },
    async step() {
      waiting.shift()?.();
      await quiet();
    },
  };
}

describe('a command that has been aborted ends after the piece that is in the device', () => {
  const bytes = 8 * MIB;
  const ranges = Array.from({ length: 256 }, (_, index): [number, number] => [index * 16, 8]);
  const list = unmapList(...ranges);
  const lbaStatus = Buffer.from('9e12000000000000000000000800 0000'.replaceAll(' ', ''), 'hex');
  test.each([
    ['WRITE SAME', 'write', writeSame(0, 4 * PIECE), Buffer.alloc(SECTOR, 7)],
    ['VERIFY', 'read', verify(0, 4 * PIECE), Buffer.alloc(0)],
    ['VERIFY with one block for all', 'read', cdb(0x8f, 0, 4 * PIECE, 0x06), Buffer.alloc(SECTOR)],
    ['PRE-FETCH', 'read', cdb(0x90, 0, 4 * PIECE), Buffer.alloc(0)],
    ['WRITE AND VERIFY', 'write', cdb(0x8e, 0, 4 * PIECE, 0x02), Buffer.alloc(4 * MIB, 7)],
    ['UNMAP of many ranges', 'unmap', unmap(list), list],
    ['GET LBA STATUS', 'provisioning', lbaStatus, Buffer.alloc(0)],
  ] as const)('%s', async (_name, operation, command, data) => {
    const bench = new ScsiBench({ bytes });
    if (operation === 'provisioning') await bench.run(cdb(0x8a, 16, 8), Buffer.alloc(4096, 1));
    const held = hold(bench.device, operation);
    const life = { state: 'executing' };
    const running = bench.run(command, data, bench.nexus, data.length, life);
    await quiet();
    expect(held.calls).toEqual([operation]);
    life.state = 'aborted';
    await held.step();
    expect(held.calls).toEqual([operation]);
    expect((await running).status).toBe(0x40);
  });
});

describe('a command that is atomic waits for what overlaps it alone', () => {
  const twoRanges = unmapList([2 * PIECE, 8], [5 * PIECE, 8]);
  test.each([
    ['WRITE SAME', 'write', writeSame(4 * PIECE, 2 * PIECE), Buffer.alloc(SECTOR, 7)],
    ['VERIFY', 'read', verify(4 * PIECE, 2 * PIECE), Buffer.alloc(0)],
    ['PRE-FETCH', 'read', cdb(0x90, 4 * PIECE, 2 * PIECE), Buffer.alloc(0)],
    ['WRITE AND VERIFY', 'write', cdb(0x8e, 4 * PIECE, 2 * PIECE), Buffer.alloc(2 * MIB, 7)],
    ['UNMAP, also between its ranges,', 'unmap', unmap(twoRanges), twoRanges],
  ] as const)('%s elsewhere does not hold it up', async (_name, operation, command, data) => {
    const bench = new ScsiBench({ bytes: 8 * MIB });
    const held = hold(bench.device, operation);
    const long = bench.run(command, data);
    await quiet();
    const calls = held.calls.length;
    bench.device.intercept = undefined;
    const swap = Buffer.concat([Buffer.alloc(SECTOR, 0), Buffer.alloc(SECTOR, 9)]);
    expect((await bench.run(compareAndWrite(3 * PIECE, 1), swap)).status).toBe(0);
    expect(bench.device.bytes[3 * MIB]).toBe(9);
    expect(calls).toBe(1);
    held.release();
    await long;
  });

  test('it sees all of a WRITE SAME that it overlaps, or nothing', async () => {
    const bench = new ScsiBench({ bytes: 8 * MIB });
    const held = hold(bench.device, 'write');
    const same = bench.run(writeSame(0, 3 * PIECE), Buffer.alloc(SECTOR, 7));
    await quiet();
    await held.step();
    const swap = Buffer.concat([Buffer.alloc(SECTOR, 7), Buffer.alloc(SECTOR, 9)]);
    const atomic = bench.run(compareAndWrite(3 * PIECE - 1, 1), swap);
    await quiet();
    expect(held.calls).toEqual(['write', 'write']);
    held.release();
    expect([(await same).status, (await atomic).status]).toEqual([0, 0]);
    expect(bench.device.bytes[3 * MIB - 1]).toBe(9);
  });

  test('plain reads and writes wait for no long command, and one that is atomic is not passed by those it overlaps', async () => {
    const bench = new ScsiBench({ bytes: 8 * MIB });
    const held = hold(bench.device, 'write');
    const same = bench.run(writeSame(0, 2 * PIECE), Buffer.alloc(SECTOR, 7));
    await quiet();
    const atomic = bench.run(compareAndWrite(0, 1), Buffer.alloc(2 * SECTOR, 7));
    const later = bench.run(writeSame(0, 1), Buffer.alloc(SECTOR, 8));
    await quiet();
    expect(held.calls).toEqual(['write']);
    const plain = bench.run(cdb(0x8a, PIECE, 8), Buffer.alloc(8 * SECTOR, 3));
    expect((await bench.run(cdb(0x88, 3 * PIECE, 8))).status).toBe(0);
    await quiet();
    expect(held.calls).toEqual(['write', 'write', 'read']);
    held.release();
    for (const outcome of await Promise.all([same, atomic, later, plain])) expect(outcome.status).toBe(0);
    expect(bench.device.bytes[0]).toBe(8);
  });
});

test('no other write comes between the write of a WRITE AND VERIFY and its comparison', async () => {
  const bench = new ScsiBench();
  const held = hold(bench.device, 'read');
  const verified = bench.run(cdb(0x8e, 0, 1, 0x02), Buffer.alloc(SECTOR, 1));
  await quiet();
  const other = bench.run(cdb(0x8a, 0, 1), Buffer.alloc(SECTOR, 2));
  await quiet();
  held.release();
  expect([(await verified).status, (await other).status]).toEqual([0, 0]);
  expect(bench.device.bytes[0]).toBe(2);
});

test('the pieces of a WRITE SAME take little memory, and are whole where it ends', async () => {
  const bench = new ScsiBench({ bytes: 8 * MIB });
  const memory = new Set<ArrayBufferLike>();
  const { device } = bench;
  const write = device.write.bind(device);
  device.write = (lba, data, options) => {
    for (const piece of data) memory.add(piece.buffer);
    return write(lba, data, options);
  };
  const block = Buffer.from(Array.from({ length: SECTOR }, (_, index) => index & 0xff));
  expect((await bench.run(writeSame(3, 2 * PIECE + 100), block)).status).toBe(0);
  expect([...memory].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThanOrEqual(MIB / 16);
  for (const lba of [3, 130, 131, PIECE + 2, PIECE + 3, 2 * PIECE + 102]) {
    expect(device.bytes.subarray(lba * SECTOR, (lba + 1) * SECTOR).equals(block)).toBe(true);
  }
  expect([device.bytes[2 * SECTOR + 1], device.bytes[(2 * PIECE + 103) * SECTOR + 1]]).toEqual([0, 0]);
});
