import { describe, expect, test } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { decodeCdb, cdbLength } from '../../../gateway/scsi/cdb.ts';
import { encodeSense } from '../../../gateway/scsi/sense.ts';
import { SUPPORTED_COMMANDS } from '../../../gateway/scsi/supported-commands.ts';
import { ScsiBench } from '../../support/scsi-bench.ts';

const READ = '28 00 00 00 00 00 00 00 01 00';
const WRITE = '2a 00 00 00 00 00 00 00 01 00';
const TEST_UNIT_READY = '00 00 00 00 00 00';
const SECTOR = Buffer.alloc(512, 1);

const SWP = 0x08;
const D_SENSE = 0x04;

/** A control mode page with these bits, behind a mode parameter header (6). */
function control(bits: { swp?: boolean; descriptor?: boolean } = {}): Buffer {
  const page = Buffer.from([0x0a, 0x0a, bits.descriptor === true ? D_SENSE : 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]);
  if (bits.swp === true) page[4] = SWP;
  return Buffer.concat([Buffer.alloc(4), page]);
}
const modeSelect = (list: Buffer): string => `15 10 00 00 ${list.length.toString(16).padStart(2, '0')} 00`;

describe('MODE SELECT', () => {
  test('SWP: nothing changes the medium, MODE SENSE says so, everybody else is told', async () => {
    const bench = new ScsiBench();
    const other = bench.join();
    expect((await bench.run(modeSelect(control({ swp: true })), control({ swp: true }))).status).toBe(0);
    expect(other.takeAttention()).toMatchObject({ key: 6, asc: 0x2a, ascq: 1 });
    expect(bench.nexus.takeAttention()).toBeUndefined();
    const commands: [string, Buffer][] = [
      [WRITE, SECTOR],
      ['0a 00 00 00 01 00', SECTOR],
      ['2e 00 00 00 00 00 00 00 01 00', SECTOR],
      ['41 00 00 00 00 00 00 00 01 00', SECTOR],
      ['42 00 00 00 00 00 00 00 08 00', Buffer.alloc(8)],
      ['48 02 00 00 00 00 00 00 00 00', Buffer.alloc(0)],
      ['89 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00', Buffer.alloc(1024)],
      ['8b 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00', SECTOR],
      ['9c 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00', SECTOR],
    ];
    for (const [cdb, data] of commands) {
      expect((await bench.run(cdb, data)).sense, cdb).toMatchObject({ key: 7, asc: 0x27, ascq: 2 });
    }
    expect((await bench.run(READ)).status).toBe(0);
    expect((await bench.run('1a 08 0a 00 ff 00')).data.subarray(2, 9)[0]).toBe(0x90);
    expect((await bench.run('1a 08 0a 00 ff 00')).data[8]).toBe(SWP);
    expect((await bench.run('1a 08 8a 00 ff 00')).data[8]).toBe(0);
    expect((await bench.run('1a 08 4a 00 ff 00')).data.subarray(4).toString('hex')).toBe('0a0a04000800000000000000');
    bench.nexus.unit.reset();
    bench.nexus.takeAttention();
    expect((await bench.run(WRITE, SECTOR)).status).toBe(0);
  });

  test('D_SENSE: sense data has descriptor format', async () => {
    const bench = new ScsiBench();
    const refused = async (): Promise<number | undefined> => {
      const { sense } = await bench.run('28 00 ff ff ff ff 00 00 01 00');
      return sense && encodeSense(sense)[0];
    };
    expect(await refused()).toBe(0x70);
    await bench.run(modeSelect(control({ descriptor: true })), control({ descriptor: true }));
    expect(await refused()).toBe(0x72);
    bench.device.intercept = async () => Promise.reject(new FarshoreError('damaged', 'a block is damaged'));
    const { sense } = await bench.run(READ);
    expect(sense && encodeSense(sense)[0]).toBe(0x72);
  });

  test.each<[string, (list: Buffer) => void, object]>([
    ['an unknown page', (list) => (list[4] = 0x0b), { asc: 0x26, field: { inCdb: false, byte: 4 } }],
    ['PS', (list) => (list[4] = 0x8a), { asc: 0x26, field: { inCdb: false, byte: 4 } }],
    ['a wrong page length', (list) => (list[5] = 0x09), { asc: 0x26, field: { inCdb: false, byte: 5 } }],
    ['a bit that cannot be changed', (list) => (list[7] = 0x00), { asc: 0x26, field: { inCdb: false, byte: 7 } }],
    ['a medium type', (list) => (list[1] = 1), { asc: 0x26, field: { inCdb: false, byte: 1 } }],
    ['half a block descriptor', (list) => (list[3] = 4), { asc: 0x26, field: { inCdb: false, byte: 3 } }],
    ['a page that is cut off', (list) => (list[5] = 0x20), { asc: 0x1a }],
  ])('%s is refused, and nothing is changed', async (_name, spoil, sense) => {
    const bench = new ScsiBench();
    const list = control({ swp: true });
    spoil(list);
    expect((await bench.run(modeSelect(list), list)).sense).toMatchObject({ key: 5, ...sense });
    expect((await bench.run(WRITE, SECTOR)).status).toBe(0);
  });

  test('every page can be sent back as it is, with the block descriptor, in both forms', async () => {
    const bench = new ScsiBench();
    const short = (await bench.run('1a 00 3f 00 ff 00')).data;
    short[0] = 0;
    expect((await bench.run(modeSelect(short), short)).status).toBe(0);
    const long = (await bench.run('5a 10 3f 00 00 00 00 00 ff 00')).data;
    long.fill(0, 0, 2);
    const cdb = `55 10 00 00 00 00 00 00 ${long.length.toString(16)} 00`;
    expect((await bench.run(cdb, long)).status).toBe(0);
    long.writeUInt32BE(1024, 8 + 12);
    expect((await bench.run(cdb, long)).sense).toMatchObject({ asc: 0x26, field: { inCdb: false, byte: 20 } });
  });

  test('a list that is shorter than announced, and saving, are refused', async () => {
    const bench = new ScsiBench();
    expect((await bench.run('15 10 00 00 10 00', Buffer.alloc(4))).sense).toMatchObject({ asc: 0x1a });
    expect((await bench.run('15 11 00 00 00 00')).sense).toMatchObject({ asc: 0x24 });
  });
});

test('an initiator that may only read is refused what changes the medium, stops the unit, or changes modes', async () => {
  const bench = new ScsiBench();
  bench.nexus.setReadOnly(true);
  const refused = { key: 7, asc: 0x27, ascq: 0 };
  expect((await bench.run(WRITE, SECTOR)).sense).toMatchObject(refused);
  expect((await bench.run('1b 00 00 00 00 00')).sense).toMatchObject(refused);
  expect((await bench.run(modeSelect(control()), control())).sense).toMatchObject(refused);
  expect((await bench.run(READ)).status).toBe(0);
  expect((await bench.run('1a 08 3f 00 ff 00')).data[2]).toBe(0x90);
  const other = bench.join();
  expect((await bench.run(WRITE, SECTOR, other)).status).toBe(0);
});

describe('START STOP UNIT', () => {
  test('a stopped unit wants to be started, after what was written is on stable storage', async () => {
    const bench = new ScsiBench();
    const other = bench.join();
    expect((await bench.run('1b 00 00 00 00 00')).status).toBe(0);
    expect(bench.device.flushes).toBe(1);
    const wanted = { key: 2, asc: 4, ascq: 2 };
    for (const cdb of [TEST_UNIT_READY, READ])
      expect((await bench.run(cdb, undefined, other)).sense).toMatchObject(wanted);
    expect((await bench.run(WRITE, SECTOR)).sense).toMatchObject(wanted);
    expect((await bench.run('12 00 00 00 60 00')).status).toBe(0);
    expect((await bench.run('25 00 00 00 00 00 00 00 00 00')).status).toBe(0);
    expect((await bench.run('1b 00 00 00 01 00', undefined, other)).status).toBe(0);
    expect((await bench.run(TEST_UNIT_READY)).status).toBe(0);
  });

  test('a unit whose cache cannot be written is not stopped; NO_FLUSH does not try; power conditions change nothing', async () => {
    const bench = new ScsiBench();
    bench.device.intercept = (operation) => {
      if (operation === 'flush') throw new FarshoreError('stopped', 'the disk has failed');
    };
    expect((await bench.run('1b 00 00 00 00 00')).sense).toMatchObject({ key: 4 });
    expect((await bench.run(TEST_UNIT_READY)).status).toBe(0);
    expect((await bench.run('1b 00 00 00 30 00')).status).toBe(0);
    expect((await bench.run(TEST_UNIT_READY)).status).toBe(0);
    expect((await bench.run('1b 00 00 00 04 00')).status).toBe(0);
    expect((await bench.run(TEST_UNIT_READY)).sense).toMatchObject({ asc: 4, ascq: 2 });
  });
});

test('READ DEFECT DATA: the lists that are asked for are there, and empty', async () => {
  const bench = new ScsiBench();
  expect((await bench.run('37 00 1d 00 00 00 00 00 ff 00')).data.toString('hex')).toBe('001d0000');
  expect((await bench.run('b7 0d 00 00 00 00 00 00 00 ff 00 00')).data.toString('hex')).toBe('000d000000000000');
});

describe('LOG SENSE', () => {
  test('lists its pages, and counts what was read and written', async () => {
    const bench = new ScsiBench();
    expect((await bench.run('4d 00 40 00 00 00 00 00 ff 00')).data.toString('hex')).toBe('800000050002030c19');
    expect((await bench.run('4d 00 40 ff 00 00 00 00 ff 00')).data.toString('hex')).toBe(
      'c0ff000c000000ff020003000c001900',
    );
    await bench.run(WRITE, SECTOR);
    await bench.run(READ);
    await bench.run(READ);
    bench.device.intercept = () => {
      throw new FarshoreError('damaged', 'a block is damaged');
    };
    await bench.run(READ);
    expect((await bench.run('4d 00 42 00 00 00 00 00 ff 00')).data.toString('hex')).toBe(
      '8200000c000520080000000000000200',
    );
    expect((await bench.run('4d 00 43 00 00 00 00 00 ff 00')).data.toString('hex')).toBe(
      '83000018000520080000000000000400000620080000000000000001',
    );
    expect((await bench.run('4d 00 43 00 00 00 06 00 ff 00')).data.subarray(4, 6).readUInt16BE()).toBe(6);
  });

  test('tells how many commands there were, and how many blocks they moved', async () => {
    const bench = new ScsiBench();
    const statistics = async (control: string): Promise<bigint[]> => {
      const { data } = await bench.run(`4d 00 ${control} 00 00 00 00 00 ff 00`);
      expect(data.subarray(0, 8).toString('hex')).toBe('9900004400012340');
      return Array.from({ length: 8 }, (_, index) => data.readBigUInt64BE(8 + 8 * index));
    };
    await bench.run(WRITE, SECTOR);
    await bench.run('2a 00 00 00 00 00 00 00 04 00', Buffer.alloc(4 * 512));
    await bench.run('2e 00 00 00 00 00 00 00 02 00', Buffer.alloc(2 * 512));
    await bench.run(READ);
    await bench.run('28 00 00 00 00 00 00 00 00 00'); // of nothing
    expect(await statistics('59')).toEqual([1n, 3n, 7n, 1n, 0n, 0n, 0n, 0n]);
    expect(await statistics('d9')).toEqual([0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n]);
    expect((await bench.run('4d 00 4d 00 00 00 00 00 ff 00')).sense).toMatchObject({ key: 5, asc: 0x24 });
  });

  test.each(['4d 01 40 00 00 00 00 00 ff 00', '4d 00 7f 00 00 00 00 00 ff 00', '4d 00 02 00 00 00 00 00 ff 00'])(
    '%s is refused',
    async (cdb) => {
      expect((await new ScsiBench().run(cdb)).sense).toMatchObject({ key: 5, asc: 0x24 });
    },
  );
});

describe('what REPORT SUPPORTED OPERATION CODES says', () => {
  const known = (cdb: Buffer): boolean => {
    const { kind } = decodeCdb(cdb);
    return kind !== 'unknown-opcode' && kind !== 'invalid-field';
  };
  const like = (opcode: number, serviceAction: number): Buffer => {
    const cdb = Buffer.alloc(16);
    cdb.set([opcode, serviceAction]);
    return cdb;
  };

  test('is what is decoded: every operation code and service action, and no other', () => {
    const withActions = new Set(
      SUPPORTED_COMMANDS.filter((entry) => entry.serviceAction !== undefined).map((e) => e.opcode),
    );
    for (let opcode = 0; opcode < 256; opcode += 1) {
      for (let action = 0; action < (withActions.has(opcode) ? 32 : 1); action += 1) {
        const listed = SUPPORTED_COMMANDS.some(
          (entry) => entry.opcode === opcode && (entry.serviceAction ?? 0) === action,
        );
        expect(known(like(opcode, action)), `${opcode.toString(16)}/${action.toString(16)}`).toBe(listed);
      }
    }
  });

  test('no bit outside a usage mask is looked at, but to refuse it', () => {
    for (const { opcode, serviceAction, usage } of SUPPORTED_COMMANDS) {
      const base = like(opcode, serviceAction ?? 0);
      const decoded = decodeCdb(base);
      for (let bit = 8; bit < cdbLength(opcode) * 8; bit += 1) {
        const byte = bit >> 3;
        const mask = 1 << (bit & 7);
        if (((usage[byte] ?? 0) & mask) !== 0) continue;
        if (opcode === 0x5f && byte === 2) continue; // decoded for all service actions, ignored by some (SPC-4 6.16.2)
        if (serviceAction !== undefined && byte === 1 && (mask & 0x1f) !== 0) continue;
        const flipped = Buffer.from(base);
        flipped[byte] = (flipped[byte] ?? 0) | mask;
        const other = decodeCdb(flipped);
        if (other.kind !== 'invalid-field') {
          expect(other, `${opcode.toString(16)} byte ${byte} bit ${bit & 7}`).toEqual(decoded);
        }
      }
    }
  });
});
